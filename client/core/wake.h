/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An event count in the segment, by which a change of a count wakes the daemon.
 *
 *   a process that changes a count      the daemon
 *   C1 CAS on the cell                  D1 read `wakes`
 *   C2 mark the group dirty             D2 `armed` = a value computed from D1
 *   C3 if `armed`: C4 `wakes` + 1       D3 look for dirty groups; if any: `armed` = 0, checkpoint
 *      C5 FUTEX_WAKE                    D4 FUTEX_WAIT until `wakes` differs from D1
 *      C6 `armed` = 0, if it is still the value that C3 saw
 *
 * After C6, further changes make no system call, even if the daemon was woken but doesn't run yet,
 * or died while it slept. D2 stores a value computed from `wakes`, which C4 has changed. So C6
 * can't undo a later arming. If the process dies before C6, `armed` stays set, and the next change
 * wakes the daemon again.
 *
 * C1, C2, C3 and D2, D3 are sequentially consistent: either C3 sees D2, or D3 sees C2. While the
 * daemon works, `armed` is 0 and announcing a change costs two loads. A process that is killed
 * between C1 and C5 leaves a change that isn't announced, and a PLACED record. When the daemon ends
 * the session of the process, it makes V2 for that record, which announces a change of each cell on
 * the record's path (counter.c).
 */

#include "map.h"

/* C4 to C6. Leaves errno unchanged. */
void wake_daemon(struct map *m);

/* Announces a change of a count, or a denial: C2 to C6. `dirty`: the byte of the cell's group. */
static inline void wake_changed(struct map *m, _Atomic uint8_t *dirty) {
	/* C2. A store takes the cache line from the other processors. So if the group is dirty
	 * already, nothing is stored. */
	if (unlikely(load_total(dirty) == 0))
		store_total(dirty, 1);
	if (unlikely(load_total(&m->header->armed) != 0)) /* C3 */
		wake_daemon(m);
}

/* For the daemon only. D1, D2: sets `armed`, and returns the value of `wakes` for wake_wait(). */
uint32_t wake_arm(struct map *m);
/* Undoes wake_arm(). */
void wake_disarm(struct map *m);
/* D4: blocks as long as `wakes` is `seen`. It may return earlier, after a signal for instance. */
void wake_wait(struct map *m, uint32_t seen);
/* Makes wake_wait() in another thread return. */
void wake_cancel(struct map *m);

/* D3 for the account's group of cells: clears the group's mark, and returns true if the group was
 * dirty. The caller reads the cells afterwards. */
bool wake_clear_dirty(struct map *m, uint32_t account);
