/* SPDX-License-Identifier: MIT */

/*
 * Adds up the records, as counter.c says they are to be read, while every process stands still: one
 * that is PLACED or SEIZED has made the steps that its newest seq tells, which is in the cell's tag or
 * in its own word, and so has charged the levels below a certain one.
 * The sums must be the counts, to the unit, at any instant at all. So nothing can drift and be made
 * up for by another drift, and what goes wrong is found soon after. counter.c says the same in
 * counter_has_charged(), which is judged here with the rest, and so isn't used.
 */

#include <stdio.h>
#include <stdlib.h>

#include "audit.h"
#include "directory.h"

static uint64_t record_word(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);

	return record ? load_acquire(&record->word) : 0;
}

/* Whether the record has charged a level of its path, whose cell says so much. */
static bool level_is_charged(uint64_t rec, uint32_t number, uint32_t level, uint64_t cell) {
	uint32_t seq = record_seq(rec), depth = record_top(rec) + 1, cycle = 2, step;
	uint32_t ahead = (cell_seq(cell) - seq) & BERTH_SEQ_MASK;

	/* A step that the record doesn't know of yet. */
	if (cell_record(cell) == number && ahead <= BERTH_SEQ_MASK / 2)
		seq = cell_seq(cell);
	while (cycle < 2 * depth)
		cycle *= 2;
	step = seq % cycle;
	return step > level && step < 2 * depth - level;
}

static uint64_t cell_word(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);

	return cell ? load_acquire(&cell->word) : 0;
}

/* False: the record names an account that there isn't. */
static bool record_add(struct map *m, uint32_t number, uint64_t rec, uint32_t *sum) {
	uint32_t account;

	if (record_state(rec) == RECORD_FREE || record_state(rec) == RECORD_CLOSED)
		return true;
	for (uint32_t k = 0; k <= record_top(rec); k++) {
		if (directory_ancestor(m, record_account(rec), k, &account) < 0)
			return false;
		if (level_is_charged(rec, number, k, cell_word(m, account)))
			sum[account] += record_weight(rec);
	}
	return true;
}

static void say_count(struct map *m, uint32_t account, uint32_t want, char *ret_why) {
	uint64_t word = cell_word(m, account);
	char name[256] = "?";

	(void)directory_name(m, account, name);
	(void)snprintf(ret_why, 512,
		"account %u ('%s') counts %u, but its records come to %u (tag %u, %u)", account,
		name, cell_count(word), want, cell_record(word), cell_seq(word));
}

bool audit_counts(struct map *m, char *ret_why) {
	uint32_t end = load_acquire(&m->names->accounts);
	_cleanup_free_ uint32_t *sum = calloc(end + 1, sizeof(*sum));

	(void)snprintf(ret_why, 512, "no memory to add up the records");
	for (uint32_t n = 1; sum && n < load_acquire(&m->names->slots); n++) {
		uint64_t rec = record_word(m, n);

		if (!record_add(m, n, rec, sum)) {
			(void)snprintf(ret_why, 512,
				"record %u (%#llx) names an account that there isn't", n,
				(unsigned long long)rec);
			return false;
		}
	}
	for (uint32_t a = 1; sum && a < end; a++)
		if (cell_count(cell_word(m, a)) != sum[a]) {
			say_count(m, a, sum[a], ret_why);
			return false;
		}
	return sum != NULL;
}

bool audit_is_empty(struct map *m, char *ret_why) {
	for (uint32_t n = 1; n < load_acquire(&m->names->slots); n++) {
		uint64_t rec = record_word(m, n);

		if (record_state(rec) != RECORD_CLOSED) {
			(void)snprintf(ret_why, 512, "record %u is in state %d, top %u, weight %u",
				n, record_state(rec), record_top(rec), record_weight(rec));
			return false;
		}
	}
	for (uint32_t a = 1; a < load_acquire(&m->names->accounts); a++)
		if (cell_count(cell_word(m, a)) != 0) {
			say_count(m, a, 0, ret_why);
			return false;
		}
	return true;
}
