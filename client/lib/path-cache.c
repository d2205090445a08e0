/* SPDX-License-Identifier: MIT */

/*
 * Keeps the accounts that a thread used lately, and records for them.
 *
 * Records. A cache has records that it owns, and spare records. An owned record rests on an account
 * whose entry names the record. No entry names a spare record. A ring contains the entries that may
 * name a record. When the ring is full, the oldest entry leaves the ring and gives up its record.
 *
 * Entries. The memory of entries comes from an arena. When there are too many entries, the cache
 * drops all of them. A record bears the stamp of the entry for which its slot was acquired. If an
 * entry still names a record that another account or thread has by now, the record's stamp isn't
 * the entry's. From the stamp, cache_has_entry_of() also tells whether the entry was dropped.
 */

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "path-cache.h"

#define TABLE_BITS_MIN 4u
#define ARENA_SIZE     4096u
/* A cache has at most ENTRIES_MAX entries. Its entries name at most 1/KEPT_PART of all records, but
 * at least one record is allowed. tests/explore, which has few accounts and few records, sets other
 * numbers. */
#if !defined(ENTRIES_MAX)
#define ENTRIES_MAX 1024u
#define KEPT_PART   2048u
#endif

struct arena {
	struct arena *next;
	_Alignas(8) char bytes[];
};

struct local_slot cache_no_slot = {.token = TOKEN_RETIRED};

/* `last` of a cache without entries. No account has the name of this entry. */
static struct cache_entry no_entry = {.local = &cache_no_slot, .name = "", .stamp = UINT64_MAX};

/* -- records ----------------------------------------------------------------------------------- */

/* The record that the entry names, if the cache owns it and it rests on the entry's account; else
 * NULL. Another thread may have released the record's slot, and so have taken the record. The
 * record may even be back in this cache by now, for another account. */
static struct local_slot *entry_record(const struct cache *c, const struct cache_entry *e) {
	struct local_slot *local = e->local;
	bool is_owned = load_acquire(&local->token) == c->owned_token &&
			load_relaxed(&local->stamp) == e->stamp;

	return is_owned ? local : NULL;
}

/* Makes the record a spare record. If the cache has enough of them, or if other threads may need
 * the record, returns it to the pool instead. */
static void local_spare(struct cache *c, struct pool *p, struct local_slot *local) {
	if (!c || c->spare_count >= MIN_OF(c->capacity - 1, CACHE_SPARE) ||
		load_relaxed(&p->is_full)) {
		pool_return(p, local);
		return;
	}
	c->spare[c->spare_count++] = local;
	store_relaxed(&local->stamp, 0);
	store_release(&local->token, TOKEN_SPARE);
}

/* Makes the entry name no record, and claims the record that it named. NULL: it named none. */
static struct local_slot *entry_detach(struct cache *c, struct cache_entry *e) {
	struct local_slot *local = entry_record(c, e);

	e->local = &cache_no_slot;
	if (local)
		store_release(&local->token, TOKEN_CLAIMED);
	return local;
}

/* Takes the oldest entry out of the ring, and claims its record. */
static struct local_slot *ring_remove(struct cache *c) {
	struct cache_entry *e = c->ring[c->ring_first];

	c->ring_first = (c->ring_first + 1) % CACHE_KEPT;
	c->ring_count--;
	e->is_in_ring = false;
	return entry_detach(c, e);
}

/* Makes the entry name the record. */
static void ring_add(
	struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot *local) {
	struct local_slot *other = NULL;

	if (!e->is_in_ring && c->ring_count >= c->capacity)
		other = ring_remove(c);
	if (other)
		local_spare(c, p, other);
	if (!e->is_in_ring)
		c->ring[(c->ring_first + c->ring_count++) % CACHE_KEPT] = e;
	e->is_in_ring = true;
	e->local = local;
}

/* Claims the record of the oldest entry that has one. */
static struct local_slot *ring_claim(struct cache *c) {
	struct local_slot *local = NULL;

	while (c->ring_count > 0 && !local)
		local = ring_remove(c);
	return local;
}

int cache_claim(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot **ret) {
	int r;

	*ret = c && e ? entry_record(c, e) : NULL;
	if (*ret)
		return 0;
	if (c && c->spare_count > 0) {
		*ret = c->spare[--c->spare_count];
		store_release(&(*ret)->token, TOKEN_CLAIMED);
		return 0;
	}
	if (c && c->ring_count >= c->capacity && e && !e->is_in_ring)
		*ret = ring_claim(c);
	if (*ret)
		return 0;
	r = pool_claim(p, ret);
	if (c && r == -ENOBUFS && load_relaxed(&p->is_full))
		*ret = ring_claim(c);
	return *ret ? 0 : r;
}

void cache_detach(struct cache *c, struct cache_entry *e, struct local_slot *local) {
	if (c && e && e->local == local)
		(void)entry_detach(c, e);
}

void cache_return_unused(struct cache *c, struct pool *p, struct local_slot *local) {
	if (load_relaxed(&local->token) == TOKEN_CLAIMED)
		local_spare(c, p, local);
}

void cache_note_slot(struct cache *c, struct pool *p, struct cache_entry *e,
	struct local_slot *local, uint64_t seq) {
	/* The stamp is cleared first and stored last, because a thread that releases the record's
	 * previous slot a second time reads the stamp before and after the entry (acquire.c,
	 * release_search). */
	store_release(&local->stamp, 0);
	store_release(&local->entry, e);
	store_release(&local->stamp, c && e ? e->stamp : 0);
	store_relaxed(&local->slot, slot_next(load_relaxed(&local->slot), seq));
	if (c && e)
		ring_add(c, p, e, local);
	/* Pairs with the load by the thread that releases the slot. */
	store_release(&local->token, tag_pack(local->number, seq));
}

void cache_attach(
	struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot *local) {
	struct local_slot *other = e->local != local ? entry_detach(c, e) : NULL;

	if (other)
		local_spare(c, p, other);
	ring_add(c, p, e, local);
	store_release(&local->token, c->owned_token);
}

void cache_return(struct cache *c, struct pool *p, struct local_slot *local) {
	if (c && cache_has_entry_of(c, local))
		cache_attach(c, p, load_relaxed(&local->entry), local);
	else
		local_spare(c, p, local);
}

/* -- entries ----------------------------------------------------------------------------------- */

/* Drops all entries, none of which names a record any more. The cache forgets its entries before it
 * frees them, since another thread may fork in between. */
static void entries_drop(struct cache *c) {
	static _Atomic uint64_t stamps;
	struct cache_entry **table = c->table;
	struct arena *arena = c->arena;

	c->last = &no_entry;
	c->table = NULL;
	c->arena = NULL;
	c->table_bits = 0;
	c->entry_count = 0;
	c->arena_used = ARENA_SIZE;
	c->stamp = add_relaxed(&stamps, ENTRIES_MAX) + 1;
	/* A forked child gets a copy of the memory as this thread has left it. Only such a child
	 * needs this order. */
	fence_compiler();
	free(table);
	while (arena) {
		struct arena *next = arena->next;

		free(arena);
		arena = next;
	}
}

static void *arena_allocate(struct cache *c, size_t size) {
	void *p;

	size = ROUND_UP(size, 8);
	if (!c->arena || c->arena_used + size > ARENA_SIZE) {
		struct arena *new = malloc(sizeof(*new) + MAX_OF(ARENA_SIZE, size));

		if (!new)
			return NULL;
		new->next = c->arena;
		/* If another thread forks between these statements, the child still frees the whole
		 * list. */
		fence_compiler();
		c->arena = new;
		c->arena_used = 0;
	}
	p = c->arena->bytes + c->arena_used;
	c->arena_used += size;
	return p;
}

/* The hash has a seed, because strangers may choose the names. */
static uint64_t name_hash(const struct cache *c, const char *name, size_t length) {
	return XXH3_64bits_withSeed(name, length, c->seed);
}

/* Finds the table's element that has the name, or the free element for the name. */
static struct cache_entry **table_find(
	struct cache *c, uint64_t hash, const char *name, size_t length) {
	uint32_t mask = (1u << c->table_bits) - 1, i = (uint32_t)(hash >> 32) & mask;

	for (; c->table[i]; i = (i + 1) & mask) {
		const struct cache_entry *e = c->table[i];

		if (e->hash == hash && e->length == length && memcmp(e->name, name, length) == 0)
			break;
	}
	return &c->table[i];
}

struct cache_entry *cache_find(struct cache *c, const char *name) {
	size_t length = strlen(name);
	struct cache_entry *e;

	if (unlikely(!c->table || length == 0))
		return NULL;
	e = *table_find(c, name_hash(c, name, length), name, length);
	if (likely(e))
		c->last = e;
	return e;
}

struct cache_entry *cache_add(
	struct cache *c, struct pool *p, const char *name, const struct path *path) {
	size_t path_size = offsetof(struct path, level) + path->depth * sizeof(path->level[0]);
	size_t length = strlen(name);
	struct cache_entry *e;
	uint32_t table_size;
	char *text;

	if (c->entry_count >= ENTRIES_MAX)
		cache_clear(c, p);
	/* The table has at least twice as many elements as entries. */
	table_size = c->table_bits ? 1u << c->table_bits : 0;
	if (c->entry_count * 2 >= table_size) {
		uint32_t bits = c->table_bits ? c->table_bits + 1 : TABLE_BITS_MIN;
		struct cache_entry **table = calloc((size_t)1 << bits, sizeof(*table));
		struct cache_entry **old = c->table;

		if (!table)
			return NULL;
		c->table = table;
		c->table_bits = bits;
		for (uint32_t i = 0; i < table_size; i++)
			if (old[i])
				*table_find(c, old[i]->hash, old[i]->name, old[i]->length) = old[i];
		free(old);
	}
	e = arena_allocate(c, offsetof(struct cache_entry, path) + path_size + length + 1);
	if (!e)
		return NULL;
	memcpy(&e->path, path, path_size);
	text = (char *)&e->path + path_size;
	memcpy(text, name, length + 1);
	e->local = &cache_no_slot;
	e->is_in_ring = false;
	e->name = text;
	e->stamp = c->stamp + c->entry_count;
	e->hash = name_hash(c, name, length);
	e->length = (uint32_t)length;
	e->place = place_pack(RECORD_PLACED, path->depth - 1, 1, path->level[0].account);
	e->entry_bits = path->level[0].generation | (ENTRY_LIVE | ENTRY_USABLE) << 28;
	/* If the name has an entry with an old path already, the new entry replaces it. */
	*table_find(c, e->hash, name, length) = e;
	c->entry_count++;
	c->last = e;
	return e;
}

/* -- caches ------------------------------------------------------------------------------------ */

void cache_clear(struct cache *c, struct pool *p) {
	struct local_slot *local;

	while (c->ring_count > 0)
		if ((local = ring_remove(c)) != NULL)
			pool_return(p, local);
	while (c->spare_count > 0)
		pool_return(p, c->spare[--c->spare_count]);
	entries_drop(c);
}

int cache_new(const struct map *m, struct thread *t, struct cache **ret) {
	static _Atomic uint32_t numbers;
	struct cache *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->owned_token = (uint64_t)(add_relaxed(&numbers, 1) + 1) << 4 | TOKEN_OWNED;
	c->armed = &m->header->armed;
	c->seed = m->names->hash_seed;
	c->capacity = MAX_OF(MIN_OF(m->layout.max_slots / KEPT_PART, CACHE_KEPT), 1);
	store_relaxed(&c->thread, t);
	entries_drop(c);
	*ret = c;
	return 0;
}

void cache_free(struct cache *c) {
	entries_drop(c);
	free(c);
}
