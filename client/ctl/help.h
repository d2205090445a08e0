/* SPDX-License-Identifier: MIT */
#pragma once

/* What berthctl says about itself. The help_print functions print it on standard output, and return
 * CTL_OK. */

#include "verbs.h"

int help_print(void);
int help_print_verb(const struct verb *v);

/* Writes "berthctl VERB", its operands and its options. Returns the text of `to`. */
struct synopsis {
	char text[512];
};
const char *help_synopsis(const struct verb *v, struct synopsis *to);
