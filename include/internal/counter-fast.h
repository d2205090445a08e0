/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The counter where nothing stands in the way: a record that rests on the path takes a slot by one
 * compare-and-swap for each level (A1 of counter.c), and gives it back by another (R1). Both return how
 * many levels were done. If that is none, the caller goes the general way; if it is some, but not all,
 * the rest is counter_acquire_rest()'s or counter_release_rest()'s.
 */

#include "counter.h"
#include "wake.h"

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

/* The record's newest step at the level whose cell bears `tag`, read before `noted`. */
static _hot_ uint64_t step_newest(uint32_t number, uint64_t noted, uint64_t tag) {
	return tag_record(tag) == number && tag_seq(tag) > noted ? tag_seq(tag) : noted;
}

/* Order 4 of counter.c. A tag of the step's own record needs no note: the step that follows is newer. A
 * range lies in one window, so its records are found from each other: those of one process. */
static _hot_ int step_note(struct map *m, struct record_at at, uint64_t tag) {
	uint32_t number = tag_record(tag);

	if (likely(number == at.number))
		return 0;
	if ((number ^ at.number) < BERTH_RANGE && number != 0 &&
		load_acquire(&at.record[(int32_t)(number - at.number)].noted) >= tag_seq(tag))
		return 0;
	return counter_note(m, tag);
}

/* A1, from a pair that was seen. */
static _hot_ bool level_charge(
	struct map *m, const struct level *l, struct pair seen, uint32_t weight, uint64_t tag) {
	uint64_t count = seen.first + ((uint64_t)weight << BERTH_COUNT_SHIFT);

	if (unlikely(!cas16(&l->cell->count, seen, (struct pair){count, tag}))) /* A1 */
		return false;
	wake_changed(m, l->dirty);
	cell_note_peak(l->cell, count_of(count));
	return true;
}

/* The caller has looked at every level (orders 1 and 3), and then claimed the record. */
static _hot_ uint32_t counter_acquire_fast(
	struct map *m, struct record_at at, const struct slot_request *request, uint64_t *ret_seq) {
	const struct path *path = request->path;
	uint64_t noted = load_acquire(&at.record->noted), base; /* order 2 */
	uint32_t k;

	if (unlikely(load_acquire(&at.record->place) != place_pack(RECORD_PLACED, path->depth - 1,
								request->weight,
								path->level[0].account)))
		return 0;
	base = step_newest(at.number, noted, request->seen[0].second);
	if (unlikely(seq_step(base) != 0 || base > BERTH_SEQ_LAST))
		return 0;
	record_stamp(at.record, &request->stamp);
	for (k = 0; k < path->depth; k++)
		if (unlikely(step_note(m, at, request->seen[k].second) < 0 || /* order 4 */
			     !level_charge(m, &path->level[k], request->seen[k], request->weight,
				     tag_pack(at.number, seq_up(base, k)))))
			break;
	*ret_seq = seq_up(base, path->depth - 1);
	return k;
}

/* The path is that of the slot `seq`. */
static _hot_ uint32_t counter_release_fast(
	struct map *m, struct record_at at, const struct path *path, uint64_t seq) {
	struct pair seen[BERTH_LEVELS_MAX];
	uint32_t depth = path->depth, given;
	uint64_t noted, place, weight;

	for (uint32_t k = 0; k < depth; k++)
		seen[k] = cell_load(path->level[k].cell); /* order 1 */
	noted = load_acquire(&at.record->noted);          /* 2 */
	place = load_acquire(&at.record->place);
	weight = (uint64_t)place_weight(place) << BERTH_COUNT_SHIFT;
	if (unlikely(place >> 58 != place_pack(RECORD_PLACED, depth - 1, 0, 0) >> 58 ||
		     step_newest(at.number, noted, seen[depth - 1].second) != seq))
		return 0;
	for (given = 0; given < depth; given++) {
		uint32_t k = depth - 1 - given;
		struct pair next = {
			seen[k].first - weight, tag_pack(at.number, seq_down(seq_base(seq), k))};

		if (unlikely(seen[k].first < weight || step_note(m, at, seen[k].second) < 0 ||
			     !cas16(&path->level[k].cell->count, seen[k], next))) /* R1 */
			break;
		wake_changed(m, path->level[k].dirty);
	}
	return given;
}
