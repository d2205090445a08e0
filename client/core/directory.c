/* SPDX-License-Identifier: MIT */

/* Finds accounts by name, and reads their names and ancestors, in the directory that the daemon
 * writes. */

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "directory.h"

int name_load_length(const char *text, size_t length, struct name *ret) {
	if (length == 0 || length > BERTH_NAME_MAX)
		return -EINVAL;
	ret->length = (uint32_t)length;
	ret->word[(length - 1) / 8] = 0;
	memcpy(ret->word, text, length);
	return 0;
}

int name_load(const char *text, struct name *ret) {
	return name_load_length(text, strnlen(text, BERTH_NAME_MAX + 1), ret);
}

uint64_t directory_hash(const struct map *m, const struct name *name) {
	return XXH3_64bits_withSeed(name->word, name->length, m->names->hash_seed);
}

/* The address of an entry's name of `length` bytes. NULL: the block number is too high, or a long
 * name has no block. Then the directory is damaged, or the daemon is just rewriting the entry. */
static _always_inline_ const _Atomic uint64_t *entry_name(
	struct map *m, struct entry *e, size_t length) {
	uint32_t block = shape_block(load_relaxed(&e->shape));

	if (block == 0)
		return likely(length <= BERTH_NAME_INLINE) ? e->name : NULL;
	if (block > load_acquire(&m->names->blocks) || block > m->layout.max_accounts)
		return NULL;
	return map_at(m, &m->directory, m->layout.names + (uint64_t)(block - 1) * 256);
}

/* True if the entry wasn't rewritten since the caller loaded `word`: then all that the caller has
 * loaded after `word` belongs together. Pairs with word_store() in daemon/shared/directory-write.c,
 * which changes the generation before it rewrites anything. */
static _always_inline_ bool entry_unchanged(struct entry *e, uint64_t word) {
	fence_acquire();
	return entry_generation(load_relaxed(&e->word)) == entry_generation(word);
}

static _always_inline_ bool entry_matches(
	struct map *m, struct entry *e, const struct name *name, uint64_t *ret_word) {
	uint64_t word = load_acquire(&e->word);
	const _Atomic uint64_t *bytes;

	if (!(entry_flags(word) & ENTRY_LIVE) ||
		shape_length(load_relaxed(&e->shape)) != name->length)
		return false;
	bytes = entry_name(m, e, name->length);
	if (!bytes)
		return false;
	for (uint32_t i = 0; i < (name->length + 7) / 8; i++)
		if (load_relaxed(&bytes[i]) != name->word[i])
			return false;
	if (!entry_unchanged(e, word))
		return false;
	*ret_word = word;
	return true;
}

int directory_find(
	struct map *m, const struct name *name, uint32_t *ret_account, uint64_t *ret_word) {
	uint32_t bits = load_acquire(&m->names->table_bits);
	uint64_t hash = directory_hash(m, name);

	if (unlikely(bits < BERTH_TABLE_BITS_MIN || bits > BERTH_TABLE_BITS_MAX))
		return -EUCLEAN;
	/* The table is at most half full, so the loop reads few elements. The bound is for a
	 * damaged table. */
	for (uint32_t i = 0; i < UINT32_C(1) << bits; i++) {
		uint32_t at = ((uint32_t)hash + i) & ((UINT32_C(1) << bits) - 1);
		_Atomic uint32_t *slot = map_at(m, &m->directory,
			m->layout.tables + ((UINT64_C(1) << bits) + at) * sizeof(uint32_t));
		struct entry *e;
		uint32_t found;

		if (unlikely(!slot))
			return -ENOMEM;
		found = load_acquire(slot);
		if (found == 0)
			return -ENOENT;
		if (found >> 24 != hash >> 56)
			continue;
		e = map_entry(m, found & 0xFFFFFF);
		if (unlikely(!e))
			return map_account_error(m, found & 0xFFFFFF);
		/* If accounts are many, neither cell nor entry is in the processor's cache. The
		 * prefetch makes both arrive at the same time. */
		__builtin_prefetch(map_cell_at(m, found & 0xFFFFFF), 1);
		if (load_relaxed(&e->hash) == hash && entry_matches(m, e, name, ret_word)) {
			*ret_account = found & 0xFFFFFF;
			return 0;
		}
	}
	return -ENOENT;
}

int directory_path(struct map *m, uint32_t account, uint32_t generation, struct path *ret) {
	uint32_t depth;

	for (depth = 0; account != 0; depth++) {
		struct level *l = &ret->level[depth];

		if (unlikely(depth == BERTH_LEVELS_MAX || !map_has_account(m, account)))
			return -EUCLEAN;
		l->account = account;
		l->entry = map_entry_at(m, account);
		l->cell = map_cell_at(m, account);
		l->dirty = map_dirty_at(m, account);
		if (unlikely(!l->entry || !l->cell || !l->dirty))
			return -ENOMEM;
		l->generation = entry_generation(load_acquire(&l->entry->word));
		account = ancestry_parent(load_relaxed(&l->entry->ancestry));
	}
	ret->depth = depth;
	/* The ancestors of an account stay the same as long as the account exists. So it is enough
	 * to check the account itself. */
	if (depth == 0 || ret->level[0].generation != generation ||
		!entry_unchanged(ret->level[0].entry, generation))
		return -ESTALE;
	return 0;
}

/* -- reading an account ------------------------------------------------------------------------ */

static int entry_error(const struct map *m, uint32_t account) {
	return map_has_account(m, account) ? -ENOMEM : -ENOENT;
}

int directory_depth(struct map *m, uint32_t account, uint32_t *ret) {
	struct entry *e = map_entry(m, account);

	if (unlikely(!e))
		return entry_error(m, account);
	*ret = ancestry_depth(load_relaxed(&e->ancestry));
	return 0;
}

int directory_name(struct map *m, uint32_t account, char ret[256]) {
	struct entry *e = map_entry(m, account);
	const _Atomic uint64_t *word;
	uint64_t before;
	uint32_t length;

	if (!e)
		return entry_error(m, account);
	before = load_acquire(&e->word);
	if (!(entry_flags(before) & ENTRY_LIVE))
		return -ENOENT;
	length = shape_length(load_relaxed(&e->shape));
	word = entry_name(m, e, length);
	if (!word)
		return -EUCLEAN;
	for (uint32_t i = 0; i < (length + 7) / 8; i++) {
		uint64_t bytes = load_relaxed(&word[i]);

		memcpy(ret + 8 * i, &bytes, MIN_OF(8, 256 - 8 * i));
	}
	ret[length] = 0;
	return entry_unchanged(e, before) ? 0 : -ESTALE;
}
