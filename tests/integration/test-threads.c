/* SPDX-License-Identifier: MIT */

/*
 * Threads use libberth in every way at once, on one handle and on handles of their own, while
 * berthd is killed and started again, limits change and slots are revoked. ThreadSanitizer (`make
 * tsan`) looks for data races here; `make check` checks codes and counts.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "steps.h"

#define SHARING 3 /* threads on one handle */
#define ALONE   2 /* threads that open and close handles of their own */
#define HELD    8
#define LIMIT   4 /* of `tight` */
#define DEATHS  6
#define STEPS   20000u /* of all threads together, from one event to the next */
#define ENDS    200    /* times that a session ends although its process lives */

static _Atomic(struct berth *) shared;
static _Atomic uint32_t steps, inside;
static _Atomic bool over, may_revoke;
static _Atomic int failed_code;
static _Atomic(const char *) failed_call;

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

	if (!allowed && atomic_compare_exchange_strong(&failed_call, &none, what))
		atomic_store(&failed_code, code);
}

static uint32_t worker_random(struct worker *w, uint32_t n) {
	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((w->random >> 33) % n);
}

static uint32_t inside_add(uint32_t n) {
	return atomic_fetch_add_explicit(&inside, n, memory_order_relaxed) + n;
}

/* -- threads ----------------------------------------------------------------------------------- */

/* The timeout is long, since berthd is often dead. */
static struct berth *handle_open(void) {
	const struct berth_options options = {.size = sizeof(options), .timeout_ms = 60000};
	struct berth *b = NULL;
	int code = berth_open_options(&options, &b);

	judge("berth_open", code, code == BERTH_SUCCESS);
	return b;
}

static void acquire_one(struct worker *w, unsigned i) {
	bool revocable = worker_random(w, 2) == 0;
	char name[32] = "tight";
	struct berth_request request = {
		.size = sizeof(request), .account = name, .label = i & 1 ? "thread" : NULL};
	int code;

	/* New names make the library ask berthd, and make berthd add and remove accounts. */
	if (revocable)
		(void)snprintf(
			name, sizeof(name), "user%u/%u", worker_random(w, 4), worker_random(w, 50));
	code = berth_acquire_req(w->b, &request, &w->held[i].slot);
	judge("berth_acquire", code,
		code == BERTH_SUCCESS || code == BERTH_CONNECTION_COUNT_LIMIT ||
			(revocable && may_revoke && code == BERTH_CONNECTION_ABORTED));
	w->held[i].tight = !revocable;
	if (code != BERTH_SUCCESS)
		w->held[i].slot = 0;
	else if (!revocable)
		judge("the number of slots of 'tight'", LIMIT + 1, inside_add(1) <= LIMIT);
}

static void release_one(struct worker *w, unsigned i) {
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

static void query(struct worker *w) {
	struct berth_usage usage = {.size = sizeof(usage)};
	int code = berth_query(w->b, "tight", &usage);

	judge("berth_query", code, code == BERTH_SUCCESS);
	judge("a count over its limit", (int)usage.current, usage.current <= LIMIT);
}

static void release_all(struct worker *w) {
	for (unsigned i = 0; i < HELD; i++)
		if (w->held[i].slot)
			release_one(w, i);
}

static void *worker_main(void *data) {
	struct worker *w = data;

	w->b = w->alone ? handle_open() : atomic_load(&shared);
	while (!atomic_load(&over) && !atomic_load(&failed_call)) {
		unsigned i = worker_random(w, HELD);

		if (w->held[i].slot)
			release_one(w, i);
		else
			acquire_one(w, i);
		if (worker_random(w, 16) == 0)
			query(w);
		if (w->alone && worker_random(w, 64) == 0) {
			/* berth_close would release the slots, too, but wouldn't subtract
			 * them from `inside`. */
			release_all(w);
			berth_close(w->b);
			w->b = handle_open();
		}
		(void)atomic_fetch_add_explicit(&steps, 1, memory_order_relaxed);
	}
	release_all(w);
	if (w->alone)
		berth_close(w->b);
	return NULL;
}

/* -- tests ------------------------------------------------------------------------------------- */

static bool steps_are_made(void *data) {
	return atomic_load(&steps) >= *(uint32_t *)data || atomic_load(&failed_call);
}

static void wait_for_steps(void) {
	uint32_t until = atomic_load(&steps) + STEPS;

	/* Waits twice: under a slow tool, threads may make no step until berthd has started. */
	if (!eventually(steps_are_made, &until) && !eventually(steps_are_made, &until))
		ck_abort_msg(
			"the threads make no progress; berthd's log:\n%s", instance_log(&here));
}

static void setup(void) {
	here_start();
	set_limits(text_of("tight %d", LIMIT), "user* 3", "user*/* 2");
	atomic_store(&shared, handle_open());
}

static void expect_no_failed_call(void) {
	ck_assert_msg(!atomic_load(&failed_call), "%s: %d (%s)\nberthd's log:\n%s",
		atomic_load(&failed_call), atomic_load(&failed_code),
		berth_errname(atomic_load(&failed_code)), instance_log(&here));
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
	expect_no_failed_call();
	expect_current_eventually("tight", 0);
	expect_status_eventually("slots_held", 0);
}

START_TEST(threads_are_served_while_berthd_is_killed_and_started_again) {
	struct worker w[SHARING + ALONE] = {0};

	workers_start(w);
	for (int i = 0; i < DEATHS; i++) {
		wait_for_steps();
		restart_after(SIGKILL);
	}
	wait_for_steps();
	workers_end(w);
}
END_TEST

START_TEST(threads_see_no_error_but_those_of_revocations_and_new_limits) {
	struct worker w[SHARING + ALONE] = {0};

	atomic_store(&may_revoke, true);
	workers_start(w);
	for (int i = 0; i < DEATHS; i++) {
		wait_for_steps();
		(void)expect_ctl(0, "", "revoke", text_of("user%d", i % 4), "--all");
		set_limit("user*/*", i & 1 ? "2" : "unlimited");
		set_limit("user1", i & 1 ? "5" : "0");
	}
	workers_end(w);
}
END_TEST

static void *acquirer_main(void *data) {
	while (!atomic_load(&over) && !atomic_load(&failed_call)) {
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

/* Shuts the session's connection down, like an application that closes unknown descriptors. */
static void hang_up(void) {
	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_un peer = {0};
		socklen_t size = sizeof(peer) - 1;

		if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
			strstr(peer.sun_path, "berth.sock"))
			(void)shutdown(fd, SHUT_RDWR);
	}
}

START_TEST(an_acquire_while_the_session_ends_gets_a_slot_of_the_next_session) {
	struct berth *b = atomic_load(&shared);
	pthread_t acquirer;

	set_limit("user1/deep/er", "2");
	ck_assert_int_eq(pthread_create(&acquirer, NULL, acquirer_main, b), 0);
	for (int i = 0; i < ENDS && !atomic_load(&failed_call); i++) {
		uint32_t until = atomic_load(&steps) + 200;

		ck_assert(eventually(steps_are_made, &until));
		hang_up();
	}
	atomic_store(&over, true);
	(void)pthread_join(acquirer, NULL);
	berth_close(b);
	expect_no_failed_call();
	expect_current_eventually("user1", 0);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{threads_are_served_while_berthd_is_killed_and_started_again},
		{threads_see_no_error_but_those_of_revocations_and_new_limits},
		{an_acquire_while_the_session_ends_gets_a_slot_of_the_next_session},
		{NULL},
	};

	return run_berthd_suites({"threads", tests, .setup = setup, .teardown = here_end});
}
