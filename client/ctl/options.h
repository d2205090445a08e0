/* SPDX-License-Identifier: MIT */
#pragma once

/* Reads the options of a command line by the tables of options. */

#include "verbs.h"

/*
 * Reads options up to the first operand, and stores those that every verb takes. The options of
 * verbs are checked but not stored, because the verb isn't known yet: the first operand names it.
 * Returns CTL_OK, or reports what is wrong and returns CTL_USAGE.
 */
int options_read_globals(int argc, char **argv, int *ret_first);

/*
 * Reads the options that stand before the verb argv[first], and those after it. Afterwards the
 * operands stand at *ret_operands, with NULL behind them. If the operands are a command, the
 * options end before the second operand; otherwise options and operands may be mixed. `--` ends the
 * options. Returns the same statuses as options_read_globals().
 */
int options_read(const struct verb *v, int argc, char **argv, int first, char ***ret_operands);
