/* SPDX-License-Identifier: MIT */

/* Denials, counted in the entries of sessions, and collected from there into the cells. */

#include "denials.h"
#include "wake.h"

#define COUNT_BITS 40

static uint32_t word_account(uint64_t word) {
	return (uint32_t)(word >> COUNT_BITS);
}

static uint64_t word_count(uint64_t word) {
	return word & ((UINT64_C(1) << COUNT_BITS) - 1);
}

/* Marks the cell as changed, too: its denials may have been announced, and the mark taken off, while
 * they were in the word. An account that is none is noise, or was never used. */
static _rare_ void word_spend(struct map *m, uint64_t word) {
	struct cell *cell = map_cell(m, word_account(word));
	_Atomic uint8_t *dirty = map_dirty(m, word_account(word));

	if (!cell)
		return;
	(void)add_total(&cell->denied, word_count(word)); /* C1 of wake.h */
	if (dirty && load_total(dirty) == 0)
		store_total(dirty, 1); /* C2 */
}

void denials_add(struct map *m, uint32_t account, struct cell *cell, _Atomic uint8_t *dirty) {
	_Atomic uint64_t *at = m->denials ? &m->denials[account % BERTH_DENIALS] : NULL;
	uint64_t word = at ? load_relaxed(at) : 0;
	bool mine = word_account(word) == account;

	/* Another thread, or the daemon, that changes the word meanwhile is rare. */
	if (unlikely(!at || !cas(at, word, mine ? word + 1 : (uint64_t)account << COUNT_BITS | 1)))
		(void)add_total(&cell->denied, 1); /* C1 */
	else if (unlikely(!mine && word != 0))
		word_spend(m, word);
	wake_changed(m, dirty);
}

uint64_t denials_pending(struct map *m, uint32_t account) {
	const struct session_entry *e;
	uint64_t sum = 0;

	for (uint32_t i = 0; (e = map_session(m, i)) != NULL; i++) {
		uint64_t word = load_relaxed(&e->denials[account % BERTH_DENIALS]);

		if (word_account(word) == account)
			sum += word_count(word);
	}
	return sum;
}

static void entry_collect(struct map *m, struct session_entry *e) {
	for (uint32_t i = 0; i < BERTH_DENIALS; i++) {
		uint64_t word = load_relaxed(&e->denials[i]);

		if (word != 0)
			word_spend(m, exchange_total(&e->denials[i], 0));
	}
}

void denials_collect(struct map *m) {
	struct session_entry *e;

	for (uint32_t i = 0; (e = map_session(m, i)) != NULL; i++)
		entry_collect(m, e);
}
