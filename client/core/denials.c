/* SPDX-License-Identifier: MIT */

/* Counts denials in cells, and collects those that were counted in the entries of sessions. C1 and
 * C2 are the steps of wake.h. */

#include "denials.h"

void denials_add_to_cell(struct map *m, struct cell *cell, _Atomic uint8_t *dirty) {
	(void)add_total(&cell->denied, 1); /* C1 */
	wake_changed(m, dirty);
}

/* The denials of a word that aren't collected. */
static uint64_t word_pending(uint64_t word, uint64_t collected) {
	return (word - collected) & DENIALS_MASK;
}

uint64_t denials_pending(struct map *m, uint32_t account) {
	const uint32_t k = account % BERTH_DENIALS;
	const struct session_entry *e;
	uint64_t sum = 0;

	for (uint32_t i = 0; (e = map_session(m, i)) != NULL; i++)
		for (int n = 0; n < 16; n++) {
			uint64_t collected = load_acquire(&e->collected[k]);
			uint64_t word = load_acquire(&e->denials[k]);

			/* If the word has gone to another account in between, `collected` has
			 * changed. */
			if (load_acquire(&e->collected[k]) != collected)
				continue;
			if (word >> DENIALS_BITS == account)
				sum += word_pending(word, collected);
			break;
		}
	return sum;
}

void denials_collect(struct map *m) {
	struct session_entry *e;

	for (uint32_t i = 0; (e = map_session(m, i)) != NULL; i++)
		for (uint32_t k = 0; k < BERTH_DENIALS; k++) {
			uint64_t word = load_acquire(&e->denials[k]);
			uint64_t collected = load_relaxed(&e->collected[k]);
			uint32_t account = (uint32_t)(word >> DENIALS_BITS);
			struct cell *cell = map_cell(m, account);
			_Atomic uint8_t *dirty = map_dirty(m, account);

			if (word == collected)
				continue;
			/* Pairs with denials_add_to_session(), which may give the word to another
			 * account from now on. */
			store_release(&e->collected[k], word);
			/* If the account doesn't exist, the word is noise, and its count is
			 * dropped. */
			if (!cell)
				continue;
			(void)add_total(&cell->denied, word_pending(word, collected)); /* C1 */
			/* The cell is marked again: since the denials were announced, the daemon
			 * may have cleared the mark. */
			if (dirty && load_total(dirty) == 0)
				store_total(dirty, 1); /* C2 */
		}
}
