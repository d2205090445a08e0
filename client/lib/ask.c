/* SPDX-License-Identifier: MIT */

/* Sends requests to berthd and awaits the replies. Connects again if berthd was restarted. */

#include <string.h>
#include <time.h>

#include "ask.h"
#include "clock.h"
#include "connect.h"
#include "message.h"
#include "thread.h"

/* The most ranges that a session asks for at once, fewer than MESSAGE_RANGES_MAX. */
#define RANGES_ASKED 64u

/* Any reply of berthd to a client. */
union reply {
	struct message_header header;
	struct message_failed failed;
	struct message_resolved resolved;
	struct message_ranges_granted granted;
	struct message_done done;
};

/* -- the lock of a handle ---------------------------------------------------------------------- */

/* Waits for the lock until the deadline. The thread that has the lock has a deadline, too. With
 * glibc, the wait uses the monotonic clock, except under ThreadSanitizer, which doesn't know
 * pthread_mutex_clocklock(). */
static int lock_until(pthread_mutex_t *lock, int64_t deadline) {
#if defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
	const struct timespec until = {
		.tv_sec = deadline / 1000, .tv_nsec = deadline % 1000 * 1000000};

	return -pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until);
#else
	int64_t left = MAX_OF(deadline - clock_monotonic_ms(), 0);
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	left += until.tv_nsec / 1000000;
	until.tv_sec += left / 1000;
	until.tv_nsec = left % 1000 * 1000000;
	return -pthread_mutex_timedlock(lock, &until);
#endif
}

/* One visit: a thread locks a handle, uses it, and unlocks it. The struct also keeps errno and the
 * thread's cancellation state from before the visit. */
struct visit {
	struct berth *b;
	int result; /* -ETIMEDOUT: other threads had the lock until the deadline */
	int error;
	int cancel_state;
	bool is_locked;
};

/* Locks the handle, and disables cancellation of the thread. True: the handle is locked, and s is
 * its current session (NULL: the handle has none). The caller must call visit_end() in either
 * case. */
static bool visit_begin(
	struct visit *v, struct berth *b, const struct session *s, int64_t deadline) {
	v->b = b;
	v->error = errno;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &v->cancel_state);
	v->result = lock_until(&b->lock, deadline);
	v->is_locked = v->result == 0;
	return v->is_locked && load_relaxed(&b->current) == s;
}

/* Ends the visit, and returns its result. */
static int visit_end(const struct visit *v) {
	if (v->is_locked)
		(void)pthread_mutex_unlock(&v->b->lock);
	(void)pthread_setcancelstate(v->cancel_state, NULL);
	errno = v->error;
	return v->result;
}

/* -- sessions ---------------------------------------------------------------------------------- */

int ask_session(struct berth *b, int64_t deadline, struct session **ret) {
	struct visit v;

	if (visit_begin(&v, b, NULL, deadline))
		v.result = connect_session(b, NULL, deadline);
	if (v.result == 0)
		*ret = load_relaxed(&b->current);
	return visit_end(&v);
}

int ask_new_session(const struct session *s, int64_t deadline) {
	struct visit v;

	/* The session's entry says that the session has ended, so there is nothing to resume. */
	if (visit_begin(&v, s->handle, s, deadline))
		v.result = connect_session(s->handle, NULL, deadline);
	return visit_end(&v);
}

int ask_files(struct session *s, int64_t deadline) {
	struct visit v;

	if (visit_begin(&v, s->handle, s, deadline) && !map_files_are_ours(s->map))
		v.result = connect_session(s->handle, s, deadline);
	return visit_end(&v);
}

void ask_goodbye(const struct berth *b) {
	struct session *s = load_relaxed(&b->current);

	/* A thread that is still inside the session may still place a record. Then berthd isn't
	 * told, and keeps the ranges until the process is dead. */
	if (s && threads_keep_out(s) && pool_close(s->pool) && descriptor_is_ours(&b->socket))
		connect_send_bye(b->socket.fd);
}

/* -- questions --------------------------------------------------------------------------------- */

/* A request, its reply, and how long the reply is if its code is 0. */
struct question {
	const void *request;
	size_t reply_length;
	union reply reply;
};

static int ranges_add(struct session *s, const struct message_ranges_granted *granted) {
	uint32_t added = 0;

	if (granted->count > MESSAGE_RANGES_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < granted->count; i++)
		added += pool_add_range(s->pool, granted->range[i]) == 0;
	return added > 0 ? 0 : -ENOMEM;
}

/* Sends the request, after the reply to the previous request has come, and receives the reply. */
static int question_exchange(struct berth *b, struct question *q, int64_t deadline) {
	union reply late = {{0}};
	size_t size = sizeof(q->reply);
	uint32_t code;
	int r = 0;

	if (!descriptor_is_ours(&b->socket))
		return -ECONNRESET;
	if (b->owes_reply)
		r = message_skip(b->socket.fd, &late, sizeof(late), deadline);
	/* The thread that sent the previous request may have stopped waiting. But if the late reply
	 * grants ranges, these belong to the session, so the pool takes them. */
	if (r == 0 && late.header.opcode == MESSAGE_RANGES && late.header.code == 0)
		(void)ranges_add(load_relaxed(&b->current), &late.granted);
	if (r == 0) {
		r = message_ask(b->socket.fd, q->request, -1, deadline);
		/* If berthd hung up before it received the request, it may have sent the reason. */
		b->owes_reply = r == 0 || r == -ECONNRESET;
		if (b->owes_reply)
			r = message_answer(
				b->socket.fd, q->request, &q->reply, &size, NULL, deadline);
	}
	if (r == 0) {
		b->owes_reply = false;
		code = q->reply.header.code;
		if (code != 0 && code <= INT32_MAX)
			return (int)code;
		r = size == q->reply_length ? 0 : -EBADMSG;
	}
	/* The socket stays open if berthd is slow or memory is short: closing it would end the
	 * session and revoke its slots. If the reply comes late, the library receives it before it
	 * sends the next request. */
	if (r == 0 || r == -ETIMEDOUT || r == -ENOMEM || r == -ENOBUFS)
		return r;
	descriptor_close(&b->socket);
	return r == -EBADF || r == -ENOTCONN || r == -ENOTSOCK ? -ECONNRESET : r;
}

/* Asks berthd, and connects again whenever berthd dies or hangs up. The caller has locked the
 * handle, whose current session is s. Also returns 0 if berthd didn't resume s on a new connection:
 * then s isn't the current session any more. */
static int question_ask(struct session *s, struct question *q, int64_t deadline) {
	struct berth *b = s->handle;

	for (bool again = false;; again = true) {
		int r = question_exchange(b, q, deadline);

		if (r != -ECONNRESET || (again && !connect_pause(deadline)))
			return r;
		r = connect_session(b, s, deadline);
		if (r != 0 || load_relaxed(&b->current) != s)
			return r;
	}
}

/* If s is still the current session, sends the question to berthd. Otherwise returns 0. */
static int session_ask(struct session *s, struct question *q, int64_t deadline) {
	struct visit v;

	if (visit_begin(&v, s->handle, s, deadline))
		v.result = question_ask(s, q, deadline);
	return visit_end(&v);
}

int ask_name(struct session *s, const char *account, int64_t deadline) {
	struct message_resolve request = {
		.header = MESSAGE_HEADER(MESSAGE_RESOLVE, struct message_resolve)};
	struct question q = {&request, sizeof(q.reply.resolved), {{0}}};

	message_name_set(&request.name, account);
	return session_ask(s, &q, deadline);
}

int ask_finish_release(struct session *s, uint32_t record, int64_t deadline) {
	struct message_finish_release request = {
		.header = MESSAGE_HEADER(MESSAGE_FINISH_RELEASE, struct message_finish_release),
		.record = record,
	};
	struct question q = {&request, sizeof(q.reply.done), {{0}}};

	return session_ask(s, &q, deadline);
}

int ask_ranges(struct session *s, uint32_t seen, int64_t deadline) {
	struct message_ranges request = {
		.header = MESSAGE_HEADER(MESSAGE_RANGES, struct message_ranges)};
	struct question q = {&request, sizeof(q.reply.granted), {{0}}};
	struct visit v;

	/* The library asks for as many ranges as the pool has usable ones, so that the pool
	 * doubles. Thus a process makes few requests, whether it holds one slot or a hundred
	 * thousand. RANGES_ASKED bounds the request, so that the thread doesn't wait long while the
	 * ranges are added. */
	if (visit_begin(&v, s->handle, s, deadline) && pool_range_count(s->pool) == seen) {
		request.count = MAX_OF(pool_usable_ranges(s->pool, RANGES_ASKED), 1);
		v.result = question_ask(s, &q, deadline);
		if (v.result == 0 && load_relaxed(&s->handle->current) == s)
			v.result = ranges_add(s, &q.reply.granted);
		store_relaxed(&s->pool->is_full, v.result == BERTH_NO_SYSTEM_RESOURCES);
	}
	return visit_end(&v);
}
