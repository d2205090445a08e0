/* SPDX-License-Identifier: MIT */

/* Counts denials in cells, and collects those that were counted in the entries of sessions. */

#include "denials.h"

void denials_add_to_cell(struct map *m, struct cell *cell, _Atomic uint8_t *dirty) {
	(void)add_total(&cell->denied, 1); /* C1 */
	wake_changed(m, dirty);
}

/* The denials of a word that aren't collected. */
static uint64_t word_pending(uint64_t word, uint64_t collected) {
	return (word - collected) & DENIALS_MASK;
}

/* The account's denials in one session's entry. The word may go to another account while it is
 * read; `collected` has changed then. */
static uint64_t entry_pending(const struct session_entry *e, uint32_t account) {
	uint32_t i = account % BERTH_DENIALS;
	uint64_t collected, word;

	for (int n = 0; n < 16; n++) {
		collected = load_acquire(&e->collected[i]);
		word = load_acquire(&e->denials[i]);
		if (load_acquire(&e->collected[i]) == collected)
			return word >> DENIALS_BITS == account ? word_pending(word, collected) : 0;
	}
	return 0;
}

uint64_t denials_pending(struct map *m, uint32_t account) {
	const struct session_entry *e;
	uint64_t sum = 0;

	for (uint32_t i = 0; (e = map_session(m, i)) != NULL; i++)
		sum += entry_pending(e, account);
	return sum;
}

/* Collects one word. It marks the cell as dirty again: while the denials were still in the word,
 * they may have been announced, and the daemon may have cleared the mark. A word whose account
 * doesn't exist is noise, and is dropped. */
static void word_collect(struct map *m, struct session_entry *e, uint32_t i) {
	uint64_t word = load_acquire(&e->denials[i]), collected = load_relaxed(&e->collected[i]);
	uint32_t account = (uint32_t)(word >> DENIALS_BITS);
	struct cell *cell = map_cell(m, account);
	_Atomic uint8_t *dirty = map_dirty(m, account);

	if (word == collected)
		return;
	/* Pairs with denials_add_to_session(), which may give the word to another account from now
	 * on. */
	store_release(&e->collected[i], word);
	if (!cell)
		return;
	(void)add_total(&cell->denied, word_pending(word, collected)); /* C1 of wake.h */
	if (dirty && load_total(dirty) == 0)
		store_total(dirty, 1); /* C2 */
}

void denials_collect(struct map *m) {
	struct session_entry *e;

	for (uint32_t i = 0; (e = map_session(m, i)) != NULL; i++)
		for (uint32_t k = 0; k < BERTH_DENIALS; k++)
			word_collect(m, e, k);
}
