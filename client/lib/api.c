/* SPDX-License-Identifier: MIT */

/* The general path of acquires, releases and queries: looks for itself, mends what is in its way by asking
 * the daemon, and turns errors into codes; and the opening and closing of handles. */

#include <string.h>

#include "berth.h"
#include "clock.h"
#include "denials.h"
#include "name.h"
#include "protocol.h"
#include "fast.h"

#define RUNTIME_DIR "/run/berth"
#define TIMEOUT_MS  5000

/* How often one call looks again after something was mended. */
#define ROUNDS 16

/* A positive r is the daemon's answer already. */
static int code_of(int r) {
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

/* -- one call ---------------------------------------------------------------------------------- */

/* What a call is about, and what its last attempt met. */
struct call {
	struct berth *b;
	struct session *session;
	const char *account;
	struct name name;
	int64_t deadline; /* 0: the daemon was not needed so far */
	uint32_t ranges;  /* that the pool had */
	uint32_t record;  /* that the attempt was made with; 0: none */
	bool remapped;    /* what couldn't be mapped was tried again */
	bool refused; /* berthd has no more ranges: what the thread has for other accounts must do */
};

/* The time that the daemon has begins when it is first needed. */
static int64_t call_deadline(struct call *c) {
	if (c->deadline == 0)
		c->deadline = clock_monotonic_ms() + c->b->timeout_ms;
	return c->deadline;
}

static _always_inline_ void call_init(struct call *c, struct berth *b, const char *account) {
	c->b = b;
	c->account = account;
	c->deadline = 0;
	c->remapped = false;
	c->refused = false;
}

static int call_begin(struct call *c, struct berth *b, const char *account) {
	call_init(c, b, account);
	return name_load(account, &c->name);
}

/* Pairs with session_publish(). */
static int call_session(struct call *c) {
	c->record = 0;
	c->session = load_acquire(&c->b->current);
	return likely(c->session) ? 0 : session_get(c->b, call_deadline(c), &c->session);
}

static int call_resolve(struct call *c) {
	if (name_check(c->account, c->name.length))
		return -EINVAL;
	return session_resolve(c->b, c->session, c->account, call_deadline(c));
}

/* -ENOMEM: a window that can't be mapped. If that is because the application closed the files
 * (closefrom), berthd hands them out again; another thread may have seen to that just now. */
static int call_remap(struct call *c) {
	bool again = !c->remapped || !map_files_are_ours(c->session->map);
	int r = session_renew(c->b, c->session, call_deadline(c));

	c->remapped = true;
	if (c->record != 0)
		(void)session_settle(c->b, c->session, c->record, call_deadline(c));
	return r == 0 && !again ? -ENOMEM : r;
}

static int call_grow(struct call *c) {
	int r = session_grow(c->b, c->session, c->ranges, call_deadline(c));

	if (r != BERTH_NO_SYSTEM_RESOURCES || c->refused)
		return r;
	c->refused = true;
	return 0;
}

/* Does what an attempt that ended with r needs before the next one; what else it returns is final. */
static _cold_ int call_mend(struct call *c, int r) {
	switch (r) {
	case -EAGAIN:
		return 0;
	case -ENOENT:
	case -ESTALE:
		return call_resolve(c);
	case -ENOBUFS:
		return call_grow(c);
	case -ESHUTDOWN:
		return session_replace(c->b, c->session, call_deadline(c));
	case -ENOMEM:
		return call_remap(c);
	default:
		return r;
	}
}

/* Makes the attempt until it is final. */
static int call_run(struct call *c, int (*attempt)(struct call *c, void *to), void *to) {
	for (int round = 0; round < ROUNDS; round++) {
		int r = call_session(c);

		if (likely(r == 0)) {
			r = attempt(c, to);
			if (likely(r == 0))
				return 0;
			r = call_mend(c, r);
		}
		if (r != 0)
			return code_of(r);
	}
	return BERTH_NO_SYSTEM_RESOURCES;
}

/* -- acquiring --------------------------------------------------------------------------------- */

struct acquisition {
	struct slot_request request;
	struct path path;
	berth_slot *ret;
};

/* How many records an attempt tries, of those that are of no use now: berthd is taking them back, or noise
 * lies over them. */
#define TRIES 64

/* The cache's entry of the account, which has this path. NULL: there is no memory for it. */
static struct cache_entry *entry_get(
	struct cache *c, struct pool *p, const char *account, const struct path *path) {
	struct cache_entry *e = c ? cache_find(c, account) : NULL;

	if (e && e->path.depth == path->depth &&
		memcmp(e->path.level, path->level, path->depth * sizeof(path->level[0])) == 0)
		return e;
	return c ? cache_add(c, p, account, path) : NULL;
}

/* What an acquire means that ended with r: the record of a session that ends is taken back like that of
 * a slot that is revoked, but there will be another session. */
static int acquire_ended(const struct session *s, int r) {
	return r != -ECANCELED || session_is_open(s) ? r : -ESHUTDOWN;
}

/* With one record. -EAGAIN: it is of no use, and no entry's; *ret_useless is it, if it is to go back. */
static int acquire_one(struct call *call, struct cache *c, struct cache_entry *e,
	struct acquisition *a, struct local_slot **ret_useless) {
	struct pool *p = call->session->pool;
	struct local_slot *local;
	berth_slot slot;
	uint64_t seq;
	int r = cache_take(c, p, e, &local);

	*ret_useless = NULL;
	if (r < 0)
		return r;
	call->record = local->number;
	r = local_acquire(p, local, &a->request, &seq);
	if (r == 0) {
		slot = slot_next(load_relaxed(&local->slot), seq);
		cache_hold(c, p, e, local, tag_pack(local->number, seq), slot);
		*a->ret = slot;
	} else if (r == -EAGAIN || r == -ERANGE) {
		cache_part(c, e, local);
		*ret_useless = r == -EAGAIN ? local : NULL;
		r = -EAGAIN;
	} else {
		cache_keep(c, p, local);
	}
	return r;
}

/* With one record after the other: those that are of no use now go back at the end. */
static int acquire_taken(
	struct call *call, struct cache *c, struct cache_entry *e, struct acquisition *a) {
	struct local_slot *useless[TRIES];
	int n = 0, r;

	do
		r = acquire_one(call, c, e, a, &useless[n]);
	while (r == -EAGAIN && ++n < TRIES);
	while (n-- > 0)
		if (useless[n])
			pool_give(call->session->pool, useless[n]);
	return acquire_ended(call->session, r);
}

static int acquire_inside(struct call *call, struct cache *c, struct acquisition *a) {
	struct session *s = call->session;
	struct cache_entry *e = entry_get(c, s->pool, call->account, &a->path);
	uint32_t level;
	int r = counter_check(s->map, &a->path, a->request.weight, a->request.seen, &level);

	if (r < 0)
		return r;
	a->request.stamp.since = slot_now();
	return acquire_taken(call, c, e, a);
}

static int acquire_attempt(struct call *call, void *to) {
	struct session *s = call->session;
	struct acquisition *a = to;
	struct cache *c;
	uint32_t account;
	uint64_t word;
	int r;

	call->ranges = pool_ranges(s->pool);
	r = directory_find(s->map, &call->name, &account, &word);
	if (r == 0)
		r = directory_path(s->map, account, entry_generation(word), &a->path);
	if (r < 0)
		return r;
	if (!entry_is_usable(word))
		return -ENOENT;
	c = cache_get(s);
	/* First of all: a segment that was given up would go on answering as it last stood. */
	if (!(c ? cache_enter(c, s) : session_is_open(s)))
		r = -ESHUTDOWN;
	else
		r = acquire_inside(call, c, a);
	if (c)
		store_release(&c->inside, false);
	return r;
}

int general_acquire(
	struct berth *b, const char *account, uint32_t weight, const char *label, berth_slot *ret) {
	int code = BERTH_INVALID_PARAMETER, error = errno;
	struct acquisition a;
	struct call c;

	session_check_fork();
	if (ret && call_begin(&c, b, account) == 0) {
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

/* A release ended with r. Where the record is this thread's now, its cache has it. */
static int release_end(struct berth *b, struct session *s, struct local_slot *local, int r) {
	bool ours = local_is_claimed(local, r);

	if (r == -ENOMEM &&
		session_settle(b, s, local->number, clock_monotonic_ms() + b->timeout_ms) == 0) {
		ours = local_settled(local);
		r = 0;
	}
	if (ours)
		cache_give(cache_get(s), s->pool, local);
	return r;
}

static int code_of_release(int r) {
	return r == -ENOENT ? BERTH_TOO_MANY_POSTS : code_of(r);
}

static int release_current(struct berth *b, struct session *s, berth_slot slot) {
	struct local_slot *local = pool_local(s->pool, slot_record(slot));

	return local ? release_end(b, s, local, local_release(s->pool, local, slot_cycle(slot)))
		     : -ENOENT;
}

static int release_retired(struct berth *b, berth_slot slot) {
	struct session *s = session_find_retired(b, slot);

	return s ? pool_forget(s->pool, slot_record(slot), slot_cycle(slot)) : -ENOENT;
}

int general_release(struct berth *b, berth_slot slot) {
	int r, error = errno;
	struct session *s;

	session_check_fork();
	/* Pairs with session_publish(). */
	s = load_acquire(&b->current);
	r = s && session_gave(s, slot) ? release_current(b, s, slot) : release_retired(b, slot);
	errno = error;
	return code_of_release(r);
}

int general_release_rest(struct berth *b, struct session *s, struct local_slot *local,
	const struct path *path, uint32_t given, uint64_t seq) {
	int error = errno;
	int r = release_end(b, s, local, local_release_rest(s->pool, local, path, given, seq));

	errno = error;
	return code_of_release(r);
}

/* -- asking ------------------------------------------------------------------------------------ */

static int query_attempt(struct call *c, void *to) {
	struct map *m = c->session->map;
	struct berth_usage *usage = to;
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
	/* Whoever has just raised the count may not have noted the peak yet. */
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

	/* There must be room for the limit and the count at least. */
	if (!b || !account || !usage || usage->size < offsetof(struct berth_usage, peak))
		return BERTH_INVALID_PARAMETER;
	session_check_fork();
	if (call_begin(&c, b, account) < 0)
		return BERTH_INVALID_PARAMETER;
	code = call_run(&c, query_attempt, &found);
	if (code != BERTH_SUCCESS)
		return code;
	found.size = usage->size;
	memcpy(usage, &found, MIN_OF(usage->size, sizeof(found)));
	return BERTH_SUCCESS;
}

/* -- handles ----------------------------------------------------------------------------------- */

static const char *runtime_dir_of(const struct berth_options *options) {
	const char *dir = options->runtime_dir;

	if (!dir)
		dir = secure_getenv("BERTH_RUNTIME_DIR");
	return dir && *dir ? dir : RUNTIME_DIR;
}

static bool options_are_valid(const struct berth_options *options) {
	return struct_is_known(options, options->size, sizeof(*options)) &&
	       options->timeout_ms >= 0 && options->flags == 0;
}

int berth_open_options(const struct berth_options *options, struct berth **ret) {
	int timeout_ms, r, error = errno;
	struct session *s;
	struct berth *b;

	if (!options || !ret || !options_are_valid(options))
		return BERTH_INVALID_PARAMETER;
	if (!cas16_is_there())
		return BERTH_NO_SYSTEM_RESOURCES;
	timeout_ms = options->timeout_ms ? options->timeout_ms : TIMEOUT_MS;
	r = session_handle_new(runtime_dir_of(options), timeout_ms, &b);
	if (r == 0) {
		r = session_get(b, clock_monotonic_ms() + timeout_ms, &s);
		if (r == 0)
			*ret = b;
		else
			session_handle_free(b);
	}
	errno = error;
	return code_of(r);
}

int berth_open(const char *runtime_dir, struct berth **ret) {
	struct berth_options options = {.size = sizeof(options), .runtime_dir = runtime_dir};

	return berth_open_options(&options, ret);
}

void berth_close(struct berth *b) {
	int cancel, error = errno;
	struct session *s;

	if (!b)
		return;
	session_check_fork();
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	s = load_acquire(&b->current);
	if (s)
		pool_release_all(s->pool);
	session_handle_free(b);
	(void)pthread_setcancelstate(cancel, NULL);
	errno = error;
}
