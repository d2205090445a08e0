/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A path cache: what one thread keeps of one session. It has the paths of accounts that the thread
 * used lately, by name, and records for them.
 *
 * Only the cache's thread calls these functions and writes to the cache, so the only cache lines
 * that several threads write to are those of accounts. thread.h says which thread has which cache.
 *
 * If there was no memory for a cache or an entry, the functions from cache_claim() to
 * cache_return() get NULL instead. Then records come from the pool, and return there.
 */

#include "pool.h"

/* An account by its name, and a record that rests on it. */
struct cache_entry {
	/* The record that was used last for this account, or cache_no_slot. Another account or
	 * another thread may have the record by now. Then the record's stamp isn't this entry's any
	 * more. */
	struct local_slot *local;
	const char *name;    /* stored behind the last level of `path` */
	uint64_t stamp;      /* no other entry of the process has it, now or ever */
	uint64_t hash;       /* of the name */
	uint32_t length;     /* of the name */
	bool is_in_ring;     /* the cache's ring has this entry */
	uint32_t entry_bits; /* CACHE_ENTRY_MASK of the account's word in the directory */
	uint64_t place;      /* of a record of weight 1 on the account */
	struct path path;    /* has memory for `depth` levels only */
};

/* The bits of a directory word that must not change while an entry is in use: the generation, and
 * the flags LIVE and USABLE. */
#define CACHE_ENTRY_MASK 0x3FFFFFFFu

/* The most records that entries of a cache name, and the most spare records of a cache. A small
 * table of records allows fewer, so that other threads get enough (KEPT_PART). */
#define CACHE_KEPT  128u
#define CACHE_SPARE 32u

struct cache {
	struct cache_entry *last;   /* the entry that was used last; never NULL */
	uint64_t owned_token;       /* the token of the records that this cache owns */
	uint64_t stamp;             /* of its first entry; later entries count on from there */
	struct cache_entry **table; /* the entries by hash, with open addressing; NULL: none yet */
	uint64_t seed;              /* of the hashes */
	uint32_t table_bits;        /* the table has 2^table_bits elements */
	uint32_t entry_count;       /* since the entries were last dropped */
	_Atomic bool is_inside;     /* the thread is in a call (thread_enter) */
	bool counts_denials;        /* in the words of the session (denials.h) */
	const _Atomic uint32_t *armed; /* the segment's (wake.h) */
	uint32_t capacity;             /* how many records the entries may name, at most */
	/* The entries that may name a record, the oldest first. */
	uint32_t ring_first, ring_count;
	struct cache_entry *ring[CACHE_KEPT];
	uint32_t spare_count;
	struct local_slot *spare[CACHE_SPARE]; /* records that no entry names */
	struct arena *arena;                   /* the memory of the entries */
	size_t arena_used;
	struct cache *next;              /* of the same session */
	_Atomic(struct thread *) thread; /* that has the cache; NULL: any thread may take it over */
};

extern struct local_slot cache_no_slot; /* bears no slot, and no cache owns it */

/* -ENOMEM. */
int cache_new(const struct map *m, struct thread *t, struct cache **ret);
/* Frees the cache and its entries, but returns no record to the pool. */
void cache_free(struct cache *c);
/* Returns all records to the pool and drops all entries. */
void cache_clear(struct cache *c, struct pool *p);

/* True if the record's last slot was acquired through this cache, and its entry (local->entry)
 * still exists. */
static _always_inline_ bool cache_has_entry_of(
	const struct cache *c, const struct local_slot *local) {
	return load_acquire(&local->stamp) - c->stamp < c->entry_count;
}

/* The entry with this name; NULL: there is none. */
struct cache_entry *cache_find(struct cache *c, const char *name);
/* Adds an entry, which replaces an entry with the same name. May drop all other entries. NULL: no
 * memory. */
struct cache_entry *cache_add(
	struct cache *c, struct pool *p, const char *name, const struct path *path);

/* Claims a record for the account of e: the record that e names, a spare record, a record from the
 * pool, or a record that another entry names. The caller then calls one of the next three
 * functions. Errors as pool_claim(). */
int cache_claim(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot **ret);
/* Called after an acquire: the record bears the slot `seq` now. */
void cache_note_slot(struct cache *c, struct pool *p, struct cache_entry *e,
	struct local_slot *local, uint64_t seq);
/* Called if no slot was acquired. Afterwards the entry doesn't name the record, and the caller has
 * the record. */
void cache_detach(struct cache *c, struct cache_entry *e, struct local_slot *local);
/* Called if no slot was acquired, and the record can be used again. If an entry still names the
 * record, nothing changes. */
void cache_return_unused(struct cache *c, struct pool *p, struct local_slot *local);

/* After a release, returns the record that the caller has claimed. If the record rests on an
 * account that has an entry here, that entry then names the record. */
void cache_return(struct cache *c, struct pool *p, struct local_slot *local);
/* The same for a record that rests on the account of e. A record that e named before becomes a
 * spare record, or returns to the pool. */
void cache_attach(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot *local);
