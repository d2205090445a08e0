/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What an upgrade or a downgrade meets: a segment of another layout, which servers linked to that
 * release's library go on counting in. Two segments at once would let an account have its limit
 * twice, so berthd doesn't start before these servers have ended, unless it is told to.
 *
 * Looks only at what is the same in every layout; other-layout.c lists it.
 */

#include <stdbool.h>

/* Exit status when what berthd finds was made by another release: sysexits.h's EX_CONFIG. */
#define EXIT_OTHER_RELEASE 78

/* Before the segment is opened, under the lock of the runtime directory. Removes a segment and a
 * directory of another layout, which a later look for them then makes anew, if they are of another
 * boot, or no process with a session in them lives, or `abandon`. -EPROTONOSUPPORT: such a process
 * lives. The log says what was found, and done. */
int other_layout_make_way(const char *runtime_dir, bool abandon);

/* Says on standard output whether berthd could start, and if not, which processes are in its way, one
 * a line. Changes nothing, and needs no lock. The exit status: 0, EXIT_OTHER_RELEASE, or
 * EXIT_FAILURE. */
int other_layout_check(const char *runtime_dir);
