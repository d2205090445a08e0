/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Acquire and release in the common case: a record that rests on the account's path takes a slot by
 * one compare-and-swap for each level (A1 of counter.c), and releases the slot by another one for
 * each level (R1). The functions are inline, so that each caller gets the instructions that its
 * case needs and no more. "Order n" names the steps of "Order" in counter.c.
 */

#include "counter-step.h"

/* A1 at one level, if the cell is still `seen`; then announces the change. False: the cell has
 * changed. */
static _always_inline_ bool level_charge(
	struct map *m, const struct level *l, struct pair seen, uint32_t weight, uint64_t tag) {
	uint64_t count = seen.first + ((uint64_t)weight << BERTH_COUNT_SHIFT);

	if (unlikely(!cas16(&l->cell->count, seen, (struct pair){count, tag}))) /* A1 */
		return false;
	wake_changed(m, l->dirty);
	cell_note_peak(l->cell, count_of(count));
	return true;
}

/* Takes a slot on a path of one level whose cell bears the tag of this record's last step. `seen`:
 * the cell, as the caller read it (order 1) and compared it with the limit (order 3). `place`: the
 * record's place on this path, with this weight. On success the caller must stamp the record and
 * announce the change (wake.h); *ret: the cell's new value. False: the cell bears another tag or is
 * no longer `seen`, or the record doesn't rest at `place`; no slot was taken. */
static _always_inline_ bool counter_acquire_one(struct record_at at, struct cell *cell,
	struct pair seen, uint64_t place, uint32_t weight, struct pair *ret) {
	uint64_t noted = load_acquire(&at.record->noted); /* order 2 */
	uint64_t base = seen.second - tag_pack(at.number, 0);

	/* If the tag is another record's, or the record doesn't rest, `base` has bits that no base
	 * has. */
	if (unlikely(base & ~BERTH_SEQ_LAST) || unlikely(base < noted) ||
		unlikely(load_acquire(&at.record->place) != place))
		return false;
	ret->first = seen.first + ((uint64_t)weight << BERTH_COUNT_SHIFT);
	ret->second = seen.second + 1;
	return likely(cas16(&cell->count, seen, *ret)); /* A1, order 5 */
}

/* Like counter_acquire_one(), for a cell that bears the tag of another record. */
static _always_inline_ bool counter_acquire_other(struct map *m, struct record_at at,
	struct cell *cell, struct pair seen, uint64_t place, uint32_t weight, struct pair *ret) {
	uint64_t noted = load_acquire(&at.record->noted); /* order 2 */

	if (unlikely(tag_record(seen.second) == at.number) || unlikely(noted & ~BERTH_SEQ_LAST) ||
		unlikely(load_acquire(&at.record->place) != place) ||
		unlikely(counter_note(m, seen.second) < 0)) /* 4 */
		return false;
	ret->first = seen.first + ((uint64_t)weight << BERTH_COUNT_SHIFT);
	ret->second = tag_pack(at.number, noted + 1);
	return likely(cas16(&cell->count, seen, *ret)); /* A1, order 5 */
}

/* Takes a slot on a path of any depth. Charges and announces one level after the other, from level
 * 0, and returns the number of these levels. If it charged some levels but not all, the caller must
 * go on with counter_acquire_continue(). *ret_seq is valid if at least one level is charged. */
static inline uint32_t counter_acquire_fast(
	struct map *m, struct record_at at, const struct slot_request *request, uint64_t *ret_seq) {
	const struct path *path = request->path;
	uint64_t noted = load_acquire(&at.record->noted), base; /* order 2 */
	uint32_t k;

	if (unlikely(load_acquire(&at.record->place) != request_place(request)))
		return 0;
	base = step_newest(at.number, noted, request->seen[0].second);
	if (unlikely(seq_step(base) != 0 || base > BERTH_SEQ_LAST))
		return 0;
	record_unlabel(at.record);
	for (k = 0; k < path->depth; k++)
		if (unlikely(step_note(m, at, request->seen[k].second) < 0 || /* order 4 */
			     !level_charge(m, &path->level[k], request->seen[k], request->weight,
				     tag_pack(at.number, seq_up(base, k)))))
			break;
	*ret_seq = seq_up(base, path->depth - 1);
	return k;
}

/* R1 at one level, if the cell is still `seen`; then announces the change. `weight` is shifted as
 * in the count's word. False: the cell has changed, or its count is less than the weight. */
static _always_inline_ bool level_discharge(struct map *m, struct cell *cell,
	_Atomic uint8_t *dirty, struct pair seen, uint64_t weight, uint64_t tag) {
	if (unlikely(seen.first < weight ||
		     !cas16(&cell->count, seen, (struct pair){seen.first - weight, tag}))) /* R1 */
		return false;
	wake_changed(m, dirty);
	return true;
}

/* Releases a slot on a path of one level whose cell still bears `tag`, the tag of the step that
 * took the slot. On success the caller must announce the change (wake.h). False: the cell bears
 * another tag, has a count below the weight, or has changed meanwhile; the slot was not released.
 *
 * While the cell bears that tag, no party has released the slot, and the record still stands on
 * this path. So this function doesn't read the record. */
static _always_inline_ bool counter_release_one(
	struct cell *cell, const _Atomic uint16_t *weight, uint64_t tag) {
	struct pair seen = cell_load(cell); /* order 1 */
	uint64_t less;

	if (unlikely(seen.second != tag))
		return false;
	less = (uint64_t)load_relaxed(weight) << BERTH_COUNT_SHIFT;
	/* A path of one level: `tag` has step 1 of its cycle, and the next step is the cycle's last
	 * one, 16. */
	return likely(seen.first >= less) &&
	       likely(cas16(
		       &cell->count, seen, (struct pair){seen.first - less, tag + 15})); /* R1 */
}

/* Like counter_release_one(), for a cell that bears the tag of another record. */
static _always_inline_ bool counter_release_other(
	struct map *m, struct record_at at, struct cell *cell, uint32_t weight, uint64_t tag) {
	struct pair seen = cell_load(cell); /* order 1 */
	uint64_t less = (uint64_t)weight << BERTH_COUNT_SHIFT;

	return likely(tag_record(seen.second) != at.number) &&
	       likely(load_acquire(&at.record->noted) == tag_seq(tag)) &&                 /* 2 */
	       likely(seen.first >= less) && likely(counter_note(m, seen.second) == 0) && /* 4 */
	       likely(cas16(
		       &cell->count, seen, (struct pair){seen.first - less, tag + 15})); /* R1 */
}

/* Releases the slot `seq`. `path`, of any depth, must be the slot's path. Discharges and announces
 * one level after the other, from the top, and returns the number of these levels. If it discharged
 * some levels but not all, the caller must go on with counter_release_continue(). */
static inline uint32_t counter_release_fast(
	struct map *m, struct record_at at, const struct path *path, uint64_t seq) {
	struct pair seen[BERTH_LEVELS_MAX];
	uint32_t depth = path->depth, discharged;
	uint64_t noted, place, weight;

	for (uint32_t k = 0; k < depth; k++)
		seen[k] = cell_load(path->level[k].cell); /* order 1 */
	noted = load_acquire(&at.record->noted);          /* 2 */
	place = load_acquire(&at.record->place);
	weight = (uint64_t)place_weight(place) << BERTH_COUNT_SHIFT;
	if (unlikely(place >> 58 != place_pack(RECORD_PLACED, depth - 1, 0, 0) >> 58 ||
		     step_newest(at.number, noted, seen[depth - 1].second) != seq))
		return 0;
	for (discharged = 0; discharged < depth; discharged++) {
		uint32_t k = depth - 1 - discharged;

		if (unlikely(step_note(m, at, seen[k].second) < 0 ||
			     !level_discharge(m, path->level[k].cell, path->level[k].dirty, seen[k],
				     weight, tag_pack(at.number, seq_down(seq_base(seq), k)))))
			break;
	}
	return discharged;
}
