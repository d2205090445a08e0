/* SPDX-License-Identifier: MIT */

/*
 * Hands out the session's records inside the process.
 *
 * A thread claims a record from the stack by a compare-and-swap on the stack's top, and a record
 * from its own cache by a plain store. The thread that releases a slot has the record afterwards,
 * whichever thread acquired the slot.
 *
 * A record isn't used again until its slot is released. So the release of a revoked slot returns
 * -ECANCELED, and not -ENOENT, which would mean that the slot was released twice. The
 * compare-and-swap on the cell (counter.c, R1) decides which thread releases the slot. A thread
 * whose compare-and-swap fails, and that finds the slot's token unchanged, looks at the record:
 *   - The record is placed, and its newest step is one of the slot's cycle: another thread is
 *     releasing the slot at this moment.
 *   - Otherwise berthd has revoked the slot. A compare-and-swap on the token decides which thread
 *     returns -ECANCELED.
 */

#include <string.h>

#include "counter-fast.h"
#include "pool.h"

/* -- the table of ranges ----------------------------------------------------------------------- */

static void *aligned_new(size_t align, size_t size) {
	void *p = aligned_alloc(align, ROUND_UP(size, align));

	if (p)
		memset(p, 0, size);
	return p;
}

int pool_new(struct map *m, uint64_t slot_bits, struct pool **ret) {
	struct pool *p = aligned_new(_Alignof(struct pool), sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->map = m;
	p->slot_bits = slot_bits;
	p->range_limit = m->layout.records_end / BERTH_RANGE;
	p->by_number = calloc(p->range_limit, sizeof(*p->by_number));
	if (!p->by_number) {
		free(p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

void pool_free(struct pool *p) {
	struct range *range, *next;

	if (!p)
		return;
	for (range = load_acquire(&p->newest); range; range = next) {
		next = load_acquire(&range->next);
		free(range);
	}
	free(p->by_number);
	free(p);
}

uint32_t pool_range_count(const struct pool *p) {
	return load_acquire(&p->range_count);
}

uint32_t pool_usable_ranges(const struct pool *p, uint32_t most) {
	uint32_t usable = 0;

	for (struct range *r = load_acquire(&p->newest); r && usable < most;
		r = load_acquire(&r->next))
		usable += load_relaxed(&r->retired) < BERTH_RANGE;
	return usable;
}

int pool_add_range(struct pool *p, uint32_t number) {
	struct range *range;

	if (number == 0 || number >= p->range_limit)
		return -ERANGE;
	if (load_relaxed(&p->by_number[number]))
		return -EEXIST;
	range = aligned_new(_Alignof(struct range), sizeof(*range));
	if (!range)
		return -ENOMEM;
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		range->local[i].number = number * BERTH_RANGE + i;
	store_relaxed(&range->next, load_relaxed(&p->newest));
	/* Pair with pool_local() and the loops over all ranges: a thread that sees the pointer sees
	 * the range. */
	store_release(&p->by_number[number], range);
	store_release(&p->newest, range);
	store_release(&p->range_count, load_relaxed(&p->range_count) + 1);
	for (uint32_t i = BERTH_RANGE; i-- > 0;)
		pool_return(p, &range->local[i]);
	return 0;
}

static struct range *local_range(const struct local_slot *local) {
	return (struct range *)(uintptr_t)(local - local->number % BERTH_RANGE);
}

/* Maps all records of the range, which lie in one window. Never stores NULL, because another thread
 * may have mapped the records in the meantime. */
static _cold_ bool range_map(struct pool *p, struct range *range) {
	struct record *records = NULL;

	if (map_has_record(p->map, range->local[BERTH_RANGE - 1].number))
		records = map_record(p->map, range->local[0].number);
	for (uint32_t i = 0; records && i < BERTH_RANGE; i++)
		store_release(&range->local[i].record, records + i); /* pairs with local_record() */
	return records != NULL;
}

/* -- the stack --------------------------------------------------------------------------------- */

/* `change_count` only grows. So if the top record is claimed and returned after `seen` was loaded,
 * the compare-and-swap fails, although the top is the same again. */
static bool stack_change(struct pool *p, struct pair seen, uint64_t top) {
	return cas16(&p->stack.top, seen, (struct pair){top, seen.second + 1});
}

static struct pair stack_load(struct pool *p) {
	uint64_t change_count = load_acquire(&p->stack.change_count);

	return (struct pair){load_acquire(&p->stack.top), change_count};
}

void pool_return(struct pool *p, struct local_slot *local) {
	struct pair seen;

	store_relaxed(&local->stamp, 0);
	store_release(&local->token, TOKEN_POOLED);
	do {
		seen = stack_load(p);
		store_relaxed(&local->slot, seen.first);
	} while (!stack_change(p, seen, local->number));
}

/* Claims the top record. NULL: the stack is empty. */
static struct local_slot *stack_pop(struct pool *p) {
	struct local_slot *local;
	struct pair seen;

	do {
		seen = stack_load(p);
		local = pool_local(p, (uint32_t)seen.first);
	} while (local && !stack_change(p, seen, load_relaxed(&local->slot)));
	if (local) {
		store_relaxed(
			&local->slot, p->slot_bits | (uint64_t)local->number << SLOT_CYCLE_BITS);
		store_release(&local->token, TOKEN_CLAIMED);
	}
	return local;
}

/* Records that can't be mapped go back on the stack. */
int pool_claim(struct pool *p, struct local_slot **ret) {
	struct local_slot *unmapped = NULL, *local;

	while ((local = stack_pop(p)) != NULL && unlikely(!load_acquire(&local->record)) &&
		!range_map(p, local_range(local))) {
		store_relaxed(&local->slot, unmapped ? unmapped->number : 0);
		unmapped = local;
	}
	*ret = local;
	if (!local && !unmapped)
		return -ENOBUFS;
	while (unmapped) {
		struct local_slot *next = pool_local(p, (uint32_t)load_relaxed(&unmapped->slot));

		pool_return(p, unmapped);
		unmapped = next;
	}
	return local ? 0 : -ENOMEM;
}

/* -- acquiring --------------------------------------------------------------------------------- */

int local_acquire(struct pool *p, struct local_slot *local, const struct slot_request *request,
	uint64_t *ret_seq) {
	int r = counter_acquire(p->map, local_record(local), request, ret_seq);

	if (unlikely(r == -ERANGE)) {
		store_release(&local->token, TOKEN_RETIRED);
		(void)add_relaxed(&local_range(local)->retired, 1);
	} else if (likely(r == 0)) {
		store_relaxed(&local->weight, (uint16_t)request->weight);
		store_relaxed(&local->is_seized, false);
	}
	return r;
}

/* -- releasing --------------------------------------------------------------------------------- */

/* Tries to claim the record of the slot `token`. True: this thread has claimed the record, and no
 * other thread tells the holder what became of the slot. */
static bool token_claim(struct local_slot *local, uint64_t token) {
	return cas(&local->token, token, TOKEN_CLAIMED);
}

/* Finds the result of a release whose slot isn't held any more: another thread of this process has
 * released the slot, or berthd has revoked it. */
static _cold_ int release_lost(struct map *m, struct local_slot *local, uint32_t cycle) {
	uint64_t token = load_acquire(&local->token);
	struct snapshot now;
	int r;

	if (!token_is_slot_of(token, cycle))
		return -ENOENT;
	r = counter_record(m, local->number, &now);
	if (r < 0)
		return r;
	if (load_relaxed(&local->is_seized)) {
		if (place_state(now.place) == RECORD_SEIZED)
			return -ENOMEM;
		return token_claim(local, token) ? 0 : -ENOENT;
	}
	/* berthd has taken the record, not only the slot. This process can't use the record again:
	 * another thread may have made R1 before berthd did, and may still be about to store its
	 * token. */
	if (place_state(now.place) != RECORD_PLACED) {
		if (!cas(&local->token, token, TOKEN_RETIRED))
			return -ENOENT;
		(void)add_relaxed(&local_range(local)->retired, 1);
		return -ECANCELED;
	}
	/* Another thread has made R1, and hasn't stored its token yet. */
	if (now.seq >= tag_seq(token) && now.seq <= seq_rest(tag_seq(token)))
		return -ENOENT;
	return token_claim(local, token) ? -ECANCELED : -ENOENT;
}

/* Ends a release of the slot `seq`, for which the counter returned r. */
static int release_end(struct pool *p, struct local_slot *local, uint64_t seq, int r) {
	uint64_t token;

	if (likely(r >= 0)) {
		store_release(&local->token, TOKEN_CLAIMED);
		return r == COUNTER_NEEDS_RECOUNT ? -EUCLEAN : 0;
	}
	if (r == -ENOENT)
		return release_lost(p->map, local, slot_cycle_of_seq(seq));
	/* There was no memory, or the shared words contradict each other: berthd must finish the
	 * release. */
	token = load_acquire(&local->token);
	if (token_is_slot(token) && tag_seq(token) == seq) {
		counter_seize(p->map, local->number);
		store_relaxed(&local->is_seized, true);
	}
	return -ENOMEM;
}

int local_release(struct pool *p, struct local_slot *local, uint32_t cycle) {
	uint64_t token = load_acquire(&local->token);

	/* The slot was released before. The record may hold another slot by now. */
	if (unlikely(!token_is_slot_of(token, cycle)))
		return -ENOENT;
	return release_end(
		p, local, tag_seq(token), counter_release(p->map, local->number, tag_seq(token)));
}

int local_release_continue(struct pool *p, struct local_slot *local, const struct path *path,
	uint32_t discharged, uint64_t seq) {
	return release_end(p, local, seq,
		counter_release_continue(p->map, local_record(local), path, discharged, seq));
}

bool local_claim_finished(struct local_slot *local) {
	uint64_t token = load_relaxed(&local->token);

	return token_is_slot(token) && load_relaxed(&local->is_seized) && token_claim(local, token);
}

void pool_release_all(struct pool *p) {
	for (struct range *range = load_acquire(&p->newest); range;
		range = load_acquire(&range->next))
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			struct local_slot *local = &range->local[i];
			uint64_t token = load_relaxed(&local->token);
			int r = -ENOENT;

			if (token_is_slot(token))
				r = local_release(p, local, slot_cycle_of_seq(tag_seq(token)));
			/* If this thread hasn't claimed the record, another thread is releasing the
			 * slot, which is a mistake of the application. */
			if (local_is_claimed(local, r))
				pool_return(p, local);
		}
}

bool pool_close(struct pool *p) {
	struct local_slot *local;

	/* If a record is POOLED after this loop, although it isn't on the stack any more, a thread
	 * is just claiming it. */
	while ((local = stack_pop(p)) != NULL)
		store_release(&local->token, TOKEN_RETIRED);
	for (struct range *range = load_acquire(&p->newest); range;
		range = load_acquire(&range->next))
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			uint64_t token = load_acquire(&range->local[i].token);

			if (token == TOKEN_CLAIMED || token == TOKEN_POOLED || token_is_slot(token))
				return false;
		}
	return true;
}

int pool_release_ended(struct pool *p, uint32_t record, uint32_t cycle) {
	struct local_slot *local = pool_local(p, record);
	uint64_t token = local ? load_relaxed(&local->token) : 0;

	return token_is_slot_of(token, cycle) && token_claim(local, token) ? -ECANCELED : -ENOENT;
}
