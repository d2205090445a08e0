/* SPDX-License-Identifier: MIT */
#pragma once

/* What berthctl says about itself, on standard output. Each of these functions returns CTL_OK. */

#include "verbs.h"

int help_print(void);
int help_print_verb(const struct verb *v);
int help_print_version(void);

/* Writes "berthctl VERB", its operands and its options. Returns the text of `to`. */
struct synopsis {
	char text[256];
};
const char *help_synopsis(const struct verb *v, struct synopsis *to);
