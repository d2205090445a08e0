/* SPDX-License-Identifier: MIT */

/* Reads berthd's command line and environment. */

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "name.h"
#include "number.h"
#include "options.h"
#include "runtime-dir.h"

enum option_id {
	OPTION_RUNTIME_DIR = 256,
	OPTION_STATE_DIR,
	OPTION_MAX_ACCOUNTS,
	OPTION_MAX_SLOTS,
	OPTION_MAX_SESSIONS,
	OPTION_GROUP,
	OPTION_ADMIN_GROUP,
	OPTION_ABANDON_SEGMENT,
	OPTION_CHECK_SEGMENT,
	OPTION_RESTORE,
	OPTION_FORCE,
	OPTION_HELP,
	OPTION_VERSION,
};

static const struct option options_table[] = {
	{"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
	{"state-dir", required_argument, NULL, OPTION_STATE_DIR},
	{"max-accounts", required_argument, NULL, OPTION_MAX_ACCOUNTS},
	{"max-slots", required_argument, NULL, OPTION_MAX_SLOTS},
	{"max-sessions", required_argument, NULL, OPTION_MAX_SESSIONS},
	{"group", required_argument, NULL, OPTION_GROUP},
	{"admin-group", required_argument, NULL, OPTION_ADMIN_GROUP},
	{"abandon-segment", no_argument, NULL, OPTION_ABANDON_SEGMENT},
	{"check-segment", no_argument, NULL, OPTION_CHECK_SEGMENT},
	{"restore", required_argument, NULL, OPTION_RESTORE},
	{"force", no_argument, NULL, OPTION_FORCE},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{NULL, 0, NULL, 0},
};

static void help(void) {
	printf("Usage: berthd [OPTION]...\n"
	       "Keeps limits of accounts, and the shared memory in which servers count slots.\n\n"
	       "  --runtime-dir DIR   sockets and shared memory "
	       "($BERTH_RUNTIME_DIR, " DEFAULT_RUNTIME_DIR ")\n"
	       "  --state-dir DIR     limits and counts, on disk "
	       "($BERTH_STATE_DIR, " DEFAULT_STATE_DIR ")\n"
	       "  --max-accounts N    accounts that can exist (default %u, at most %u)\n"
	       "  --max-slots N       slots that can be held at once (default %u, at most %u)\n"
	       "  --max-sessions N    sessions that can be open at once (default %u, at most "
	       "%u)\n"
	       "  --group NAME        group that may connect to berth.sock (default berth, if it "
	       "exists)\n"
	       "  --admin-group NAME  group that may connect to admin.sock (default berth-admin, "
	       "if it exists)\n"
	       "  --abandon-segment   start even if servers of another version still count in "
	       "its segment\n"
	       "  --check-segment     list such servers, and exit\n"
	       "  --restore FILE      make a new store of limits from an export, and exit\n"
	       "  --force             with --restore: move the old store aside even if it is "
	       "sound\n"
	       "  --help              show this text, and exit\n"
	       "  --version           show the version, and exit\n\n"
	       "A new capacity takes effect when berthd starts while no server is connected.\n"
	       "Exit status: 0 stopped by a signal, 1 failed, 2 wrong command line, 78 found "
	       "files of another version that it can't use.\n",
		DEFAULT_ACCOUNTS, BERTH_ACCOUNTS_MAX, DEFAULT_SLOTS, BERTH_SLOTS_MAX,
		DEFAULT_SESSIONS, BERTH_SESSIONS_MAX);
}

static int parse_capacity(const char *what, const char *text, uint32_t max, uint32_t *ret) {
	uint64_t n;

	if (number_parse(text, max, &n) < 0 || n == 0) {
		fprintf(stderr, "berthd: --%s takes a whole number from 1 to %u, not '%s'\n", what,
			max, text);
		return -EINVAL;
	}
	*ret = (uint32_t)n;
	return 0;
}

static int option_apply(struct options *o, int id) {
	switch (id) {
	case OPTION_RUNTIME_DIR:
		o->runtime_dir = optarg;
		return 0;
	case OPTION_STATE_DIR:
		o->state_dir = optarg;
		return 0;
	case OPTION_MAX_ACCOUNTS:
		return parse_capacity(
			"max-accounts", optarg, BERTH_ACCOUNTS_MAX, &o->capacities.accounts);
	case OPTION_MAX_SLOTS:
		return parse_capacity("max-slots", optarg, BERTH_SLOTS_MAX, &o->capacities.slots);
	case OPTION_MAX_SESSIONS:
		return parse_capacity(
			"max-sessions", optarg, BERTH_SESSIONS_MAX, &o->capacities.sessions);
	case OPTION_GROUP:
		o->group = optarg;
		return 0;
	case OPTION_ADMIN_GROUP:
		o->admin_group = optarg;
		return 0;
	case OPTION_ABANDON_SEGMENT:
		o->abandon_segment = true;
		return 0;
	case OPTION_CHECK_SEGMENT:
		o->check_segment = true;
		return 0;
	case OPTION_RESTORE:
		o->restore = optarg;
		return 0;
	case OPTION_FORCE:
		o->force = true;
		return 0;
	case OPTION_HELP:
		help();
		return 1;
	case OPTION_VERSION:
		printf("berthd " BERTH_VERSION "\n");
		return 1;
	default:
		fprintf(stderr, "Try 'berthd --help'.\n");
		return -EINVAL;
	}
}

int options_parse(struct options *o, int argc, char **argv) {
	const char *state_dir = secure_getenv("BERTH_STATE_DIR");
	int id, r = 0;

	*o = (struct options){
		.runtime_dir = runtime_dir_choose(NULL),
		.state_dir = state_dir && *state_dir ? state_dir : DEFAULT_STATE_DIR,
		.capacities = {DEFAULT_ACCOUNTS, DEFAULT_SLOTS, DEFAULT_SESSIONS},
	};
	while (r == 0 && (id = getopt_long(argc, argv, "", options_table, NULL)) != -1)
		r = option_apply(o, id);
	if (r == 0 && optind < argc) {
		fprintf(stderr, "berthd: takes no argument, but got '%s'; try 'berthd --help'\n",
			argv[optind]);
		return -EINVAL;
	}
	if (r == 0 && o->force && !o->restore) {
		fprintf(stderr,
			"berthd: --force goes with --restore FILE only; try 'berthd --help'\n");
		return -EINVAL;
	}
	return r;
}
