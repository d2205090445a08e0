/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a thread keeps of a session for itself: the paths of accounts that it used lately, by name, and
 * records for them. No other thread writes here, so that threads share no written cache line but those
 * of their accounts.
 *
 * A cache belongs to its session, and goes with it. A thread finds its caches by a pointer in
 * thread-local storage to a block of its own, which goes with the thread: that names caches by the
 * numbers of their sessions, which no process uses twice, so that a cache which is gone is never touched.
 */

#include "pool.h"

struct session;

/* An account by its name, and a record that rests there. */
struct cache_entry {
	/* The record that was used last, or cache_no_slot. Another account or another thread may have it
	 * since: then it doesn't bear the entry's stamp any more. */
	struct local_slot *local;
	const char *name; /* which stands behind the path's last level */
	uint64_t stamp;   /* its own: the process has no other entry with it, now or ever */
	uint64_t key;     /* of the name */
	uint32_t length;  /* of the name */
	bool is_kept;     /* it stands in the ring of those that name a record */
	uint32_t
		said; /* the lowest bits of the account's word in the directory: usable, generation */
	uint64_t place;   /* of a record with weight 1 on it */
	struct path path; /* as much of it as has levels */
};

/* What `said` has of an entry's word: the generation, and the flags LIVE and USABLE. */
#define CACHE_SAID_MASK 0x3FFFFFFFu

/* Accounts for which a thread keeps a record, and records that it keeps beside, at most; fewer where the
 * table is small, so that threads don't keep from each other what there is (cache.c). */
#define CACHE_KEPT  128u
#define CACHE_SPARE 32u

struct cache {
	struct cache_entry *last;      /* the entry that was used last; never NULL */
	uint64_t owned;                /* the token of a record that this cache has */
	uint64_t stamp;                /* of its first entry; the next ones count on from there */
	struct cache_entry **table;    /* by key; open addressing */
	uint64_t seed;                 /* of the names' keys */
	uint32_t bits, made;           /* of the table; of entries since they were dropped */
	_Atomic bool inside;           /* the thread is in a call */
	bool counts_denials;           /* in the session's own words (denials.h) */
	const _Atomic uint32_t *armed; /* the segment's (wake.h) */
	uint32_t first, kept, spares;
	uint32_t keeps_most;                   /* records, of either kind */
	struct cache_entry *keeps[CACHE_KEPT]; /* those that name a record, in turn, from `first` */
	struct local_slot *spare[CACHE_SPARE]; /* SPARE: named by no entry */
	struct arena *arena;                   /* of entries */
	size_t arena_used;
	struct cache *next;              /* of the same session */
	_Atomic(struct thread *) thread; /* whose it is; NULL: another may have it */
};

#define THREAD_CACHES 4

/* A thread's caches, the one that was used last first. */
struct thread {
	uint64_t session[THREAD_CACHES]; /* by number; 0: none */
	struct cache *cache[THREAD_CACHES];
};

#if defined(__GLIBC__)
/* A pointer is little enough for the room that glibc keeps for libraries which are loaded later. */
#define _thread_local_ __thread __attribute__((tls_model("initial-exec")))
#else
#define _thread_local_ __thread
#endif

extern _thread_local_ struct thread *cache_thread; /* never NULL */
extern struct local_slot cache_no_slot;            /* holds no slot, and belongs to no cache */

/* The record's slot was taken by this cache, for an account that it remembers: `entry` of the local. */
static _always_inline_ bool cache_took(const struct cache *c, const struct local_slot *local) {
	return load_acquire(&local->stamp) - c->stamp < c->made;
}

/* The thread's cache of a session, made if need be. NULL: no memory. */
struct cache *cache_get(struct session *s);
/* The same, if the thread has used the session lately. NULL: it hasn't. */
struct cache *cache_switch(uint64_t session);

/* An entry that bears the name; NULL: there is none. */
struct cache_entry *cache_find(struct cache *c, const char *name);
/* Has the path of the name found later. NULL: no memory. */
struct cache_entry *cache_add(
	struct cache *c, struct pool *p, const char *name, const struct path *path);

/* A record for an account: the entry's own; or from the pool; or one that the cache keeps for another
 * account. The caller has it until it takes a slot with it, or gives it back. Errors as pool_take. c and
 * e may be NULL. */
int cache_take(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot **ret);
/* No slot was taken: the record stays the caller's, and no entry names it; or it is as it was before
 * cache_take. */
void cache_part(struct cache *c, struct cache_entry *e, struct local_slot *local);
void cache_keep(struct cache *c, struct pool *p, struct local_slot *local);
/* The slot is taken, with this tag and under this number. */
void cache_hold(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot *local,
	uint64_t tag, uint64_t slot);
/* A record that the caller has, and with which no slot is held any more. It is used next where it rests. */
void cache_give(struct cache *c, struct pool *p, struct local_slot *local);
/* The same for a record that rests at e; another record that e names becomes a spare. */
void cache_name(struct cache *c, struct pool *p, struct cache_entry *e, struct local_slot *local);

/* Lets no thread enter any more (cache_enter). True if none is inside. */
bool cache_close(struct session *s);
/* Frees the session's caches; nothing of it is used any more. */
void cache_free_all(struct session *s);
