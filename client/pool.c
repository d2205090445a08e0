/* SPDX-License-Identifier: MIT */

/*
 * Hands out the session's records inside the process.
 *
 * Claims. Which thread of the process uses a record is told by `token`, here and nowhere else:
 * 0, none; TOKEN_CLAIMED, one that tries to take a slot with it; the seq of a slot that its holder has
 * not released yet, even if the daemon revoked it meanwhile; or TOKEN_SPENT, since the record has used up
 * its seqs. A record is not used again until its slot is released, so that the holder is told (-ECANCELED)
 * that it was revoked, and not that it releases twice (-ENOENT). The compare-and-swap on the cell
 * (counter.c, R1) decides which thread releases, and that thread stores 0. A thread that loses, and finds
 * the token still there, looks at the record: if it is placed, and its newest step is one of the slot's
 * cycle, another thread is just releasing it; else it was revoked.
 *
 * Which. The record that was used last for the account, for it stands there already and so takes a
 * slot with one compare-and-swap for each level. If that is taken, or not known, the next one in turn.
 *
 * Hints. `maybe_free` has a bit for each record that may be nobody's. Claiming leaves it set; who
 * finds it set and the record claimed clears it, and looks again; who stores 0 sets it, if it is clear.
 * In between, one of the two may miss the other. So before the pool says that it has nothing left, it
 * looks at the records themselves.
 */

#include <string.h>

#include "pool.h"

#define ALL_FREE ((UINT32_C(1) << BERTH_RANGE) - 1)

#define TOKEN_SEQ (TOKEN_UNSETTLED - 1)

/* How often an acquire that finds a record to be of no use tries the next one. */
#define TRIES 256

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

/* A range lies in one window. Once it is mapped it stays: another thread, which had no luck a moment
 * ago, mustn't undo that. */
static _rare_ bool range_map(struct pool *p, struct range *range) {
	struct record *records = NULL;

	if (map_has_record(p->map, range->spot[BERTH_RANGE - 1].number))
		records = map_record(p->map, range->spot[0].number);
	for (uint32_t i = 0; records && i < BERTH_RANGE; i++)
		store_release(&range->spot[i].record, records + i); /* pairs with spot_record() */
	return records != NULL;
}

/* False if it can't be mapped. */
static _hot_ bool spot_is_mapped(struct pool *p, struct spot *spot) {
	return likely(load_acquire(&spot->record)) || range_map(p, spot->range);
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
			store_release(&p->lane[i].next, range_at(p, (order - 1) % ranges)->spot);
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
	range->position = position;
	store_relaxed(&range->maybe_free, ALL_FREE);
	for (uint32_t i = 0; i < BERTH_RANGE; i++) {
		range->spot[i].number = number * BERTH_RANGE + i;
		range->spot[i].range = range;
	}
	/* Pair with pool_spot() and pool_ranges(): whoever sees these sees the range. */
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
	store_release(&lane->next, ranges > 0 ? range_at(p, order % ranges)->spot : NULL);
}

/* Two threads that share a lane may even start it twice. */
static struct lane *lane_mine(struct pool *p) {
	struct lane *lane = pool_lane(p);

	if (unlikely(load_relaxed(&lane->order) == 0))
		lane_start(p, lane);
	return lane;
}

uint32_t pool_ranges_usable(const struct pool *p) {
	uint32_t ranges = pool_ranges(p), usable = 0;

	for (uint32_t n = 0; n < ranges; n++)
		usable += load_relaxed(&range_at(p, n)->spent) < BERTH_RANGE;
	return usable;
}

uint32_t pool_ranges_wanted(const struct pool *p) {
	uint32_t used = MIN_OF(load_relaxed(&p->lanes_used), LANES), have = pool_ranges(p);

	return used > have ? used - have : 0;
}

/* The next one to look at is the one after the one picked: records are used in turn, but a thread
 * stays with its range while it finds something there. */
static _hot_ void lane_follow(struct lane *lane, struct spot *spot) {
	uint32_t next = (spot->number + 1) % BERTH_RANGE;

	store_release(&lane->next, next == 0 ? spot->range->spot : spot + 1);
}

/* -- picking ---------------------------------------------------------------------------------- */

static bool token_is_slot(uint64_t token) {
	return (token & TOKEN_SEQ) != 0;
}

static bool token_names(uint64_t token, uint32_t cycle) {
	return token_is_slot(token) && pool_cycle(token & TOKEN_SEQ) == cycle;
}

/* Makes the caller the thread that tells the holder. */
static bool token_take(struct spot *spot, uint64_t token) {
	return cas(&spot->token, token, 0);
}

static void hint_clear(struct spot *spot) {
	uint32_t bit = UINT32_C(1) << spot->number % BERTH_RANGE;

	(void)atomic_fetch_and(&spot->range->maybe_free, ~bit);
	if (load_total(&spot->token) == 0)
		(void)atomic_fetch_or(&spot->range->maybe_free, bit);
}

/* Not one that the daemon is taking back: as long as that takes, be it until the next daemon, it is of
 * no use, and keeps no thread from the others. CLOSED tells of the session's end. */
static bool spot_is_usable(struct map *m, const struct spot *spot) {
	struct snapshot s;

	return counter_record(m, spot->number, &s) == 0 &&
	       (place_state(s.place) < RECORD_PLACED ||
		       (place_state(s.place) == RECORD_PLACED && seq_step(s.seq) == 0));
}

/* Claims one, from `start` once round the range. */
static struct spot *range_pick(struct pool *p, struct range *range, uint32_t start) {
	uint32_t bits = load_relaxed(&range->maybe_free);
	uint32_t turned = (bits >> start | bits << (BERTH_RANGE - start)) & ALL_FREE;

	for (; turned != 0; turned &= turned - 1) {
		struct spot *spot =
			&range->spot[(start + (uint32_t)__builtin_ctz(turned)) % BERTH_RANGE];

		if (!spot_is_mapped(p, spot))
			return NULL;
		if (!cas(&spot->token, 0, TOKEN_CLAIMED)) {
			hint_clear(spot);
			continue;
		}
		if (spot_is_usable(p->map, spot))
			return spot;
		spot_free(spot);
	}
	return NULL;
}

/* Claims one, from the lane's place once round the pool. */
static struct spot *pool_pick(struct pool *p, const struct lane *lane) {
	const struct spot *next = load_acquire(&lane->next);
	uint32_t ranges = pool_ranges(p), position = next ? next->range->position : 0;
	uint32_t start = next ? next->number % BERTH_RANGE : 0;

	for (uint32_t n = 0; n < ranges; n++) {
		struct spot *spot = range_pick(p, range_at(p, position), start);

		if (spot)
			return spot;
		position = position + 1 < ranges ? position + 1 : 0;
		start = 0;
	}
	return NULL;
}

/* Sets the hints that were missed; true if there were any. */
static _rare_ bool pool_look(struct pool *p) {
	uint32_t ranges = pool_ranges(p);
	bool found = false;

	for (uint32_t n = 0; n < ranges * BERTH_RANGE; n++) {
		struct spot *spot = &range_at(p, n / BERTH_RANGE)->spot[n % BERTH_RANGE];

		if (load_acquire(&spot->token) == 0) {
			hint_set(spot);
			found = true;
		}
	}
	return found;
}

/* Why nothing could be picked: for lack of records, or of memory to see them in. More ranges would be
 * no help then, and each failure would ask for twice as many. */
static _rare_ int pool_refusal(struct pool *p) {
	uint32_t ranges = pool_ranges(p);

	for (uint32_t n = 0; n < ranges; n++)
		if (!spot_is_mapped(p, range_at(p, n)->spot))
			return -ENOMEM;
	return -ENOBUFS;
}

/* -- taking ------------------------------------------------------------------------------------ */

/* Stored with release, and loaded with acquire: whoever sees the path of a later placement sees that
 * the record was placed. */
static void spot_stand(struct spot *spot, const struct path *path) {
	uint32_t depth = path->depth <= SPOT_LEVELS ? path->depth : 0;

	store_release(&spot->depth, depth);
	for (uint32_t k = 0; k < depth; k++) {
		store_release(&spot->level[k].cell, path->level[k].cell);
		store_release(&spot->level[k].dirty, path->level[k].dirty);
	}
}

static bool spot_stands_on(const struct spot *spot, const struct path *path) {
	if (load_relaxed(&spot->depth) != path->depth)
		return false;
	for (uint32_t k = 0; k < path->depth; k++)
		if (load_relaxed(&spot->level[k].cell) != path->level[k].cell)
			return false;
	return true;
}

/* It is claimed, and mapped. A thread that releases the slot was told of it by this one, and so sees the
 * token, and the path. */
static int spot_acquire(struct map *m, struct spot *spot, const struct slot_request *request,
	struct pool_slot *slot) {
	uint32_t level;
	int r;

	slot->record = spot->number;
	r = counter_acquire_at(m, spot_record(spot), request, &slot->seq, &level);
	if (unlikely(r == -ERANGE)) {
		store_release(&spot->token, TOKEN_SPENT);
		(void)add_relaxed(&spot->range->spent, 1);
		return -EAGAIN;
	}
	if (unlikely(r < 0)) {
		spot_free(spot);
		return r;
	}
	if (!spot_stands_on(spot, request->path))
		spot_stand(spot, request->path);
	store_release(&spot->token, slot->seq);
	slot->spot = spot;
	return 0;
}

static _rare_ int pool_search(struct pool *p, struct lane *lane, const struct slot_request *request,
	struct pool_slot *slot) {
	int r = -ENOBUFS;

	for (int n = 0; n < TRIES; n++) {
		struct spot *spot = pool_pick(p, lane);

		if (!spot && pool_look(p))
			spot = pool_pick(p, lane);
		if (!spot) {
			slot->record = 0;
			return pool_refusal(p);
		}
		lane_follow(lane, spot);
		r = spot_acquire(p->map, spot, request, slot);
		if (r != -EAGAIN)
			return r;
	}
	return r;
}

/* Claims the next one in turn, if it is nobody's: nearly always. */
static struct spot *lane_claim(struct pool *p) {
	struct lane *lane = lane_mine(p);
	struct spot *next = load_acquire(&lane->next);

	if (unlikely(!next || !load_acquire(&next->record)))
		return NULL;
	lane_follow(lane, next);
	return likely(spot_claim(next)) ? next : NULL;
}

/* Claims the one that was used last, or the next. */
static struct spot *spot_choose(struct pool *p, struct spot *last) {
	return last && spot_claim(last) ? last : lane_claim(p);
}

int pool_acquire(struct pool *p, const struct slot_request *request, struct pool_slot *slot) {
	struct spot *spot = spot_choose(p, slot->spot);
	int r = -EAGAIN;

	slot->record = 0;
	if (likely(spot))
		r = spot_acquire(p->map, spot, request, slot);
	return likely(r != -EAGAIN) ? r : pool_search(p, lane_mine(p), request, slot);
}

/* -- giving back ------------------------------------------------------------------------------- */

/* Not held under this seq: released by another thread of this process, or revoked. */
static int release_refused(struct map *m, struct spot *spot, uint32_t cycle) {
	uint64_t token = load_acquire(&spot->token), seq = token & TOKEN_SEQ;
	struct snapshot now;
	int r;

	if (!token_names(token, cycle))
		return -ENOENT;
	r = counter_record(m, spot->number, &now);
	if (r < 0)
		return r;
	if (token & TOKEN_UNSETTLED) {
		if (place_state(now.place) == RECORD_SEIZED)
			return -ENOMEM;
		return token_take(spot, token) ? 0 : -ENOENT;
	}
	/* A thread that won R1 hasn't stored its 0 yet. */
	if (place_state(now.place) == RECORD_PLACED && now.seq >= seq && now.seq <= seq_rest(seq))
		return -ENOENT;
	return token_take(spot, token) ? -ECANCELED : -ENOENT;
}

/* Only if the token is still the slot's: to a second release meanwhile, a slot that the daemon has brought
 * to its end may look revoked; then that one has taken the token, and the record may be another's. */
static _hot_ void spot_give(struct spot *spot, uint64_t seq) {
	if (likely(IS_SINGLE_THREADED))
		store_release(&spot->token, 0);
	else
		(void)cas(&spot->token, seq, 0);
	hint_set(spot);
}

/* What follows a release that ended with r; returns what the holder hears. */
static int release_end(struct map *m, struct spot *spot, uint64_t seq, int r) {
	uint64_t token;

	if (likely(r >= 0)) {
		spot_give(spot, seq);
		return r == COUNTER_DAMAGED ? -EUCLEAN : 0;
	}
	token = load_acquire(&spot->token);
	if (r == -ENOENT) {
		r = release_refused(m, spot, pool_cycle(seq));
	} else if ((token & TOKEN_SEQ) == seq) {
		/* For lack of memory, or since the shared words lead nowhere: berthd settles it. */
		counter_abandon(m, spot->number);
		store_release(&spot->token, token | TOKEN_UNSETTLED);
		r = -ENOMEM;
	}
	hint_set(spot);
	return r;
}

static int spot_release(struct map *m, struct spot *spot, uint64_t seq) {
	const struct record_at at = spot_record(spot);
	struct path path;
	uint32_t given;

	spot_path(spot, &path);
	if (unlikely(path.depth == 0))
		return counter_release(m, spot->number, seq);
	given = counter_release_fast(m, at, &path, seq);
	if (likely(given == path.depth))
		return 0;
	return given > 0 ? counter_release_rest(m, at, &path, given, seq)
			 : counter_release_at(m, at, &path, seq);
}

int pool_release(struct pool *p, uint32_t record, uint32_t cycle) {
	struct spot *spot = pool_spot(p, record);
	uint64_t token = spot ? load_acquire(&spot->token) : 0;
	int r = -ENOMEM;

	/* Released before: where its record stands now is no matter. */
	if (unlikely(!token_names(token, cycle)))
		return -ENOENT;
	if (likely(spot_is_mapped(p, spot)))
		r = spot_release(p->map, spot, token & TOKEN_SEQ);
	return release_end(p->map, spot, token & TOKEN_SEQ, r);
}

void pool_settled(struct pool *p, uint32_t record) {
	struct spot *spot = pool_spot(p, record);
	uint64_t token = spot ? load_relaxed(&spot->token) : 0;

	if (token & TOKEN_UNSETTLED)
		(void)token_take(spot, token);
	if (spot)
		hint_set(spot);
}

void pool_release_all(struct pool *p) {
	for (uint32_t n = 0; n < pool_ranges(p) * BERTH_RANGE; n++) {
		struct spot *spot = &range_at(p, n / BERTH_RANGE)->spot[n % BERTH_RANGE];
		uint64_t token = load_relaxed(&spot->token);

		if (token_is_slot(token))
			(void)pool_release(p, spot->number, pool_cycle(token & TOKEN_SEQ));
	}
}

bool pool_claim_all(struct pool *p) {
	bool all = true;

	for (uint32_t n = 0; n < pool_ranges(p) * BERTH_RANGE; n++) {
		struct spot *spot = &range_at(p, n / BERTH_RANGE)->spot[n % BERTH_RANGE];

		if (load_acquire(&spot->token) != TOKEN_SPENT &&
			!cas(&spot->token, 0, TOKEN_CLAIMED))
			all = false;
	}
	return all;
}

int pool_forget(struct pool *p, uint32_t record, uint32_t cycle) {
	struct spot *spot = pool_spot(p, record);
	uint64_t token = spot ? load_relaxed(&spot->token) : 0;

	return token_names(token, cycle) && token_take(spot, token) ? -ECANCELED : -ENOENT;
}
