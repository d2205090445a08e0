/* SPDX-License-Identifier: MIT */

/* Finds accounts by name, and their ancestors, in the directory that the daemon writes. */

#include <endian.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "directory.h"

/* The first byte of the text is the lowest of the number, whatever the machine. */
static uint64_t load8(const char *text) {
	uint64_t word;

	memcpy(&word, text, 8);
	return le64toh(word);
}

static uint64_t load4(const char *text) {
	uint32_t half;

	memcpy(&half, text, 4);
	return le32toh(half);
}

/* A text of 1 to 7 bytes: first and last half, or first, middle and last byte, which may overlap. */
static _hot_ uint64_t short_load(const char *text, size_t length) {
	const unsigned char *byte = (const unsigned char *)text;
	size_t last = length - 1;

	if (length >= 4)
		return load4(text) | load4(text + length - 4) << 8 * (length - 4);
	return byte[0] | (uint64_t)byte[length / 2] << 8 * (length / 2) |
	       (uint64_t)byte[last] << 8 * last;
}

/* The last 1 to 8 bytes of a text. Those before them are loaded, too, and shifted out. */
static _hot_ uint64_t tail_load(const char *text, size_t length, size_t tail) {
	return length < 8 ? short_load(text, length) : load8(text + length - 8) >> 8 * (8 - tail);
}

/* Word by word: bytes that memcpy has just stored would have to reach the cache before they can be
 * read back as words. */
int name_load_length(const char *text, size_t length, struct name *ret) {
	size_t last = (length - 1) / 8;

	if (length == 0 || length > BERTH_NAME_MAX)
		return -EINVAL;
	ret->length = (uint32_t)length;
	for (size_t i = 0; i < last; i++)
		ret->word[i] = htole64(load8(text + 8 * i));
	ret->word[last] = htole64(tail_load(text, length, length - 8 * last));
	return 0;
}

int name_load(const char *text, struct name *ret) {
	return name_load_length(text, strnlen(text, BERTH_NAME_MAX + 1), ret);
}

uint64_t directory_hash(const struct map *m, const struct name *name) {
	return XXH3_64bits_withSeed(name->word, name->length, m->names->hash_seed);
}

/* Where the so many bytes of an entry's name are; NULL if a block number points nowhere, or there is
 * none for a long name: damage, or an entry that is being rewritten. */
static _hot_ const _Atomic uint64_t *entry_name(struct map *m, struct entry *e, size_t length) {
	uint32_t block = load_relaxed(&e->block);

	if (block == 0)
		return likely(length <= BERTH_NAME_INLINE) ? e->name : NULL;
	if (block > load_acquire(&m->names->blocks) || block > m->layout.max_accounts)
		return NULL;
	return map_at(m, &m->directory, m->layout.names + (uint64_t)(block - 1) * 256);
}

static _hot_ bool entry_has_name(struct map *m, struct entry *e, const struct name *name) {
	const _Atomic uint64_t *word;

	if (shape_length(load_relaxed(&e->shape)) != name->length)
		return false;
	word = entry_name(m, e, name->length);
	if (!word)
		return false;
	for (uint32_t i = 0; i < (name->length + 7) / 8; i++)
		if (load_relaxed(&word[i]) != name->word[i])
			return false;
	return true;
}

/* The loads between two loads of the word; equal generations say that nothing was rewritten under
 * them. Pairs with word_store() in daemon/directory-write.c, which changes the generation
 * before it rewrites anything. */
static _hot_ bool entry_unchanged(struct entry *e, uint64_t word) {
	fence_acquire();
	return entry_generation(load_relaxed(&e->word)) == entry_generation(word);
}

static _hot_ bool entry_matches(
	struct map *m, struct entry *e, const struct name *name, uint64_t *ret_word) {
	uint64_t word = load_acquire(&e->word);

	if (!(entry_flags(word) & ENTRY_LIVE) || !entry_has_name(m, e, name) ||
		!entry_unchanged(e, word))
		return false;
	*ret_word = word;
	return true;
}

static _Atomic uint32_t *table_slot(struct map *m, uint32_t bits, uint32_t i) {
	uint64_t offset = (UINT64_C(1) << bits) + (i & ((UINT32_C(1) << bits) - 1));

	return map_at(m, &m->directory, m->layout.tables + offset * sizeof(uint32_t));
}

static _hot_ int find(struct map *m, const struct name *name, uint64_t hash, bool for_cell,
	uint32_t *ret_account, uint64_t *ret_word) {
	uint32_t bits = load_acquire(&m->names->table_bits);

	if (unlikely(bits < BERTH_TABLE_BITS_MIN || bits > BERTH_TABLE_BITS_MAX))
		return -EUCLEAN;
	/* The table is at most half full, so a run is short; the bound is for a damaged one. */
	for (uint32_t i = 0; i < UINT32_C(1) << bits; i++) {
		_Atomic uint32_t *slot = table_slot(m, bits, (uint32_t)hash + i);
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
		/* Both come from afar where accounts are many: at the same time. */
		if (for_cell)
			__builtin_prefetch(map_cell_at(m, found & 0xFFFFFF), 1);
		if (load_relaxed(&e->hash) == hash && entry_matches(m, e, name, ret_word)) {
			*ret_account = found & 0xFFFFFF;
			return 0;
		}
	}
	return -ENOENT;
}

int directory_find(
	struct map *m, const struct name *name, uint32_t *ret_account, uint64_t *ret_word) {
	return find(m, name, directory_hash(m, name), true, ret_account, ret_word);
}

int directory_find_hash(struct map *m, const struct name *name, uint64_t hash,
	uint32_t *ret_account, uint64_t *ret_word) {
	return find(m, name, hash, false, ret_account, ret_word);
}

bool directory_bears(struct map *m, uint32_t account, const struct name *name, uint64_t hash) {
	struct entry *e = map_entry(m, account);
	uint64_t word;

	return e && load_relaxed(&e->hash) == hash && entry_matches(m, e, name, &word);
}

static int level_fill(struct map *m, uint32_t account, struct level *l) {
	if (unlikely(!map_has_account(m, account)))
		return -EUCLEAN;
	l->account = account;
	l->entry = map_entry_at(m, account);
	l->cell = map_cell_at(m, account);
	l->dirty = map_dirty_at(m, account);
	if (unlikely(!l->entry || !l->cell || !l->dirty))
		return -ENOMEM;
	l->generation = entry_generation(load_acquire(&l->entry->word));
	return 0;
}

int directory_path(struct map *m, uint32_t account, uint32_t generation, struct path *ret) {
	uint32_t depth = 0;

	for (uint32_t a = account; a != 0; a = load_relaxed(&ret->level[depth++].entry->parent)) {
		int r = depth < BERTH_LEVELS_MAX ? level_fill(m, a, &ret->level[depth]) : -EUCLEAN;

		if (unlikely(r < 0))
			return r;
	}
	ret->depth = depth;
	/* A living account's ancestors stay what they are as long as it does. */
	if (depth == 0 || ret->level[0].generation != generation ||
		!entry_unchanged(ret->level[0].entry, generation))
		return -ESTALE;
	return 0;
}

/* -- paths found lately ------------------------------------------------------------------------ */

/* Cheap, and spreads well enough: who makes names fall together gains nothing but the search. */
static _hot_ uint64_t key_add(uint64_t key, uint64_t word) {
	return (key ^ word) * UINT64_C(0x9E3779B97F4A7C15);
}

static _hot_ struct recall_slot *recall_slot(struct recall *recall, uint64_t key) {
	return &recall->slot[key >> (64 - RECALL_BITS)];
}

/* False if the slot is empty, or being written, or another name's, whose entry then isn't touched:
 * that would be one more thing to wait for. Pairs with directory_remember(): whoever loads
 * something that was stored after `turn` was made odd sees that `turn` has changed. */
static _hot_ bool slot_load(struct recall_slot *slot, uint64_t key, struct path *ret) {
	uint32_t turn = load_acquire(&slot->turn);
	uint32_t depth = load_relaxed(&slot->depth), k = 0;

	if (unlikely(depth == 0 || depth > RECALL_LEVELS || load_relaxed(&slot->key) != key))
		return false;
	ret->depth = depth;
	do {
		const struct recall_level *from = &slot->level[k];
		struct level *l = &ret->level[k];
		uint64_t id = load_relaxed(&from->id);

		l->account = (uint32_t)id;
		l->generation = (uint32_t)(id >> 32);
		l->entry = load_relaxed(&from->entry);
		l->cell = load_relaxed(&from->cell);
		l->dirty = load_relaxed(&from->dirty);
	} while (++k < depth);
	fence_acquire();
	return likely(turn % 2 == 0 && load_relaxed(&slot->turn) == turn);
}

/* A name where it stands: whole words from `text` on, then one that ends with it. */
struct text {
	const char *text;
	size_t length, last;
	uint64_t tail;
};

static _hot_ uint64_t text_key(const struct text *t) {
	uint64_t key = t->length;

	for (size_t i = 0; unlikely(i < t->last); i++)
		key = key_add(key, htole64(load8(t->text + 8 * i)));
	return key_add(key, t->tail);
}

static _hot_ bool entry_has_text(struct map *m, struct entry *e, const struct text *t) {
	const _Atomic uint64_t *word;

	if (shape_length(load_relaxed(&e->shape)) != t->length)
		return false;
	word = entry_name(m, e, t->length);
	if (unlikely(!word))
		return false;
	for (size_t i = 0; unlikely(i < t->last); i++)
		if (load_relaxed(&word[i]) != htole64(load8(t->text + 8 * i)))
			return false;
	return load_relaxed(&word[t->last]) == t->tail;
}

/* Without a struct name, which would have to be stored and read again. */
int directory_recall(struct map *m, struct recall *recall, const char *text, struct path *ret,
	uint64_t *ret_word) {
	struct text t = {.text = text, .length = strnlen(text, BERTH_NAME_MAX + 1)};
	uint64_t key, word;
	struct entry *e;

	if (unlikely(t.length == 0 || t.length > BERTH_NAME_MAX))
		return -EINVAL;
	t.last = (t.length - 1) / 8;
	t.tail = htole64(tail_load(text, t.length, t.length - 8 * t.last));
	key = text_key(&t);
	if (unlikely(!slot_load(recall_slot(recall, key), key, ret)))
		return -ENOENT;
	e = ret->level[0].entry;
	word = load_acquire(&e->word);
	*ret_word = word;
	return likely((entry_flags(word) & ENTRY_LIVE) && entry_has_text(m, e, &t) &&
		       entry_unchanged(e, word) &&
		       entry_generation(word) == ret->level[0].generation)
		       ? 0
		       : -ENOENT;
}

static uint64_t name_key(const struct name *name) {
	uint64_t key = name->length;

	for (uint32_t i = 0; i < (name->length + 7) / 8; i++)
		key = key_add(key, name->word[i]);
	return key;
}

void directory_remember(struct recall *recall, const struct name *name, const struct path *path) {
	uint64_t key = name_key(name);
	struct recall_slot *slot = recall_slot(recall, key);
	uint32_t turn = load_relaxed(&slot->turn);

	/* Another thread that is just writing the slot may have it. */
	if (path->depth > RECALL_LEVELS || turn % 2 != 0 || !cas32(&slot->turn, turn, turn + 1))
		return;
	store_release(&slot->depth, path->depth);
	store_release(&slot->key, key);
	for (uint32_t k = 0; k < path->depth; k++) {
		const struct level *l = &path->level[k];
		struct recall_level *to = &slot->level[k];

		store_release(&to->id, (uint64_t)l->generation << 32 | l->account);
		store_release(&to->entry, l->entry);
		store_release(&to->cell, l->cell);
		store_release(&to->dirty, l->dirty);
	}
	store_release(&slot->turn, turn + 2);
}

/* -- what an account is ------------------------------------------------------------------------ */

static int entry_error(const struct map *m, uint32_t account) {
	return map_has_account(m, account) ? -ENOMEM : -ENOENT;
}

int directory_ancestor(struct map *m, uint32_t account, uint32_t level, uint32_t *ret) {
	for (uint32_t k = 0; k < level; k++) {
		struct entry *e = map_entry(m, account);

		if (unlikely(!e))
			return entry_error(m, account);
		account = load_relaxed(&e->parent);
	}
	*ret = account;
	return account == 0 ? -ENOENT : 0;
}

int directory_depth(struct map *m, uint32_t account, uint32_t *ret) {
	struct entry *e = map_entry(m, account);

	if (unlikely(!e))
		return entry_error(m, account);
	*ret = shape_depth(load_relaxed(&e->shape));
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
