/* SPDX-License-Identifier: MIT */

/* Makes attempts, mends what is in their way, and turns errors into codes. */

#include "ask.h"
#include "berth.h"
#include "call.h"
#include "clock.h"
#include "hello.h"
#include "name.h"
#include "pool.h"

/* The most attempts that a call makes. */
#define ATTEMPTS 16

int call_code(int r) {
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

int call_init(struct call *c, struct berth *b, const char *account) {
	c->b = b;
	c->account = account;
	c->deadline = 0;
	c->was_remapped = false;
	c->was_refused = false;
	return name_load(account, &c->name);
}

/* berthd's time begins when the call first needs it. */
static int64_t call_deadline(struct call *c) {
	if (c->deadline == 0)
		c->deadline = clock_monotonic_ms() + c->b->timeout_ms;
	return c->deadline;
}

/* The session for the next attempt. Pairs with handle_publish(). */
static int call_session(struct call *c) {
	c->record = 0;
	c->session = load_acquire(&c->b->current);
	return likely(c->session) ? 0 : hello_get_session(c->b, call_deadline(c), &c->session);
}

static int call_resolve(struct call *c) {
	if (name_check(c->account, c->name.length))
		return -EINVAL;
	return ask_name(c->session, c->account, call_deadline(c));
}

/* A window couldn't be mapped. If the application has closed the files (closefrom), berthd hands
 * them out again, unless another thread has just asked for that. */
static int call_remap(struct call *c) {
	bool again = !c->was_remapped || !map_files_are_ours(c->session->map);
	int r = hello_renew_files(c->session, call_deadline(c));

	c->was_remapped = true;
	if (c->record != 0)
		(void)ask_finish_release(c->session, c->record, call_deadline(c));
	return r == 0 && !again ? -ENOMEM : r;
}

/* If berthd has no more ranges, one more attempt may find a record that the thread keeps for
 * another account. */
static int call_grow(struct call *c) {
	int r = ask_ranges(c->session, c->range_count, call_deadline(c));

	if (r != BERTH_NO_SYSTEM_RESOURCES || c->was_refused)
		return r;
	c->was_refused = true;
	return 0;
}

/* After an attempt that returned r. 0: another attempt may succeed; any other result is final. */
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
		return hello_replace_session(c->session, call_deadline(c));
	case -ENOMEM:
		return call_remap(c);
	default:
		return r;
	}
}

int call_run(struct call *c, int (*attempt)(struct call *c, void *data), void *data) {
	for (int i = 0; i < ATTEMPTS; i++) {
		int r = call_session(c);

		if (likely(r == 0)) {
			r = attempt(c, data);
			if (likely(r == 0))
				return BERTH_SUCCESS;
			r = call_mend(c, r);
		}
		if (r != 0)
			return call_code(r);
	}
	return BERTH_NO_SYSTEM_RESOURCES;
}
