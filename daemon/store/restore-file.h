/* SPDX-License-Identifier: MIT */
#pragma once

/* berthd --restore FILE. */

#include <stdbool.h>

/* Makes a new store of limits from an export (export.h), and prints what it did. An existing store
 * is moved aside if it is damaged or `force` is set; otherwise it stays, and the command is
 * refused. Prints errors on standard error. On failure returns a negative errno, and an existing
 * store is unchanged, unless only the last sync failed. */
int restore_file(const char *state_dir, const char *path, bool force);
