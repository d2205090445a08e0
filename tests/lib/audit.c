/* SPDX-License-Identifier: MIT */

/*
 * Adds up, for each account, the weights of the records that have charged it. Every process is
 * stopped meanwhile. By the rules of counter.c, a record that is PLACED or SEIZED has made the
 * steps up to its newest seq, which is in a cell's tag or in `noted`. This seq tells which levels
 * the record has charged.
 *
 * Each sum must equal the account's count at every instant, not only at the end. So errors can't
 * cancel each other out, and the audit finds an error soon after it was made. This file doesn't use
 * counter_has_charged() and layout.h's functions for seqs, since the tests test these functions.
 */

#include <stdio.h>
#include <stdlib.h>

#include "audit.h"
#include "directory.h"

static struct snapshot record_words(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);

	if (!record)
		return (struct snapshot){0};
	return (struct snapshot){load_acquire(&record->place), load_acquire(&record->noted)};
}

static struct pair cell_words(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);

	return cell ? cell_load(cell) : (struct pair){0};
}

/* True if the record has charged the level, by its `noted` and the tag of the level's cell. */
static bool level_is_charged(uint64_t noted, uint32_t number, uint32_t level, uint64_t tag) {
	uint64_t seq = tag & BERTH_SEQ_MASK, step;

	/* Use the tag only if it is a tag of this record and is newer than `noted`. */
	if (tag >> 42 != number || seq < noted)
		seq = noted;
	step = seq % 16;
	return step <= 8 ? step > level : 16 - step > level;
}

/* Adds the record's weight to the sum of each level that the record has charged. False if the
 * record has charged an account that doesn't exist. */
static bool record_add(struct map *m, uint32_t number, struct snapshot s, uint32_t *sum) {
	if (place_state(s.place) == RECORD_FREE || place_state(s.place) == RECORD_CLOSED)
		return true;
	for (uint32_t k = 0; k <= place_top(s.place); k++) {
		uint32_t account = account_ancestor(m, place_account(s.place), k);

		/* A record that has charged nothing may name a removed account. */
		if (account == 0)
			return !level_is_charged(s.seq, number, k, 0);
		if (level_is_charged(s.seq, number, k, cell_words(m, account).second))
			sum[account] += place_weight(s.place);
	}
	return true;
}

static void describe_count(struct map *m, uint32_t account, uint32_t want, char *ret_why) {
	struct pair words = cell_words(m, account);
	char name[256] = "?";

	(void)directory_name(m, account, name);
	(void)snprintf(ret_why, 512,
		"account %u ('%s') counts %u, but its records come to %u (tag %u, %llu)", account,
		name, count_of(words.first), want, tag_record(words.second),
		(unsigned long long)tag_seq(words.second));
}

bool audit_counts(struct map *m, char *ret_why) {
	uint32_t end = load_acquire(&m->names->accounts);
	_cleanup_free_ uint32_t *sum = calloc(end + 1, sizeof(*sum));

	(void)snprintf(ret_why, 512, "no memory to add up the records");
	for (uint32_t n = 1; sum && n < load_acquire(&m->names->slots); n++) {
		struct snapshot s = record_words(m, n);

		if (!record_add(m, n, s, sum)) {
			(void)snprintf(ret_why, 512,
				"record %u (%#llx) names an account that doesn't exist", n,
				(unsigned long long)s.place);
			return false;
		}
	}
	for (uint32_t a = 1; sum && a < end; a++)
		if (count_of(cell_words(m, a).first) != sum[a]) {
			describe_count(m, a, sum[a], ret_why);
			return false;
		}
	return sum != NULL;
}

bool audit_is_empty(struct map *m, char *ret_why) {
	for (uint32_t n = 1; n < load_acquire(&m->names->slots); n++) {
		uint64_t place = record_words(m, n).place;

		if (place_state(place) != RECORD_CLOSED) {
			(void)snprintf(ret_why, 512, "record %u is in state %d, top %u, weight %u",
				n, place_state(place), place_top(place), place_weight(place));
			return false;
		}
	}
	for (uint32_t a = 1; a < load_acquire(&m->names->accounts); a++)
		if (count_of(cell_words(m, a).first) != 0) {
			describe_count(m, a, 0, ret_why);
			return false;
		}
	return true;
}
