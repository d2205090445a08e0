/* SPDX-License-Identifier: MIT */
#pragma once

/* berthd --restore FILE. */

#include <stdbool.h>

/* Makes a new store of limits from an export (export.h), and prints what it did. A store that is
 * there is moved aside, if it is damaged or `force` is set; else the command is refused. Prints
 * errors on standard error. 0, or a negative errno: then the store there, if any, is as it was. */
int restore_file(const char *state_dir, const char *path, bool force);
