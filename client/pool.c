/* SPDX-License-Identifier: MIT */

/*
 * Hands out the session's records inside the process, in turn.
 *
 * A record may be picked if its shared word says FREE and nobody here answers for it any more:
 * `outstanding` is not a token. The CAS that publishes it (counter.c, A1) decides between threads
 * that picked the same one.
 *
 * Tokens. 0 or GONE: nobody's. seq + 1: a slot that its holder has not released yet, be it that the
 * daemon revoked it meanwhile; that record is not used again until then, so that the holder is told
 * (-ECANCELED) and not taken for one who releases twice (-ENOENT). A release *begins* by turning
 * the token into token | GONE: of two at once, the one whose CAS succeeds goes on.
 *   An acquire stores its token only after the slot is held. If the daemon revokes the slot in
 * between, another thread may take the record, and the two tokens come in either order; then one of
 * them is lost. So a release that finds another's token asks the record itself before it says that
 * nothing was held: no slot can stay behind. What may happen is that the holder of the slot that
 * was revoked within those nanoseconds hears "not held" for "revoked".
 *
 * Hints. `maybe_free` has a bit for each record that may be free. Acquiring leaves it set; who finds
 * it set and the record taken clears it; who frees a record sets it, if it is clear. That no free
 * record is left without its bit is a matter of order, all of it sequentially consistent:
 *   the one who clears                       the one who frees
 *   H1 clear the bit                         F1 token |= GONE (CAS)
 *   H2 load word and token                   F2 word = FREE (CAS in counter.c)
 *   H3 if free after all: set the bit        F3 load the bit; clear: set it
 * Either H2 sees F1 and F2, or F3 sees H1. A record that is free of a token and yet neither FREE,
 * CHARGE nor HELD is on its way to FREE by the daemon's hand, after which nobody here makes F3: its
 * bit is left alone (record_will_be_freed).
 */

#include <pthread.h>
#include <string.h>

#include "pool.h"

#define BLOCK_RANGES 64u
#define BLOCKS       ROUND_UP((BERTH_SLOTS_MAX + BERTH_RANGE) / BERTH_RANGE, BLOCK_RANGES) / BLOCK_RANGES
#define LANES        16u /* as many as four bits of a hash tell apart */
#define ALL_FREE     ((UINT32_C(1) << BERTH_RANGE) - 1)

/* Flags of a token. */
#define GONE      (UINT32_C(1) << 31) /* released */
#define UNSETTLED (UINT32_C(1) << 30) /* its release was begun and not ended, for lack of memory */

/* How often an acquire that loses a record to another thread tries the next one. */
#define TRIES 256

/* Two cache lines at once are fetched, so ranges are kept that far apart. */
struct range {
	_Alignas(128) uint32_t first; /* record */
	uint32_t position;            /* in the pool */
	_Atomic uint32_t maybe_free;
	_Atomic(struct record *) records; /* where the range is mapped; NULL: not yet */
	_Atomic uint32_t outstanding[BERTH_RANGE];
};

_Static_assert(sizeof(struct range) == 128, "neighbours would share a line");

/* Where the threads that share a lane look next: 16 * position of the range + record in it. */
struct lane {
	_Alignas(128) _Atomic uint32_t next;
	_Atomic uint32_t order; /* the how manieth to be used, from 1; 0: not yet */
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

/* -- the table of ranges ---------------------------------------------------------------------- */

static void *aligned_new(size_t size) {
	void *p = aligned_alloc(128, ROUND_UP(size, 128));

	if (p)
		memset(p, 0, size);
	return p;
}

int pool_new(struct map *m, struct pool **ret) {
	struct pool *p = aligned_new(sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->map = m;
	p->numbers = m->layout.records_end / BERTH_RANGE;
	p->by_number = calloc(p->numbers, sizeof(*p->by_number));
	if (!p->by_number) {
		free(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

void pool_free(struct pool *p) {
	if (!p)
		return;
	for (size_t i = 0; i < BLOCKS; i++)
		free(load_relaxed(&p->block[i]));
	free(p->by_number);
	free(p);
}

uint32_t pool_ranges(const struct pool *p) {
	return load_acquire(&p->ranges);
}

/* Below a number of ranges that was loaded with acquire, which pairs with pool_add_range(). */
static struct range *range_at(const struct pool *p, uint32_t position) {
	struct range *block = load_relaxed(&p->block[position / BLOCK_RANGES]);

	return &block[position % BLOCK_RANGES];
}

static struct range *range_of(const struct pool *p, uint32_t record) {
	uint32_t number = record / BERTH_RANGE;

	/* Pairs with pool_add_range(). */
	return number < p->numbers ? load_acquire(&p->by_number[number]) : NULL;
}

/* A range lies in one window. */
static _rare_ struct record *range_map(struct pool *p, struct range *range) {
	struct record *records = NULL;

	if (map_has_record(p->map, range->first + BERTH_RANGE - 1))
		records = map_record(p->map, range->first);
	/* Pairs with range_record(). */
	store_release(&range->records, records);
	return records;
}

/* NULL if it can't be mapped. */
static _hot_ struct record *range_record(struct pool *p, struct range *range, uint32_t i) {
	struct record *records = load_acquire(&range->records);

	if (unlikely(!records))
		records = range_map(p, range);
	return likely(records) ? records + i : NULL;
}

static struct range *range_make(struct pool *p, uint32_t position) {
	_Atomic(struct range *) *block = &p->block[position / BLOCK_RANGES];

	if (!load_relaxed(block))
		store_release(block, aligned_new(BLOCK_RANGES * sizeof(struct range)));
	return load_relaxed(block) ? range_at(p, position) : NULL;
}

/* While ranges are few, each lane begins at one of its own as far as they reach. */
static void lanes_deal(struct pool *p, uint32_t ranges) {
	for (size_t i = 0; i < LANES; i++) {
		uint32_t order = load_relaxed(&p->lane[i].order);

		if (order > 0)
			store_relaxed(&p->lane[i].next, (order - 1) % ranges * BERTH_RANGE);
	}
}

int pool_add_range(struct pool *p, uint32_t number) {
	uint32_t position = load_relaxed(&p->ranges);
	struct range *range;

	if (number == 0 || number >= p->numbers)
		return -ERANGE;
	if (load_relaxed(&p->by_number[number]))
		return -EEXIST;
	range = range_make(p, position);
	if (!range)
		return -ENOMEM;
	range->first = number * BERTH_RANGE;
	range->position = position;
	store_relaxed(&range->maybe_free, ALL_FREE);
	/* Pair with range_of() and pool_ranges(): whoever sees these sees the range. */
	store_release(&p->by_number[number], range);
	store_release(&p->ranges, position + 1);
	if (position < LANES)
		lanes_deal(p, position + 1);
	return 0;
}

/* -- lanes ------------------------------------------------------------------------------------ */

static void lane_start(struct pool *p, struct lane *lane) {
	uint32_t order = add_relaxed(&p->lanes_used, 1);
	uint32_t ranges = pool_ranges(p);

	store_relaxed(&lane->order, order + 1);
	store_relaxed(&lane->next, ranges > 0 ? order % ranges * BERTH_RANGE : 0);
}

/* The calling thread's. Two threads may share one, and may even start it twice: a lane is where to
 * begin to look, no more. */
static _hot_ struct lane *lane_mine(struct pool *p) {
	uint64_t hash = (uint64_t)(uintptr_t)pthread_self() * UINT64_C(0x9E3779B97F4A7C15);
	struct lane *lane = &p->lane[hash >> 60];

	if (unlikely(load_relaxed(&lane->order) == 0))
		lane_start(p, lane);
	return lane;
}

uint32_t pool_ranges_wanted(const struct pool *p) {
	uint32_t used = MIN_OF(load_relaxed(&p->lanes_used), LANES), have = pool_ranges(p);

	return used > have ? used - have : 0;
}

/* The next one to look at is the one after the one picked or released: records are used in turn,
 * but a thread stays with its range while it finds something there. */
static void lane_follow(struct lane *lane, const struct range *range, uint32_t i) {
	store_relaxed(&lane->next, range->position * BERTH_RANGE + (i + 1) % BERTH_RANGE);
}

/* -- picking ---------------------------------------------------------------------------------- */

static bool token_is_live(uint32_t token) {
	return token != 0 && !(token & GONE);
}

static _hot_ bool record_is_free(struct pool *p, struct range *range, uint32_t i) {
	struct record *record = range_record(p, range, i);

	return likely(record) && record_state(load_total(&record->word)) == RECORD_FREE &&
	       !token_is_live(load_total(&range->outstanding[i]));
}

/* True if a thread of this process is going to make F3 for it. */
static bool record_will_be_freed(struct pool *p, struct range *range, uint32_t i) {
	struct record *record = range_record(p, range, i);
	enum record_state state;

	if (token_is_live(load_total(&range->outstanding[i])))
		return true;
	state = record ? record_state(load_total(&record->word)) : RECORD_CLOSED;
	return state == RECORD_CHARGE || state == RECORD_HELD;
}

/* True if the record is free after all. */
static _rare_ bool hint_clear(struct pool *p, struct range *range, uint32_t i) {
	uint32_t bit = UINT32_C(1) << i;

	if (!record_will_be_freed(p, range, i))
		return false;
	(void)atomic_fetch_and(&range->maybe_free, ~bit); /* H1 */
	if (!record_is_free(p, range, i))                 /* H2 */
		return false;
	(void)atomic_fetch_or(&range->maybe_free, bit); /* H3 */
	return true;
}

/* F3. */
static void hint_set(struct range *range, uint32_t i) {
	uint32_t bit = UINT32_C(1) << i;

	if (unlikely(!(load_total(&range->maybe_free) & bit)))
		(void)atomic_fetch_or(&range->maybe_free, bit);
}

/* From `start` once round the range. */
static _hot_ bool range_pick(struct pool *p, struct range *range, uint32_t start, uint32_t *ret_i) {
	uint32_t bits = load_relaxed(&range->maybe_free);
	uint32_t turned = (bits >> start | bits << (BERTH_RANGE - start)) & ALL_FREE;

	for (; turned != 0; turned &= turned - 1) {
		uint32_t i = (start + (uint32_t)__builtin_ctz(turned)) % BERTH_RANGE;

		if (likely(record_is_free(p, range, i)) || hint_clear(p, range, i)) {
			*ret_i = i;
			return true;
		}
	}
	return false;
}

/* From the lane's place once round the pool. */
static _hot_ struct range *pool_pick(struct pool *p, struct lane *lane, uint32_t *ret_i) {
	uint32_t ranges = pool_ranges(p);
	uint32_t next = load_relaxed(&lane->next);
	uint32_t position = next / BERTH_RANGE, start = next % BERTH_RANGE;

	if (position >= ranges)
		position = 0;
	for (uint32_t n = 0; n < ranges; n++) {
		struct range *range = range_at(p, position);

		if (range_pick(p, range, start, ret_i)) {
			lane_follow(lane, range, *ret_i);
			return range;
		}
		position = position + 1 < ranges ? position + 1 : 0;
		start = 0;
	}
	return NULL;
}

/* -- taking and giving back -------------------------------------------------------------------- */

static _hot_ int range_acquire(struct pool *p, struct range *range, uint32_t i,
	const struct pool_request *request, uint32_t *ret_seq) {
	const struct record_at at = {range_record(p, range, i), range->first + i};
	uint32_t level;
	int r;

	if (unlikely(!at.record))
		return map_record_error(p->map, at.number);
	r = counter_acquire_at(
		p->map, &at, request->path, request->weight, &request->stamp, ret_seq, &level);
	if (likely(r >= 0))
		/* Whoever releases the slot was told of it by this thread, and so sees the token. */
		store_release(&range->outstanding[i], *ret_seq + 1);
	else if (r != -EAGAIN)
		/* While it was published, another thread may have cleared its bit. */
		hint_set(range, i);
	return r;
}

int pool_acquire(struct pool *p, const struct pool_request *request, uint32_t *ret_record,
	uint32_t *ret_seq) {
	struct lane *lane = lane_mine(p);
	int r = -ENOBUFS;

	*ret_record = 0;
	for (int n = 0; n < TRIES; n++) {
		uint32_t i;
		struct range *range = pool_pick(p, lane, &i);

		if (!range)
			return -ENOBUFS;
		*ret_record = range->first + i;
		r = range_acquire(p, range, i, request, ret_seq);
		if (likely(r != -EAGAIN))
			return r;
	}
	return r;
}

/* F1: makes the caller the one who releases this slot. */
static bool token_claim(_Atomic uint32_t *outstanding, uint32_t token) {
	return cas32(outstanding, token, token | GONE);
}

/* The slot is this thread's to release. */
static _hot_ int release_claimed(struct pool *p, struct range *range, uint32_t i, uint32_t token) {
	const struct record_at at = {range_record(p, range, i), range->first + i};
	int r;

	if (unlikely(!at.record))
		r = map_record_error(p->map, at.number);
	else
		r = counter_release_at(p->map, &at, (token & ~UNSETTLED) - 1); /* F2 */
	if (unlikely(r == -ENOENT))
		r = token & UNSETTLED ? counter_settle(p->map, at.number) : -ECANCELED;
	if (unlikely(r == -ENOMEM))
		store_total(&range->outstanding[i], token | UNSETTLED);
	return r;
}

/* Not under the slot's own token: released before, or the token was lost. */
static _rare_ int release_unclaimed(struct pool *p, struct range *range, uint32_t i, uint32_t seq) {
	if (load_acquire(&range->outstanding[i]) == ((seq + 1) | GONE))
		return -ENOENT;
	return counter_release(p->map, range->first + i, seq);
}

int pool_release(struct pool *p, uint32_t record, uint32_t seq) {
	struct range *range = range_of(p, record);
	uint32_t i = record % BERTH_RANGE, token = seq + 1;
	int r;

	if (unlikely(!range))
		return -ENOENT;
	if (likely(token_claim(&range->outstanding[i], token)))
		r = release_claimed(p, range, i, token);
	else if (token_claim(&range->outstanding[i], token | UNSETTLED))
		r = release_claimed(p, range, i, token | UNSETTLED);
	else
		r = release_unclaimed(p, range, i, seq);
	if (r == -ENOENT)
		return r;
	hint_set(range, i);
	lane_follow(lane_mine(p), range, i);
	return r;
}

void pool_settled(struct pool *p, uint32_t record) {
	struct range *range = range_of(p, record);
	_Atomic uint32_t *outstanding;
	uint32_t token;

	if (!range)
		return;
	outstanding = &range->outstanding[record % BERTH_RANGE];
	token = load_relaxed(outstanding);
	if (token_is_live(token) && token & UNSETTLED)
		(void)token_claim(outstanding, token);
	hint_set(range, record % BERTH_RANGE);
}

void pool_release_all(struct pool *p) {
	for (uint32_t n = 0; n < pool_ranges(p); n++) {
		struct range *range = range_at(p, n);

		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			uint32_t token = load_relaxed(&range->outstanding[i]);

			if (token_is_live(token))
				(void)pool_release(p, range->first + i, (token & ~UNSETTLED) - 1);
		}
	}
}

int pool_forget(struct pool *p, uint32_t record, uint32_t seq) {
	struct range *range = range_of(p, record);
	_Atomic uint32_t *outstanding;
	uint32_t token = seq + 1;

	if (!range)
		return -ENOENT;
	outstanding = &range->outstanding[record % BERTH_RANGE];
	return token_claim(outstanding, token) || token_claim(outstanding, token | UNSETTLED)
		       ? -ECANCELED
		       : -ENOENT;
}
