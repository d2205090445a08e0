/* SPDX-License-Identifier: MIT */
#pragma once

/* The options that every verb takes, and what they said on this command line. */

#include <stdbool.h>

#include "verbs.h"

struct globals {
	const char *runtime_dir; /* never NULL after globals_init */
	bool json;               /* only with a verb that takes it */
	bool help;
	bool version;
};

extern struct globals globals;
extern const struct option_row global_options[];

/* Sets the defaults, some of which come from the environment. */
void globals_init(void);
