/* SPDX-License-Identifier: MIT */

/* Counts stay exact when holders die, when berthd dies, and when both die at once. */

#include "layout.h"
#include "steps.h"

/* -- holders die ------------------------------------------------------------------------------- */

START_TEST(the_slot_of_a_killed_holder_is_free_again) {
	struct berth *b = open_session();
	struct child c[3];

	set_limit("acme/alice", "3");
	for (size_t i = 0; i < COUNT_OF(c); i++) {
		c[i] = holder_start("acme/alice");
	}
	expect_denied(b, "acme/alice");
	child_kill(&c[1]);
	expect_current_eventually("acme/alice", 2);
	(void)acquire_slot(b, "acme/alice");
	child_kill(&c[0]);
	child_kill(&c[2]);
	expect_current_eventually("acme/alice", 1);
	ck_assert_int_eq(current_of("acme"), 1);
	berth_close(b);
	expect_status_eventually("slots_granted", 0);
}
END_TEST

static void child_hold_many(struct child *c, void *data) {
	struct berth *b = NULL;
	berth_slot slot;
	int code = berth_open(NULL, &b);

	for (int i = 0; code == BERTH_SUCCESS && i < *(int *)data; i++)
		code = berth_acquire(b, "open", &slot);
	child_send(c, code);
	(void)child_receive(c);
	_exit(0);
}

START_TEST(a_hundred_thousand_slots_of_one_killed_process_are_freed) {
	int count = 100000;
	struct child c;
	int64_t begin;

	set_limit("open", "unlimited");
	c = child_start(child_hold_many, &count);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("open"), count);
	begin = now_us();
	child_kill(&c);
	expect_current_eventually("open", 0);
	printf("%d slots were free %.1f ms after the kill, as berthctl sees it\n", count,
		(double)(now_us() - begin) / 1000);
}
END_TEST

START_TEST(a_process_that_exits_without_closing_leaves_no_slot) {
	struct child c;

	set_limit("alice", "5");
	c = holder_start("alice");
	(void)kill(c.pid, SIGTERM);
	(void)child_end(&c);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- berthd dies ------------------------------------------------------------------------------- */

#define WORKERS 4
#define ROUNDS  20000

/* Acquires and releases a slot `rounds` times, of three accounts in turn. Returns the code of the
 * first call that fails; BERTH_SUCCESS if none does. */
static int work(struct berth *b, int rounds) {
	static const char *const accounts[] = {"alice", "acme/alice", "acme/bob"};
	int code = BERTH_SUCCESS;
	berth_slot slot;

	for (int i = 0; code == BERTH_SUCCESS && i < rounds; i++) {
		code = berth_acquire(b, accounts[i % 3], &slot);
		if (code == BERTH_SUCCESS)
			code = berth_release(b, slot);
	}
	return code;
}

/* In the child: uses each account once. Then, for each number n that the child receives, does n
 * rounds. After each of these steps sends the first error so far; if there was none, BERTH_SUCCESS.
 * Ends when n is 0. */
static void child_work(struct child *c, void *data) {
	struct berth *b = NULL;
	int code = berth_open(NULL, &b), rounds;

	(void)data;
	if (code == BERTH_SUCCESS)
		code = work(b, 3);
	child_send(c, code);
	while ((rounds = child_receive(c)) > 0) {
		if (code == BERTH_SUCCESS)
			code = work(b, rounds);
		child_send(c, code);
	}
	_exit(code != BERTH_SUCCESS);
}

#define WORK_LIMITS "alice 1000", "acme 1000", "acme/alice 1000", "acme/bob 1000"

static void workers_start(struct child c[WORKERS]) {
	for (int i = 0; i < WORKERS; i++) {
		c[i] = child_start(child_work, NULL);
		ck_assert_int_eq(child_report(&c[i]), BERTH_SUCCESS);
	}
}

static void workers_work(const struct child c[WORKERS], const char *when) {
	int64_t begin = now_us();

	for (int i = 0; i < WORKERS; i++)
		child_send(&c[i], ROUNDS);
	for (int i = 0; i < WORKERS; i++) {
		int code = child_report(&c[i]);

		ck_assert_msg(code == BERTH_SUCCESS, "%s, worker %d got %d", when, i, code);
	}
	printf("berthd %s: %d pairs of %d processes in %.1f ms\n", when, WORKERS * ROUNDS, WORKERS,
		(double)(now_us() - begin) / 1000);
}

START_TEST(known_accounts_are_served_while_berthd_is_stopped_or_dead) {
	struct child c[WORKERS];

	set_limits(WORK_LIMITS);
	workers_start(c);
	workers_work(c, "lives");
	(void)instance_kill(&here, SIGSTOP);
	workers_work(c, "is stopped");
	(void)instance_kill(&here, SIGCONT);
	(void)instance_kill(&here, SIGKILL);
	workers_work(c, "is dead");
	instance_restart(&here);
	workers_work(c, "is back");
	for (int i = 0; i < WORKERS; i++) {
		child_send(&c[i], 0);
		ck_assert_int_eq(child_end(&c[i]), 0);
	}
	expect_current_eventually("acme", 0);
	ck_assert_int_eq(current_of("alice"), 0);
	ck_assert_int_eq(status_number("slots_held"), 0);
}
END_TEST

START_TEST(a_holder_that_dies_while_berthd_is_dead_is_reaped_when_it_returns) {
	struct berth *b = open_session();
	struct child dies, lives;
	berth_slot slot;

	set_limit("acme/alice", "3");
	slot = acquire_slot(b, "acme/alice");
	dies = holder_start("acme/alice");
	lives = holder_start("acme/alice");
	(void)instance_kill(&here, SIGKILL);
	child_kill(&dies);
	ck_assert_uint_eq(usage_of(b, "acme/alice").current, 3);
	instance_restart(&here);
	/* berthd reaps the dead holder before it answers requests. */
	ck_assert_int_eq(current_of("acme/alice"), 2);
	ck_assert_int_eq(current_of("acme"), 2);
	/* The other holder, which the new berthd has adopted, is reaped when it dies. */
	child_kill(&lives);
	expect_current_eventually("acme", 1);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
}
END_TEST

static void expect_same_holders_after(int signal) {
	struct berth *b = open_session();
	struct berth_request req = {
		.size = sizeof(req), .account = "acme/alice", .weight = 3, .label = "imap"};
	char *before;
	berth_slot slot[40];

	set_limits("acme/alice 1000", "acme/bob 1000");
	for (size_t i = 0; i < COUNT_OF(slot); i++) {
		req.account = i % 2 ? "acme/alice" : "acme/bob";
		expect_code(BERTH_SUCCESS, berth_acquire_req(b, &req, &slot[i]));
	}
	before = strdup(expect_ctl(0, "", "holders", "acme", "--json"));
	restart_after(signal);
	ck_assert_str_eq(before, expect_ctl(0, "", "holders", "acme", "--json"));
	free(before);
	ck_assert_int_eq(current_of("acme"), 3 * (long long)COUNT_OF(slot));
	release_slots(b, slot, COUNT_OF(slot));
	ck_assert_int_eq(current_of("acme"), 0);
	berth_close(b);
}

START_TEST(the_list_of_holders_survives_a_kill_of_berthd) {
	expect_same_holders_after(SIGKILL);
}
END_TEST

START_TEST(the_list_of_holders_survives_a_stop_and_a_start) {
	expect_same_holders_after(SIGTERM);
	expect_same_holders_after(SIGINT);
}
END_TEST

START_TEST(berthd_stops_with_success_and_keeps_the_segment) {
	struct berth *b = open_session();

	set_limit("alice", "1");
	(void)acquire_slot(b, "alice");
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	ck_assert_int_eq(access(text_of("%s/segment", here.runtime_dir), F_OK), 0);
	ck_assert_int_ne(access(text_of("%s/berth.sock", here.runtime_dir), F_OK), 0);
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 1);
	berth_close(b);
	ck_assert_int_eq(current_of("alice"), 0);
}
END_TEST

START_TEST(a_session_continues_with_a_new_berthd) {
	struct berth *b = open_session();
	berth_slot old, other, count[100];

	set_limit("alice", "1000");
	old = acquire_slot(b, "alice");
	for (int i = 0; i < 3; i++) {
		const char *name = text_of("new%d", i);

		restart_after(i % 2 ? SIGTERM : SIGKILL);
		/* The account's name is new, so the session asks the new berthd. */
		set_limit(name, "1");
		other = acquire_slot(b, name);
		expect_status_eventually("sessions", 1);
		ck_assert_uint_eq(usage_of(b, "alice").current, 1);
		expect_code(BERTH_SUCCESS, berth_release(b, other));
	}
	/* This number of slots needs more ranges than the session has. */
	acquire_slots(b, "alice", COUNT_OF(count), count);
	release_slots(b, count, COUNT_OF(count));
	expect_code(BERTH_SUCCESS, berth_release(b, old));
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(b, old));
	expect_status_eventually("sessions", 1);
	berth_close(b);
	expect_status_eventually("sessions", 0);
}
END_TEST

START_TEST(a_request_to_berthd_waits_until_its_deadline) {
	struct berth_options options = {.size = sizeof(options), .timeout_ms = scale_timeout(200)};
	struct berth *b = NULL;
	struct child c;
	berth_slot slot;

	set_limit("alice", "5");
	expect_code(BERTH_SUCCESS, open_retrying(&options, &b));
	expect_code(BERTH_SUCCESS, acquire_retrying(b, "alice", &slot));
	(void)instance_kill(&here, SIGKILL);
	expect_code(BERTH_CONNECTION_REFUSED, berth_acquire(b, "unknown", &slot));
	(void)acquire_slot(b, "alice");
	/* A new process waits up to 5 s for berthd. */
	c = child_start(child_hold_one, (void *)"alice");
	instance_restart(&here);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	expect_code(BERTH_NO_SUCH_USER, acquire_retrying(b, "unknown", &slot));
	child_kill(&c);
	/* A stopped berthd doesn't answer. */
	(void)instance_kill(&here, SIGSTOP);
	expect_code(BERTH_CONNECTION_REFUSED, berth_acquire(b, "unknown", &slot));
	(void)instance_kill(&here, SIGCONT);
	expect_code(BERTH_NO_SUCH_USER, acquire_retrying(b, "unknown", &slot));
	berth_close(b);
}
END_TEST

/* berthd reads the client's first message after the library's deadline. */
START_TEST(a_welcome_after_the_deadline_costs_no_slot) {
	struct berth_options options = {.size = sizeof(options), .timeout_ms = scale_timeout(200)};
	struct berth *b = NULL;
	berth_slot slot, other;

	set_limit("alice", "5");
	expect_code(BERTH_SUCCESS, open_retrying(&options, &b));
	expect_code(BERTH_SUCCESS, acquire_retrying(b, "alice", &slot));
	restart_after(SIGKILL);
	(void)instance_kill(&here, SIGSTOP);
	expect_code(BERTH_CONNECTION_REFUSED, berth_acquire(b, "unknown", &other));
	(void)instance_kill(&here, SIGCONT);
	ck_assert_int_eq(current_of("alice"), 1);
	expect_code(BERTH_NO_SUCH_USER, acquire_retrying(b, "unknown", &other));
	ck_assert_int_eq(current_of("alice"), 1);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
}
END_TEST

/* berthd is killed while four processes acquire and release. In the end all levels must be
 * discharged. */
START_TEST(no_count_drifts_when_berthd_is_killed_again_and_again) {
	struct child c[WORKERS];

	random_init();
	set_limits(WORK_LIMITS);
	workers_start(c);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < WORKERS; i++)
			child_send(&c[i], ROUNDS / 4);
		(void)usleep(random_below(5000));
		restart_after(SIGKILL);
		for (int i = 0; i < WORKERS; i++)
			ck_assert_int_eq(child_report(&c[i]), BERTH_SUCCESS);
	}
	for (int i = 0; i < WORKERS; i++)
		child_kill(&c[i]);
	expect_current_eventually("acme", 0);
	expect_current_eventually("alice", 0);
	ck_assert_int_eq(status_number("slots_held"), 0);
}
END_TEST

/* Processes are killed in the middle of an acquire or a release, while berthd lives and while it is
 * dead. */
START_TEST(no_count_drifts_when_workers_are_killed_at_random) {
	struct child c[WORKERS];

	random_init();
	set_limits(WORK_LIMITS);
	workers_start(c);
	for (int round = 0; round < 40; round++) {
		int victim = (int)random_below(WORKERS);

		for (int i = 0; i < WORKERS; i++)
			child_send(&c[i], 1000000000);
		(void)usleep(random_below(3000));
		if (round % 4 == 3)
			(void)instance_kill(&here, SIGKILL);
		for (int i = 0; i < WORKERS; i++)
			child_kill(&c[(victim + i) % WORKERS]);
		if (round % 4 == 3)
			instance_restart(&here);
		expect_current_eventually("acme", 0);
		expect_current_eventually("alice", 0);
		workers_start(c);
	}
	for (int i = 0; i < WORKERS; i++)
		child_kill(&c[i]);
	expect_current_eventually("acme", 0);
	ck_assert_int_eq(status_number("slots_held"), 0);
}
END_TEST

/* -- starting twice ---------------------------------------------------------------------------- */

static void expect_second_refused(const char *option, const char *dir) {
	const char *own = text_of("%s/second", here.dir);
	struct instance second = here;

	(void)mkdir(own, 0700);
	/* The second berthd shares one directory with the first berthd, and has the other directory
	 * to itself. */
	second.args[0] = strcmp(option, "--runtime-dir") == 0 ? "--state-dir" : "--runtime-dir";
	second.args[1] = own;
	second.args[2] = option;
	second.args[3] = dir;
	ck_assert_int_eq(start_refused(&second), 1);
	expect_logged("Another berthd uses");
	expect_logged(dir);
	/* The first berthd still serves requests. */
	set_limit("alice", "5");
}

START_TEST(a_second_berthd_on_the_same_runtime_directory_is_refused) {
	expect_second_refused("--runtime-dir", here.runtime_dir);
}
END_TEST

START_TEST(a_second_berthd_on_the_same_state_directory_is_refused) {
	expect_second_refused("--state-dir", here.state_dir);
}
END_TEST

START_TEST(two_instances_are_independent) {
	struct instance first = here, second;
	struct berth *b, *other = NULL;

	set_limit("alice", "1");
	b = open_session();
	(void)acquire_slot(b, "alice");
	instance_start(&second, NULL);
	set_limit("alice", "1"); /* the environment now names the second berthd */
	expect_code(BERTH_SUCCESS, berth_open(second.runtime_dir, &other));
	(void)acquire_slot(other, "alice");
	expect_denied(b, "alice");
	expect_denied(other, "alice");
	ck_assert_int_eq(status_number("slots_held"), 1);
	berth_close(other);
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	berth_close(b);
	instance_end(&second);
	here = first;
}
END_TEST

/* -- a segment of another layout --------------------------------------------------------------- */

struct bytes {
	char *at;
	size_t size;
};

static struct bytes file_read(const char *name) {
	/* The files are huge and sparse, and this test uses only their beginnings. */
	struct bytes b = {.at = malloc(1 << 20)};
	int fd = shared_open(name, O_RDONLY);
	ssize_t n = pread(fd, b.at, 1 << 20, 0);

	ck_assert_int_gt(n, 0);
	b.size = (size_t)n;
	(void)close(fd);
	return b;
}

/* Fails unless the file still has these bytes. Frees the bytes. */
static void expect_unchanged(const char *name, struct bytes before) {
	struct bytes after = file_read(name);

	ck_assert_msg(after.size == before.size && !memcmp(after.at, before.at, after.size),
		"the %s was changed", name);
	free(after.at);
	free(before.at);
}

static void file_patch(const char *name, size_t offset, uint64_t value) {
	int fd = shared_open(name, O_WRONLY);

	ck_assert_int_eq(pwrite(fd, &value, sizeof(value), (off_t)offset), sizeof(value));
	(void)close(fd);
}

START_TEST(a_segment_of_another_layout_is_refused_and_left_alone) {
	struct berth *b = open_session();
	struct bytes segment, directory;

	set_limit("alice", "5");
	(void)acquire_slot(b, "alice");
	(void)instance_kill(&here, SIGKILL);

	file_patch("directory", offsetof(struct directory_header, fingerprint), 42);
	segment = file_read("segment");
	directory = file_read("directory");
	ck_assert_int_eq(start_refused(&here), 78);
	expect_logged("another version");
	expect_logged("Leaving it alone");
	expect_unchanged("segment", segment);
	expect_unchanged("directory", directory);
	file_patch("directory", offsetof(struct directory_header, fingerprint), BERTH_FINGERPRINT);

	/* The server that uses the segment isn't affected. */
	(void)acquire_slot(b, "alice");
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 2);
	berth_close(b);
}
END_TEST

/* Clients can write to the segment, but not to the directory. So if the segment has a wrong version
 * and the directory has the right one, a client has overwritten the segment's. */
START_TEST(berthd_starts_with_noise_in_the_segment_header) {
	struct berth *b;

	set_limit("alice", "5");
	(void)instance_kill(&here, SIGKILL);
	file_patch("segment", offsetof(struct segment_header, fingerprint), 42);
	instance_restart(&here);
	b = open_session();
	(void)acquire_slot(b, "alice");
	ck_assert_int_eq(current_of("alice"), 1);
	berth_close(b);
}
END_TEST

START_TEST(a_segment_of_another_boot_is_replaced) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("alice", "5");
	slot = acquire_slot(b, "alice");
	(void)instance_kill(&here, SIGKILL);
	file_patch("directory", offsetof(struct directory_header, boot_id), 42);
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 0);
	berth_close(b);
	b = open_session();
	slot = acquire_slot(b, "alice");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const struct test tests[] = {
		{the_slot_of_a_killed_holder_is_free_again},
		{a_hundred_thousand_slots_of_one_killed_process_are_freed},
		{a_process_that_exits_without_closing_leaves_no_slot},
		{known_accounts_are_served_while_berthd_is_stopped_or_dead},
		{a_holder_that_dies_while_berthd_is_dead_is_reaped_when_it_returns},
		{the_list_of_holders_survives_a_kill_of_berthd},
		{the_list_of_holders_survives_a_stop_and_a_start},
		{berthd_stops_with_success_and_keeps_the_segment},
		{a_session_continues_with_a_new_berthd},
		{a_request_to_berthd_waits_until_its_deadline},
		{a_welcome_after_the_deadline_costs_no_slot},
		{no_count_drifts_when_berthd_is_killed_again_and_again},
		{no_count_drifts_when_workers_are_killed_at_random},
		{a_second_berthd_on_the_same_runtime_directory_is_refused},
		{a_second_berthd_on_the_same_state_directory_is_refused},
		{two_instances_are_independent},
		{a_segment_of_another_layout_is_refused_and_left_alone},
		{berthd_starts_with_noise_in_the_segment_header},
		{a_segment_of_another_boot_is_replaced},
		{NULL},
	};

	return run_berthd_suites({"death", tests, .setup = here_start, .teardown = here_end});
}
