/* SPDX-License-Identifier: MIT */

/*
 * berthctl, the administrator's command: reads the command line and calls one verb. Options may
 * stand before the verb or after it; what each verb takes is in the table.
 */

#include <getopt.h>
#include <inttypes.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "name.h"
#include "number.h"
#include "util.h"

#define RUNTIME_DIR "/run/berth"
#define ANY_NUMBER  INT_MAX

const struct ctl_verb ctl_verbs[] = {
	{"set", "ACCOUNT LIMIT", "Say how many slots an account may hold at once", help_set,
		CTL_OPTION_JSON, 2, 2, verb_set},
	{"get", "ACCOUNT", "Show an account's limit and counts", help_get, CTL_OPTION_JSON, 1, 1,
		verb_get},
	{"list", "[PATTERN]", "List accounts and templates", help_list, CTL_OPTION_JSON, 0, 1,
		verb_list},
	{"delete", "ACCOUNT [--force]", "Forget an account or template", help_delete,
		CTL_OPTION_JSON | CTL_OPTION_FORCE, 1, 1, verb_delete},
	{"holders", "ACCOUNT", "Show who holds an account's slots", help_holders, CTL_OPTION_JSON,
		1, 1, verb_holders},
	{"revoke", "[ACCOUNT] (--slot S | --pid P | --all)", "Take slots away from their holders",
		help_revoke, CTL_OPTION_JSON | CTL_OPTION_SLOT | CTL_OPTION_PID | CTL_OPTION_ALL, 0,
		1, verb_revoke},
	{"import", "FILE", "Set the limits in a file, all or none", help_import, CTL_OPTION_JSON, 1,
		1, verb_import},
	{"export", "", "Write all limits, for import", help_export, 0, 0, 0, verb_export},
	{"status", "", "Show how berthd is", help_status, CTL_OPTION_JSON, 0, 0, verb_status},
	{"run", "[-E STATUS] [--weight N] [--label TEXT] ACCOUNT -- COMMAND...",
		"Hold a slot while a command runs", help_run,
		CTL_OPTION_WEIGHT | CTL_OPTION_LABEL | CTL_OPTION_STATUS, 2, ANY_NUMBER, verb_run},
	{"help", "[VERB]", "Explain berthctl, or one verb of it", help_help, 0, 0, 1, verb_help},
};
const size_t ctl_verb_count = ELEMENTS(ctl_verbs);

const struct ctl_verb *ctl_verb_find(const char *name) {
	for (size_t i = 0; i < ctl_verb_count; i++)
		if (strcmp(ctl_verbs[i].name, name) == 0)
			return &ctl_verbs[i];
	return NULL;
}

/* -- options ----------------------------------------------------------------------------------- */

/* Beyond the short ones. */
enum {
	KEY_RUNTIME_DIR = 256,
	KEY_VERSION,
	KEY_JSON,
	KEY_FORCE,
	KEY_ALL,
	KEY_SLOT,
	KEY_PID,
	KEY_WEIGHT,
	KEY_LABEL
};

static const struct option long_options[] = {
	{"runtime-dir", required_argument, NULL, KEY_RUNTIME_DIR},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, KEY_VERSION},
	{"json", no_argument, NULL, KEY_JSON},
	{"force", no_argument, NULL, KEY_FORCE},
	{"all", no_argument, NULL, KEY_ALL},
	{"slot", required_argument, NULL, KEY_SLOT},
	{"pid", required_argument, NULL, KEY_PID},
	{"weight", required_argument, NULL, KEY_WEIGHT},
	{"label", required_argument, NULL, KEY_LABEL},
	{NULL, 0, NULL, 0},
};

/* Options that not every verb takes. */
static const struct {
	int key;
	uint32_t option;
	const char *name;
} verb_options[] = {
	{KEY_JSON, CTL_OPTION_JSON, "--json"},
	{KEY_FORCE, CTL_OPTION_FORCE, "--force"},
	{KEY_ALL, CTL_OPTION_ALL, "--all"},
	{KEY_SLOT, CTL_OPTION_SLOT, "--slot"},
	{KEY_PID, CTL_OPTION_PID, "--pid"},
	{KEY_WEIGHT, CTL_OPTION_WEIGHT, "--weight"},
	{KEY_LABEL, CTL_OPTION_LABEL, "--label"},
	{'E', CTL_OPTION_STATUS, "-E"},
};

static int number_option(
	const struct ctl *c, const char *name, uint64_t min, uint64_t max, uint32_t *ret) {
	struct ctl_shown shown;
	uint64_t n;

	if (number_parse(optarg, max, &n) < 0 || n < min)
		return ctl_usage(c,
			"%s '%s': a whole number from %" PRIu64 " to %" PRIu64 " is wanted", name,
			ctl_show(&shown, optarg), min, max);
	*ret = (uint32_t)n;
	return CTL_OK;
}

/* "RECORD:SEQ", as holders shows it. */
static int slot_option(struct ctl *c) {
	const char *colon = strchr(optarg, ':');
	struct ctl_shown shown;
	char first[16] = "";
	uint64_t record, seq;

	if (colon && (size_t)(colon - optarg) < sizeof(first))
		memcpy(first, optarg, (size_t)(colon - optarg));
	if (!colon || number_parse(first, MESSAGE_RECORD_MAX, &record) < 0 || record == 0 ||
		number_parse(colon + 1, MESSAGE_SEQ_MAX, &seq) < 0)
		return ctl_usage(c,
			"--slot '%s': a slot is two numbers, RECORD:SEQ, as 'berthctl holders' "
			"shows it",
			ctl_show(&shown, optarg));
	c->slot = message_slot(record, seq);
	return CTL_OK;
}

static int status_option(struct ctl *c) {
	uint32_t status = 0;
	int r = number_option(c, "-E", 0, 255, &status);

	if (r == CTL_OK)
		c->denied_status = (int)status;
	return r;
}

/* The verb is known only after options before it were read. */
static int options_check(const struct ctl *c) {
	for (size_t i = 0; i < ELEMENTS(verb_options); i++)
		if (c->given & ~c->verb->options & verb_options[i].option)
			return ctl_usage(
				c, "%s has no option %s", c->verb->name, verb_options[i].name);
	return CTL_OK;
}

static void option_note(struct ctl *c, int key) {
	for (size_t i = 0; i < ELEMENTS(verb_options); i++)
		if (verb_options[i].key == key)
			c->given |= verb_options[i].option;
}

static void version_print(void) {
	puts("berthctl " BERTH_VERSION);
}

/* getopt's '?' and ':'; what it stopped at is before optind or in optopt. */
static int option_unknown(const struct ctl *c, int key, char **argv) {
	struct ctl_shown shown;

	if (key == ':')
		return ctl_usage(
			c, "the option '%s' needs an argument", ctl_show(&shown, argv[optind - 1]));
	if (optopt > 0 && optopt < 256)
		return ctl_usage(c, "there is no option '-%c'", optopt);
	if (optopt != 0)
		return ctl_usage(
			c, "the option '%s' takes no argument", ctl_show(&shown, argv[optind - 1]));
	return ctl_usage(c, "there is no option '%s', or more than one begins so",
		ctl_show(&shown, argv[optind - 1]));
}

static int option_apply(struct ctl *c, int key) {
	option_note(c, key);
	switch (key) {
	case 'h':
		c->help = true;
		return CTL_OK;
	case KEY_RUNTIME_DIR:
		c->runtime_dir = optarg;
		return *optarg ? CTL_OK : ctl_usage(c, "--runtime-dir is empty");
	case KEY_JSON:
		c->json = true;
		return CTL_OK;
	case KEY_FORCE:
		c->force = true;
		return CTL_OK;
	case KEY_ALL:
		c->all = true;
		return CTL_OK;
	case KEY_SLOT:
		return slot_option(c);
	case KEY_PID:
		return number_option(c, "--pid", 1, INT_MAX, &c->pid);
	case KEY_WEIGHT:
		return number_option(c, "--weight", 1, BERTH_WEIGHT_MAX, &c->weight);
	case KEY_LABEL:
		c->label = optarg;
		return CTL_OK;
	default:
		return status_option(c);
	}
}

/* Reads options up to the first operand, or all of them where operands may stand between (without
 * "+" in the short ones). optind says where it stopped. */
static int options_read(struct ctl *c, int argc, char **argv, const char *short_options) {
	int key, r;

	while ((key = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
		if (key == KEY_VERSION) {
			version_print();
			exit(CTL_OK);
		}
		r = key == '?' || key == ':' ? option_unknown(c, key, argv) : option_apply(c, key);
		if (r != CTL_OK)
			return r;
	}
	return CTL_OK;
}

/* -- from the command line to the verb --------------------------------------------------------- */

/* run's command has options of its own, which are none of ours: ours end at the second operand, or
 * at `--`. The operands are then what argv has from optind on. */
static int run_options_read(struct ctl *c, int argc, char **argv) {
	int account, r;

	r = options_read(c, argc, argv, "+:hE:");
	if (r != CTL_OK || optind == argc)
		return r;
	account = optind;
	optind = 0; /* begin anew: getopt would move a second `--` in front of the first */
	r = options_read(c, argc - account, argv + account, "+:hE:");
	optind += account - 1;
	argv[optind] = argv[account];
	return r;
}

static int verb_call(struct ctl *c, int argc, char **argv) {
	const struct ctl_verb *v = c->verb;
	int count = argc - optind;
	struct ctl_shown shown;
	int r;

	if (c->help) {
		help_print_verb(v);
		return CTL_OK;
	}
	r = options_check(c);
	if (r != CTL_OK)
		return r;
	if (count < v->args_min)
		return ctl_usage(c, "too little is given: berthctl %s %s", v->name, v->args);
	if (count > v->args_max)
		return ctl_usage(c, "'%s' is too much: berthctl %s %s",
			ctl_show(&shown, argv[optind + v->args_max]), v->name, v->args);
	return v->run(c, count, argv + optind);
}

/* argv[0] is the verb. */
static int verb_read(struct ctl *c, int argc, char **argv) {
	struct ctl_shown shown;
	int r;

	c->verb = ctl_verb_find(argv[0]);
	if (!c->verb)
		return ctl_usage(c, "there is no verb '%s'", ctl_show(&shown, argv[0]));
	optind = 0; /* glibc: begin anew */
	if (c->verb->run == verb_run)
		r = run_options_read(c, argc, argv);
	else
		r = options_read(c, argc, argv, ":hE:");
	return r == CTL_OK ? verb_call(c, argc, argv) : r;
}

/* Names are UTF-8 in every locale: a table made by cron, in the C locale, is to have them whole. */
static void locale_init(void) {
	(void)setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		(void)setlocale(LC_CTYPE, "C.UTF-8");
}

static void ctl_init(struct ctl *c) {
	const char *dir = secure_getenv("BERTH_RUNTIME_DIR");

	*c = (struct ctl){
		.runtime_dir = dir && *dir ? dir : RUNTIME_DIR,
		.terminal = isatty(STDOUT_FILENO),
		.weight = 1,
		.denied_status = CTL_DENIED,
		.admin_fd = -1,
	};
}

/* A full disk must not look like success. */
static int output_finish(int status) {
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	ctl_error("standard output can't be written: %s", strerror(errno));
	return status == CTL_OK ? CTL_FAILED : status;
}

int main(int argc, char **argv) {
	struct ctl c;
	int status;

	locale_init();
	ctl_init(&c);
	opterr = 0;
	status = options_read(&c, argc, argv, "+:hE:");
	if (status == CTL_OK && optind < argc)
		status = verb_read(&c, argc - optind, argv + optind);
	else if (status == CTL_OK && c.help)
		help_print();
	else if (status == CTL_OK)
		status = ctl_usage(&c, "what is to be done? Give a verb");
	admin_close(&c);
	return output_finish(status);
}
