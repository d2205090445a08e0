/* SPDX-License-Identifier: MIT */

/*
 * Hands out the session's records inside the process.
 *
 * Which thread uses a record is told by `token`, here and in cache.c, and nowhere else:
 *   POOLED          no thread has it; it is in the stack
 *   CLAIMED         a thread has it, and is about to take a slot, or to put it back
 *   OWNED | n       cache n has it, for the account on which it rests; its thread alone takes slots with it
 *   SPARE           a cache has it, for any account
 *   a tag           the slot that was taken with it, and that its holder hasn't released yet, even if
 *                   the daemon revoked it meanwhile
 *   SPENT           it has used up its seqs
 * A thread takes a record from the stack by the stack's compare-and-swap, from its own cache by a plain
 * store. The thread that releases a slot has its record then, whichever thread took it.
 *
 * A record is not used again until its slot is released, so that the holder is told (-ECANCELED) that it
 * was revoked, and not that it releases twice (-ENOENT). The compare-and-swap on the cell (counter.c, R1)
 * decides which thread releases. A thread that loses, and finds the token still there, looks at the
 * record: if it is placed, and its newest step is one of the slot's cycle, another thread is just
 * releasing it; else it was revoked, and a compare-and-swap on the token decides which thread tells so.
 */

#include <string.h>

#include "counter-fast.h"
#include "pool.h"

/* -- the table of ranges ---------------------------------------------------------------------- */

static void *aligned_new(size_t align, size_t size) {
	void *p = aligned_alloc(align, ROUND_UP(size, align));

	if (p)
		memset(p, 0, size);
	return p;
}

int pool_new(struct map *m, uint64_t slots, struct pool **ret) {
	struct pool *p = aligned_new(_Alignof(struct pool), sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->map = m;
	p->slots = slots;
	p->numbers = m->layout.records_end / BERTH_RANGE;
	p->by_number = calloc(p->numbers, sizeof(*p->by_number));
	if (!p->by_number) {
		free(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

/* For a loop over all ranges; pairs with pool_add_range(). */
static struct range *range_first(struct pool *p) {
	return load_acquire(&p->added);
}

static struct range *range_next(struct range *range) {
	return load_acquire(&range->next);
}

void pool_free(struct pool *p) {
	struct range *range, *next;

	if (!p)
		return;
	for (range = range_first(p); range; range = next) {
		next = range_next(range);
		free(range);
	}
	free(p->by_number);
	free(p);
}

uint32_t pool_ranges(const struct pool *p) {
	return load_acquire(&p->ranges);
}

uint32_t pool_ranges_usable(const struct pool *p, uint32_t most) {
	uint32_t usable = 0;

	for (struct range *range = load_acquire(&p->added); range && usable < most;
		range = range_next(range))
		usable += load_relaxed(&range->spent) < BERTH_RANGE;
	return usable;
}

int pool_add_range(struct pool *p, uint32_t number) {
	struct range *range;

	if (number == 0 || number >= p->numbers)
		return -ERANGE;
	if (load_relaxed(&p->by_number[number]))
		return -EEXIST;
	range = aligned_new(_Alignof(struct range), sizeof(*range));
	if (!range)
		return -ENOMEM;
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		range->local[i].number = number * BERTH_RANGE + i;
	store_relaxed(&range->next, load_relaxed(&p->added));
	/* Pair with pool_local() and range_first(): a thread that sees these sees the range. */
	store_release(&p->by_number[number], range);
	store_release(&p->added, range);
	store_release(&p->ranges, load_relaxed(&p->ranges) + 1);
	for (uint32_t i = BERTH_RANGE; i-- > 0;)
		pool_give(p, &range->local[i]);
	return 0;
}

static struct range *range_of(const struct local_slot *local) {
	return (struct range *)(uintptr_t)(local - local->number % BERTH_RANGE);
}

/* A range lies in one window. Once it is mapped it stays: another thread, which had no luck a moment
 * ago, mustn't undo that. */
static _cold_ bool range_map(struct pool *p, struct range *range) {
	struct record *records = NULL;

	if (map_has_record(p->map, range->local[BERTH_RANGE - 1].number))
		records = map_record(p->map, range->local[0].number);
	for (uint32_t i = 0; records && i < BERTH_RANGE; i++)
		store_release(&range->local[i].record, records + i); /* pairs with local_record() */
	return records != NULL;
}

/* False if it can't be mapped. */
static bool local_is_mapped(struct pool *p, struct local_slot *local) {
	return likely(load_acquire(&local->record)) || range_map(p, range_of(local));
}

/* -- the stack ---------------------------------------------------------------------------------- */

/* `changes` only grows, so a top that comes back isn't taken for the one that was seen. */
static bool stack_change(struct pool *p, struct pair seen, uint64_t top) {
	return cas16(&p->stack.top, seen, (struct pair){top, seen.second + 1});
}

static struct pair stack_load(struct pool *p) {
	uint64_t changes = load_acquire(&p->stack.changes);

	return (struct pair){load_acquire(&p->stack.top), changes};
}

/* The number of no slot: its serial and its record are 0. */
static void local_link(struct local_slot *local, uint64_t next) {
	store_relaxed(&local->slot, next);
}

static void local_unlink(const struct pool *p, struct local_slot *local) {
	store_relaxed(&local->slot, p->slots | (uint64_t)local->number << POOL_CYCLE_BITS);
}

void pool_give(struct pool *p, struct local_slot *local) {
	struct pair seen;

	store_relaxed(&local->stamp, 0);
	store_release(&local->token, TOKEN_POOLED);
	do {
		seen = stack_load(p);
		local_link(local, seen.first);
	} while (!stack_change(p, seen, local->number));
}

/* NULL: there is none. */
static struct local_slot *stack_pop(struct pool *p) {
	struct local_slot *local;
	struct pair seen;

	do {
		seen = stack_load(p);
		local = pool_local(p, (uint32_t)seen.first);
	} while (local && !stack_change(p, seen, load_relaxed(&local->slot)));
	if (local) {
		local_unlink(p, local);
		store_release(&local->token, TOKEN_CLAIMED);
	}
	return local;
}

/* Those that can't be mapped go back. */
int pool_take(struct pool *p, struct local_slot **ret) {
	struct local_slot *unmapped = NULL, *local;

	while ((local = stack_pop(p)) != NULL && !local_is_mapped(p, local)) {
		local_link(local, unmapped ? unmapped->number : 0);
		unmapped = local;
	}
	*ret = local;
	if (!local && !unmapped)
		return -ENOBUFS;
	while (unmapped) {
		struct local_slot *next = pool_local(p, (uint32_t)load_relaxed(&unmapped->slot));

		pool_give(p, unmapped);
		unmapped = next;
	}
	return local ? 0 : -ENOMEM;
}

/* -- taking -------------------------------------------------------------------------------------- */

int local_acquire(struct pool *p, struct local_slot *local, const struct slot_request *request,
	uint64_t *ret_seq) {
	uint32_t level;
	int r = counter_acquire(p->map, local_record(local), request, ret_seq, &level);

	if (unlikely(r == -ERANGE)) {
		store_release(&local->token, TOKEN_SPENT);
		(void)add_relaxed(&range_of(local)->spent, 1);
	} else if (likely(r == 0)) {
		store_relaxed(&local->weight, (uint16_t)request->weight);
		store_relaxed(&local->unsettled, false);
	}
	return r;
}

/* -- giving back --------------------------------------------------------------------------------- */

/* Makes the caller the thread that tells the holder. */
static bool token_take(struct local_slot *local, uint64_t token) {
	return cas(&local->token, token, TOKEN_CLAIMED);
}

/* Not held under this seq: released by another thread of this process, or revoked. */
static _cold_ int release_refused(struct map *m, struct local_slot *local, uint32_t cycle) {
	uint64_t token = load_acquire(&local->token);
	struct snapshot now;
	int r;

	if (!token_names(token, cycle))
		return -ENOENT;
	r = counter_record(m, local->number, &now);
	if (r < 0)
		return r;
	if (load_relaxed(&local->unsettled)) {
		if (place_state(now.place) == RECORD_SEIZED)
			return -ENOMEM;
		return token_take(local, token) ? 0 : -ENOENT;
	}
	/* berthd took the record itself. Not to be used again: another thread may have made R1 before that,
	 * and be about to store its token. */
	if (place_state(now.place) != RECORD_PLACED) {
		if (!cas(&local->token, token, TOKEN_SPENT))
			return -ENOENT;
		(void)add_relaxed(&range_of(local)->spent, 1);
		return -ECANCELED;
	}
	/* The thread that made R1 hasn't stored its token yet. */
	if (now.seq >= tag_seq(token) && now.seq <= seq_rest(tag_seq(token)))
		return -ENOENT;
	return token_take(local, token) ? -ECANCELED : -ENOENT;
}

/* What a release of the slot `seq` that ended with r comes to. */
static int release_end(struct pool *p, struct local_slot *local, uint64_t seq, int r) {
	uint64_t token;

	if (likely(r >= 0)) {
		store_release(&local->token, TOKEN_CLAIMED);
		return r == COUNTER_NEEDS_RECOUNT ? -EUCLEAN : 0;
	}
	if (r == -ENOENT)
		return release_refused(p->map, local, pool_cycle(seq));
	/* For lack of memory, or since the shared words lead nowhere: berthd settles it. */
	token = load_acquire(&local->token);
	if (token_is_slot(token) && tag_seq(token) == seq) {
		counter_seize(p->map, local->number);
		store_relaxed(&local->unsettled, true);
	}
	return -ENOMEM;
}

int local_release(struct pool *p, struct local_slot *local, uint32_t cycle) {
	uint64_t token = load_acquire(&local->token);

	/* Released before: where its record stands now is no matter. */
	if (unlikely(!token_names(token, cycle)))
		return -ENOENT;
	return release_end(
		p, local, tag_seq(token), counter_release(p->map, local->number, tag_seq(token)));
}

int local_release_rest(struct pool *p, struct local_slot *local, const struct path *path,
	uint32_t given, uint64_t seq) {
	return release_end(p, local, seq,
		counter_release_continue(p->map, local_record(local), path, given, seq));
}

bool local_settled(struct local_slot *local) {
	uint64_t token = load_relaxed(&local->token);

	return token_is_slot(token) && load_relaxed(&local->unsettled) && token_take(local, token);
}

void pool_release_all(struct pool *p) {
	for (struct range *range = range_first(p); range; range = range_next(range))
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			struct local_slot *local = &range->local[i];
			uint64_t token = load_relaxed(&local->token);
			int r = -ENOENT;

			if (token_is_slot(token))
				r = local_release(p, local, pool_cycle(tag_seq(token)));
			/* Else another thread is just releasing it, which is a fault of the application. */
			if (local_is_claimed(local, r))
				pool_give(p, local);
		}
}

bool pool_close(struct pool *p) {
	struct local_slot *local;

	/* What remains in the stack by its token, and isn't there, a thread is just taking. */
	while ((local = stack_pop(p)) != NULL)
		store_release(&local->token, TOKEN_SPENT);
	for (struct range *range = range_first(p); range; range = range_next(range))
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			uint64_t token = load_acquire(&range->local[i].token);

			if (token == TOKEN_CLAIMED || token == TOKEN_POOLED || token_is_slot(token))
				return false;
		}
	return true;
}

int pool_forget(struct pool *p, uint32_t record, uint32_t cycle) {
	struct local_slot *local = pool_local(p, record);
	uint64_t token = local ? load_relaxed(&local->token) : 0;

	return token_names(token, cycle) && token_take(local, token) ? -ECANCELED : -ENOENT;
}
