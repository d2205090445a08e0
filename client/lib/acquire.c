/* SPDX-License-Identifier: MIT */

/*
 * The fast path of an acquire and a release. It takes an account of any depth and name, with or
 * without label and weight.
 *
 * For an account of one level, it calls no functions but strcmp(), strlen() and time(). If it can't
 * complete a call, it leaves the call to the general path (acquire-general.c). By then it has
 * changed nothing, or it tells the general path which levels it has changed. The thread owns the
 * record that it uses, so it reads every value after the claim ("Claims" in counter.c).
 */

#include <string.h>

#include "ask.h"
#include "clock.h"
#include "counter-fast.h"
#include "denials.h"
#include "acquire-general.h"
#include "thread.h"

/* -- acquiring --------------------------------------------------------------------------------- */

/* Orders 1 and 3 of counter.c at a level, whose word in the directory must have the bits `expected`
 * under `mask`. -EDQUOT: the limit is reached, and the denial is counted; -EAGAIN: the general path
 * must handle the call. */
static _always_inline_ int level_check(const struct session *s, const struct cache *c,
	const struct level *l, uint64_t mask, uint32_t expected, uint32_t weight,
	struct pair *ret_seen) {
	struct pair seen = cell_load(l->cell);
	uint64_t word = load_acquire(&l->entry->word);
	uint32_t count = count_of(seen.first) + weight;

	if (unlikely((word & mask) != expected))
		return -EAGAIN;
	if (unlikely(count > entry_limit(word))) {
		if (likely(c->counts_denials))
			denials_add_to_session(s->map, l->account, l->cell, l->dirty);
		else
			denials_add_to_cell(s->map, l->cell, l->dirty);
		return -EDQUOT;
	}
	if (unlikely(count > BERTH_COUNT_MAX))
		return -EAGAIN;
	*ret_seen = seen;
	return 0;
}

/* The record's place on its account, with this weight. */
static _always_inline_ uint64_t entry_place(const struct cache_entry *e, uint32_t weight) {
	return e->place + ((uint64_t)(weight - 1) << 46);
}

/* Acquires a slot of an account of any depth. On success it has called thread_leave(), and returns
 * BERTH_SUCCESS. Errors as level_check() and counter_acquire(). */
static _noinline_ int path_acquire(struct session *s, struct cache *c, struct cache_entry *e,
	uint32_t weight, const char *label, berth_slot *ret) {
	struct slot_request request = {.path = &e->path, .weight = weight};
	struct local_slot *local = e->local;
	uint32_t charged;
	uint64_t seq = 0;
	int r;

	for (uint32_t k = 0; k < e->path.depth; k++) {
		const struct level *l = &e->path.level[k];

		r = level_check(s, c, l, k == 0 ? CACHE_ENTRY_MASK : BERTH_GENERATION_LAST,
			k == 0 ? e->entry_bits : l->generation, weight, &request.seen[k]);
		if (unlikely(r < 0))
			return r;
	}
	if (unlikely(load_acquire(&local->token) != c->owned_token))
		return -EAGAIN;
	request.stamp = (struct stamp){slot_now(), label};
	charged = counter_acquire_fast(s->map, local_record(local), &request, &seq);
	if (unlikely(charged != e->path.depth)) {
		if (charged == 0)
			return -EAGAIN;
		r = counter_acquire_continue(s->map, local_record(local), &request, charged, seq);
		if (r == -ENOMEM)
			(void)ask_finish_release(
				s, local->number, clock_monotonic_ms() + s->handle->timeout_ms);
		if (r < 0)
			return r;
	}
	record_stamp(load_relaxed(&local->record), &request.stamp);
	store_relaxed(&local->weight, (uint16_t)weight);
	*ret = slot_next(load_relaxed(&local->slot), seq);
	store_relaxed(&local->slot, *ret);
	store_release(&local->token, tag_pack(local->number, seq));
	thread_leave(c);
	return BERTH_SUCCESS;
}

/* True if berthd already knows that counts in this account's group of cells have changed, so that
 * it needn't be woken. */
static _always_inline_ bool is_announced(const struct cache *c, const struct level *l) {
	return likely(load_total(l->dirty) != 0) && likely(load_total(c->armed) == 0);
}

/* Announces a change (C2 to C6 of wake.h), and raises the peak to `count`. count 0: the count
 * hasn't grown. */
static _cold_ int single_announce(struct session *s, const struct cache_entry *e, uint32_t count) {
	wake_changed(s->map, e->path.level[0].dirty);
	cell_note_peak(e->path.level[0].cell, count);
	return BERTH_SUCCESS;
}

/* Completes an acquire after A1 of counter.c. `now`: the words that A1 has written to the cell. */
static _always_inline_ int single_finish(struct session *s, struct cache *c, struct cache_entry *e,
	struct local_slot *local, struct pair now, uint32_t weight, const char *label,
	berth_slot *ret) {
	const struct level *l = &e->path.level[0];
	berth_slot slot = slot_next(load_relaxed(&local->slot), now.second);
	struct record *record;
	size_t length = 0;
	uint64_t since;

	store_relaxed(&local->weight, (uint16_t)weight);
	store_relaxed(&local->slot, slot);
	*ret = slot;
	/* Pairs with the load by the thread that releases the slot. */
	store_release(&local->token, now.second);
	if (unlikely(!is_announced(c, l)) ||
		unlikely(load_relaxed(&l->cell->peak) < count_of(now.first)))
		(void)single_announce(s, e, count_of(now.first));
	/* The time and the label are stored last, when few other values must be kept in registers.
	 * Until then, the list of holders shows the time of the record's previous slot. */
	if (label)
		length = strlen(label);
	since = slot_now();
	record = load_relaxed(&e->local->record);
	store_relaxed(&record->since, since);
	if (label)
		record_label(record, label, length);
	thread_leave(c);
	return BERTH_SUCCESS;
}

/* Acquires a slot of an account of one level, whose cell bears another record's tag. */
static _noinline_ int single_acquire_other(struct session *s, struct cache *c,
	struct cache_entry *e, uint32_t weight, const char *label, berth_slot *ret) {
	const struct level *l = &e->path.level[0];
	struct local_slot *local = e->local;
	struct pair seen, now;
	int r;

	/* This function checks the level again, so that single_acquire() needn't keep in registers
	 * what its own check has read. */
	r = level_check(s, c, l, CACHE_ENTRY_MASK, e->entry_bits, weight, &seen);
	if (unlikely(r < 0))
		return r;
	if (unlikely(!counter_acquire_other(s->map, local_record(local), l->cell, seen,
		    entry_place(e, weight), weight, &now)))
		return path_acquire(s, c, e, weight, label, ret);
	return single_finish(s, c, e, local, now, weight, label, ret);
}

/* Acquires a slot of an account of one level. Returns the same as path_acquire(). */
static _always_inline_ int single_acquire(struct session *s, struct cache *c, struct cache_entry *e,
	uint32_t weight, const char *label, berth_slot *ret) {
	const struct level *l = &e->path.level[0];
	struct local_slot *local = e->local;
	struct pair seen, now;
	struct record_at at;
	int r;

	r = level_check(s, c, l, CACHE_ENTRY_MASK, e->entry_bits, weight, &seen);
	if (unlikely(r < 0))
		return r;
	if (unlikely(load_acquire(&local->token) != c->owned_token))
		return -EAGAIN;
	at = local_record(local);
	record_unlabel(at.record);
	if (unlikely(!counter_acquire_one(at, l->cell, seen, entry_place(e, weight), weight, &now)))
		return single_acquire_other(s, c, e, weight, label, ret);
	return single_finish(s, c, e, local, now, weight, label, ret);
}

/* Ends an attempt that failed with r: leaves the session, and takes the general path unless r is
 * final. */
static _cold_ int acquire_failed(struct session *s, struct cache *c, const char *account,
	uint32_t weight, const char *label, int r, berth_slot *ret) {
	thread_leave(c);
	/* If the session has ended, the general path opens another (acquire-general.c,
	 * acquire_inside). */
	if (r == -ECANCELED && session_is_open(s))
		return BERTH_CONNECTION_ABORTED;
	return r == -EUCLEAN ? BERTH_FILE_CORRUPT
			     : general_acquire(s->handle, account, weight, label, ret);
}

/* Called if the thread's first cache isn't this session's. If the thread used another handle last,
 * this function puts the cache of this handle's session first. If the thread has no cache of this
 * session, the general path finds out why. In a forked child no thread has a cache (thread.c). */
static _noinline_ int acquire_switch(
	struct berth *b, const char *account, uint32_t weight, const char *label, berth_slot *ret) {
	const struct berth_request request = {
		.size = sizeof(request), .account = account, .weight = weight, .label = label};

	if (!ret)
		return BERTH_INVALID_PARAMETER;
	if (!thread_find_cache(load_acquire(&b->fast)->number))
		return general_acquire(b, account, weight, label, ret);
	return weight == 1 && !label ? berth_acquire(b, account, ret)
				     : berth_acquire_req(b, &request, ret);
}

/* From thread_enter() on, the code uses s->handle instead of b, and another function handles
 * failures. So the compiler keeps only those values in registers that the common case needs. */
static _always_inline_ int acquire(
	struct berth *b, const char *account, uint32_t weight, const char *label, berth_slot *ret) {
	struct session *s = load_acquire(&b->fast); /* pairs with handle_publish() */
	const struct thread *t = thread_self;
	struct cache_entry *e;
	struct cache *c;
	int r;

	if (unlikely(t->session[0] != s->number) || unlikely(!ret))
		return acquire_switch(b, account, weight, label, ret);
	c = t->cache[0];
	e = c->last;
	if (unlikely(strcmp(account, e->name) != 0)) {
		e = cache_find(c, account);
		if (unlikely(!e))
			return general_acquire(s->handle, account, weight, label, ret);
	}
	/* This check comes first, because the counts in a segment that berthd has replaced may
	 * still be below the limits. */
	if (unlikely(!thread_enter(c, s)))
		return acquire_failed(s, c, account, weight, label, -EAGAIN, ret);
	r = likely(e->path.depth == 1) ? single_acquire(s, c, e, weight, label, ret)
				       : path_acquire(s, c, e, weight, label, ret);
	if (likely(r == 0))
		return BERTH_SUCCESS;
	if (unlikely(r != -EDQUOT))
		return acquire_failed(s, c, account, weight, label, r, ret);
	thread_leave(c);
	return BERTH_CONNECTION_COUNT_LIMIT;
}

int berth_acquire_req(struct berth *b, const struct berth_request *req, berth_slot *ret) {
	if (unlikely(!b || !req || !req->account || !sized_is_known(req, req->size, sizeof(*req)) ||
		     req->weight > BERTH_WEIGHT_MAX || (req->timeout_ms | (int)req->flags) != 0))
		return BERTH_INVALID_PARAMETER;
	return acquire(b, req->account, req->weight ? req->weight : 1, req->label, ret);
}

int berth_acquire(struct berth *b, const char *account, berth_slot *ret) {
	if (unlikely(!b) || unlikely(!account))
		return BERTH_INVALID_PARAMETER;
	return acquire(b, account, 1, NULL, ret);
}

/* -- releasing --------------------------------------------------------------------------------- */

/* Releases the slot `tag` of an account of any depth. It is a function of its own so that
 * release_search() needs few registers for an account of one level. */
static _noinline_ int path_release(struct session *s, struct cache *c, struct cache_entry *e,
	struct local_slot *local, uint64_t tag, berth_slot slot) {
	uint32_t discharged =
		counter_release_fast(s->map, local_record(local), &e->path, tag_seq(tag));

	if (unlikely(discharged == 0))
		return general_release(s->handle, slot);
	if (unlikely(discharged != e->path.depth))
		return general_release_continue(s, local, &e->path, discharged, tag_seq(tag));
	cache_attach(c, s->pool, e, local);
	return BERTH_SUCCESS;
}

/* Releases a slot other than the one that this thread acquired last. */
static _noinline_ int release_search(struct berth *b, berth_slot slot) {
	struct session *s = load_acquire(&b->fast);
	struct cache_entry *e;
	struct local_slot *local;
	struct cache *c;
	uint64_t tag;

	if (unlikely(thread_self->session[0] != s->number) && !thread_find_cache(s->number))
		return general_release(b, slot);
	c = thread_self->cache[0];
	local = pool_local(s->pool, slot_record(slot));
	if (unlikely(!local))
		return general_release(b, slot);
	/* The token is loaded before the slot's number. If the token is that of a later slot, so is
	 * the number. */
	tag = load_acquire(&local->token);
	if (unlikely(!token_is_slot(tag) || load_acquire(&local->slot) != slot ||
		     !cache_has_entry_of(c, local)))
		return general_release(b, slot);
	e = load_acquire(&local->entry);
	/* The code checks again, because another thread may have taken the record by now. */
	if (unlikely(!cache_has_entry_of(c, local)))
		return general_release(b, slot);
	if (e->path.depth == 1 &&
		counter_release_other(s->map, local_record(local), e->path.level[0].cell,
			load_relaxed(&local->weight), tag)) {
		cache_attach(c, s->pool, e, local);
		wake_changed(s->map, e->path.level[0].dirty);
		return BERTH_SUCCESS;
	}
	return path_release(s, c, e, local, tag, slot);
}

int berth_release(struct berth *b, berth_slot slot) {
	const struct thread *t = thread_self;
	struct cache_entry *e;
	struct session *s;
	struct local_slot *local;
	struct cache *c;
	uint64_t tag;

	if (unlikely(!b))
		return BERTH_INVALID_PARAMETER;
	s = load_acquire(&b->fast); /* pairs with handle_publish() */
	if (unlikely(t->session[0] != s->number))
		return release_search(b, slot);
	c = t->cache[0];
	e = c->last;
	local = e->local;
	/* The token is loaded before the slot's number. If the token is that of a later slot, so is
	 * the number. If the token is that of an earlier slot, the cell bears another tag. */
	tag = load_acquire(&local->token);
	if (unlikely(load_acquire(&local->slot) != slot) ||
		unlikely(load_relaxed(&local->stamp) != e->stamp) || unlikely(e->path.depth != 1) ||
		unlikely(!counter_release_one(e->path.level[0].cell, &local->weight, tag)))
		return release_search(b, slot);
	store_release(&local->token, c->owned_token);
	return likely(is_announced(c, &e->path.level[0])) ? BERTH_SUCCESS
							  : single_announce(s, e, 0);
}
