/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What cells and records say: the only file of the explorer that knows their layout, beside the way in
 * which berthd looks at a record before it revokes.
 */

#include "world.h"

struct cell_view {
	uint32_t count;
	uint32_t record; /* of the tag; 0: none */
	uint64_t seq;
};

struct record_view {
	uint32_t state; /* RECORD_… */
	uint32_t top, weight, account;
	uint64_t noted;
};

struct cell_view view_cell(uint32_t account);
struct record_view view_record(uint32_t number);
/* The account above; 0: none. */
uint32_t view_parent(uint32_t account);

/* Whether it stands on a path, so that it may have charged something. */
bool view_stands(const struct record_view *r);

/* Whether the record has charged this level of its path, whose cell says so much. */
bool view_has_charged(
	const struct record_view *r, uint32_t number, uint32_t level, const struct cell_view *cell);

/* True if the word bears a count, a tag or where a record stands, and not what is beside these. */
bool view_counts(uint32_t word);

/* True if a compare-and-swap of this word alone may take it for unchanged though it changed and came back:
 * where a record stands. */
bool view_may_return(uint32_t word);

/* A record that has made 2^VIEW_FAR_BITS pairs has gone far. */
#define VIEW_FAR_BITS 6u

/* For traces: what a word's value says. */
void view_describe(uint32_t word, uint64_t value, char ret[80]);

/* As berthctl revoke does, once. What counter_revoke returned; -ENOENT: it holds nothing. */
int view_revoke(struct map *m, uint32_t record);

/* The record of a slot. */
uint32_t view_slot_record(uint64_t slot);

/* Begins with so many seqs left; ~0: with noise. Of a record that nobody uses yet. */
void view_use_up(uint32_t record, uint64_t left);
