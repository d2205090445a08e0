/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Counts denied acquires in words that only one thread writes.
 *
 * Every acquire and release of an account writes to its cell. If denied acquires wrote to the cell,
 * too, a flood of them would slow down all acquires and releases of the account. So one thread of
 * each session counts its denials by plain stores to words of the session's entry. Each word is for
 * one account at a time. The daemon collects these words before it reports or stores a number of
 * denials: it adds the words' counts to `denied` of the cells.
 *
 * The count in a word only grows; `collected` is the word as the daemon collected it last. A word
 * goes to another account only when the word equals `collected`. Until then, the thread adds its
 * denials of that other account to that account's cell. The session's other threads add all their
 * denials to the cells.
 *
 * If the daemon dies after it has stored `collected` and before it has added the denials to the
 * cell, these denials are lost. That is allowed, since no decision depends on denials. A denial
 * that is counted by a plain store may fail to wake the daemon; the next change or denial wakes it.
 */

#include "wake.h"

#define DENIALS_BITS 40 /* of a word's count */
#define DENIALS_MASK ((UINT64_C(1) << DENIALS_BITS) - 1)

/* Counts a denial in the account's cell, and announces the denial like a change of a count
 * (wake.h). The reason: if damage has made a count too high, denials may be the only events at the
 * account, and they must wake the daemon for the recount. */
void denials_add_to_cell(struct map *m, struct cell *cell, _Atomic uint8_t *dirty);

/* Counts and announces a denial in the session's entry. Only for the thread that counts in the
 * words of this session. */
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
	/* Pairs with denials_collect(). */
	store_release(at, (word & ~DENIALS_MASK) | ((word + 1) & DENIALS_MASK));
	wake_changed(m, dirty);
}

/* The account's denials that are in session entries and not collected yet. */
uint64_t denials_pending(struct map *m, uint32_t account);

/* For the daemon only: adds all denials of session entries to the cells, and marks these as dirty
 * (wake.h). */
void denials_collect(struct map *m);
