/* SPDX-License-Identifier: MIT */

/* Sends requests to berthd and awaits the replies. Connects again if berthd was restarted. */

#include "ask.h"
#include "berth.h"
#include "hello.h"
#include "message.h"
#include "pool.h"

/* The most ranges that a session asks for at once. */
#define RANGES_ASKED 64u

/* A request, its reply, and how long the reply is if its code is 0. */
struct question {
	const void *request;
	size_t reply_length;
	union reply reply;
};

/* -- one question ------------------------------------------------------------------------------ */

static int ranges_add(struct session *s, const struct message_ranges_granted *granted) {
	uint32_t added = 0;

	if (granted->count > MESSAGE_RANGES_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < granted->count; i++)
		added += pool_add_range(s->pool, granted->range[i]) == 0;
	return added > 0 ? 0 : -ENOMEM;
}

/* Receives a reply that its request didn't wait for. The session has the ranges that it grants all
 * the same, so the pool takes them. */
static int late_reply_receive(struct berth *b, int64_t deadline) {
	union reply late = {{0}};
	int r = message_skip(b->socket.fd, &late, sizeof(late), deadline);

	if (r == 0 && late.header.opcode == MESSAGE_RANGES && late.header.code == 0)
		(void)ranges_add(load_relaxed(&b->current), &late.granted);
	return r;
}

/* Sends the request, once the reply to the request before has come. */
static int question_send(struct berth *b, const struct question *q, int64_t deadline) {
	int r = b->owes_reply ? late_reply_receive(b, deadline) : 0;

	if (r < 0)
		return r;
	b->owes_reply = false;
	r = message_ask(b->socket.fd, q->request, -1, deadline);
	/* If berthd hung up before it received the request, it may have sent the reason. */
	b->owes_reply = r == 0 || r == -ECONNRESET;
	return b->owes_reply ? 0 : r;
}

static int question_await(struct berth *b, struct question *q, int64_t deadline) {
	size_t size = sizeof(q->reply);
	int r = message_answer(b->socket.fd, q->request, &q->reply, &size, NULL, deadline);

	if (r < 0)
		return r;
	b->owes_reply = false;
	if (q->reply.header.code != 0 && q->reply.header.code <= INT32_MAX)
		return (int)q->reply.header.code;
	return size == q->reply_length ? 0 : -EBADMSG;
}

/* Closes the socket if the exchange went wrong, but not if berthd is slow or memory is short:
 * closing it would end the session and revoke its slots. A reply that comes late is received before
 * the next question. */
static int question_exchange(struct berth *b, struct question *q, int64_t deadline) {
	int r;

	if (!descriptor_is_ours(&b->socket))
		return -ECONNRESET;
	r = question_send(b, q, deadline);
	if (r == 0)
		r = question_await(b, q, deadline);
	if (r >= 0 || r == -ETIMEDOUT || r == -ENOMEM || r == -ENOBUFS)
		return r;
	descriptor_close(&b->socket);
	return r == -EBADF || r == -ENOTCONN || r == -ENOTSOCK ? -ECONNRESET : r;
}

/* The caller has locked the handle of s, its current session. Connects again as often as berthd
 * dies or hangs up. -ESHUTDOWN: then s couldn't be resumed, and isn't current any more. */
static int question_ask(struct session *s, struct question *q, int64_t deadline) {
	struct berth *b = s->handle;

	for (bool again = false;; again = true) {
		int r = question_exchange(b, q, deadline);

		if (r != -ECONNRESET || (again && !hello_pause(deadline)))
			return r;
		r = hello_connect(b, s, deadline);
		if (r != 0)
			return r;
		if (load_relaxed(&b->current) != s)
			return -ESHUTDOWN;
	}
}

/* Asks while s is the current session. */
static int session_ask(struct session *s, struct question *q, int64_t deadline) {
	struct visit v;
	int r = handle_enter(s->handle, deadline, &v);

	if (r == 0 && load_relaxed(&s->handle->current) == s)
		r = question_ask(s, q, deadline);
	handle_leave(s->handle, &v);
	return r == -ESHUTDOWN ? 0 : r;
}

/* -- what is asked ----------------------------------------------------------------------------- */

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

static int ranges_request(struct session *s, uint32_t count, int64_t deadline) {
	struct message_ranges request = {
		.header = MESSAGE_HEADER(MESSAGE_RANGES, struct message_ranges),
		.count = MAX_OF(MIN_OF(count, MESSAGE_RANGES_MAX), 1),
	};
	struct question q = {&request, sizeof(q.reply.granted), {{0}}};
	int r = question_ask(s, &q, deadline);

	return r == 0 ? ranges_add(s, &q.reply.granted) : r;
}

int ask_ranges(struct session *s, uint32_t seen, int64_t deadline) {
	struct visit v;
	int r = handle_enter(s->handle, deadline, &v);

	/* Asking for as many ranges as the pool has keeps requests few, whether the process holds
	 * one slot or a hundred thousand. The bound keeps a thread from waiting long while they are
	 * added. */
	if (r == 0 && load_relaxed(&s->handle->current) == s && pool_range_count(s->pool) == seen) {
		r = ranges_request(s, pool_usable_ranges(s->pool, RANGES_ASKED), deadline);
		store_relaxed(&s->pool->is_full, r == BERTH_NO_SYSTEM_RESOURCES);
	}
	handle_leave(s->handle, &v);
	return r == -ESHUTDOWN ? 0 : r;
}
