/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The records that a session owns, and which of them this process holds.
 *
 * A record is in one of five places: with a slot that its holder hasn't released; with one thread, whose
 * cache (cache.h) uses it again without asking anyone; with a thread that is about to use it or to put it
 * back; in the pool's stack, from which any thread takes it; or retired. Only adding ranges is for one
 * thread at a time. Nothing here makes a system call, or waits.
 */

#include "counter.h"

/* A record, as this process knows it. One cache line, for one thread writes it at a time: the one that
 * has the record. Another thread, that releases the slot, sees what it wrote, since it sees the token. */
struct local_slot {
	_Alignas(64) _Atomic uint64_t token; /* which of the five; below */
	_Atomic uint64_t slot;               /* the number of its slot, or of its last one; in the
					      * stack: the next record's */
	_Atomic(struct record *) record;     /* where it is mapped; NULL: not yet */
	_Atomic(struct cache_entry *) entry; /* the account that it was used for last */
	_Atomic uint64_t stamp;              /* of that entry, which may be gone; 0: none */
	uint32_t number;
	_Atomic uint8_t unsettled; /* its release was begun and not ended, for lack of memory */
	_Atomic uint16_t weight;
};

_Static_assert(sizeof(struct local_slot) == 64, "a cache line");

struct range {
	struct local_slot local[BERTH_RANGE];
	_Atomic uint32_t spent;       /* how many of its records have used up their seqs */
	_Atomic(struct range *) next; /* the one that was added before */
};

struct pool {
	struct map *map;
	uint64_t slots;
	uint32_t numbers; /* range numbers stay below */
	_Atomic uint32_t ranges;
	_Atomic bool is_full; /* berthd had no more ranges, the last time */
	_Atomic(struct range *) *by_number;
	_Atomic(struct range *) added; /* the latest of all */
	/* The stack of records that no thread has: {the top one's number, how often it was changed}. */
	_Alignas(64) struct {
		_Alignas(16) _Atomic uint64_t top;
		_Atomic uint64_t changes;
	} stack;
};

_Static_assert(offsetof(struct pool, stack.changes) == offsetof(struct pool, stack.top) + 8,
	"both words are one pair");

/* A pool without ranges. The map stays the caller's and must outlive it. `slots`: the highest bits of the
 * numbers of its slots. -ENOMEM. */
int pool_new(struct map *m, uint64_t slots, struct pool **ret);
void pool_free(struct pool *p); /* NULL is fine; releases nothing */

/* Adds the records 16n … 16n+15; the caller sees to it that one thread at a time does. -ERANGE: no
 * such range, or one that no session has; -EEXIST: the pool has it; -ENOMEM. */
int pool_add_range(struct pool *p, uint32_t number);

uint32_t pool_ranges(const struct pool *p);

/* Those that have a record which hasn't used up its seqs; so many at most. */
uint32_t pool_ranges_usable(const struct pool *p, uint32_t most);

/* A slot is known by its record and by these bits of its seq: the cycle's lowest. */
#define POOL_CYCLE_BITS 22

static inline uint32_t pool_cycle(uint64_t seq) {
	return (uint32_t)(seq / BERTH_CYCLE) & ((1u << POOL_CYCLE_BITS) - 1);
}

/* -- tokens ------------------------------------------------------------------------------------- */

/* The tag of the step that took a slot, whose lowest four bits are 1 … 8 (counter.c); or, with others
 * there, one of these. */
#define TOKEN_POOLED UINT64_C(0) /* in the stack */
#define TOKEN_OWNED \
	UINT64_C(9)                /* | the number of the cache that has it, from bit 4; named by an
				    * entry, on whose account it rests */
#define TOKEN_CLAIMED UINT64_C(10) /* a thread is about to take a slot with it */
#define TOKEN_SPENT   UINT64_C(11) /* retired */
#define TOKEN_SPARE   UINT64_C(12) /* of a cache, and named by no entry */

static inline bool token_is_slot(uint64_t token) {
	return token % BERTH_CYCLE - 1 < BERTH_LEVELS_MAX;
}

static _always_inline_ bool token_names(uint64_t token, uint32_t cycle) {
	return token_is_slot(token) && pool_cycle(token) == cycle;
}

/* The record's; NULL: the process doesn't have it. */
static _always_inline_ struct local_slot *pool_local(const struct pool *p, uint32_t record) {
	uint32_t number = record / BERTH_RANGE;
	/* Pairs with pool_add_range(). */
	struct range *range =
		likely(number < p->numbers) ? load_acquire(&p->by_number[number]) : NULL;

	return likely(range) ? &range->local[record % BERTH_RANGE] : NULL;
}

static _always_inline_ struct record_at local_record(const struct local_slot *local) {
	return (struct record_at){load_acquire(&local->record), local->number};
}

/* -- taking and giving --------------------------------------------------------------------------- */

/* A record that no thread has, CLAIMED, and mapped. -ENOBUFS: there is none; -ENOMEM: it can't be
 * mapped. */
int pool_take(struct pool *p, struct local_slot **ret);
/* Back into the stack. */
void pool_give(struct pool *p, struct local_slot *local);

/* Takes a slot with a record that is CLAIMED, or owned by the caller's cache. Where it fails,
 * the record is the caller's as before; -ERANGE: it is retired. */
int local_acquire(struct pool *p, struct local_slot *local, const struct slot_request *request,
	uint64_t *ret_seq);

/* Gives back the slot `cycle`. 0 and -EUCLEAN (a count was less than that): the record is CLAIMED now.
 * -ECANCELED: it had been revoked, and is forgotten: CLAIMED or SPENT. Otherwise it is as it was: -ENOENT:
 * not held, or released before; -ENOMEM: berthd must settle the record; -EAGAIN: the record changes while it is
 * looked at, in memory that is written over. After both the slot may be released again. */
int local_release(struct pool *p, struct local_slot *local, uint32_t cycle);

/* True if local_release() ended with r, and the record is CLAIMED now. */
static inline bool local_is_claimed(const struct local_slot *local, int r) {
	return (r == 0 || r == -EUCLEAN || r == -ECANCELED) &&
	       load_relaxed(&local->token) == TOKEN_CLAIMED;
}

/* The same where so many levels of the slot's path were given back (counter-fast.h). */
int local_release_rest(struct pool *p, struct local_slot *local, const struct path *path,
	uint32_t given, uint64_t seq);

/* berthd has settled the record: after local_release's -ENOMEM. True: it is CLAIMED now. */
bool local_settled(struct local_slot *local);

/* Releases whatever this process holds. No other thread may be using the pool. */
void pool_release_all(struct pool *p);

/* Takes every record out of the stack, for good. True if no thread holds a slot, or is about to take one,
 * with a record that it took from there. Those of caches are cache.c's to judge. */
bool pool_close(struct pool *p);

/* -ECANCELED if the slot was held when its session ended, and forgets it; else -ENOENT. Touches no
 * shared memory. */
int pool_forget(struct pool *p, uint32_t record, uint32_t cycle);
