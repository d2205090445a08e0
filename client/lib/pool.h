/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The records that a session owns, which thread has each of them, and which slot each bears.
 *
 * Threads may call these functions at once, except pool_add_range() and those whose comments say
 * otherwise. None of them makes a system call or waits, except to map a window (map.h).
 */

#include "berth.h"
#include "counter.h"

/*
 * The number of a slot (berth_slot): session:20 | record:22 | cycle:22.
 *
 * `session` has the lowest bits of the session's number in this process. `cycle` has the lowest
 * bits of the cycle of the slot's seq. A slot's number is never 0, because no session has record 0.
 * No two sessions that a handle remembers have the same `session`.
 *
 * A release looks the number up among the handle's own sessions, and compares it with the seq that
 * the pool keeps of each slot which this process holds. So a number from a session that ended, or
 * from a segment that was replaced, releases no other slot. One mistake stays possible: if a
 * program releases a slot twice, and in between a multiple of 2^22 slots was acquired with the same
 * record in the same session, then the second release releases the latest of these slots.
 */

#define SLOT_SESSION_SHIFT 44
#define SLOT_CYCLE_BITS    22
#define SLOT_CYCLE_MASK    ((UINT32_C(1) << SLOT_CYCLE_BITS) - 1)
#define SLOT_RECORD_MASK   UINT32_C(0x3FFFFF)

static inline uint32_t slot_cycle_of_seq(uint64_t seq) {
	return (uint32_t)(seq / BERTH_CYCLE) & SLOT_CYCLE_MASK;
}

static _always_inline_ uint32_t slot_cycle(berth_slot slot) {
	return slot & SLOT_CYCLE_MASK;
}

static _always_inline_ uint32_t slot_record(berth_slot slot) {
	return slot >> SLOT_CYCLE_BITS & SLOT_RECORD_MASK;
}

/* The number of the slot `seq` of a record whose last slot had the number `last`. */
static _always_inline_ berth_slot slot_next(berth_slot last, uint64_t seq) {
	return (last & ~(uint64_t)SLOT_CYCLE_MASK) | slot_cycle_of_seq(seq);
}

/* A record as this process knows it. It fills one cache line, because one thread at a time writes
 * to it: the thread that has the record. A thread that releases another thread's slot loads the
 * token first, and so sees what the other thread wrote. */
struct local_slot {
	_Alignas(64) _Atomic uint64_t token; /* where the record is: TOKEN_POOLED … */
	/* The number of the record's slot; if it bears no slot, of its last slot. While the record
	 * is on the stack: the number of the next record there. That is no slot's number, because
	 * its bits for session and record are 0. */
	_Atomic uint64_t slot;
	_Atomic(struct record *) record;     /* where it is mapped; NULL: not yet */
	_Atomic(struct cache_entry *) entry; /* the account for which it was last used */
	_Atomic uint64_t stamp;              /* of that entry, which may be freed; 0: none */
	uint32_t number;                     /* of the record */
	/* This process has seized the record (counter_seize): berthd must finish the release. */
	_Atomic uint8_t is_seized;
	_Atomic uint16_t weight;
};

_Static_assert(sizeof(struct local_slot) == 64, "a cache line");

struct range {
	struct local_slot local[BERTH_RANGE];
	_Atomic uint32_t retired;     /* how many of its records are retired */
	_Atomic(struct range *) next; /* the range that was added before this one */
};

struct pool {
	struct map *map;
	uint64_t slot_bits;   /* the session's bits in the numbers of its slots */
	uint32_t range_limit; /* every range number is below it */
	_Atomic uint32_t range_count;
	_Atomic bool is_full;               /* berthd had no more ranges when it was last asked */
	_Atomic(struct range *) *by_number; /* NULL: the pool doesn't have the range */
	_Atomic(struct range *) newest;     /* the range that was added last */
	/* The stack of records that no thread has: the number of the top record (0: empty), and how
	 * often the top was changed. */
	_Alignas(64) struct {
		_Alignas(16) _Atomic uint64_t top;
		_Atomic uint64_t change_count;
	} stack;
};

_Static_assert(offsetof(struct pool, stack.change_count) == offsetof(struct pool, stack.top) + 8,
	"both words are one pair");

/* A pool without ranges. The caller keeps the map, which must outlive the pool. -ENOMEM. */
int pool_new(struct map *m, uint64_t slot_bits, struct pool **ret);
/* Frees the pool, but releases no slot. NULL is allowed. */
void pool_free(struct pool *p);

/* Adds the records 16n … 16n+15. The caller makes sure that only one thread at a time calls this.
 * -ERANGE: there is no such range, or no session may have it; -EEXIST: the pool has it; -ENOMEM. */
int pool_add_range(struct pool *p, uint32_t number);

uint32_t pool_range_count(const struct pool *p);

/* Counts the ranges that have a record which isn't retired, up to `most` ranges. */
uint32_t pool_usable_ranges(const struct pool *p, uint32_t most);

/* Values of local_slot.token. They say where a record is, and which thread may use it. Only pool.c,
 * path-cache.c and acquire.c store them. Any other token is the tag of the slot that was acquired
 * with the record. It stays until the holder releases the slot, even if berthd has revoked the slot
 * in the meantime. The step of that tag has charged the last level of the path, so it is step 1 to
 * 8 of its cycle. The values below are no such tags: their step is 0, or 9 to 12. */
#define TOKEN_POOLED UINT64_C(0) /* no thread has the record; it is on the stack */
/* A path cache has the record for the account on which the record rests, and an entry names it. The
 * cache's thread may acquire with it. The number of the cache is added from bit 4 on. */
#define TOKEN_OWNED UINT64_C(9)
/* A thread is about to acquire a slot with the record, or to return the record. */
#define TOKEN_CLAIMED UINT64_C(10)
/* The record has used up its seqs, or berthd has taken it from this process. */
#define TOKEN_RETIRED UINT64_C(11)
#define TOKEN_SPARE   UINT64_C(12) /* a path cache has it, for any account */

static inline bool token_is_slot(uint64_t token) {
	return token % BERTH_CYCLE - 1 < BERTH_LEVELS_MAX;
}

/* True if the token is that of a slot whose number has this cycle. */
static _always_inline_ bool token_is_slot_of(uint64_t token, uint32_t cycle) {
	return token_is_slot(token) && slot_cycle_of_seq(token) == cycle;
}

/* NULL: the process doesn't have the record. */
static _always_inline_ struct local_slot *pool_local(const struct pool *p, uint32_t record) {
	uint32_t number = record / BERTH_RANGE;
	/* Pairs with pool_add_range(). */
	struct range *range =
		likely(number < p->range_limit) ? load_acquire(&p->by_number[number]) : NULL;

	return likely(range) ? &range->local[record % BERTH_RANGE] : NULL;
}

static _always_inline_ struct record_at local_record(const struct local_slot *local) {
	return (struct record_at){load_acquire(&local->record), local->number};
}

/* -- claiming and returning records ------------------------------------------------------------ */

/* Claims a record from the stack, and maps it. -ENOBUFS: the stack is empty; -ENOMEM: no record on
 * it can be mapped. */
int pool_claim(struct pool *p, struct local_slot **ret);
/* Puts a record on the stack; until then, the caller has the record. */
void pool_return(struct pool *p, struct local_slot *local);

/* -- slots ------------------------------------------------------------------------------------- */

/* Acquires a slot with a record that the caller has claimed, or that its path cache owns. Errors as
 * counter_acquire(): the caller then keeps the record, which is retired after -ERANGE. */
int local_acquire(struct pool *p, struct local_slot *local, const struct slot_request *request,
	uint64_t *ret_seq);

/* Releases the slot with this cycle.
 *   0           the caller has claimed the record
 *   -EUCLEAN    the same, but a count was less than the weight
 *   -ECANCELED  the slot had been revoked, and only this call says so: the caller has claimed the
 *               record, or it is retired (local_is_claimed)
 *   -ENOENT     the slot isn't held, or was released before; nothing has changed
 *   -ENOMEM     berthd must finish the release; then the caller calls local_claim_finished().
 *               The slot may be released again
 *   -EAGAIN     memory is being written over, and the record changes while it is read. The slot may
 *               be released again */
int local_release(struct pool *p, struct local_slot *local, uint32_t cycle);

/* The same for the slot `seq`, after the caller has already discharged the top levels of the slot's
 * path (counter-fast.h). */
int local_release_continue(struct pool *p, struct local_slot *local, const struct path *path,
	uint32_t discharged, uint64_t seq);

/* r: the result of local_release(). True: the caller has claimed the record. */
static inline bool local_is_claimed(const struct local_slot *local, int r) {
	return (r == 0 || r == -EUCLEAN || r == -ECANCELED) &&
	       load_relaxed(&local->token) == TOKEN_CLAIMED;
}

/* After berthd has finished a release for which local_release() returned -ENOMEM. True: the caller
 * has claimed the record. False: another thread has claimed it. */
bool local_claim_finished(struct local_slot *local);

/* -- the end of a session ---------------------------------------------------------------------- */

/* Releases every slot that this process holds. No other thread may be using the pool. */
void pool_release_all(struct pool *p);

/* Takes every record off the stack, for good. True if no record of the pool bears a slot, and no
 * thread has claimed a record. The caller asks threads_keep_out() about the records of path
 * caches. */
bool pool_close(struct pool *p);

/* Releases a slot whose session has ended: the holder learns once that it has lost the slot.
 * -ECANCELED: the slot was held when the session ended; -ENOENT: it wasn't, or its holder has been
 * told. Touches no shared memory. */
int pool_release_ended(struct pool *p, uint32_t record, uint32_t cycle);
