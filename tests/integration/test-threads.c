/* SPDX-License-Identifier: MIT */

/*
 * Threads that use libberth in every way at once, on one handle and on handles of their own, while
 * berthd is killed and started again, limits change and slots are revoked. Meant for
 * ThreadSanitizer (`make tsan`); in `make check` the codes and the counts are judged.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "suite.h"

#define SHARING 3 /* threads on one handle */
#define ALONE   2 /* threads that open and close handles of their own */
#define HELD    8
#define LIMIT   4 /* of `tight` */
#define DEATHS  6
#define STEPS   20000u /* of all threads, between one death of berthd and the next */
#define ENDS    200    /* of sessions whose process lives */

static _Atomic(struct berth *) shared;
static _Atomic uint32_t steps, inside;
static _Atomic bool over, may_revoke;
static _Atomic int wrong_code;
static _Atomic(const char *) wrong;

struct worker {
	pthread_t thread;
	bool alone;
	uint64_t random;
	struct berth *b;
	struct {
		berth_slot slot;
		bool tight;
	} held[HELD];
};

static void judge(const char *what, int code, bool allowed) {
	const char *none = NULL;

	if (!allowed && atomic_compare_exchange_strong(&wrong, &none, what))
		atomic_store(&wrong_code, code);
}

static uint32_t below(struct worker *w, uint32_t n) {
	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((w->random >> 33) % n);
}

static uint32_t inside_add(uint32_t n) {
	return atomic_fetch_add_explicit(&inside, n, memory_order_relaxed) + n;
}

/* -- threads ----------------------------------------------------------------------------------- */

/* Patient: berthd is away as often as not. */
static struct berth *handle_open(void) {
	const struct berth_options options = {.size = sizeof(options), .timeout_ms = 60000};
	struct berth *b = NULL;
	int code = berth_open_options(&options, &b);

	judge("berth_open", code, code == BERTH_SUCCESS);
	return b;
}

static void take_one(struct worker *w, unsigned i) {
	bool revocable = below(w, 2) == 0;
	char name[32] = "tight";
	struct berth_request request = {
		.size = sizeof(request), .account = name, .label = i & 1 ? "thread" : NULL};
	int code;

	/* Ever new names have the library ask berthd, and accounts come and go. */
	if (revocable)
		(void)snprintf(name, sizeof(name), "user%u/%u", below(w, 4), below(w, 50));
	code = berth_acquire_req(w->b, &request, &w->held[i].slot);
	judge("berth_acquire", code,
		code == BERTH_SUCCESS || code == BERTH_CONNECTION_COUNT_LIMIT ||
			(revocable && may_revoke && code == BERTH_CONNECTION_ABORTED));
	w->held[i].tight = !revocable;
	if (code != BERTH_SUCCESS)
		w->held[i].slot = 0;
	else if (!revocable)
		judge("the number of those let in", LIMIT + 1, inside_add(1) <= LIMIT);
}

static void give_one(struct worker *w, unsigned i) {
	bool tight = w->held[i].tight;
	int code;

	if (tight)
		(void)inside_add(-1u);
	code = berth_release(w->b, w->held[i].slot);
	judge("berth_release", code,
		code == BERTH_SUCCESS || (!tight && may_revoke &&
						 (code == BERTH_CONNECTION_ABORTED ||
							 code == BERTH_TOO_MANY_POSTS)));
	w->held[i].slot = 0;
}

static void ask(struct worker *w) {
	struct berth_usage usage = {.size = sizeof(usage)};
	int code = berth_query(w->b, "tight", &usage);

	judge("berth_query", code, code == BERTH_SUCCESS);
	judge("a count over its limit", (int)usage.current, usage.current <= LIMIT);
}

static void give_all(struct worker *w) {
	for (unsigned i = 0; i < HELD; i++)
		if (w->held[i].slot)
			give_one(w, i);
}

/* Closing releases what is held; `tight` is counted by hand, so that is given back before. */
static void handle_renew(struct worker *w) {
	give_all(w);
	berth_close(w->b);
	w->b = handle_open();
}

static void *worker_main(void *data) {
	struct worker *w = data;

	w->b = w->alone ? handle_open() : atomic_load(&shared);
	while (!atomic_load(&over) && !atomic_load(&wrong)) {
		unsigned i = below(w, HELD);

		if (w->held[i].slot)
			give_one(w, i);
		else
			take_one(w, i);
		if (below(w, 16) == 0)
			ask(w);
		if (w->alone && below(w, 64) == 0)
			handle_renew(w);
		(void)atomic_fetch_add_explicit(&steps, 1, memory_order_relaxed);
	}
	give_all(w);
	if (w->alone)
		berth_close(w->b);
	return NULL;
}

/* -- tests ------------------------------------------------------------------------------------- */

static bool steps_are_made(void *data) {
	return atomic_load(&steps) >= *(uint32_t *)data || atomic_load(&wrong);
}

static void steps_await(void) {
	uint32_t until = atomic_load(&steps) + STEPS;

	/* Twice: a thread may wait for all of a berthd's start under a slow tool. */
	if (!eventually(steps_are_made, &until) && !eventually(steps_are_made, &until))
		ck_abort_msg("the threads stand still; berthd's log:\n%s", instance_log(&here));
}

static void setup(void) {
	char limit[16];

	here_start();
	(void)snprintf(limit, sizeof(limit), "%d", LIMIT);
	set_limit("tight", limit);
	set_limit("user*", "3");
	set_limit("user*/*", "2");
	atomic_store(&shared, handle_open());
}

static void workers_start(struct worker *w) {
	random_init();
	for (unsigned i = 0; i < SHARING + ALONE; i++) {
		w[i].alone = i >= SHARING;
		w[i].random = random_state + i;
		ck_assert_int_eq(pthread_create(&w[i].thread, NULL, worker_main, &w[i]), 0);
	}
}

static void workers_end(struct worker *w) {
	atomic_store(&over, true);
	for (unsigned i = 0; i < SHARING + ALONE; i++)
		(void)pthread_join(w[i].thread, NULL);
	berth_close(atomic_load(&shared));
	ck_assert_msg(!atomic_load(&wrong), "%s: %d (%s)\nberthd's log:\n%s", atomic_load(&wrong),
		atomic_load(&wrong_code), berth_errname(atomic_load(&wrong_code)),
		instance_log(&here));
	expect_current_eventually("tight", 0);
	expect_status_eventually("slots_held", 0);
}

START_TEST(threads_go_on_while_berthd_is_killed_and_started_again) {
	struct worker w[SHARING + ALONE] = {0};

	workers_start(w);
	for (int i = 0; i < DEATHS; i++) {
		steps_await();
		(void)instance_kill(&here, SIGKILL);
		instance_restart(&here);
	}
	steps_await();
	workers_end(w);
}
END_TEST

START_TEST(threads_meet_revokes_and_changed_limits_and_nothing_worse) {
	struct worker w[SHARING + ALONE] = {0};

	atomic_store(&may_revoke, true);
	workers_start(w);
	for (int i = 0; i < DEATHS; i++) {
		char user[16];

		(void)snprintf(user, sizeof(user), "user%d", i % 4);
		steps_await();
		(void)expect_ctl(0, "", "revoke", user, "--all");
		set_limit("user*/*", i & 1 ? "2" : "unlimited");
		set_limit("user1", i & 1 ? "5" : "0");
	}
	workers_end(w);
}
END_TEST

static void *taker_main(void *data) {
	while (!atomic_load(&over) && !atomic_load(&wrong)) {
		berth_slot slot;
		int code = berth_acquire(data, "user1/deep/er", &slot);

		judge("berth_acquire", code, code == BERTH_SUCCESS);
		if (code == BERTH_SUCCESS)
			code = berth_release(data, slot);
		judge("berth_release", code,
			code == BERTH_SUCCESS || code == BERTH_CONNECTION_ABORTED);
		(void)atomic_fetch_add_explicit(&steps, 1, memory_order_relaxed);
	}
	return NULL;
}

/* As an application that closes what it doesn't know. */
static void hang_up(void) {
	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_un peer = {0};
		socklen_t size = sizeof(peer) - 1;

		if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
			strstr(peer.sun_path, "berth.sock"))
			(void)shutdown(fd, SHUT_RDWR);
	}
}

START_TEST(who_acquires_while_the_session_ends_gets_a_slot_of_the_next) {
	struct berth *b = atomic_load(&shared);
	pthread_t taker;

	set_limit("user1/deep/er", "2");
	ck_assert_int_eq(pthread_create(&taker, NULL, taker_main, b), 0);
	for (int i = 0; i < ENDS && !atomic_load(&wrong); i++) {
		uint32_t until = atomic_load(&steps) + 200;

		ck_assert(eventually(steps_are_made, &until));
		hang_up();
	}
	atomic_store(&over, true);
	(void)pthread_join(taker, NULL);
	berth_close(b);
	ck_assert_msg(!atomic_load(&wrong), "%s: %d (%s)", atomic_load(&wrong),
		atomic_load(&wrong_code), berth_errname(atomic_load(&wrong_code)));
	expect_current_eventually("user1", 0);
}
END_TEST

int main(void) {
	const TTest *const tests[] = {
		threads_go_on_while_berthd_is_killed_and_started_again,
		threads_meet_revokes_and_changed_limits_and_nothing_worse,
		who_acquires_while_the_session_ends_gets_a_slot_of_the_next,
		NULL,
	};

	return suite_run("threads", setup, tests);
}
