/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Paths that were found lately, by name, and the record that was used last for each.
 *
 * Zeroed, a recall knows none. It is of one map; threads may use one at once. A slot is written while
 * `turn` is odd: whoever loads something that was stored after `turn` was made odd sees that `turn`
 * has changed.
 */

#include "directory.h"
#include "text.h"

struct spot;

#define RECALL_BITS   10
#define RECALL_LEVELS 3 /* longer paths are looked up each time */

struct recall_level {
	_Atomic uint64_t id; /* account | generation << 32 */
	_Atomic(struct entry *) entry;
	_Atomic(struct cell *) cell;
	_Atomic(_Atomic uint8_t *) dirty;
};

struct recall_slot {
	_Atomic uint32_t turn;
	_Atomic uint32_t shape;                      /* length of the name | depth << 8; 0: empty */
	_Atomic uint64_t first, last, second, third; /* of struct text */
	_Atomic(struct spot *) spot; /* the record that was used last for it (pool.h); NULL: any */
	struct recall_level level[RECALL_LEVELS];
};

struct recall {
	struct recall_slot slot[1 << RECALL_BITS];
};

/* Has the path that the name was found to have be recalled. NULL: one of them is too long, or another
 * thread writes there. */
struct recall_slot *recall_remember(
	struct recall *recall, const struct name *name, const struct path *path);

static _hot_ struct recall_slot *recall_slot(struct recall *recall, const struct text *t) {
	return &recall->slot[text_key(t) >> (64 - RECALL_BITS)];
}

/* How many levels the slot's path has, if it is this name's; else 0. With the length taken off, the
 * shape is the depth, and nothing more if the length is the same. */
static _hot_ uint32_t slot_depth(const struct recall_slot *slot, const struct text *t) {
	uint32_t depth = (load_relaxed(&slot->shape) - (uint32_t)t->length) >> 8;

	if (unlikely(depth > RECALL_LEVELS || load_relaxed(&slot->first) != t->first ||
		     load_relaxed(&slot->last) != t->last))
		return 0;
	if (t->length > 16 && unlikely(load_relaxed(&slot->second) != t->second ||
				       load_relaxed(&slot->third) != t->third))
		return 0;
	return depth;
}

static _hot_ void recall_level(const struct recall_level *from, struct level *ret) {
	uint64_t id = load_relaxed(&from->id);

	ret->account = (uint32_t)id;
	ret->generation = (uint32_t)(id >> 32);
	ret->entry = load_relaxed(&from->entry);
	ret->cell = load_relaxed(&from->cell);
	ret->dirty = load_relaxed(&from->dirty);
}

/* How many levels the path has that was found lately; 0: none was. The rest is to be read in the same
 * turn. The slot that came last is tried first: where it is right again, the CPU needn't wait for the
 * name to be loaded and mixed before it goes on. */
static _hot_ uint32_t recall_find(struct recall *recall, const char *name,
	_Atomic(struct recall_slot *) *last, struct recall_slot **ret, uint32_t *ret_turn) {
	struct recall_slot *slot = load_acquire(last);
	size_t length = strlen(name);
	uint32_t depth = 0;
	struct text t;

	if (unlikely(length - 1 >= TEXT_MAX))
		return 0;
	t = text_load(name, length);
	if (likely(slot)) {
		*ret_turn = load_acquire(&slot->turn);
		depth = slot_depth(slot, &t);
	}
	if (unlikely(depth == 0)) {
		slot = recall_slot(recall, &t);
		*ret_turn = load_acquire(&slot->turn);
		depth = slot_depth(slot, &t);
		store_release(last, slot);
	}
	*ret = slot;
	return depth;
}

static _hot_ bool recall_turn_is(const struct recall_slot *slot, uint32_t turn) {
	fence_acquire();
	return likely(turn % 2 == 0 && load_relaxed(&slot->turn) == turn);
}

/* A generation is one name's, so the name needs no look at the entry. False: it has changed. */
static _hot_ bool recall_levels(
	const struct recall_slot *slot, uint32_t turn, uint32_t depth, struct path *ret) {
	ret->depth = depth;
	for (uint32_t k = 0; k < depth; k++)
		recall_level(&slot->level[k], &ret->level[k]);
	return recall_turn_is(slot, turn) &&
	       likely(entry_generation(load_acquire(&ret->level[0].entry->word)) ==
		       ret->level[0].generation);
}
