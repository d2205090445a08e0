/* SPDX-License-Identifier: MIT */

/*
 * The general path. A call makes an attempt. If the attempt fails for a reason that berthd can
 * mend, the call asks berthd to mend it, and makes another attempt. An acquire finds the account
 * and a record, and leaves both in the thread's path cache for the fast path.
 */

#include <string.h>

#include "ask.h"
#include "fork.h"
#include "clock.h"
#include "denials.h"
#include "directory.h"
#include "acquire-general.h"
#include "name.h"
#include "thread.h"

/* The most attempts that a call makes. */
#define ATTEMPTS 16

/* An attempt tries at most this many records. A record can't be used while berthd is taking it
 * back, or after a faulty process has written over its words. */
#define TRIES 64

/* -- calls ------------------------------------------------------------------------------------- */

/* One call of the API. */
struct call {
	struct berth *b;
	struct session *session; /* in which the attempt is made */
	const char *account;
	struct name name;     /* of the account */
	int64_t deadline;     /* 0: berthd wasn't needed so far */
	uint32_t range_count; /* how many ranges the pool had before the attempt */
	uint32_t record;      /* the number of the record that the attempt used; 0: none */
	bool was_remapped;    /* the call has retried because a window couldn't be mapped */
	bool was_refused;     /* berthd has no more ranges, so records of other accounts are used */
};

int general_code(int r) {
	if (r >= 0)
		return r;
	switch (-r) {
	case EDQUOT:
		return BERTH_CONNECTION_COUNT_LIMIT;
	case EINVAL:
		return BERTH_INVALID_PARAMETER;
	case EACCES:
	case EPERM:
		return BERTH_ACCESS_DENIED;
	case ECANCELED:
		return BERTH_CONNECTION_ABORTED;
	case EPROTONOSUPPORT:
		return BERTH_REVISION_MISMATCH;
	case EUCLEAN:
		return BERTH_FILE_CORRUPT;
	case ECONNREFUSED:
	case ECONNRESET:
	case ETIMEDOUT:
	case EBADMSG:
	case EMSGSIZE:
	case EPROTOTYPE:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
		return BERTH_CONNECTION_REFUSED;
	default:
		return BERTH_NO_SYSTEM_RESOURCES;
	}
}

/* -EINVAL: no account can have this name. */
static int call_init(struct call *c, struct berth *b, const char *account) {
	c->b = b;
	c->account = account;
	c->deadline = 0;
	c->was_remapped = false;
	c->was_refused = false;
	return name_load(account, &c->name);
}

/* The timeout begins when the call first needs berthd. */
static int64_t call_deadline(struct call *c) {
	if (c->deadline == 0)
		c->deadline = clock_monotonic_ms() + c->b->timeout_ms;
	return c->deadline;
}

/* Mends the cause of the error r, which an attempt returned. 0: another attempt may succeed; any
 * other result is final. */
static _cold_ int call_mend(struct call *c, int r) {
	bool again;

	switch (r) {
	case -EAGAIN:
		return 0;
	case -ENOENT:
	case -ESTALE:
		return name_check(c->account, c->name.length)
			       ? -EINVAL
			       : ask_name(c->session, c->account, call_deadline(c));
	case -ENOBUFS:
		r = ask_ranges(c->session, c->range_count, call_deadline(c));
		if (r != BERTH_NO_SYSTEM_RESOURCES || c->was_refused)
			return r;
		/* berthd has no ranges left. The call makes one more attempt, which may find a
		 * record that the thread keeps for another account. */
		c->was_refused = true;
		return 0;
	case -ESHUTDOWN:
		return ask_new_session(c->session, call_deadline(c));
	case -ENOMEM:
		/* If the application has closed the files (closefrom), the call asks berthd for
		 * them again, unless another thread has just done so. */
		again = !c->was_remapped || !map_files_are_ours(c->session->map);
		r = ask_files(c->session, call_deadline(c));
		c->was_remapped = true;
		if (c->record != 0)
			(void)ask_finish_release(c->session, c->record, call_deadline(c));
		return r == 0 && !again ? -ENOMEM : r;
	default:
		return r;
	}
}

/* Makes attempts until the result of one is final, and returns the code of berth.h for that result.
 * An attempt returns 0 or a negative errno. After the following errors, the call mends the cause
 * and makes another attempt:
 *   -EAGAIN           there is nothing to mend
 *   -ENOENT, -ESTALE  berthd must enter the name in the directory
 *   -ENOBUFS          the pool has no record
 *   -ESHUTDOWN        the session has ended
 *   -ENOMEM           a window can't be mapped */
static int call_run(struct call *c, int (*attempt)(struct call *c, void *data), void *data) {
	for (int i = 0; i < ATTEMPTS; i++) {
		int r = 0;

		c->record = 0;
		c->session = load_acquire(&c->b->current); /* pairs with handle_publish() */
		if (unlikely(!c->session))
			r = ask_session(c->b, call_deadline(c), &c->session);
		if (likely(r == 0)) {
			r = attempt(c, data);
			if (likely(r == 0))
				return BERTH_SUCCESS;
			r = call_mend(c, r);
		}
		if (r != 0)
			return general_code(r);
	}
	return BERTH_NO_SYSTEM_RESOURCES;
}

/* -- acquiring --------------------------------------------------------------------------------- */

struct acquisition {
	struct slot_request request;
	struct path path;
	berth_slot *ret;
};

/* Tries one record. -EAGAIN: the record can't be used, and no entry names it any more. If the
 * record is retired, *ret_unusable is NULL; otherwise *ret_unusable is the record, and the caller
 * must return it to the pool. */
static int acquire_with_one(struct call *call, struct cache *c, struct cache_entry *e,
	struct acquisition *a, struct local_slot **ret_unusable) {
	struct pool *p = call->session->pool;
	struct local_slot *local;
	uint64_t seq;
	int r = cache_claim(c, p, e, &local);

	*ret_unusable = NULL;
	if (r < 0)
		return r;
	call->record = local->number;
	r = local_acquire(p, local, &a->request, &seq);
	if (r == 0) {
		*a->ret = slot_next(load_relaxed(&local->slot), seq);
		cache_note_slot(c, p, e, local, seq);
	} else if (r == -EAGAIN || r == -ERANGE) {
		cache_detach(c, e, local);
		*ret_unusable = r == -EAGAIN ? local : NULL;
		r = -EAGAIN;
	} else {
		cache_return_unused(c, p, local);
	}
	return r;
}

/* Acquires a slot. If c isn't NULL, it is the thread's cache, and the thread has entered the
 * session (thread_enter). */
static int acquire_inside(struct call *call, struct cache *c, struct acquisition *a) {
	struct session *s = call->session;
	const struct path *path = &a->path;
	size_t size = path->depth * sizeof(path->level[0]);
	struct cache_entry *e = c ? cache_find(c, call->account) : NULL;
	struct local_slot *unusable[TRIES];
	int n = 0, r;

	if (c && (!e || e->path.depth != path->depth ||
			 memcmp(e->path.level, path->level, size) != 0))
		e = cache_add(c, s->pool, call->account, path);
	r = counter_check(s->map, path, a->request.weight, a->request.seen);
	if (r < 0)
		return r;
	a->request.stamp.since = slot_now();
	do
		r = acquire_with_one(call, c, e, a, &unusable[n]);
	while (r == -EAGAIN && ++n < TRIES);
	/* Records that can't be used return to the pool only now, so that no record is tried
	 * twice. */
	while (n-- > 0)
		if (unusable[n])
			pool_return(s->pool, unusable[n]);
	/* -ECANCELED means that berthd has taken back the record: it has revoked the slot, or it is
	 * ending the session. If it is ending the session, the call opens another session. */
	return r == -ECANCELED && !session_is_open(s) ? -ESHUTDOWN : r;
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
	/* This check comes first, because the counts in a segment that berthd has replaced may
	 * still be below the limits. */
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

/* Ends a release for which the pool returned r. If r is -ENOMEM, asks berthd to finish the release.
 * If the thread has claimed the record, puts the record in the thread's cache. Returns a code of
 * berth.h. */
static int release_end(struct session *s, struct local_slot *local, int r) {
	bool is_claimed = local_is_claimed(local, r);

	if (r == -ENOMEM && ask_finish_release(s, local->number,
				    clock_monotonic_ms() + s->handle->timeout_ms) == 0) {
		is_claimed = local_claim_finished(local);
		r = 0;
	}
	if (is_claimed)
		cache_return(thread_get_cache(s), s->pool, local);
	return r == -ENOENT ? BERTH_TOO_MANY_POSTS : general_code(r);
}

int general_release(struct berth *b, berth_slot slot) {
	int code = BERTH_TOO_MANY_POSTS, error = errno;
	struct local_slot *local;
	struct session *s;

	fork_check();
	s = load_acquire(&b->current); /* pairs with handle_publish() */
	if (s && session_gave_slot(s, slot)) {
		local = pool_local(s->pool, slot_record(slot));
		if (local)
			code = release_end(
				s, local, local_release(s->pool, local, slot_cycle(slot)));
	} else {
		s = handle_find_retired(b, slot);
		if (s && pool_release_ended(s->pool, slot_record(slot), slot_cycle(slot)) ==
				 -ECANCELED)
			code = BERTH_CONNECTION_ABORTED;
	}
	errno = error;
	return code;
}

int general_release_continue(struct session *s, struct local_slot *local, const struct path *path,
	uint32_t discharged, uint64_t seq) {
	int error = errno;
	int code = release_end(
		s, local, local_release_continue(s->pool, local, path, discharged, seq));

	errno = error;
	return code;
}

/* -- queries ----------------------------------------------------------------------------------- */

static int query_attempt(struct call *c, void *data) {
	struct map *m = c->session->map;
	struct berth_usage *usage = data;
	uint32_t account, limit, peak;
	struct cell *cell;
	uint64_t word;
	int r;

	r = directory_find(m, &c->name, &account, &word);
	if (r < 0)
		return r;
	if (!session_is_open(c->session))
		return -ESHUTDOWN;
	cell = map_cell(m, account);
	if (!cell)
		return map_account_error(m, account);
	limit = entry_limit(word);
	usage->limit = limit == BERTH_LIMIT_NONE ? UINT32_MAX : limit;
	usage->current = counter_count(m, account);
	/* A process that has just raised the count may not have updated the peak yet. */
	peak = load_relaxed(&cell->peak);
	usage->peak = MAX_OF(peak, usage->current);
	usage->waiting = load_relaxed(&cell->waiting);
	usage->denied = load_relaxed(&cell->denied) + denials_pending(m, account);
	return 0;
}

int berth_query(struct berth *b, const char *account, struct berth_usage *usage) {
	struct berth_usage found = {0};
	struct call c;
	int code;

	/* The struct must include at least `limit` and `current`. */
	if (!b || !account || !usage || usage->size < offsetof(struct berth_usage, peak))
		return BERTH_INVALID_PARAMETER;
	fork_check();
	if (call_init(&c, b, account) < 0)
		return BERTH_INVALID_PARAMETER;
	code = call_run(&c, query_attempt, &found);
	if (code != BERTH_SUCCESS)
		return code;
	found.size = usage->size;
	memcpy(usage, &found, MIN_OF(usage->size, sizeof(found)));
	return BERTH_SUCCESS;
}
