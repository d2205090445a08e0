/* SPDX-License-Identifier: MIT */
#pragma once

/* berthd's command line and environment. */

#include "segment.h"

struct options {
	const char *runtime_dir;
	const char *state_dir;
	const char *group;       /* of berth.sock; NULL: berth, if there is such a group */
	const char *admin_group; /* of admin.sock; NULL: berth-admin, if there is such a group */
	struct capacities capacities;
	bool abandon_segment; /* start although servers still use a segment of another layout */
	bool check_segment;   /* only list such servers */
	const char *restore;  /* only make a new store from this export; NULL: serve */
	bool force;           /* with restore: replace even a sound store */
};

#define DEFAULT_STATE_DIR "/var/lib/berth"
#define DEFAULT_ACCOUNTS  1048576u
#define DEFAULT_SLOTS     1048576u
#define DEFAULT_SESSIONS  16384u

/* Exit status of an unusable command line. */
#define EXIT_USAGE 2

/* 0: berthd is to run. 1: the text for --help or --version was printed, and berthd is to exit.
 * -EINVAL: the error was printed on standard error. */
int options_parse(struct options *o, int argc, char **argv);
