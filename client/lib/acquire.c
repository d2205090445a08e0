/* SPDX-License-Identifier: MIT */

/* The general path of acquires and releases: finds the account and a record, and leaves both in the
 * thread's path cache for the fast path. */

#include <string.h>

#include "acquire.h"
#include "ask.h"
#include "call.h"
#include "clock.h"
#include "fork.h"
#include "handle.h"
#include "thread.h"

/* -- acquiring --------------------------------------------------------------------------------- */

struct acquisition {
	struct slot_request request;
	struct path path;
	berth_slot *ret;
};

/* The most records that an attempt tries. A record can't be used while berthd is taking it back, or
 * after its words were written over. */
#define TRIES 64

/* The cache's entry of the account with this path, which is added if there is none. NULL: no
 * memory, or no cache. */
static struct cache_entry *entry_get(
	struct cache *c, struct pool *p, const char *account, const struct path *path) {
	struct cache_entry *e;

	if (!c)
		return NULL;
	e = cache_find(c, account);
	if (e && e->path.depth == path->depth &&
		memcmp(e->path.level, path->level, path->depth * sizeof(path->level[0])) == 0)
		return e;
	return cache_add(c, p, account, path);
}

/* Tries one record. -EAGAIN: it can't be used now, and no entry names it. Then *ret_unusable is the
 * record, which the caller returns to the pool; or NULL if the record is retired. */
static int acquire_with_one(struct call *call, struct cache *c, struct cache_entry *e,
	struct acquisition *a, struct local_slot **ret_unusable) {
	struct pool *p = call->session->pool;
	struct local_slot *local;
	berth_slot slot;
	uint64_t seq;
	int r = cache_claim(c, p, e, &local);

	*ret_unusable = NULL;
	if (r < 0)
		return r;
	call->record = local->number;
	r = local_acquire(p, local, &a->request, &seq);
	if (r == 0) {
		slot = slot_next(load_relaxed(&local->slot), seq);
		cache_note_slot(c, p, e, local, tag_pack(local->number, seq), slot);
		*a->ret = slot;
	} else if (r == -EAGAIN || r == -ERANGE) {
		cache_detach(c, e, local);
		*ret_unusable = r == -EAGAIN ? local : NULL;
		r = -EAGAIN;
	} else {
		cache_return_unused(c, p, local);
	}
	return r;
}

/* Tries one record after another. Those that can't be used return to the pool at the end, so that
 * none is tried twice. */
static int acquire_with_any(
	struct call *call, struct cache *c, struct cache_entry *e, struct acquisition *a) {
	struct session *s = call->session;
	struct local_slot *unusable[TRIES];
	int n = 0, r;

	do
		r = acquire_with_one(call, c, e, a, &unusable[n]);
	while (r == -EAGAIN && ++n < TRIES);
	while (n-- > 0)
		if (unusable[n])
			pool_return(s->pool, unusable[n]);
	/* berthd takes back the records of a session that ends as it does those of revoked slots.
	 * But there will be another session. */
	return r == -ECANCELED && !session_is_open(s) ? -ESHUTDOWN : r;
}

/* The thread is inside the session (thread_enter), or has no cache. */
static int acquire_inside(struct call *call, struct cache *c, struct acquisition *a) {
	struct session *s = call->session;
	struct cache_entry *e = entry_get(c, s->pool, call->account, &a->path);
	uint32_t level;
	int r = counter_check(s->map, &a->path, a->request.weight, a->request.seen, &level);

	if (r < 0)
		return r;
	a->request.stamp.since = slot_now();
	return acquire_with_any(call, c, e, a);
}

static int acquire_attempt(struct call *call, void *data) {
	struct session *s = call->session;
	struct acquisition *a = data;
	struct cache *c;
	uint32_t account;
	uint64_t word;
	int r;

	call->range_count = pool_range_count(s->pool);
	r = directory_find(s->map, &call->name, &account, &word);
	if (r == 0)
		r = directory_path(s->map, account, entry_generation(word), &a->path);
	if (r < 0)
		return r;
	if (!entry_is_usable(word))
		return -ENOENT;
	c = thread_get_cache(s);
	/* Before anything else: the cells of a segment that was given up may still have room. */
	if (!(c ? thread_enter(c, s) : session_is_open(s)))
		r = -ESHUTDOWN;
	else
		r = acquire_inside(call, c, a);
	if (c)
		thread_leave(c);
	return r;
}

int general_acquire(
	struct berth *b, const char *account, uint32_t weight, const char *label, berth_slot *ret) {
	int code = BERTH_INVALID_PARAMETER, error = errno;
	struct acquisition a;
	struct call c;

	fork_check();
	if (ret && call_init(&c, b, account) == 0) {
		a.request.path = &a.path;
		a.request.weight = weight;
		a.request.stamp.label = label;
		a.ret = ret;
		code = call_run(&c, acquire_attempt, &a);
	}
	errno = error;
	return code;
}

/* -- releasing --------------------------------------------------------------------------------- */

/* Ends a release for which the pool returned r: has berthd finish the release if it must, and
 * returns a record that the thread has claimed to its cache. */
static int release_end(struct session *s, struct local_slot *local, int r) {
	bool is_claimed = local_is_claimed(local, r);

	if (r == -ENOMEM && ask_finish_release(s, local->number,
				    clock_monotonic_ms() + s->handle->timeout_ms) == 0) {
		is_claimed = local_claim_finished(local);
		r = 0;
	}
	if (is_claimed)
		cache_return(thread_get_cache(s), s->pool, local);
	return r;
}

static int release_code(int r) {
	return r == -ENOENT ? BERTH_TOO_MANY_POSTS : call_code(r);
}

static int release_current(struct session *s, berth_slot slot) {
	struct local_slot *local = pool_local(s->pool, slot_record(slot));

	return local ? release_end(s, local, local_release(s->pool, local, slot_cycle(slot)))
		     : -ENOENT;
}

static int release_retired(const struct berth *b, berth_slot slot) {
	struct session *s = handle_find_retired(b, slot);

	return s ? pool_release_ended(s->pool, slot_record(slot), slot_cycle(slot)) : -ENOENT;
}

int general_release(struct berth *b, berth_slot slot) {
	int r, error = errno;
	struct session *s;

	fork_check();
	/* Pairs with handle_publish(). */
	s = load_acquire(&b->current);
	r = s && session_gave_slot(s, slot) ? release_current(s, slot) : release_retired(b, slot);
	errno = error;
	return release_code(r);
}

int general_release_continue(struct session *s, struct local_slot *local, const struct path *path,
	uint32_t discharged, uint64_t seq) {
	int error = errno;
	int r = release_end(
		s, local, local_release_continue(s->pool, local, path, discharged, seq));

	errno = error;
	return release_code(r);
}
