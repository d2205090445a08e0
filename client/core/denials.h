/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Counts denials where no other thread writes.
 *
 * A cell's line is written by all that acquire and release there; a flood of denied acquires that wrote
 * there, too, would slow them down, and each other. So one thread of a session counts its denials by plain
 * stores in words of the session's entry, each of which is for one account at a time. The daemon collects
 * them into `denied` of the cells whenever it is asked for that, and before it stores it.
 *
 * A word only grows; `collected` says how much of it the daemon has. A word goes to another account only
 * once all of it is collected; until then, and for other threads, denials are added to the cell.
 *
 * Death of the daemon between its store to `collected` and its adding to the cell loses that count:
 * denials are history, nothing is decided by them. A denial that is counted by a plain store may wake the
 * daemon late: with the next change or denial.
 */

#include "wake.h"

#define DENIALS_BITS 40 /* of a word's count */
#define DENIALS_MASK ((UINT64_C(1) << DENIALS_BITS) - 1)

/* One more, of an account whose cell is at hand. The daemon hears of it, as of a change: a count that is
 * wrong may do nothing else than deny. */
void denials_add_to_cell(struct map *m, struct cell *cell, _Atomic uint8_t *dirty);

/* The same by the one thread that counts in the words of the session. */
static _always_inline_ void denials_add_to_session(
	struct map *m, uint32_t account, struct cell *cell, _Atomic uint8_t *dirty) {
	_Atomic uint64_t *at = &m->session->denials[account % BERTH_DENIALS];
	uint64_t word = load_relaxed(at);

	if (unlikely(word >> DENIALS_BITS != account)) {
		if (word != load_acquire(&m->session->collected[account % BERTH_DENIALS])) {
			denials_add_to_cell(m, cell, dirty);
			return;
		}
		word = (uint64_t)account << DENIALS_BITS | (word & DENIALS_MASK);
	}
	/* Pairs with the daemon's load. */
	store_release(at, (word & ~DENIALS_MASK) | ((word + 1) & DENIALS_MASK));
	wake_changed(m, dirty);
}

/* Of an account, as far as they aren't in its cell. */
uint64_t denials_pending(struct map *m, uint32_t account);

/* The daemon's: adds them all to the cells, and marks those as changed (wake.h). */
void denials_collect(struct map *m);
