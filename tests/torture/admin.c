/* SPDX-License-Identifier: MIT */

/*
 * The administrator of the torture test sets limits, revokes slots and deletes accounts, with the
 * messages that berthctl sends. It writes the history of limits for the observer.
 *
 * If berthd dies before it answers, the administrator sends the request again until it is answered,
 * so that it knows which limit is in force.
 */

#include <stdio.h>
#include <string.h>

#include "berth.h"
#include "clock.h"
#include "counter.h"
#include "message.h"
#include "torture.h"

#define PATIENCE_MS 60000

struct admin {
	struct torture *t;
	struct map *m;
	uint64_t random;
	int fd;
};

union admin_reply {
	struct message_header header;
	struct message_done done;
	struct message_revoked revoked;
	struct message_failed failed;
};

/* Sends the request again and again until berthd answers. Returns the code. */
static uint32_t call(struct admin *a, const void *request, union admin_reply *reply) {
	int64_t deadline = clock_monotonic_ms() + PATIENCE_MS;
	int r = -ECONNRESET;

	while (r < 0 && clock_monotonic_ms() < deadline && !torture_failed(a->t)) {
		size_t size = sizeof(*reply);

		r = 0;
		if (a->fd < 0)
			r = message_connect(a->t->runtime_dir, "admin.sock", deadline, &a->fd);
		if (r >= 0)
			r = message_call(a->fd, request, reply, &size, deadline);
		if (r < 0)
			close_cleanup(&a->fd);
	}
	if (r >= 0)
		return reply->header.code;
	torture_fail(a->t, "the administrator gets no answer: %s", strerror(-r));
	return BERTH_CONNECTION_REFUSED;
}

static void call_must(struct admin *a, const char *what, const void *request) {
	union admin_reply reply;
	uint32_t code = call(a, request, &reply);

	if (code != BERTH_SUCCESS && !torture_failed(a->t))
		torture_fail(a->t, "%s: %u (%s)", what, code, reply.failed.text);
}

static void send_set(struct admin *a, uint32_t account, uint32_t limit) {
	struct message_set set = {
		.header = MESSAGE_HEADER(MESSAGE_SET, set),
		.limit = limit,
	};

	message_name_set(&set.name, torture_name[account]);
	call_must(a, "set", &set);
	(void)add_relaxed(&a->t->figures.limits, 1);
}

/* -- limits ------------------------------------------------------------------------------------ */

/* Returns the account's count. When this count becomes the limit, any charge that is made against
 * the old limit exceeds the new limit. */
static uint32_t limit_held(struct admin *a, uint32_t account) {
	uint32_t held = counter_count(a->m, torture_account(a->m, torture_name[account]));

	return MIN_OF(held, TORTURE_LIMIT_MAX);
}

static uint32_t limit_random(struct admin *a, uint32_t account) {
	if (torture_once_in(&a->random, 3))
		return limit_held(a, account);
	if (torture_once_in(&a->random, 10))
		return 0;
	return 3 + torture_below(&a->random, TORTURE_LIMIT_MAX - 2);
}

static void limit_change(struct admin *a, uint32_t account, uint32_t limit) {
	struct history *h = &a->t->history[account];
	uint32_t n = load_relaxed(&h->begun);

	store_relaxed(&h->limit[n % TORTURE_HISTORY], limit);
	store_total(&h->begun, n + 1); /* pairs with watch() in observer.c */
	send_set(a, account, limit);
	store_total(&h->acked, n + 1);
}

/* -- revokes ----------------------------------------------------------------------------------- */

/* Finds a held slot. It may be released before berthd revokes it. */
static uint64_t slot_pick(struct admin *a) {
	uint32_t end = load_acquire(&a->m->names->slots);
	uint32_t at = torture_below(&a->random, MIN_OF(end, 4096u) + 1);

	for (uint32_t i = 0; end > 0 && i < 4096; i++, at = (at + 1) % end) {
		struct snapshot s;

		if (counter_record(a->m, at, &s) == 0 && snapshot_is_held(s))
			return tag_pack(at, s.seq);
	}
	return tag_pack(1, 1);
}

static void slots_revoke(struct admin *a, uint32_t account) {
	struct message_revoke what = {.header = MESSAGE_HEADER(MESSAGE_REVOKE, what)};
	uint32_t kind = torture_below(&a->random, 4);

	if (kind == 0) {
		what.flags = MESSAGE_REVOKE_ALL;
		message_name_set(&what.name, torture_name[account]);
	} else if (kind == 1) {
		int pid = load_relaxed(&a->t->client[torture_below(&a->random, a->t->clients)]);

		what.pid = pid > 0 ? (uint32_t)pid : 1;
	} else {
		what.slot = slot_pick(a);
	}
	(void)add_total(&a->t->revokes_begun, 1); /* pairs with may_be_revoked() */
	call_must(a, "revoke", &what);
	(void)add_total(&a->t->revokes_done, 1);
	(void)add_relaxed(&a->t->figures.revokes, 1);
}

/* -- deletions --------------------------------------------------------------------------------- */

static void delete_and_set(struct admin *a) {
	struct message_delete delete = {
		.header = MESSAGE_HEADER(MESSAGE_DELETE, delete),
		.flags = MESSAGE_DELETE_FORCE,
	};
	uint32_t account =
		TORTURE_WATCHED + torture_below(&a->random, TORTURE_NAMES - TORTURE_WATCHED);
	union admin_reply reply;
	uint32_t code;

	message_name_set(&delete.name, torture_name[account]);
	(void)add_total(&a->t->revokes_begun, 1);
	code = call(a, &delete, &reply);
	(void)add_total(&a->t->revokes_done, 1);
	/* BERTH_NO_SUCH_USER: berthd had deleted the account before it died without an answer. */
	if (code != BERTH_SUCCESS && code != BERTH_NO_SUCH_USER && !torture_failed(a->t))
		torture_fail(a->t, "delete: %u (%s)", code, reply.failed.text);
	(void)add_relaxed(&a->t->figures.deletes, 1);
	if (torture_once_in(&a->random, 2))
		torture_sleep_us(torture_below(&a->random, 5000));
	send_set(a, account, 1 + torture_below(&a->random, TORTURE_LIMIT_MAX));
}

/* -- the process ------------------------------------------------------------------------------- */

/* Changes the limit of an account, or revokes its slots, a few times, so that the account's cell is
 * bumped again and again. */
static void act_on_account(struct admin *a) {
	uint32_t account = torture_below(&a->random, TORTURE_WATCHED);

	for (uint32_t n = 1 + torture_below(&a->random, 4); n > 0; n--) {
		if (torture_once_in(&a->random, 3))
			slots_revoke(a, account);
		else
			limit_change(a, account, limit_random(a, account));
	}
	if (torture_once_in(&a->random, 8))
		delete_and_set(a);
}

/* Called while all clients are stopped, some of them in an acquire after they have read a limit.
 * Lowers the limits, and revokes slots. */
static void act_in_freeze(struct admin *a) {
	for (uint32_t account = 0; account < TORTURE_WATCHED; account++) {
		if (torture_once_in(&a->random, 4))
			slots_revoke(a, account);
		limit_change(a, account, limit_held(a, account));
	}
	store_total(&a->t->freeze, 2);
}

void torture_admin(struct torture *t, uint64_t seed) {
	struct admin a = {.t = t, .m = torture_map(t), .random = seed, .fd = -1};

	/* The main program waits for these limits before it starts the clients. */
	for (uint32_t account = 0; account < TORTURE_WATCHED; account++)
		limit_change(&a, account, limit_random(&a, account));
	for (uint32_t account = TORTURE_WATCHED; account < TORTURE_NAMES; account++)
		send_set(&a, account, TORTURE_LIMIT_MAX);
	while (load_relaxed(&t->finish) == 0 && !torture_failed(t)) {
		if (load_total(&t->freeze) == 1)
			act_in_freeze(&a);
		else
			act_on_account(&a);
		torture_sleep_us(torture_below(&a.random, 6000));
	}
	close_cleanup(&a.fd);
	_exit(0);
}
