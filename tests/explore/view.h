/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Decodes cells and records. The top of counter.c describes their layout, and view.c is the only
 * file of the explorer that knows it. So view.c also has the functions that revoke a slot, and that
 * change a record before it is used.
 */

#include "world.h"

struct cell_view {
	uint32_t count;
	uint32_t record; /* the record that the tag names; 0: none */
	uint64_t seq;
};

struct record_view {
	uint32_t state; /* RECORD_… */
	uint32_t top, weight, account;
	uint64_t noted;
};

struct cell_view view_cell(uint32_t account);
struct record_view view_record(uint32_t number);
/* Returns the account's parent; 0: none. */
uint32_t view_parent(uint32_t account);

/* True if the record is on a path, so that it may have charged levels. */
bool view_stands(const struct record_view *r);

/* True if the record, which has this number, has charged this level of its path. `cell` is the
 * level's cell. */
bool view_has_charged(
	const struct record_view *r, uint32_t number, uint32_t level, const struct cell_view *cell);

/* True if the word is a count, a tag, a place or a noted seq. */
bool view_counts(uint32_t word);

/* True if a compare-and-swap of this word alone may succeed although the word has changed and
 * changed back meanwhile. Such words are the places of records, and the words for which
 * view_counts() is false. */
bool view_may_return(uint32_t word);

/* After 2^MANY_PAIRS_BITS pairs a record's seqs are far larger than those in its old tags. */
#define MANY_PAIRS_BITS 6u

/* Describes the value of a word, for traces. */
void view_describe(uint32_t word, uint64_t value, char ret[80]);

/* Tries once to revoke the slot that the record holds, as berthctl revoke does. Returns what
 * counter_revoke() returned; -ENOENT: the record holds no slot. */
int view_revoke(struct map *m, uint32_t record);

/* Returns the number of the slot's record. */
uint32_t view_slot_record(uint64_t slot);

/* Changes a record that wasn't used yet: leaves it seqs for about `left` pairs or, if `left` is
 * UINT64_MAX, fills its `noted` with noise (an impossible value). */
void view_use_up(uint32_t record, uint64_t left);
