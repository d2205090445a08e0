/* SPDX-License-Identifier: MIT */

/* Remembers paths by name. Looking them up is inline, in recall.h. */

#include "recall.h"

struct recall_slot *recall_remember(
	struct recall *recall, const struct name *name, const struct path *path) {
	struct recall_slot *slot;
	struct text t;
	uint32_t turn;

	if (name->length > TEXT_MAX || path->depth > RECALL_LEVELS)
		return NULL;
	t = text_load((const char *)name->word, name->length);
	slot = recall_slot(recall, &t);
	turn = load_relaxed(&slot->turn);
	if (turn % 2 != 0 || !cas32(&slot->turn, turn, turn + 1))
		return NULL;
	store_release(&slot->shape, name->length | path->depth << 8);
	store_release(&slot->first, t.first);
	store_release(&slot->last, t.last);
	store_release(&slot->second, t.second);
	store_release(&slot->third, t.third);
	store_release(&slot->spot, NULL);
	for (uint32_t k = 0; k < path->depth; k++) {
		const struct level *l = &path->level[k];
		struct recall_level *to = &slot->level[k];

		store_release(&to->id, (uint64_t)l->generation << 32 | l->account);
		store_release(&to->entry, l->entry);
		store_release(&to->cell, l->cell);
		store_release(&to->dirty, l->dirty);
	}
	store_release(&slot->turn, turn + 2);
	return slot;
}
