/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The records that a session owns, and which of them this process holds.
 *
 * Threads take and give back at once, without a lock; only adding ranges is for one thread at a
 * time. Nothing here makes a system call.
 */

#include <pthread.h>
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define IS_SINGLE_THREADED __libc_single_threaded
#else
#define IS_SINGLE_THREADED 0
#endif

#include "counter-fast.h"

struct pool;
struct recall_slot;
struct spot;

/* A pool without ranges. The map stays the caller's and must outlive it. -ENOMEM. */
int pool_new(struct map *m, struct pool **ret);
void pool_free(struct pool *p); /* NULL is fine; releases nothing */

/* Adds the records 16n … 16n+15; the caller sees to it that one thread at a time does. -ERANGE: no
 * such range, or never anybody's; -EEXIST: the pool has it; -ENOMEM. */
int pool_add_range(struct pool *p, uint32_t number);

uint32_t pool_ranges(const struct pool *p);

/* Those that have a record which hasn't used up its seqs. */
uint32_t pool_ranges_usable(const struct pool *p);

/* How many more ranges would let each thread that uses the pool work on one of its own. */
uint32_t pool_ranges_wanted(const struct pool *p);

struct pool_slot {
	uint32_t record;
	uint64_t seq;
	struct spot *spot; /* where to look first, and the next time; NULL: anywhere */
};

/* A slot is known by its record and by these bits of its seq: the cycle's lowest. */
#define POOL_CYCLE_BITS 22

static inline uint32_t pool_cycle(uint64_t seq) {
	return (uint32_t)(seq / BERTH_CYCLE) & ((1u << POOL_CYCLE_BITS) - 1);
}

/* As counter_acquire_at; moreover -ENOBUFS: no record is free, and -ENOMEM also if that can't be told
 * of all, for some can't be mapped: then slot->record is 0. That is written whatever is returned:
 * after -ENOMEM it is the one to be settled, if it isn't 0. */
int pool_acquire(struct pool *p, const struct slot_request *request, struct pool_slot *slot);

/* 0; -ENOENT: not held, or released before; -ECANCELED: it had been revoked, and is forgotten now;
 * -ENOMEM: another must settle the record; the slot may be released again; -EUCLEAN: released, but a count
 * was less than that. */
int pool_release(struct pool *p, uint32_t record, uint32_t cycle);

/* The daemon has settled the record for us: after pool_acquire's or pool_release's -ENOMEM. */
void pool_settled(struct pool *p, uint32_t record);

/* Releases whatever this process holds. No other thread may be using the pool. */
void pool_release_all(struct pool *p);

/* Claims every record, for good. False: another thread has one of them, or holds a slot with it; then
 * the session can't say goodbye, since the thread may still place the record. */
bool pool_claim_all(struct pool *p);

/* -ECANCELED if the slot was held when its session ended, and forgets it; else -ENOENT. Touches no
 * shared memory. */
int pool_forget(struct pool *p, uint32_t record, uint32_t cycle);

/* -- the way that nearly all go; pool.c says why it is right ----------------------------------- */

/* Longer paths are looked up at a release. */
#define SPOT_LEVELS 3

/* A record, as this process knows it. */
struct spot {
	_Atomic uint64_t token; /* 0: free; CLAIMED; SPENT; or the seq of its slot */
	uint32_t number;
	struct range *range;
	_Atomic(struct record *) record; /* where it is mapped; NULL: not yet */
	/* The path on which it took its slot, from the account up; depth 0: a longer one. */
	_Atomic uint32_t depth;
	struct {
		_Atomic(struct cell *) cell;
		_Atomic(_Atomic uint8_t *) dirty;
	} level[SPOT_LEVELS];
};

/* Two cache lines at once are fetched, so ranges are kept that far apart. */
struct range {
	_Alignas(128) uint32_t position; /* in the pool */
	_Atomic uint32_t maybe_free;
	_Atomic uint32_t spent; /* how many of its records have used up their seqs */
	struct spot spot[BERTH_RANGE];
};

#define LANES        16u /* as many as four bits of a hash tell apart */
#define BLOCK_RANGES 64u
#define BLOCKS       ROUND_UP((BERTH_SLOTS_MAX + BERTH_RANGE) / BERTH_RANGE, BLOCK_RANGES) / BLOCK_RANGES

/* Where the threads that share a lane look next. `next` leads to a range: whoever loads it pairs with
 * whoever stored it, so that the range is seen as it was made. */
struct lane {
	_Alignas(128) _Atomic(struct spot *) next; /* NULL: none */
	_Atomic uint32_t order;                 /* the how manieth to be used, from 1; 0: not yet */
	_Atomic(struct recall_slot *) recalled; /* the account that came last (recall.h) */
};

struct pool {
	struct lane lane[LANES];
	_Alignas(128) struct map *map;
	_Atomic uint32_t ranges;
	_Atomic uint32_t lanes_used;
	uint32_t numbers; /* range numbers stay below */
	_Atomic(struct range *) *by_number;
	_Atomic(struct range *) block[BLOCKS];
};

/* What pthread_self() says, without the call where the compiler knows how. */
static _hot_ uintptr_t thread_id(void) {
#if defined(__x86_64__) && !defined(__clang__) && __GNUC__ >= 11
	return (uintptr_t)__builtin_thread_pointer();
#else
	return (uintptr_t)pthread_self();
#endif
}

/* The calling thread's. Two threads may share one: a lane is where to begin to look, no more. */
static _hot_ struct lane *pool_lane(struct pool *p) {
	return &p->lane[(uint64_t)thread_id() * UINT64_C(0x9E3779B97F4A7C15) >> 60];
}

/* The record's; NULL: the process doesn't have it. */
static _hot_ struct spot *pool_spot(const struct pool *p, uint32_t record) {
	uint32_t number = record / BERTH_RANGE;
	/* Pairs with pool_add_range(). */
	struct range *range =
		likely(number < p->numbers) ? load_acquire(&p->by_number[number]) : NULL;

	return likely(range) ? &range->spot[record % BERTH_RANGE] : NULL;
}

/* By a thread that tries to take a slot; or for good, since the record is retired. */
#define TOKEN_CLAIMED (UINT64_C(1) << 63)
#define TOKEN_SPENT   (UINT64_C(1) << 62)
/* With a slot's seq: its release was begun and not ended, for lack of memory. */
#define TOKEN_UNSETTLED (UINT64_C(1) << 61)

/* Pairs with spot_free(). Where there is one thread, no other claims. */
static _hot_ bool spot_claim(struct spot *spot) {
	return likely(load_acquire(&spot->token) == 0) &&
	       (likely(IS_SINGLE_THREADED) || cas(&spot->token, 0, TOKEN_CLAIMED));
}

/* A thread that stores a token that says free comes here next. */
static _hot_ void hint_set(struct spot *spot) {
	uint32_t bit = UINT32_C(1) << spot->number % BERTH_RANGE;

	if (unlikely(!(load_total(&spot->range->maybe_free) & bit)))
		(void)atomic_fetch_or(&spot->range->maybe_free, bit);
}

static _hot_ void spot_free(struct spot *spot) {
	store_release(&spot->token, 0);
	hint_set(spot);
}

static _hot_ struct record_at spot_record(const struct spot *spot) {
	return (struct record_at){load_acquire(&spot->record), spot->number};
}

/* The path on which the spot's slot was taken. Depth 0: it has too many levels to be kept. */
static _hot_ void spot_path(const struct spot *spot, struct path *ret) {
	ret->depth = load_acquire(&spot->depth);
	for (uint32_t k = 0; k < ret->depth; k++) {
		ret->level[k].cell = load_acquire(&spot->level[k].cell);
		ret->level[k].dirty = load_acquire(&spot->level[k].dirty);
	}
}
