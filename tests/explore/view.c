/* SPDX-License-Identifier: MIT */

/* Decodes cells and records as the top of counter.c describes them, but without calling the
 * counter, which is under test. */

#include <stdio.h>

#include "counter.h"
#include "pool.h"
#include "view.h"

/* The first two of eight words: the count and tag of a cell, or the place and `noted` of a
 * record. */
#define FIRST  0u
#define SECOND 1u

struct cell_view view_cell(uint32_t account) {
	uint64_t tag = load_relaxed(&world.cell[account].tag);

	return (struct cell_view){
		count_of(load_relaxed(&world.cell[account].count)), tag_record(tag), tag_seq(tag)};
}

struct record_view view_record(uint32_t number) {
	uint64_t place = load_relaxed(&world.record[number].place);

	return (struct record_view){.state = place_state(place),
		.top = place_top(place),
		.weight = place_weight(place),
		.account = place_account(place),
		.noted = load_relaxed(&world.record[number].noted)};
}

uint32_t view_parent(uint32_t account) {
	return ancestry_parent(load_relaxed(&world.entry[account].ancestry));
}

bool view_stands(const struct record_view *r) {
	return r->state == RECORD_PLACED || r->state == RECORD_SEIZED;
}

bool view_has_charged(const struct record_view *r, uint32_t number, uint32_t level,
	const struct cell_view *cell) {
	uint64_t newest = cell->record == number && cell->seq > r->noted ? cell->seq : r->noted;
	uint32_t step = newest % 16;

	return level < (step <= 8 ? step : 16 - step);
}

bool view_counts(uint32_t word) {
	return word % 8 == FIRST || word % 8 == SECOND;
}

bool view_may_return(uint32_t word) {
	return !view_counts(word) || (word >= RECORD_WORDS && word % 8 == FIRST);
}

void view_describe(uint32_t word, uint64_t value, char ret[80]) {
	static const char *const state[] = {"closed", "free", "placed", "seized"};
	unsigned long long seq = value & BERTH_SEQ_MASK;

	if (word < RECORD_WORDS && word % 8 == FIRST)
		(void)snprintf(ret, 80, "count %u, bumps %llu", count_of(value),
			(unsigned long long)count_bumps(value));
	else if (word < RECORD_WORDS)
		(void)snprintf(ret, 80, "tag r%u:%llu+%llu", tag_record(value), seq / 16, seq % 16);
	else if (word % 8 == FIRST)
		(void)snprintf(ret, 80, "%s on %u, top %u, weight %u",
			place_state(value) < 4 ? state[place_state(value)] : "noise",
			place_account(value), place_top(value), place_weight(value));
	else
		(void)snprintf(ret, 80, "noted %llu+%llu", seq / 16, seq % 16);
}

int view_revoke(struct map *m, uint32_t record) {
	struct snapshot seen;
	int r = counter_record(m, record, &seen);

	if (r < 0 || place_state(seen.place) != RECORD_PLACED || seq_step(seen.seq) == 0)
		return r < 0 ? r : -ENOENT;
	return seq_goes_down(seen.seq) ? counter_finish(m, record)
				       : counter_revoke(m, record, seen);
}

uint32_t view_slot_record(uint64_t slot) {
	return slot_record(slot);
}

void view_use_up(uint32_t record, uint64_t left) {
	store_relaxed(&world.record[record].noted,
		left == UINT64_MAX ? left : seq_base(BERTH_SEQ_LAST - left * BERTH_CYCLE));
}
