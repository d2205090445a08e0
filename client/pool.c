/* SPDX-License-Identifier: MIT */

/*
 * Hands out the session's records inside the process, in turn.
 *
 * A record may be picked if its shared word says FREE and nobody here answers for it any more:
 * `outstanding` is not a token. The CAS that publishes it (counter.c, A1) decides between threads
 * that picked the same one.
 *
 * Tokens. `outstanding` is 0, nobody's, or a token: a slot that its holder has not released yet, be
 * it that the daemon revoked it meanwhile; that record is not used again until then, so that the
 * holder is told (-ECANCELED) and not taken for one who releases twice (-ENOENT). Who releases is
 * decided by the CAS on the record (counter.c, R1), and the winner stores 0. Who loses, and finds the
 * token still there, looks at the record: it has gone as many seqs from the slot as a release here
 * makes, so another thread is just releasing it; or one more, for a revoke takes two at once.
 *   An acquire stores its token only after the slot is held. If the daemon revokes the slot in
 * between, another thread may take the record, and the two tokens come in either order; then one of
 * them is lost. Likewise if a thread looks at record and token, is held up, and takes the record only
 * when others have taken it and given it back: the last one's 0 may come after its token. But no
 * slot can stay behind, since a release doesn't ask for its token first. What may happen is that the
 * holder of a slot whose token was lost within those nanoseconds, and which the daemon revokes, hears
 * "not held" for "revoked".
 *
 * Hints. `maybe_free` has a bit for each record that may be free. Acquiring leaves it set; who finds
 * it set and the record taken clears it; who frees a record sets it, if it is clear. That no free
 * record is left without its bit is a matter of order, all of it sequentially consistent:
 *   the one who clears                       the one who frees
 *   H1 clear the bit                         F1 word = UNCHARGE or FREE (CAS in counter.c)
 *   H2 load the word                         F2 load the bit; clear: set it
 *   H3 if it isn't taken: set the bit
 * Either H2 sees F1, or F2 sees H1. Taken is CHARGE and HELD, each of which a thread of this process
 * will take back by an F1 or, if the daemon revokes it, hear of when it tries to (F2 follows).
 */

#include <pthread.h>
#include <string.h>

#include "pool.h"

#define BLOCK_RANGES 64u
#define BLOCKS       ROUND_UP((BERTH_SLOTS_MAX + BERTH_RANGE) / BERTH_RANGE, BLOCK_RANGES) / BLOCK_RANGES
#define LANES        16u /* as many as four bits of a hash tell apart */
#define ALL_FREE     ((UINT32_C(1) << BERTH_RANGE) - 1)

/* A token: seq + 1, which is never 0, its highest level, and whether its release was begun and not
 * ended, for lack of memory. */
#define TOKEN_SEQ   0xFFFFFFu
#define TOKEN_LEVEL 24
#define UNSETTLED   (UINT32_C(1) << 30)

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

/* Where the threads that share a lane look next. `next` leads to a range: whoever loads it pairs with
 * whoever stored it, so that the range is seen as it was made. */
struct lane {
	_Alignas(128) _Atomic uintptr_t
		next;           /* a range and the record in it: spot_make(); 0: none */
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

/* A range lies in one window. Once it is mapped it stays: another thread, which had no luck a moment
 * ago, mustn't undo that. */
static _rare_ struct record *range_map(struct pool *p, struct range *range) {
	struct record *records = NULL;

	if (map_has_record(p->map, range->first + BERTH_RANGE - 1))
		records = map_record(p->map, range->first);
	if (records)
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

/* A record of a range, as one word: a range's address leaves the lowest bits free. */
static _hot_ uintptr_t spot_make(const struct range *range, uint32_t i) {
	return (uintptr_t)range | i % BERTH_RANGE;
}

static _hot_ struct range *spot_range(uintptr_t spot) {
	return (struct range *)(spot & ~(uintptr_t)(BERTH_RANGE -
						    1)); /* NOLINT(performance-no-int-to-ptr) */
}

/* While ranges are few, each lane begins at one of its own as far as they reach. */
static void lanes_deal(struct pool *p, uint32_t ranges) {
	for (size_t i = 0; i < LANES; i++) {
		uint32_t order = load_relaxed(&p->lane[i].order);

		if (order > 0)
			store_release(
				&p->lane[i].next, spot_make(range_at(p, (order - 1) % ranges), 0));
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

static _rare_ void lane_start(struct pool *p, struct lane *lane) {
	uint32_t order = add_relaxed(&p->lanes_used, 1);
	uint32_t ranges = pool_ranges(p);

	store_relaxed(&lane->order, order + 1);
	store_release(&lane->next, ranges > 0 ? spot_make(range_at(p, order % ranges), 0) : 0);
}

/* What pthread_self() says, without the call where the compiler knows how. */
static _hot_ uintptr_t thread_id(void) {
#if defined(__x86_64__) && !defined(__clang__) && __GNUC__ >= 11
	return (uintptr_t)__builtin_thread_pointer();
#else
	return (uintptr_t)pthread_self();
#endif
}

/* The calling thread's. Two threads may share one, and may even start it twice: a lane is where to
 * begin to look, no more. */
static _hot_ struct lane *lane_mine(struct pool *p) {
	uint64_t hash = (uint64_t)thread_id() * UINT64_C(0x9E3779B97F4A7C15);
	struct lane *lane = &p->lane[hash >> 60];

	if (unlikely(load_relaxed(&lane->order) == 0))
		lane_start(p, lane);
	return lane;
}

uint32_t pool_ranges_wanted(const struct pool *p) {
	uint32_t used = MIN_OF(load_relaxed(&p->lanes_used), LANES), have = pool_ranges(p);

	return used > have ? used - have : 0;
}

/* The next one to look at is the one after the one picked: records are used in turn, but a thread
 * stays with its range while it finds something there. */
static _hot_ void lane_follow(struct lane *lane, const struct range *range, uint32_t i) {
	store_release(&lane->next, spot_make(range, i + 1));
}

/* -- picking ---------------------------------------------------------------------------------- */

static uint32_t token_make(uint32_t seq, const struct path *path) {
	return (seq + 1) | (path->depth - 1) << TOKEN_LEVEL;
}

static uint32_t token_seq(uint32_t token) {
	return (token & TOKEN_SEQ) - 1;
}

static bool token_names(uint32_t token, uint32_t seq) {
	return (token & TOKEN_SEQ) == seq + 1;
}

/* Makes the caller the one who tells the holder. */
static bool token_claim(_Atomic uint32_t *outstanding, uint32_t token) {
	return token != 0 && cas32(outstanding, token, 0);
}

static _hot_ bool record_is_free(struct range *range, const struct record *record, uint32_t i) {
	return record_state(load_total(&record->word)) == RECORD_FREE &&
	       load_total(&range->outstanding[i]) == 0;
}

static bool record_is_taken(const struct record *record) {
	enum record_state state = record_state(load_total(&record->word));

	return state == RECORD_CHARGE || state == RECORD_HELD;
}

static void hint_clear(struct range *range, const struct record *record, uint32_t i) {
	uint32_t bit = UINT32_C(1) << i;

	if (!record_is_taken(record))
		return;
	(void)atomic_fetch_and(&range->maybe_free, ~bit);       /* H1 */
	if (!record_is_taken(record))                           /* H2 */
		(void)atomic_fetch_or(&range->maybe_free, bit); /* H3 */
}

/* F2. */
static _hot_ void hint_set(struct range *range, uint32_t i) {
	uint32_t bit = UINT32_C(1) << i;

	if (unlikely(!(load_total(&range->maybe_free) & bit)))
		(void)atomic_fetch_or(&range->maybe_free, bit);
}

/* From `start` once round the range. */
static bool range_pick(struct pool *p, struct range *range, uint32_t start, uint32_t *ret_i) {
	uint32_t bits = load_relaxed(&range->maybe_free);
	uint32_t turned = (bits >> start | bits << (BERTH_RANGE - start)) & ALL_FREE;

	for (; turned != 0; turned &= turned - 1) {
		uint32_t i = (start + (uint32_t)__builtin_ctz(turned)) % BERTH_RANGE;
		struct record *record = range_record(p, range, i);

		if (record && record_is_free(range, record, i)) {
			*ret_i = i;
			return true;
		}
		if (record)
			hint_clear(range, record, i);
	}
	return false;
}

/* From the lane's place once round the pool. */
static uintptr_t pool_pick(struct pool *p, const struct lane *lane) {
	uint32_t ranges = pool_ranges(p);
	uintptr_t next = load_acquire(&lane->next);
	uint32_t position = next ? spot_range(next)->position : 0, start = next % BERTH_RANGE, i;

	for (uint32_t n = 0; n < ranges; n++) {
		struct range *range = range_at(p, position);

		if (range_pick(p, range, start, &i))
			return spot_make(range, i);
		position = position + 1 < ranges ? position + 1 : 0;
		start = 0;
	}
	return 0;
}

/* Why nothing could be picked: for lack of records, or of memory to see them in. More ranges would be
 * no help then, and each failure would ask for twice as many. */
static _rare_ int pool_refusal(struct pool *p) {
	uint32_t ranges = pool_ranges(p);

	for (uint32_t n = 0; n < ranges; n++)
		if (!range_record(p, range_at(p, n), 0))
			return -ENOMEM;
	return -ENOBUFS;
}

/* -- taking and giving back -------------------------------------------------------------------- */

/* Where the lane is to look next, if that record is free: nearly always. Else 0. */
static _hot_ uintptr_t lane_pick(const struct lane *lane) {
	uintptr_t spot = load_acquire(&lane->next);
	struct range *range = spot_range(spot);
	uint32_t i = spot % BERTH_RANGE;
	struct record *records;

	if (unlikely(!range))
		return 0;
	records = load_acquire(&range->records);
	return likely(records && record_is_free(range, records + i, i)) ? spot : 0;
}

/* The range is mapped. */
static _hot_ int spot_acquire(struct pool *p, struct lane *lane, uintptr_t spot,
	const struct slot_request *request, struct pool_slot *ret) {
	struct range *range = spot_range(spot);
	uint32_t i = spot % BERTH_RANGE, level;
	const struct record_at at = {load_acquire(&range->records) + i, range->first + i};
	int r;

	ret->record = at.number;
	lane_follow(lane, range, i);
	r = counter_acquire_at(p->map, at, request, &ret->seq, &level);
	if (likely(r >= 0))
		/* Whoever releases the slot was told of it by this thread, and so sees the token. */
		store_release(&range->outstanding[i], token_make(ret->seq, request->path));
	else if (r != -EAGAIN)
		/* While it was published, another thread may have cleared its bit. */
		hint_set(range, i);
	return r;
}

static _rare_ int pool_search(struct pool *p, struct lane *lane, const struct slot_request *request,
	struct pool_slot *ret) {
	int r = -ENOBUFS;

	for (int n = 0; n < TRIES; n++) {
		uintptr_t spot = pool_pick(p, lane);

		if (!spot) {
			ret->record = 0;
			return pool_refusal(p);
		}
		r = spot_acquire(p, lane, spot, request, ret);
		if (r != -EAGAIN)
			return r;
	}
	return r;
}

int pool_acquire(struct pool *p, const struct slot_request *request, struct pool_slot *ret) {
	struct lane *lane = lane_mine(p);
	uintptr_t spot = lane_pick(lane);
	int r = -EAGAIN;

	ret->record = 0;
	if (likely(spot))
		r = spot_acquire(p, lane, spot, request, ret);
	return likely(r != -EAGAIN) ? r : pool_search(p, lane, request, ret);
}

/* True if the record is as far from a slot of this level as a release in this process takes it: a
 * thread that won R1 hasn't stored its 0 yet. */
static bool is_released_here(const struct record *record, uint32_t seq, uint32_t level) {
	uint64_t rec = load_acquire(&record->word);
	uint32_t steps = (record_seq(rec) - seq) & BERTH_SEQ_MASK;

	switch (record_state(rec)) {
	case RECORD_UNCHARGE:
		return steps == level - record_level(rec) + 1;
	case RECORD_FREE:
	case RECORD_CLOSED:
		return steps == level + 1;
	default:
		return false;
	}
}

/* Not held under this seq. */
static int release_refused(struct pool *p, struct range *range, uint32_t i, uint32_t seq) {
	uint32_t token = load_acquire(&range->outstanding[i]);
	int r = -ECANCELED;

	if (!token_names(token, seq))
		return -ENOENT;
	if (token & UNSETTLED)
		r = counter_settle(p->map, range->first + i);
	else if (is_released_here(load_acquire(&range->records) + i, seq, token >> TOKEN_LEVEL))
		return -ENOENT;
	if (r == -ENOMEM)
		return r;
	return token_claim(&range->outstanding[i], token) ? r : -ENOENT;
}

/* The release ended with r, which isn't 0; returns what the holder hears. */
static _rare_ int release_end(
	struct pool *p, struct range *range, uint32_t i, uint32_t seq, int r) {
	uint32_t token = load_acquire(&range->outstanding[i]);

	if (r == -ENOENT)
		return release_refused(p, range, i, seq);
	if (r != -ENOMEM)
		store_release(&range->outstanding[i], 0);
	else if (token_names(token, seq))
		store_release(&range->outstanding[i], token | UNSETTLED);
	return r;
}

int pool_release(struct pool *p, uint32_t record, uint32_t seq) {
	struct range *range = range_of(p, record);
	uint32_t i = record % BERTH_RANGE;
	struct record_at at = {NULL, record};
	int r = -ENOMEM;

	if (unlikely(!range))
		return -ENOENT;
	at.record = range_record(p, range, i);
	if (likely(at.record))
		r = counter_release_at(p->map, at, seq); /* F1 */
	if (likely(r == 0))
		store_release(&range->outstanding[i], 0);
	else
		r = release_end(p, range, i, seq, r);
	/* Also if nothing is known of the slot: it may have been revoked, and its token lost. */
	hint_set(range, i);
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
	if (token & UNSETTLED)
		(void)token_claim(outstanding, token);
	hint_set(range, record % BERTH_RANGE);
}

void pool_release_all(struct pool *p) {
	for (uint32_t n = 0; n < pool_ranges(p); n++) {
		struct range *range = range_at(p, n);

		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			uint32_t token = load_relaxed(&range->outstanding[i]);

			if (token != 0)
				(void)pool_release(p, range->first + i, token_seq(token));
		}
	}
}

int pool_forget(struct pool *p, uint32_t record, uint32_t seq) {
	struct range *range = range_of(p, record);
	_Atomic uint32_t *outstanding;
	uint32_t token;

	if (!range)
		return -ENOENT;
	outstanding = &range->outstanding[record % BERTH_RANGE];
	token = load_relaxed(outstanding);
	return token_names(token, seq) && token_claim(outstanding, token) ? -ECANCELED : -ENOENT;
}
