/* SPDX-License-Identifier: MIT */

/*
 * Writes the directory in place, under its readers.
 *
 * Invariant: a table slot leads to an entry; an entry that is LIVE bears the name, parent and depth
 * of one account for as long as its generation stays; nothing of a LIVE entry but its word changes.
 *
 * Writes in order, to create: C1 the entry's fields   C2 its word: LIVE, generation + 1   C3 the
 * table's slot. To remove: R1 the word: not LIVE, generation + 1   R2 the cell is bumped   R3 (its
 * count is 0) what its tag tells is noted (counter.c, removed accounts)   R4 the table's slot   R5 the
 * index may be used again.
 * Death between R1 and R4 while slots were still held (the removal was about to be taken back) leaves
 * an entry with a count that the table leads to: directory_new makes it LIVE again.
 * Death between C1 and C2, or after R4, leaves a free entry. Between C2 and C3 a LIVE entry that the
 * table lacks, between R1 and R4 a slot that leads to no LIVE entry: directory_new finds either and
 * writes the table anew. It bumps every cell and notes what its tag tells (R2, R3) before an index is
 * free.
 *
 * The table is open addressing with linear probing, at most half full. A deletion moves later
 * entries of its run back, copying before it clears, and growing builds the double table beside the
 * old one; a reader that misses a name on the move asks the daemon.
 */

#include <string.h>

#include "array.h"
#include "counter.h"
#include "denials.h"
#include "directory-write.h"
#include "log.h"

#define BLOCK_SIZE      256u
#define EXPECTED_PROBES 16u
#define PAGE_SLOTS      1024u /* as many as lie side by side for sure */
#define STOCK_AHEAD     24u   /* entries that are looked at while what they need comes from afar */

/* -- arrays that grow ------------------------------------------------------------------------- */

static int free_push(struct directory *d, uint32_t account) {
	int r = array_reserve(&d->free, &d->free_capacity, d->free_count + 1);

	if (r >= 0)
		d->free[d->free_count++] = account;
	d->denials_remain = true;
	return r;
}

static int block_push(struct directory *d, uint32_t block) {
	int r = array_reserve(&d->free_block, &d->free_block_capacity, d->free_block_count + 1);

	if (r >= 0)
		d->free_block[d->free_block_count++] = block;
	return r;
}

/* Follows the published size with the daemon's own array. Many at once come as zeroes that take no
 * memory until they are written. */
static int accounts_follow(struct directory *d) {
	uint32_t end = directory_end(d);
	struct account *p;

	if (end <= d->account_size)
		return 0;
	p = d->account ? reallocarray(d->account, end, sizeof(*p)) : calloc(end, sizeof(*p));
	if (!p)
		return -ENOMEM;
	if (d->account)
		memset(p + d->account_size, 0, (end - d->account_size) * sizeof(*p));
	d->account = p;
	d->account_size = end;
	return 0;
}

/* -- the table --------------------------------------------------------------------------------- */

static _Atomic uint32_t *slot_at(struct directory *d, uint32_t bits, uint32_t i) {
	uint64_t offset = (UINT64_C(1) << bits) + (i & ((UINT32_C(1) << bits) - 1));

	return map_at(d->map, &d->map->directory, d->map->layout.tables + offset * 4);
}

static uint64_t hash_of(struct directory *d, uint32_t account) {
	return load_relaxed(&map_entry(d->map, account)->hash);
}

static uint32_t slot_pack(uint64_t hash, uint32_t account) {
	return (uint32_t)(hash >> 56) << 24 | account;
}

static int table_insert(struct directory *d, uint32_t bits, uint32_t account) {
	uint64_t hash = hash_of(d, account);

	for (uint32_t i = 0;; i++) {
		_Atomic uint32_t *slot = slot_at(d, bits, (uint32_t)hash + i);

		if (!slot)
			return -ENOMEM;
		if (load_relaxed(slot) != 0)
			continue;
		store_release(slot, slot_pack(hash, account)); /* C3 */
		return 0;
	}
}

/* Clears a table's slots and fills them; readers meanwhile miss, and ask. */
static int table_write(struct directory *d, uint32_t bits) {
	for (uint32_t i = 0; i < UINT32_C(1) << bits; i++) {
		_Atomic uint32_t *slot = slot_at(d, bits, i);

		if (!slot)
			return -ENOMEM;
		if (load_relaxed(slot) != 0)
			store_relaxed(slot, 0);
	}
	for (uint32_t a = 1; a < directory_end(d); a++) {
		int r = 0;

		if (entry_flags(directory_word(d, a)) & ENTRY_LIVE)
			r = table_insert(d, bits, a);
		if (r < 0)
			return r;
	}
	return 0;
}

static int table_make(struct directory *d, uint32_t bits) {
	int r = segment_allocate_directory(
		d->segment, d->map->layout.tables + (UINT64_C(4) << bits), UINT64_C(4) << bits);

	if (r >= 0)
		r = table_write(d, bits);
	if (r >= 0)
		store_release(&d->segment->names->table_bits, bits);
	return r;
}

/* Keeps the table at most half full with so many more. */
static int table_reserve(struct directory *d, uint32_t more) {
	uint32_t bits = load_relaxed(&d->segment->names->table_bits);
	uint32_t want = MAX_OF(bits, (uint32_t)BERTH_TABLE_BITS_MIN);

	while (2 * ((uint64_t)d->live + more) > UINT64_C(1) << want)
		want++;
	if (want > BERTH_TABLE_BITS_MAX)
		return -ENOSPC;
	return want == bits ? 0 : table_make(d, want);
}

/* Fewer than are there may be the same ones again; the table grows on the way, if they aren't. */
void directory_expect_many(struct directory *d, uint32_t more) {
	if (more > d->live)
		(void)table_reserve(d, MIN_OF(more, d->map->layout.max_accounts - d->live));
}

/* R4: clears the slot, moving back whatever of its run may stand nearer to its own place. */
static void table_remove(struct directory *d, uint32_t account) {
	uint32_t bits = load_relaxed(&d->segment->names->table_bits);
	uint32_t mask = (UINT32_C(1) << bits) - 1, hole = (uint32_t)hash_of(d, account) & mask, at;

	while ((load_relaxed(slot_at(d, bits, hole)) & 0xFFFFFF) != account) {
		if (load_relaxed(slot_at(d, bits, hole)) == 0)
			return;
		hole = (hole + 1) & mask;
	}
	for (at = (hole + 1) & mask;; at = (at + 1) & mask) {
		uint32_t found = load_relaxed(slot_at(d, bits, at));
		uint32_t home;

		if (found == 0)
			break;
		home = (uint32_t)hash_of(d, found & 0xFFFFFF) & mask;
		if (((at - home) & mask) < ((at - hole) & mask))
			continue;
		store_release(slot_at(d, bits, hole), found);
		hole = at;
	}
	store_release(slot_at(d, bits, hole), 0);
}

/* -- entries ----------------------------------------------------------------------------------- */

uint64_t directory_word(struct directory *d, uint32_t account) {
	const struct entry *e = map_entry(d->map, account);

	return e ? load_relaxed(&e->word) : 0;
}

uint32_t directory_parent(struct directory *d, uint32_t account) {
	const struct entry *e = map_entry(d->map, account);

	return e ? ancestry_parent(load_relaxed(&e->ancestry)) : 0;
}

uint32_t directory_lookup(struct directory *d, const struct name *name) {
	uint32_t account;
	uint64_t word;

	return directory_find(d->map, name, &account, &word) == 0 ? account : 0;
}

/* Of the run of slots that begins with the hash, the first one that may lead to it: the others' entries
 * aren't looked at. */
static void hash_fetch_entry(struct directory *d, uint32_t bits, uint64_t hash) {
	for (uint32_t i = 0; i < EXPECTED_PROBES; i++) {
		const _Atomic uint32_t *slot = slot_at(d, bits, (uint32_t)hash + i);
		uint32_t found = slot ? load_relaxed(slot) : 0;

		if (found == 0)
			return;
		if (found >> 24 != hash >> 56)
			continue;
		__builtin_prefetch(map_entry(d->map, found & 0xFFFFFF));
		return;
	}
}

void directory_expect(struct directory *d, uint64_t hash) {
	uint32_t bits = load_relaxed(&d->segment->names->table_bits);
	uint64_t *expected = &d->expected[d->expected_next++ % ELEMENTS(d->expected)];
	const _Atomic uint32_t *slot;

	/* The one before has reached the cache by now, and says where the entry is. */
	hash_fetch_entry(d, bits, *expected);
	*expected = hash;
	slot = slot_at(d, bits, (uint32_t)*expected);
	if (slot)
		__builtin_prefetch((const void *)slot);
}

/* A block for a long name: one that is free, or one more. Index + 1. */
static int block_take(struct directory *d, uint32_t *ret) {
	uint32_t now = load_relaxed(&d->segment->names->blocks);
	int r;

	if (d->free_block_count > 0) {
		*ret = d->free_block[--d->free_block_count];
		return 0;
	}
	if (now >= d->map->layout.max_accounts)
		return -ENOSPC;
	r = segment_allocate_directory(
		d->segment, d->map->layout.names + (uint64_t)now * BLOCK_SIZE, BLOCK_SIZE);
	if (r < 0)
		return r;
	store_release(&d->segment->names->blocks, now + 1);
	*ret = now + 1;
	return 0;
}

/* Onto the stack what is published and wasn't followed yet, the last ones first, so that low indices
 * are used first; all of it or, without memory, nothing. */
static int indexes_follow(struct directory *d) {
	uint32_t from = d->account_size, end = directory_end(d);
	int r = array_reserve(&d->free, &d->free_capacity, d->free_count + (end - from));

	if (r >= 0)
		r = accounts_follow(d);
	for (uint32_t a = end; r >= 0 && a-- > MAX_OF(from, 1u);)
		d->free[d->free_count++] = a;
	return r;
}

static int index_take(struct directory *d, uint32_t *ret) {
	if (d->free_count == 0) {
		/* More than the array has: published before, when there was no memory to follow. */
		int r = directory_end(d) > d->account_size ? 0 : segment_grow_accounts(d->segment);

		if (r >= 0)
			r = indexes_follow(d);
		if (r < 0)
			return r;
	}
	*ret = d->free[--d->free_count];
	return 0;
}

/* C1. The entry isn't LIVE, so nobody reads it but to find that out. */
static int entry_write(
	struct directory *d, struct entry *e, const struct name *name, uint32_t parent) {
	_Atomic uint64_t *to = e->name;
	uint32_t block = 0, depth = 1;
	int r;

	if (name->length > BERTH_NAME_INLINE) {
		r = block_take(d, &block);
		if (r < 0)
			return r;
		to = map_at(d->map, &d->map->directory,
			d->map->layout.names + (uint64_t)(block - 1) * BLOCK_SIZE);
		if (!to) {
			(void)block_push(d, block);
			return -ENOMEM;
		}
	}
	for (uint32_t i = 0; i < (name->length + 7) / 8; i++)
		store_relaxed(&to[i], name->word[i]);
	if (parent != 0)
		depth += ancestry_depth(load_relaxed(&map_entry(d->map, parent)->ancestry));
	store_relaxed(&e->hash, directory_hash(d->map, name));
	/* Pairs with directory_ancestor(). */
	store_release(&e->ancestry, ancestry_pack(parent, depth));
	store_relaxed(&e->shape, shape_pack(name->length, block));
	return 0;
}

/* The numbers of whoever had the index before aren't the new account's. Sessions may be many, and so
 * may the accounts that are made one after the other: once does for all that were freed before. */
static void cell_forget(struct directory *d, uint32_t account) {
	uint32_t generation = entry_generation(load_relaxed(&map_entry(d->map, account)->word));
	struct cell *cell = map_cell(d->map, account);

	if (generation > 0 && d->denials_remain) {
		denials_collect(d->map);
		d->denials_remain = false;
	}
	store_relaxed(&cell->denied, 0);
	store_relaxed(&cell->peak, 0);
	d->account[account] = (struct account){.young = d->loading};
}

int directory_create(struct directory *d, const struct name *name, uint32_t parent, uint32_t limit,
	uint32_t flags, uint32_t *ret) {
	struct entry *e;
	uint32_t account;
	int r;

	r = table_reserve(d, 1);
	if (r >= 0)
		r = index_take(d, &account);
	if (r < 0)
		return r;
	e = map_entry(d->map, account);
	r = e && map_cell(d->map, account) ? 0 : -ENOMEM;
	if (r == 0)
		r = entry_write(d, e, name, parent);
	if (r < 0) {
		(void)free_push(d, account);
		return r;
	}
	cell_forget(d, account);
	store_release(&e->word, /* C2; pairs with entry_matches() */
		entry_pack(
			limit, flags | ENTRY_LIVE, entry_generation(load_relaxed(&e->word)) + 1));
	d->live++;
	if (parent != 0)
		d->account[parent].children++;
	*ret = account;
	return table_insert(d, load_relaxed(&d->segment->names->table_bits), account);
}

/* What a name needs: to be configured, changed, made usable or not, and removed. */
#define CHANGES_WANTED 16

/* Neither a generation nor a bump ever comes again: with the last ones the index rests for good. */
static bool index_is_reusable(struct directory *d, uint32_t account) {
	return entry_generation(directory_word(d, account)) + CHANGES_WANTED <
		       BERTH_GENERATION_LAST &&
	       counter_has_bumps(d->map, account, CHANGES_WANTED);
}

static int word_store(struct directory *d, uint32_t account, uint64_t word) {
	struct entry *e = map_entry(d->map, account);

	if (!e)
		return -ENOENT;
	if (!counter_has_bumps(d->map, account, 1))
		return -EOVERFLOW;
	store_release(&e->word, word); /* pairs with counter_admit() */
	return counter_bump(d->map, account);
}

int directory_set(struct directory *d, uint32_t account, uint32_t limit, uint32_t flags) {
	uint32_t generation = entry_generation(directory_word(d, account));

	return word_store(d, account, entry_pack(limit, flags | ENTRY_LIVE, generation));
}

int directory_renew(struct directory *d, uint32_t account, uint32_t limit, uint32_t flags) {
	uint32_t generation = entry_generation(directory_word(d, account));

	/* One is left for its removal. */
	if (generation + 1 >= BERTH_GENERATION_LAST)
		return -EOVERFLOW;
	return word_store(d, account, entry_pack(limit, flags | ENTRY_LIVE, generation + 1));
}

int directory_remove(struct directory *d, uint32_t account) {
	uint64_t word = directory_word(d, account);
	struct entry *e = map_entry(d->map, account);
	uint32_t parent, block;
	int r;

	if (!e || d->account[account].children > 0 || counter_count(d->map, account) > 0)
		return -EBUSY;
	/* A second bump is for taking it back. */
	if (entry_generation(word) >= BERTH_GENERATION_LAST ||
		!counter_has_bumps(d->map, account, 2))
		return -EOVERFLOW;
	/* R1, R2 */
	r = word_store(d, account, entry_pack(0, 0, entry_generation(word) + 1));
	if (r == 0 && counter_count(d->map, account) == 0)
		r = counter_part(d->map, account); /* R3 */
	if (r < 0 || counter_count(d->map, account) > 0) {
		(void)word_store(d, account,
			entry_pack(
				entry_limit(word), entry_flags(word), entry_generation(word) + 1));
		return r < 0 ? r : -EBUSY;
	}
	table_remove(d, account); /* R4 */
	parent = directory_parent(d, account);
	block = shape_block(load_relaxed(&e->shape));
	d->live--;
	if (parent != 0)
		d->account[parent].children--;
	/* R5. With no memory for the stacks the index rests until the next start. */
	if (block != 0)
		(void)block_push(d, block);
	if (index_is_reusable(d, account))
		(void)free_push(d, account);
	return 0;
}

/* -- taking stock at start --------------------------------------------------------------------- */

struct stock {
	uint8_t *used_blocks;
	uint32_t bits;   /* of the table; 0: it can't be one */
	bool misses_one; /* the table, of the LIVE entries */
	bool has_twins;  /* or leads to two by one hash, perhaps by one name */
	directory_each each;
	void *data;
};

static int stock_blocks(struct directory *d, const uint8_t *used) {
	for (uint32_t b = load_relaxed(&d->segment->names->blocks); b > 0; b--) {
		int r = used[b] ? 0 : block_push(d, b);

		if (r < 0)
			return r;
	}
	return 0;
}

static bool entry_is_sound(struct directory *d, const struct entry *e) {
	uint32_t shape = load_relaxed(&e->shape);

	return ancestry_parent(load_relaxed(&e->ancestry)) < directory_end(d) &&
	       shape_length(shape) > 0 &&
	       shape_block(shape) <= load_relaxed(&d->segment->names->blocks);
}

static bool is_twin(struct directory *d, uint64_t hash, uint32_t found) {
	const struct entry *e = map_entry(d->map, found & 0xFFFFFF);

	return found >> 24 == hash >> 56 && e && load_relaxed(&e->hash) == hash;
}

/* True if the table leads to the entry, LIVE or not. */
static bool table_has(struct directory *d, struct stock *s, uint32_t a, const struct entry *e) {
	uint64_t hash = load_relaxed(&e->hash);

	for (uint32_t i = 0; s->bits > 0 && i < UINT32_C(1) << s->bits; i++) {
		uint32_t found = load_relaxed(slot_at(d, s->bits, (uint32_t)hash + i));

		if (found == 0 || found == slot_pack(hash, a))
			return found != 0;
		s->has_twins = s->has_twins || is_twin(d, hash, found);
	}
	return false;
}

/* Removed halfway, with slots held: it is there again, without a limit until accounts.c says which.
 * Whoever resolved it before looks it up again. */
static void entry_revive(struct directory *d, struct stock *s, uint32_t a, struct entry *e) {
	if (!(entry_flags(load_relaxed(&e->word)) & ENTRY_LIVE) && entry_is_sound(d, e) &&
		counter_count(d->map, a) > 0 && table_has(d, s, a, e))
		(void)directory_renew(d, a, BERTH_LIMIT_NONE, 0);
}

/* Entries and cells lie side by side. The slot that leads to an entry, and the record whose slot was
 * the last to change its count, lie all over the place: they are fetched before. */
static void stock_expect(struct directory *d, const struct stock *s, uint32_t a) {
	struct entry *e = map_entry(d->map, a);
	struct cell *cell = map_cell(d->map, a);
	struct record *record;

	if (!e || !cell || load_relaxed(&e->word) == 0)
		return;
	if (s->bits > 0)
		__builtin_prefetch(slot_at(d, s->bits, (uint32_t)load_relaxed(&e->hash)));
	record = map_record(d->map, tag_record(load_relaxed(&cell->tag)));
	if (record)
		__builtin_prefetch(record, 1);
}

static void stock_live(struct directory *d, struct stock *s, uint32_t a, const struct entry *e) {
	uint32_t parent = directory_parent(d, a);

	s->used_blocks[shape_block(load_relaxed(&e->shape))] = 1;
	if (parent != 0)
		d->account[parent].children++;
	d->live++;
	/* One is enough: noise takes long to be searched. */
	if (!s->misses_one)
		s->misses_one = !table_has(d, s, a, e);
}

/* One entry, from the last to the first, so that the free stack gives low indices first. */
static int stock_entry(struct directory *d, struct stock *s, uint32_t a) {
	struct entry *e = map_entry(d->map, a);
	bool live;
	int r;

	if (!e || !map_cell(d->map, a))
		return -ENOMEM;
	/* Death between a word and its bump (R1 and R2, or a limit) left readers of the old word; between
	 * R2 and R3, a tag that wasn't noted. */
	r = load_relaxed(&e->word) == 0 ? 0 : counter_bump(d->map, a);
	if (r == -EOVERFLOW)
		r = counter_repair(
			d->map, a, cell_load(map_cell(d->map, a)), counter_count(d->map, a));
	if (r != -ENOMEM)
		r = counter_part(d->map, a);
	if (r == -ENOMEM)
		return r;
	entry_revive(d, s, a, e);
	live = entry_flags(load_relaxed(&e->word)) & ENTRY_LIVE;
	if (live)
		s->each(s->data, a, entry_flags(load_relaxed(&e->word)));
	if (live && entry_is_sound(d, e)) {
		stock_live(d, s, a, e);
		return 0;
	}
	d->unsound += live;
	/* A count without an account is noise. The index rests until the next start. */
	return counter_count(d->map, a) == 0 && index_is_reusable(d, a) ? free_push(d, a) : 0;
}

static int stock_entries(struct directory *d, struct stock *s) {
	int r = 0;

	for (uint32_t a = directory_end(d) - 1; r >= 0 && a > 0; a--) {
		if (a > STOCK_AHEAD)
			stock_expect(d, s, a - STOCK_AHEAD);
		r = stock_entry(d, s, a);
	}
	return r;
}

/* True if the table leads to every LIVE entry and, as it has no more slots in use, to nothing else. */
static bool table_is_whole(struct directory *d, const struct stock *s) {
	uint32_t used = 0;

	if (s->bits == 0 || s->misses_one)
		return false;
	for (uint32_t i = 0; i < UINT32_C(1) << s->bits; i += PAGE_SLOTS) {
		const _Atomic uint32_t *slot = slot_at(d, s->bits, i);

		for (uint32_t k = 0; k < PAGE_SLOTS; k++)
			used += load_relaxed(&slot[k]) != 0;
	}
	return used == d->live;
}

/* Once mapped it stays so: who looks into the table later doesn't ask. */
static int table_map(struct directory *d, uint32_t bits) {
	for (uint32_t i = 0; bits > 0 && i < UINT32_C(1) << bits; i += PAGE_SLOTS)
		if (!slot_at(d, bits, i))
			return -ENOMEM;
	return 0;
}

static int stock_take(struct directory *d, struct stock *s) {
	uint32_t bits = load_relaxed(&d->segment->names->table_bits);
	int r = accounts_follow(d);

	if (bits >= BERTH_TABLE_BITS_MIN && bits <= BERTH_TABLE_BITS_MAX)
		s->bits = bits;
	if (r >= 0)
		r = table_map(d, s->bits);
	if (r >= 0)
		r = stock_entries(d, s);
	if (r >= 0)
		r = stock_blocks(d, s->used_blocks);
	if (r < 0 || d->live == 0 || table_is_whole(d, s)) {
		d->one_each = !s->has_twins && d->unsound == 0;
		return r;
	}
	log_notice("The table of account names was left half written; writing it again");
	return table_write(d, bits);
}

int directory_new(struct segment *s, directory_each each, void *data, struct directory **ret) {
	_cleanup_free_ uint8_t *used_blocks =
		calloc((size_t)load_relaxed(&s->names->blocks) + 1, 1);
	struct stock stock = {.used_blocks = used_blocks, .each = each, .data = data};
	struct directory *d = calloc(1, sizeof(*d));
	int r;

	if (!d || !used_blocks) {
		free(d);
		return -ENOMEM;
	}
	d->segment = s;
	d->map = s->map;
	r = stock_take(d, &stock);
	if (r >= 0)
		r = table_reserve(d, 1);
	if (r < 0) {
		directory_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

void directory_free(struct directory *d) {
	if (!d)
		return;
	free(d->account);
	free(d->free);
	free(d->free_block);
	free(d);
}
