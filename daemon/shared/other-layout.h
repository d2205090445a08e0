/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * After an upgrade or a downgrade berthd may find a segment of another layout. Servers with the
 * library of the other version may still count their slots in that segment. With two segments at
 * once an account would have its limit twice. So without --abandon-segment, berthd doesn't start
 * before these servers have ended.
 *
 * berthd reads only the fields that all layouts have at the same place; other-layout.c lists them.
 */

#include <stdbool.h>

/* Exit status if another version made the files that berthd finds: EX_CONFIG of sysexits.h. */
#define EXIT_OTHER_VERSION 78

/* To be called under the lock of the runtime directory, before the segment is opened. Removes the
 * files `segment` and `directory` of another layout in three cases: they are of another boot, all
 * processes with a session in them are dead, or `abandon` is set. In any other case they stay, and
 * the function returns -EPROTONOSUPPORT. The log says what was found and done. */
int other_layout_make_way(const char *runtime_dir, bool abandon);

/* Prints whether berthd could start, and if not, the processes that keep it from starting, one per
 * line. Changes nothing, and needs no lock. Returns an exit status: 0, EXIT_OTHER_VERSION, or
 * EXIT_FAILURE. */
int other_layout_check(const char *runtime_dir);
