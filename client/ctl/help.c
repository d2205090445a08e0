/* SPDX-License-Identifier: MIT */

/* The verb help, and what it says about each verb. */

#include "ctl.h"

#define ACCOUNT_TEXT                                                                             \
	"An ACCOUNT is called anything of 1 to 255 bytes of UTF-8 without control characters.\n" \
	"'/' divides levels, at most 8: a slot of acme/alice also counts against acme. A name\n" \
	"with '*' or '?' in it is a template: its limit is that of every account it matches\n"   \
	"('*' doesn't match '/') and that has none of its own; the most specific one wins.\n"

const char help_set[] =
	"Sets the limit of an account or a template: from when the command returns, nobody\n"
	"gets a slot beyond it. Slots held already stay held.\n"
	"\n" ACCOUNT_TEXT "\n"
	"LIMIT is a whole number from 0 (nobody gets a slot) to 1048575, or 'unlimited'.\n"
	"\n"
	"Examples:\n"
	"  berthctl set alice 5\n"
	"  berthctl set '*@example.com' 100\n"
	"  berthctl set acme/alice unlimited\n";

const char help_get[] =
	"Shows an account's limit, how many slots are held now, the most there ever were, how\n"
	"many were denied, and where the limit comes from: 'account' (its own), 'template', or\n"
	"'none' (it has accounts below it and no limit). A template has only a limit.\n"
	"\n"
	"Examples:\n"
	"  berthctl get alice\n"
	"  berthctl get alice --json | jq .current\n";

const char help_list[] =
	"Lists accounts, then templates, with the columns ACCOUNT, LIMIT, CURRENT (slots held\n"
	"now), PEAK (the most there ever were), DENIED and SOURCE (where the limit comes from:\n"
	"account, template or none). On a terminal, accounts at their limit are red.\n"
	"\n"
	"PATTERN is matched as a template's name is: '*' stands for anything but '/', '?' for\n"
	"one character.\n"
	"\n"
	"Examples:\n"
	"  berthctl list\n"
	"  berthctl list 'acme/*'\n"
	"  berthctl list --json | jq -r '.accounts[] | select(.denied > 0).account'\n";

const char help_delete[] =
	"Forgets an account or template, its limit and its counts. An account whose slots are\n"
	"held is refused, unless they are to be revoked first.\n"
	"\n"
	"Options:\n"
	"  --force   revoke the account's slots first\n"
	"\n"
	"Examples:\n"
	"  berthctl delete alice\n"
	"  berthctl delete --force alice\n"
	"  berthctl delete '*@example.com'\n";

const char help_holders[] =
	"Shows each slot of an account, and of the accounts below it, with its holder: SLOT (for\n"
	"revoke), ACCOUNT, WEIGHT (how many it counts for), PID, UID, COMM, SINCE (UTC) and the\n"
	"LABEL that the holder gave it.\n"
	"\n"
	"Examples:\n"
	"  berthctl holders acme\n"
	"  berthctl holders alice --json | jq -r '.holders[].pid' | sort | uniq -c\n";

const char help_revoke[] =
	"Takes slots away: others can have them at once. The holder isn't stopped; it learns of\n"
	"it when it releases the slot (1236). With ACCOUNT, only slots of that account and of\n"
	"those below it are meant.\n"
	"\n"
	"Options, one of:\n"
	"  --slot S   the slot that 'berthctl holders' shows as S\n"
	"  --pid P    all slots of process P\n"
	"  --all      all slots of ACCOUNT; without ACCOUNT, all there are\n"
	"\n"
	"It fails if there is no such slot, or the process has none; --all doesn't. A release\n"
	"that a server had begun, and whose thread is stopped, is brought to its end.\n"
	"\n"
	"Examples:\n"
	"  berthctl revoke --slot 17:33\n"
	"  berthctl revoke alice --pid 4711\n"
	"  berthctl revoke alice --all\n";

const char help_import[] =
	"Sets the limits that stand in FILE ('-': standard input): all of them, or none if\n"
	"anything in it is wrong. Accounts that aren't in it keep their limits.\n"
	"\n"
	"A line is ACCOUNT LIMIT: the last word is the limit (0 to 1048575, or 'unlimited'), and\n"
	"what stands before it is the account or template, which may contain spaces; spaces and\n"
	"tabs around it don't count. A line whose first character is '#' is a comment; empty\n"
	"lines mean nothing; lines may end in CR LF. No account may be there twice.\n"
	"\n"
	"A name that begins or ends with a space, or begins with '#', stands between two tabs at\n"
	"the beginning of its line, where nothing is taken off: TAB ACCOUNT TAB LIMIT.\n"
	"\n"
	"Examples:\n"
	"  berthctl import limits.txt\n"
	"  printf '%s\\n' 'alice 5' '*@example.com 100' | berthctl import -\n";

const char help_export[] =
	"Writes every limit that was set, of accounts and templates, as 'berthctl import' reads\n"
	"it. Limits that come from templates aren't written; for those and for counts, see\n"
	"'berthctl list --json'.\n"
	"\n"
	"Examples:\n"
	"  berthctl export > limits.txt\n"
	"  berthctl export | ssh other berthctl import -\n";

const char help_status[] =
	"Shows berthd's version, process and age; how many accounts, slots and sessions there\n"
	"are and may be; how many slots are retired, because their sequence numbers are used up;\n"
	"how many were denied; when counts were last written to disk; and its directories.\n"
	"\n"
	"Examples:\n"
	"  berthctl status\n"
	"  berthctl --runtime-dir /run/berth@mail status\n";

const char help_run[] =
	"Holds a slot of ACCOUNT while COMMAND runs, and exits with its status (128+N if signal\n"
	"N ended it, 127 if there is no such command, 126 if it can't be run). If the limit is\n"
	"reached, COMMAND isn't run, and standard error says which level of ACCOUNT is full.\n"
	"Signals sent to berthctl are passed on. It takes membership in the group of berth.sock.\n"
	"\n"
	"If berthctl itself is killed (SIGKILL), the slot is free while COMMAND goes on.\n"
	"\n"
	"Options:\n"
	"  -E STATUS      exit with STATUS (0 to 255) if the limit is reached; otherwise 75\n"
	"  --weight N     count for N slots, 1 to 4095; otherwise 1\n"
	"  --label TEXT   what 'berthctl holders' shows; otherwise COMMAND's name\n"
	"\n"
	"Examples:\n"
	"  berthctl run backups -- rsync -a /srv /mnt\n"
	"  berthctl run -E 0 --weight 2 reports -- ./nightly --full\n";

const char help_help[] =
	"Explains berthctl, or one verb of it. 'berthctl VERB --help' does the same.\n"
	"\n"
	"Examples:\n"
	"  berthctl help import\n";

static const char global_options[] =
	"Options of all verbs, before or after the verb:\n"
	"  --runtime-dir DIR   where berthd's sockets are; otherwise $BERTH_RUNTIME_DIR or\n"
	"                      /run/berth\n";

static const char common_options[] = "  -h, --help          explain\n"
				     "  --version           show berthctl's version\n";

static const char exit_statuses[] = "Exit status:\n"
				    "  0   done\n"
				    "  1   failed\n"
				    "  2   wrong usage, name or limit\n"
				    "  69  berthd can't be reached\n"
				    "  75  denied: the limit is reached (1238)\n"
				    "  77  not allowed\n";

void help_print(void) {
	puts("Usage: berthctl [OPTION]... VERB [ARGUMENT]...\n"
	     "\n"
	     "Says how many slots each account may hold at once, and shows who holds them.\n"
	     "\n"
	     "Verbs:");
	for (size_t i = 0; i < ctl_verb_count; i++)
		printf("  %-8s  %s\n", ctl_verbs[i].name, ctl_verbs[i].line);
	printf("\n%s  --json              show JSON instead of text (verbs that show "
	       "something)\n%s\n"
	       "%s\n",
		global_options, common_options, exit_statuses);
	puts("'berthctl help VERB' explains a verb.\n"
	     "\n"
	     "Examples:\n"
	     "  berthctl set alice 5\n"
	     "  berthctl list\n"
	     "  berthctl run alice -- sleep 60");
}

void help_print_verb(const struct ctl_verb *v) {
	printf("Usage: berthctl %s%s%s\n\n%s.\n\n%s\n%s", v->name, *v->args ? " " : "", v->args,
		v->line, v->text, global_options);
	if (v->options & CTL_OPTION_JSON)
		puts("  --json              show JSON instead of text");
	printf("%s\n%s", common_options, exit_statuses);
}

int verb_help(struct ctl *c, int argc, char **argv) {
	const struct ctl_verb *v = argc > 0 ? ctl_verb_find(argv[0]) : NULL;
	struct ctl_shown shown;

	if (argc == 0)
		help_print();
	else if (v)
		help_print_verb(v);
	else
		return ctl_usage(c, "there is no verb '%s'", ctl_show(&shown, argv[0]));
	return CTL_OK;
}
