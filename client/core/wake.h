/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How a change of a count wakes the daemon: an event count in the segment.
 *
 *   whoever changes a count             the daemon
 *   C1 CAS on the cell                  D1 read `wakes`
 *   C2 mark the group dirty             D2 `armed` = a value made of D1
 *   C3 if `armed`: C4 `wakes` + 1       D3 look for dirty groups; any: `armed` = 0, checkpoint
 *      C5 FUTEX_WAKE                    D4 FUTEX_WAIT until `wakes` differs from D1
 *      C6 `armed` = 0, if it is still that of C3
 *
 * C6 keeps those who come next from waking a daemon that was woken, and hasn't got the CPU yet, or
 * died asleep. D2 stores a value made of `wakes`, which C4 has changed: so C6 can't take back an
 * arming that followed. Death before C6 leaves `armed`, and the next change wakes once more.
 *
 * C1, C2, C3 and D2, D3 are sequentially consistent: either C3 sees D2, or D3 sees C2. While the
 * daemon is at work `armed` is 0 and a change costs two loads. A client killed between C1 and C5
 * leaves a change that nobody announced, and a placed record: whoever takes that back announces for its
 * whole path (counter.c, V2).
 */

#include "map.h"

/* C4 to C6. Leaves errno alone. */
void wake_daemon(struct map *m);

/* C2 to C6. */
static inline void wake_changed(struct map *m, _Atomic uint8_t *dirty) {
	/* C2: loaded first, so that the line stays shared while nobody takes a checkpoint. */
	if (unlikely(load_total(dirty) == 0))
		store_total(dirty, 1);
	if (unlikely(load_total(&m->header->armed) != 0)) /* C3 */
		wake_daemon(m);
}

/* D1, D2 and D4. */
uint32_t wake_arm(struct map *m);
void wake_disarm(struct map *m);
/* Returns when `wakes` is no longer seen, or now and then for no reason. */
void wake_wait(struct map *m, uint32_t seen);
/* Makes a wake_wait in another thread return. */
void wake_cancel(struct map *m);

/* Takes the mark off a group of cells (before reading them); true if it was dirty. */
bool wake_clear_dirty(struct map *m, uint32_t account);
