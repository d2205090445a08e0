/* SPDX-License-Identifier: MIT */

/* The public functions: checks what callers give, goes the fast way through shared memory, mends
 * what is in its way by asking the daemon, and turns errors into codes. */

#include <string.h>
#include <time.h>

#include "berth.h"
#include "denials.h"
#include "name.h"
#include "protocol.h"
#include "session.h"

#define RUNTIME_DIR "/run/berth"
#define TIMEOUT_MS  5000

/* How often one call looks again after something was mended. */
#define ROUNDS 16

/* A struct longer than this is a size that was never set. */
#define SIZE_MAX_BELIEVED 4096

/* A slot: serial:20 | record:22 | cycle:22, the lowest bits of the session's serial and of the cycle of
 * the slot's seq. Never 0, since no session has record 0. It is looked up among this handle's own
 * sessions, and there compared with the whole seq that the pool keeps of each slot which this process
 * holds: so a number from an ended session, or from a segment that was replaced, releases no other slot.
 * One could only be taken for a slot of the same session, record and process, taken a multiple of 2^22
 * slots of this record later, by a program that releases it a second time. */
#define SLOT_SERIAL_MASK 0xFFFFFu

static berth_slot slot_pack(const struct session *s, struct pool_slot slot) {
	return s->slots | (uint64_t)slot.record << POOL_CYCLE_BITS | pool_cycle(slot.seq);
}
static uint32_t slot_serial(berth_slot slot) {
	return (uint32_t)(slot >> 44);
}
static bool slot_is_of(berth_slot slot, const struct session *s) {
	return (slot ^ s->slots) >> 44 == 0;
}
static uint32_t slot_record(berth_slot slot) {
	return slot >> POOL_CYCLE_BITS & 0x3FFFFF;
}
static uint32_t slot_cycle(berth_slot slot) {
	return slot & 0x3FFFFF;
}

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

/* True if a caller's struct is as long as ours, or longer and all zeros where we don't know it:
 * a newer program that asks for nothing newer. */
static bool struct_is_known(const void *p, size_t size, size_t known) {
	const char *byte = p;

	if (likely(size == known))
		return true;
	if (size < known || size > SIZE_MAX_BELIEVED)
		return false;
	for (size_t i = known; i < size; i++)
		if (byte[i] != 0)
			return false;
	return true;
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
};

/* The time that the daemon has begins when it is first needed. */
static int64_t call_deadline(struct call *c) {
	if (c->deadline == 0)
		c->deadline = message_now() + c->b->timeout_ms;
	return c->deadline;
}

static _hot_ void call_init(struct call *c, struct berth *b, const char *account) {
	c->b = b;
	c->account = account;
	c->deadline = 0;
	c->remapped = false;
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

/* Does what an attempt that ended with r needs before the next one; what else it returns is final. */
static _rare_ int call_mend(struct call *c, int r) {
	switch (r) {
	case -EAGAIN:
		return 0;
	case -ENOENT:
	case -ESTALE:
		return call_resolve(c);
	case -ENOBUFS:
		return session_grow(c->b, c->session, c->ranges, call_deadline(c));
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
	struct session *session;
	struct slot_request request;
	struct path path;
	struct pool_slot slot;
};

/* To the second, which is what people are shown: asking for more costs as much as the rest. */
static uint64_t now_ms(void) {
	return (uint64_t)time(NULL) * 1000;
}

static int acquire_search(struct session *s, const struct name *name, struct path *ret,
	uint64_t *ret_word, struct recall_slot **ret_slot) {
	uint32_t account;
	int r;

	r = directory_find(s->map, name, &account, ret_word);
	if (r < 0)
		return r;
	r = directory_path(s->map, account, entry_generation(*ret_word), ret);
	*ret_slot = r == 0 ? recall_remember(&s->recall, name, ret) : NULL;
	return r;
}

static int account_search(struct session *s, const char *account, struct path *ret,
	uint64_t *ret_word, struct recall_slot **ret_slot) {
	struct name name;
	int r = name_load(account, &name);

	return r < 0 ? r : acquire_search(s, &name, ret, ret_word, ret_slot);
}

/* What an acquire means that ended with r: the record of a session that ends is taken back like that of
 * a slot that is revoked, but there will be another session. */
static _hot_ int acquire_ended(const struct session *s, int r) {
	return likely(r != -ECANCELED) || session_is_open(s) ? r : -ESHUTDOWN;
}

/* The path is found. a->slot.record is 0, and tells afterwards, whatever is returned, which record was
 * tried. */
static int acquire_found(
	struct session *s, uint64_t word, struct recall_slot *slot, struct acquisition *a) {
	uint32_t level;
	int r;

	if (unlikely(!entry_is_usable(word)))
		return -ENOENT;
	/* First of all: a segment that was given up would go on answering as it last stood. */
	if (!session_is_open(s))
		return -ESHUTDOWN;
	r = counter_check(s->map, &a->path, a->request.weight, a->request.seen, &level);
	if (unlikely(r < 0))
		return r;
	a->request.stamp.since = now_ms();
	a->slot.spot = slot ? load_acquire(&slot->spot) : NULL;
	r = pool_acquire(s->pool, &a->request, &a->slot);
	if (likely(r == 0) && slot)
		store_release(&slot->spot, a->slot.spot);
	return acquire_ended(s, r);
}

static int acquire_attempt(struct call *c, void *to) {
	struct session *s = c->session;
	struct acquisition *a = to;
	struct recall_slot *slot;
	uint64_t word;
	int r;

	c->ranges = pool_ranges(s->pool);
	r = acquire_search(s, &c->name, &a->path, &word, &slot);
	if (r < 0)
		return r;
	a->slot.record = 0;
	r = acquire_found(s, word, slot, a);
	c->record = a->slot.record;
	return r;
}

/* What the first attempt, that of acquire(), has left to be done; it ended with r. */
static _rare_ int acquire_call(
	struct berth *b, const char *account, struct acquisition *a, int r, berth_slot *ret) {
	struct call c;
	int code;

	if (call_begin(&c, b, account) < 0)
		return BERTH_INVALID_PARAMETER;
	/* How many ranges there were must be known before the attempt that found none free. */
	if (r != -ENOBUFS) {
		c.session = a->session;
		c.record = a->slot.record;
		r = call_mend(&c, r);
		if (r != 0)
			return code_of(r);
	}
	code = call_run(&c, acquire_attempt, a);
	if (code == BERTH_SUCCESS)
		*ret = slot_pack(c.session, a->slot);
	return code;
}

static bool request_is_valid(const struct berth_request *req) {
	return struct_is_known(req, req->size, sizeof(*req)) && req->account &&
	       req->weight <= BERTH_WEIGHT_MAX && req->timeout_ms == 0 && req->flags == 0;
}

static _hot_ void acquisition_begin(
	struct acquisition *a, struct session *s, uint32_t weight, const char *label) {
	a->session = s;
	a->request.path = &a->path;
	a->request.weight = weight;
	a->request.stamp.label = label;
	a->slot.record = 0;
}

/* The first attempt ended with r. */
static _hot_ int acquire_answer(
	struct berth *b, const char *account, struct acquisition *a, int r, berth_slot *ret) {
	if (likely(r == 0)) {
		*ret = slot_pack(a->session, a->slot);
		return BERTH_SUCCESS;
	}
	return r == -EDQUOT ? BERTH_CONNECTION_COUNT_LIMIT : acquire_call(b, account, a, r, ret);
}

static int acquire(
	struct berth *b, const char *account, uint32_t weight, const char *label, berth_slot *ret) {
	struct recall_slot *slot = NULL;
	struct acquisition a;
	uint32_t depth, turn;
	struct session *s;
	uint64_t word;
	int r = -EAGAIN;

	session_check_fork();
	/* Pairs with session_publish(). */
	s = load_acquire(&b->current);
	acquisition_begin(&a, s, weight, label);
	if (likely(s)) {
		depth = recall_find(
			&s->recall, account, &pool_lane(s->pool)->recalled, &slot, &turn);
		r = depth > 0 && recall_levels(slot, turn, depth, &a.path) ? 0 : -ENOENT;
		word = r == 0 ? load_acquire(&a.path.level[0].entry->word) : 0;
	}
	if (unlikely(r == -ENOENT))
		r = account_search(s, account, &a.path, &word, &slot);
	if (likely(r == 0))
		r = acquire_found(s, word, slot, &a);
	return acquire_answer(b, account, &a, r, ret);
}

int berth_acquire_req(struct berth *b, const struct berth_request *req, berth_slot *ret) {
	if (unlikely(!b || !req || !ret || !request_is_valid(req)))
		return BERTH_INVALID_PARAMETER;
	return acquire(b, req->account, req->weight ? req->weight : 1, req->label, ret);
}

int berth_acquire(struct berth *b, const char *account, berth_slot *ret) {
	if (unlikely(!b) || unlikely(!account) || unlikely(!ret))
		return BERTH_INVALID_PARAMETER;
	return acquire(b, account, 1, NULL, ret);
}

/* -- releasing --------------------------------------------------------------------------------- */

static int release_current(struct berth *b, struct session *s, berth_slot slot) {
	uint32_t record = slot_record(slot);
	int r = pool_release(s->pool, record, slot_cycle(slot));

	if (unlikely(r == -ENOMEM))
		r = session_settle(b, s, record, message_now() + b->timeout_ms) == 0 ? 0 : -ENOMEM;
	return r;
}

static int release_retired(struct berth *b, berth_slot slot) {
	struct session *s = session_find_retired(b, slot_serial(slot), SLOT_SERIAL_MASK);

	return s ? pool_forget(s->pool, slot_record(slot), slot_cycle(slot)) : -ENOENT;
}

int berth_release(struct berth *b, berth_slot slot) {
	struct session *s;
	int r;

	if (unlikely(!b))
		return BERTH_INVALID_PARAMETER;
	session_check_fork();
	/* Pairs with session_publish(). */
	s = load_acquire(&b->current);
	r = likely(s && slot_is_of(slot, s)) ? release_current(b, s, slot)
					     : release_retired(b, slot);
	if (likely(r == 0))
		return BERTH_SUCCESS;
	return r == -ENOENT ? BERTH_TOO_MANY_POSTS : code_of(r);
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
		r = session_get(b, message_now() + timeout_ms, &s);
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
