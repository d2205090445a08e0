/* SPDX-License-Identifier: MIT */

/*
 * Writes the directory in place, while clients read it. In this file a slot is a word of the table
 * of names, not a slot of an account.
 *
 * Invariant: each slot in use leads to an entry. A LIVE entry has the name, parent and depth of one
 * account for as long as its generation stays the same. Only the word of a LIVE entry changes.
 *
 * To create an entry, berthd writes in this order:
 *   C1 the entry's fields;
 *   C2 the entry's word: LIVE, generation + 1;
 *   C3 the slot.
 * To remove an entry, berthd makes these changes in this order:
 *   R1 the word: not LIVE, generation + 1;
 *   R2 a bump of the cell (counter.c, B1);
 *   R3 if the count is 0: a note (N1) of the step that the cell's tag names (counter.c, removed
 *      accounts);
 *   R4 the slot is cleared;
 *   R5 the index can be used again.
 *
 * If berthd dies between C1 and C2, or after R4, the entry is free. If it dies between C2 and C3,
 * the table lacks a LIVE entry. If it dies between R1 and R4, a slot leads to an entry that isn't
 * LIVE. In the last two cases directory_new() writes the table anew. In every case it bumps every
 * cell, and notes the step of each cell's tag (R2, R3), before it makes an index free. If the
 * account's count isn't 0 when berthd dies between R1 and R4, the removal was about to be undone:
 * directory_new() makes the entry LIVE again.
 *
 * The table has open addressing with linear probing, and is at most half full. A run is a sequence
 * of slots in use without a gap. A deletion moves later slots of the same run back, and copies each
 * slot before it clears the old place. While a slot moves, a reader may miss its name; the reader
 * then asks berthd. If the table gets too small, berthd builds a larger one beside it.
 */

#include <string.h>

#include "array.h"
#include "counter.h"
#include "denials.h"
#include "directory-write.h"
#include "log.h"

#define BLOCK_SIZE     256u
#define PAGE_SLOTS     1024u /* slots of a table that are contiguous in memory */
#define PREFETCH_AHEAD 24u   /* entries */

struct directory {
	struct segment *segment;
	struct map *map;
	struct account *account; /* by index */
	uint32_t account_size;
	uint32_t *free; /* stack of indices without a name */
	uint32_t free_count;
	size_t free_capacity;
	uint32_t *free_block; /* stack of blocks for long names */
	uint32_t free_block_count;
	size_t free_block_capacity;
	uint32_t live;
	uint32_t unsound; /* LIVE entries that were damaged at the start */
	/* Sessions may have counted denials for indices that were freed since the last
	 * collection. */
	bool denials_remain;
	bool loading; /* stored counts are being loaded */
};

struct map *directory_map(const struct directory *d) {
	return d->map;
}

uint32_t directory_live(const struct directory *d) {
	return d->live;
}

uint32_t directory_unsound(const struct directory *d) {
	return d->unsound;
}

uint32_t directory_end(const struct directory *d) {
	return load_relaxed(&d->segment->names->accounts);
}

struct account *directory_account(const struct directory *d, uint32_t account) {
	return &d->account[account];
}

uint32_t directory_accounts_end(const struct directory *d) {
	return d->account_size;
}

void directory_set_loading(struct directory *d, bool loading) {
	d->loading = loading;
}

void directory_set_restored(struct directory *d) {
	store_release(&d->segment->names->restored, 1);
}

bool directory_is_restored(const struct directory *d) {
	return load_acquire(&d->segment->names->restored);
}

/* -- arrays that grow -------------------------------------------------------------------------- */

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

/* Writes all slots of a table. Readers that use it meanwhile may miss names, and ask berthd. */
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

/* Makes the table large enough to be at most half full after `more` names are added. */
static int table_reserve(struct directory *d, uint32_t more) {
	uint32_t bits = load_relaxed(&d->segment->names->table_bits);
	uint32_t want = MAX_OF(bits, (uint32_t)BERTH_TABLE_BITS_MIN);
	int r;

	while (2 * ((uint64_t)d->live + more) > UINT64_C(1) << want)
		want++;
	if (want > BERTH_TABLE_BITS_MAX)
		return -ENOSPC;
	if (want == bits)
		return 0;
	r = segment_allocate_directory(
		d->segment, d->map->layout.tables + (UINT64_C(4) << want), UINT64_C(4) << want);
	if (r >= 0)
		r = table_write(d, want);
	if (r >= 0)
		store_release(&d->segment->names->table_bits, want);
	return r;
}

/* If there are at least `more` entries already, the table doesn't grow now, since the names may be
 * those of these entries. For each new name, directory_create() makes room in the table. */
void directory_expect(struct directory *d, uint32_t more) {
	if (more > d->live)
		(void)table_reserve(d, MIN_OF(more, d->map->layout.max_accounts - d->live));
}

void directory_prefetch(struct directory *d, const struct name *names, uint32_t count) {
	uint32_t bits = load_relaxed(&d->segment->names->table_bits);
	const _Atomic uint32_t *slots[DIRECTORY_PREFETCH];

	for (uint32_t i = 0; i < count; i++) {
		slots[i] = slot_at(d, bits, (uint32_t)directory_hash(d->map, &names[i]));
		__builtin_prefetch(slots[i]);
	}
	for (uint32_t i = 0; i < count; i++)
		if (slots[i])
			__builtin_prefetch(map_entry(d->map, load_relaxed(slots[i]) & 0xFFFFFF));
}

/* R4: clears the account's slot. Moves each later slot of the run into the gap before it, unless
 * the slot would then stand before its own place, which its hash gives. */
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

uint64_t directory_word(const struct directory *d, uint32_t account) {
	const struct entry *e = map_entry(d->map, account);

	return e ? load_relaxed(&e->word) : 0;
}

uint32_t directory_parent(const struct directory *d, uint32_t account) {
	const struct entry *e = map_entry(d->map, account);

	return e ? ancestry_parent(load_relaxed(&e->ancestry)) : 0;
}

uint32_t directory_lookup(struct directory *d, const struct name *name) {
	uint32_t account;
	uint64_t word;

	return directory_find(d->map, name, &account, &word) == 0 ? account : 0;
}

/* Takes a free block for a long name, or allocates one more. *ret: the block's index + 1. */
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

/* Takes a free index. If there is none, publishes more indices and pushes them onto the stack, the
 * highest first, so that low ones are used first. */
static int index_take(struct directory *d, uint32_t *ret) {
	uint32_t from = d->account_size;
	int r = 0;

	if (d->free_count == 0) {
		/* An earlier call may have published indices for which the arrays had no memory. */
		if (directory_end(d) == from)
			r = segment_grow_accounts(d->segment);
		if (r >= 0)
			r = array_reserve(&d->free, &d->free_capacity, directory_end(d) - from);
		if (r >= 0)
			r = array_extend(&d->account, &d->account_size, directory_end(d));
		for (uint32_t a = directory_end(d); r >= 0 && a-- > MAX_OF(from, 1u);)
			d->free[d->free_count++] = a;
	}
	if (r >= 0)
		*ret = d->free[--d->free_count];
	return r;
}

/* C1. The entry isn't LIVE, so readers ignore its fields. */
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
	/* Pairs with record_path() in client/core/counter.c. */
	store_release(&e->ancestry, ancestry_pack(parent, depth));
	store_relaxed(&e->shape, shape_pack(name->length, block));
	return 0;
}

int directory_create(struct directory *d, const struct name *name, uint32_t parent, uint32_t limit,
	uint32_t flags, uint32_t *ret) {
	uint32_t account, generation;
	struct entry *e;
	struct cell *cell;
	int r;

	r = table_reserve(d, 1);
	if (r >= 0)
		r = index_take(d, &account);
	if (r < 0)
		return r;
	e = map_entry(d->map, account);
	cell = map_cell(d->map, account);
	r = e && cell ? 0 : -ENOMEM;
	if (r == 0)
		r = entry_write(d, e, name, parent);
	if (r < 0) {
		(void)free_push(d, account);
		return r;
	}
	generation = entry_generation(load_relaxed(&e->word));
	/* Sessions may have counted denials for an earlier account of this index. These denials are
	 * collected first. One collection serves all indices that are free now. It goes through all
	 * sessions, so one for each new account would be slow. */
	if (generation > 0 && d->denials_remain) {
		denials_collect(d->map);
		d->denials_remain = false;
	}
	store_relaxed(&cell->denied, 0);
	store_relaxed(&cell->peak, 0);
	d->account[account] = (struct account){.is_newer_than_counts = d->loading};
	/* C2; pairs with entry_matches() */
	store_release(&e->word, entry_pack(limit, flags | ENTRY_LIVE, generation + 1));
	d->live++;
	if (parent != 0)
		d->account[parent].children++;
	*ret = account;
	return table_insert(d, load_relaxed(&d->segment->names->table_bits), account);
}

/* An index is used again only if it allows at least this many changes. It is a change when an
 * account is configured, gets another limit, becomes unusable, or is removed. */
#define CHANGES_MIN 16

/* Generations and bumps are never used twice. An index that has too few of them left is never used
 * again. */
static bool index_is_reusable(struct directory *d, uint32_t account) {
	return entry_generation(directory_word(d, account)) + CHANGES_MIN < BERTH_GENERATION_LAST &&
	       counter_has_bumps(d->map, account, CHANGES_MIN);
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

	/* The last generation is kept for the removal. */
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
	/* The removal takes one bump, and undoing the removal takes another. */
	if (entry_generation(word) >= BERTH_GENERATION_LAST ||
		!counter_has_bumps(d->map, account, 2))
		return -EOVERFLOW;
	/* R1, R2 */
	r = word_store(d, account, entry_pack(0, 0, entry_generation(word) + 1));
	if (r == 0 && counter_count(d->map, account) == 0)
		r = counter_note_cell(d->map, account); /* R3 */
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
	/* R5. If there is no memory for a stack, the next start finds the free index or block. */
	if (block != 0)
		(void)block_push(d, block);
	if (index_is_reusable(d, account))
		(void)free_push(d, account);
	return 0;
}

/* -- the recovery scan at start ---------------------------------------------------------------- */

struct scan {
	uint8_t *used_blocks;
	uint32_t bits;    /* of the table; 0: the number is damaged */
	bool lacks_entry; /* the table lacks a LIVE entry */
	directory_each each;
	void *data;
};

static bool entry_is_sound(struct directory *d, const struct entry *e) {
	uint32_t shape = load_relaxed(&e->shape);

	return ancestry_parent(load_relaxed(&e->ancestry)) < directory_end(d) &&
	       shape_length(shape) > 0 &&
	       shape_block(shape) <= load_relaxed(&d->segment->names->blocks);
}

/* True if the table leads to the entry, LIVE or not. */
static bool table_has(struct directory *d, struct scan *s, uint32_t a, const struct entry *e) {
	uint64_t hash = load_relaxed(&e->hash);

	for (uint32_t i = 0; s->bits > 0 && i < UINT32_C(1) << s->bits; i++) {
		uint32_t found = load_relaxed(slot_at(d, s->bits, (uint32_t)hash + i));

		if (found == 0 || found == slot_pack(hash, a))
			return found != 0;
	}
	return false;
}

/* Undoes a removal during which berthd died, if the account's count isn't 0. The entry has no limit
 * until accounts.c sets one. The new generation makes clients look the name up again. */
static void entry_revive(struct directory *d, struct scan *s, uint32_t a, struct entry *e) {
	if (!(entry_flags(load_relaxed(&e->word)) & ENTRY_LIVE) && entry_is_sound(d, e) &&
		counter_count(d->map, a) > 0 && table_has(d, s, a, e))
		(void)directory_renew(d, a, BERTH_LIMIT_NONE, 0);
}

/* Entries and cells are read in order, but the slots and records that they refer to are scattered.
 * Fetching these early makes the scan of a million accounts twice as fast. */
static void scan_prefetch(struct directory *d, const struct scan *s, uint32_t a) {
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

static void scan_live(struct directory *d, struct scan *s, uint32_t a, const struct entry *e) {
	uint32_t parent = directory_parent(d, a);

	s->used_blocks[shape_block(load_relaxed(&e->shape))] = 1;
	if (parent != 0)
		d->account[parent].children++;
	d->live++;
	/* If the table lacks one entry, it is written anew: further searches are needless. */
	if (!s->lacks_entry)
		s->lacks_entry = !table_has(d, s, a, e);
}

/* Entries are scanned from the last to the first, so that low indices are used first. */
static int scan_entry(struct directory *d, struct scan *s, uint32_t a) {
	struct entry *e = map_entry(d->map, a);
	bool live;
	int r;

	if (!e || !map_cell(d->map, a))
		return -ENOMEM;
	/* If berthd died between writing a word and bumping the cell (R1 and R2, or a new limit),
	 * clients may still use the old word. If it died between R2 and R3, a step wasn't noted. */
	r = load_relaxed(&e->word) == 0 ? 0 : counter_bump(d->map, a);
	if (r == -EOVERFLOW)
		r = counter_repair(
			d->map, a, cell_load(map_cell(d->map, a)), counter_count(d->map, a));
	if (r != -ENOMEM)
		r = counter_note_cell(d->map, a);
	if (r == -ENOMEM)
		return r;
	entry_revive(d, s, a, e);
	live = entry_flags(load_relaxed(&e->word)) & ENTRY_LIVE;
	if (live)
		s->each(s->data, a, entry_flags(load_relaxed(&e->word)));
	if (live && entry_is_sound(d, e)) {
		scan_live(d, s, a, e);
		return 0;
	}
	d->unsound += live;
	/* A count without an account is damage, and its index isn't used until the next start. */
	return counter_count(d->map, a) == 0 && index_is_reusable(d, a) ? free_push(d, a) : 0;
}

/* True if the table leads to every LIVE entry, and to nothing else. It leads to nothing else if as
 * many slots are in use as there are LIVE entries. */
static bool table_is_whole(struct directory *d, const struct scan *s) {
	uint32_t used = 0;

	if (s->bits == 0 || s->lacks_entry)
		return false;
	for (uint32_t i = 0; i < UINT32_C(1) << s->bits; i += PAGE_SLOTS) {
		const _Atomic uint32_t *slot = slot_at(d, s->bits, i);

		for (uint32_t k = 0; k < PAGE_SLOTS; k++)
			used += load_relaxed(&slot[k]) != 0;
	}
	return used == d->live;
}

static int directory_scan(struct directory *d, struct scan *s) {
	uint32_t bits = load_relaxed(&d->segment->names->table_bits);
	int r = array_extend(&d->account, &d->account_size, directory_end(d));

	if (bits >= BERTH_TABLE_BITS_MIN && bits <= BERTH_TABLE_BITS_MAX)
		s->bits = bits;
	/* Maps the whole table. The table stays mapped, so that later accesses to it can't fail. */
	for (uint32_t i = 0; r >= 0 && s->bits > 0 && i < UINT32_C(1) << s->bits; i += PAGE_SLOTS)
		r = slot_at(d, s->bits, i) ? 0 : -ENOMEM;
	for (uint32_t a = directory_end(d) - 1; r >= 0 && a > 0; a--) {
		if (a > PREFETCH_AHEAD)
			scan_prefetch(d, s, a - PREFETCH_AHEAD);
		r = scan_entry(d, s, a);
	}
	for (uint32_t b = load_relaxed(&d->segment->names->blocks); r >= 0 && b > 0; b--)
		if (!s->used_blocks[b])
			r = block_push(d, b);
	if (r < 0 || d->live == 0 || table_is_whole(d, s))
		return r;
	log_notice("berthd died while it wrote the table of account names; writing it again");
	return table_write(d, bits);
}

int directory_new(struct segment *s, directory_each each, void *data, struct directory **ret) {
	_cleanup_free_ uint8_t *used_blocks =
		calloc((size_t)load_relaxed(&s->names->blocks) + 1, 1);
	struct scan scan = {.used_blocks = used_blocks, .each = each, .data = data};
	struct directory *d = calloc(1, sizeof(*d));
	int r;

	if (!d || !used_blocks) {
		free(d);
		return -ENOMEM;
	}
	d->segment = s;
	d->map = s->map;
	r = directory_scan(d, &scan);
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
