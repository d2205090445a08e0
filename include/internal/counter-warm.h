/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The counter where it is warm: a record that stands on an account without ancestors, whose tag the
 * cell bears, takes and gives back a slot with one CAS each (A1, R1 of counter.c). False, with nothing
 * written: it isn't so, or somebody came in between, and counter.c does the same the long way.
 */

#include "counter.h"
#include "wake.h"

/* Half a round of seqs, and how far the seqs that are compared may be apart before an acquire: being
 * placed takes it to the next cycle of 16, the acquire and its release, or a revocation, through
 * another. */
#define SEQ_HALF  ((BERTH_SEQ_MASK >> 1) + 1)
#define SEQ_APART (SEQ_HALF - 33)

static inline uint32_t seq_add(uint32_t seq, uint32_t steps) {
	return (seq + steps) & BERTH_SEQ_MASK;
}

static inline uint32_t seq_distance(uint32_t from, uint32_t to) {
	return (to - from) & BERTH_SEQ_MASK;
}

/* The claimant's alone until the slot is held. */
static _hot_ void record_stamp(struct record *record, const struct stamp *stamp) {
	store_relaxed(&record->since, stamp->since);
	if (unlikely(stamp->label))
		counter_label(record, stamp->label);
	else if (unlikely(load_relaxed(&record->label[0]) != 0))
		store_relaxed(&record->label[0], 0);
}

static _hot_ void cell_note_peak(struct cell *cell, uint32_t count) {
	if (unlikely(load_relaxed(&cell->peak) < count))
		counter_note_peak(cell, count);
}

/* A1 for a cell that still says `word`. False: it doesn't. */
static _hot_ bool cell_charge(struct map *m, struct cell *cell, _Atomic uint8_t *dirty,
	uint64_t word, uint32_t weight, uint64_t tag) {
	uint32_t count = cell_count(word) + weight;

	if (unlikely(!cas(&cell->word, word, cell_pack(count, 0, 0) | tag)))
		return false;
	wake_changed(m, dirty);
	cell_note_peak(cell, count);
	return true;
}

/* The caller has looked at the level (orders 1 and 3). What is left of the tag when the record's
 * number is taken off is its seq, and nothing more if it is this record's; likewise of the record's
 * word and the place. At rest, the seqs of one level are even. */
static _hot_ bool counter_acquire_warm(struct map *m, struct record_at at, const struct level *l,
	uint64_t word, uint32_t weight, const struct stamp *stamp, uint32_t *ret_seq) {
	uint64_t rec = load_acquire(&at.record->word); /* 2 */
	uint64_t noted = rec - record_pack(RECORD_PLACED, 0, weight, l->account, 0);
	uint64_t seq = cell_tag(word) - cell_pack(0, at.number, 0);

	if (unlikely(noted > BERTH_SEQ_MASK || seq > BERTH_SEQ_MASK || seq % 2 != 0 ||
		     seq_distance((uint32_t)noted, (uint32_t)seq) > SEQ_APART))
		return false;
	record_stamp(at.record, stamp);
	if (unlikely(!cas(&l->cell->word, word, word + cell_pack(weight, 0, 1)))) /* A1 */
		return false;
	wake_changed(m, l->dirty);
	cell_note_peak(l->cell, cell_count(word) + weight);
	*ret_seq = (uint32_t)seq + 1;
	return true;
}

/* The same for a path of more levels, all of which were looked at. Returns how many were charged: if
 * it is some, but not all, the rest is counter_acquire_rest()'s. */
static _hot_ uint32_t counter_acquire_levels(
	struct map *m, struct record_at at, const struct slot_request *request, uint32_t *ret_seq) {
	const struct path *path = request->path;
	const uint64_t *word = request->word;
	uint64_t place = record_pack(
		RECORD_PLACED, path->depth - 1, request->weight, path->level[0].account, 0);
	uint64_t noted = load_acquire(&at.record->word) - place; /* 2 */
	uint64_t number = cell_pack(0, at.number, 0), seq = cell_tag(word[0]) - number;
	uint32_t cycle = record_cycle(place), step = seq & (cycle - 1), k;

	if (unlikely(noted > BERTH_SEQ_MASK || seq > BERTH_SEQ_MASK ||
		     (step != 0 && step < 2 * path->depth) ||
		     seq_distance((uint32_t)noted, (uint32_t)seq) > SEQ_APART))
		return 0;
	record_stamp(at.record, &request->stamp);
	seq = (seq + cycle - 1) & ~(uint64_t)(cycle - 1);
	for (k = 0; k < path->depth; k++)
		if (unlikely(cell_tag(word[k]) - number > BERTH_SEQ_MASK ||
			     !cell_charge(m, path->level[k].cell, path->level[k].dirty, word[k],
				     request->weight,
				     number | seq_add((uint32_t)seq, k + 1)))) /* A1 */
			break;
	*ret_seq = seq_add((uint32_t)seq, path->depth);
	return k;
}

/* The tag is the slot's. The cell and its dirty byte are those of the account on which the record stood
 * when it took it. Not for the last seq of all, after which they begin anew. */
static _hot_ bool counter_release_warm(struct map *m, struct record *record, uint64_t tag,
	struct cell *cell, _Atomic uint8_t *dirty) {
	uint64_t word = load_acquire(&cell->word);  /* order 1 */
	uint64_t rec = load_acquire(&record->word); /* 2 */
	uint64_t weight = cell_pack(record_weight(rec), 0, 0);

	if (unlikely(rec >> 58 != record_pack(RECORD_PLACED, 0, 0, 0, 0) >> 58 ||
		     cell_tag(word) != tag || word < weight))
		return false;
	if (unlikely(!cas(&cell->word, word, word - weight + 1))) /* R1 */
		return false;
	wake_changed(m, dirty);
	return true;
}

/* The same for a path of more levels, whose cells these are. Returns how many levels were given back, from
 * the top: none, if it isn't so; where it is some, but not all, the rest is counter_release_rest()'s. */
static _hot_ uint32_t counter_release_levels(
	struct map *m, struct record *record, uint64_t tag, const struct path *path) {
	uint64_t word[BERTH_LEVELS_MAX], number = tag - cell_seq(tag), rec, weight;
	uint32_t depth = path->depth, given = 0;

	for (uint32_t k = 0; k < depth; k++)
		word[k] = load_acquire(&path->level[k].cell->word); /* order 1 */
	rec = load_acquire(&record->word);                          /* 2 */
	weight = cell_pack(record_weight(rec), 0, 0);
	if (unlikely(rec >> 58 != record_pack(RECORD_PLACED, depth - 1, 0, 0, 0) >> 58 ||
		     cell_tag(word[depth - 1]) != tag))
		return 0;
	for (; given < depth; given++) {
		const struct level *l = &path->level[depth - 1 - given];
		uint64_t was = word[depth - 1 - given];

		if (unlikely(cell_tag(was) - number > BERTH_SEQ_MASK || was < weight ||
			     !cas(&l->cell->word, was,
				     was - weight - cell_tag(was) + number +
					     seq_add(cell_seq(tag), given + 1)))) /* R1 */
			break;
		wake_changed(m, l->dirty);
	}
	return given;
}
