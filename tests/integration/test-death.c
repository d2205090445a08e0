/* SPDX-License-Identifier: MIT */

/* Holders that die, a berthd that dies, and all of it at once: counts stay exact. */

#include <sys/mman.h>

#include "layout.h"
#include "suite.h"

/* -- holders die ------------------------------------------------------------------------------- */

START_TEST(the_slot_of_a_killed_holder_is_free_again) {
	struct berth *b = open_session();
	struct child c[3];
	berth_slot slot;

	set_limit("acme/alice", "3");
	for (size_t i = 0; i < COUNT_OF(c); i++) {
		c[i] = child_start(child_hold_one, (void *)"acme/alice");
		ck_assert_int_eq(child_report(&c[i]), BERTH_SUCCESS);
	}
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "acme/alice", &slot));
	child_kill(&c[1]);
	expect_current_eventually("acme/alice", 2);
	(void)take(b, "acme/alice");
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
	child_say(c, code);
	(void)child_listen(c);
	_exit(0);
}

START_TEST(a_hundred_thousand_slots_of_one_killed_process_come_back) {
	int many = 100000;
	struct child c;
	int64_t begin;

	set_limit("open", "unlimited");
	c = child_start(child_hold_many, &many);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("open"), many);
	begin = now_us();
	child_kill(&c);
	expect_current_eventually("open", 0);
	printf("%d slots were free %.1f ms after the kill, as berthctl sees it\n", many,
		(double)(now_us() - begin) / 1000);
}
END_TEST

START_TEST(a_process_that_exits_without_closing_leaves_nothing) {
	struct child c;

	set_limit("alice", "5");
	c = child_start(child_hold_one, (void *)"alice");
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	(void)kill(c.pid, SIGTERM);
	(void)child_end(&c);
	expect_current_eventually("alice", 0);
}
END_TEST

/* -- berthd dies ------------------------------------------------------------------------------- */

#define WORKERS 4
#define ROUNDS  20000

/* Says hello; then, each time it is told a number of rounds, does them and reports. */
static void child_work(struct child *c, void *data) {
	static const char *const accounts[] = {"alice", "acme/alice", "acme/bob"};
	struct berth *b = NULL;
	int code = berth_open(NULL, &b), rounds;
	berth_slot slot;

	(void)data;
	for (size_t i = 0; code == BERTH_SUCCESS && i < COUNT_OF(accounts); i++) {
		code = berth_acquire(b, accounts[i], &slot);
		if (code == BERTH_SUCCESS)
			code = berth_release(b, slot);
	}
	child_say(c, code);
	while ((rounds = child_listen(c)) > 0) {
		for (int i = 0; code == BERTH_SUCCESS && i < rounds; i++) {
			code = berth_acquire(b, accounts[i % 3], &slot);
			if (code == BERTH_SUCCESS)
				code = berth_release(b, slot);
		}
		child_say(c, code);
	}
	_exit(code != BERTH_SUCCESS);
}

static void workers_start(struct child c[WORKERS]) {
	set_limit("alice", "1000");
	set_limit("acme", "1000");
	set_limit("acme/alice", "1000");
	set_limit("acme/bob", "1000");
	for (int i = 0; i < WORKERS; i++) {
		c[i] = child_start(child_work, NULL);
		ck_assert_int_eq(child_report(&c[i]), BERTH_SUCCESS);
	}
}

static void workers_work(const struct child c[WORKERS], const char *when) {
	int64_t begin = now_us();

	for (int i = 0; i < WORKERS; i++)
		child_say(&c[i], ROUNDS);
	for (int i = 0; i < WORKERS; i++) {
		int code = child_report(&c[i]);

		ck_assert_msg(code == BERTH_SUCCESS, "%s, worker %d got %d", when, i, code);
	}
	printf("berthd %s: %d pairs of %d processes in %.1f ms\n", when, WORKERS * ROUNDS, WORKERS,
		(double)(now_us() - begin) / 1000);
}

START_TEST(known_accounts_are_served_while_berthd_is_stopped_or_dead) {
	struct child c[WORKERS];

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
		child_say(&c[i], 0);
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
	slot = take(b, "acme/alice");
	dies = child_start(child_hold_one, (void *)"acme/alice");
	lives = child_start(child_hold_one, (void *)"acme/alice");
	ck_assert_int_eq(child_report(&dies), BERTH_SUCCESS);
	ck_assert_int_eq(child_report(&lives), BERTH_SUCCESS);
	(void)instance_kill(&here, SIGKILL);
	child_kill(&dies);
	ck_assert_uint_eq(usage_of(b, "acme/alice").current, 3);
	instance_restart(&here);
	/* Before it serves anybody. */
	ck_assert_int_eq(current_of("acme/alice"), 2);
	ck_assert_int_eq(current_of("acme"), 2);
	/* One adopted by its pidfd alone is reaped, too. */
	child_kill(&lives);
	expect_current_eventually("acme", 1);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
}
END_TEST

static void holders_copy(char *to, size_t size) {
	(void)snprintf(to, size, "%s", expect_ctl(0, "", "holders", "acme", "--json"));
}

static void expect_same_holders_after(int signal) {
	struct berth *b = open_session();
	struct berth_request req = {
		.size = sizeof(req), .account = "acme/alice", .weight = 3, .label = "imap"};
	static char before[65536], after[65536];
	berth_slot slot[40];

	set_limit("acme/alice", "1000");
	set_limit("acme/bob", "1000");
	for (size_t i = 0; i < COUNT_OF(slot); i++) {
		req.account = i % 2 ? "acme/alice" : "acme/bob";
		expect_code(BERTH_SUCCESS, berth_acquire_req(b, &req, &slot[i]));
	}
	holders_copy(before, sizeof(before));
	(void)instance_kill(&here, signal);
	instance_restart(&here);
	holders_copy(after, sizeof(after));
	ck_assert_str_eq(before, after);
	ck_assert_int_eq(current_of("acme"), 3 * (long long)COUNT_OF(slot));
	for (size_t i = 0; i < COUNT_OF(slot); i++)
		expect_code(BERTH_SUCCESS, berth_release(b, slot[i]));
	ck_assert_int_eq(current_of("acme"), 0);
	berth_close(b);
}

START_TEST(the_list_of_holders_outlives_sigkill_of_berthd) {
	expect_same_holders_after(SIGKILL);
}
END_TEST

START_TEST(the_list_of_holders_outlives_stop_and_start) {
	expect_same_holders_after(SIGTERM);
	expect_same_holders_after(SIGINT);
}
END_TEST

START_TEST(berthd_stops_with_success_and_keeps_the_segment) {
	struct berth *b = open_session();
	char path[128];

	set_limit("alice", "1");
	(void)take(b, "alice");
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	(void)snprintf(path, sizeof(path), "%s/segment", here.runtime_dir);
	ck_assert_int_eq(access(path, F_OK), 0);
	(void)snprintf(path, sizeof(path), "%s/berth.sock", here.runtime_dir);
	ck_assert_int_ne(access(path, F_OK), 0);
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 1);
	berth_close(b);
	ck_assert_int_eq(current_of("alice"), 0);
}
END_TEST

START_TEST(a_session_goes_on_with_a_new_berthd) {
	struct berth *b = open_session();
	berth_slot old, other, many[100];

	set_limit("alice", "1000");
	old = take(b, "alice");
	for (int i = 0; i < 3; i++) {
		char name[32];

		(void)instance_kill(&here, i % 2 ? SIGTERM : SIGKILL);
		instance_restart(&here);
		/* A name that this session has to ask for. */
		(void)snprintf(name, sizeof(name), "new%d", i);
		set_limit(name, "1");
		other = take(b, name);
		expect_status_eventually("sessions", 1);
		ck_assert_uint_eq(usage_of(b, "alice").current, 1);
		expect_code(BERTH_SUCCESS, berth_release(b, other));
	}
	/* More than the ranges that it has. */
	for (size_t i = 0; i < COUNT_OF(many); i++)
		many[i] = take(b, "alice");
	for (size_t i = 0; i < COUNT_OF(many); i++)
		expect_code(BERTH_SUCCESS, berth_release(b, many[i]));
	expect_code(BERTH_SUCCESS, berth_release(b, old));
	expect_code(BERTH_TOO_MANY_POSTS, berth_release(b, old));
	expect_status_eventually("sessions", 1);
	berth_close(b);
	expect_status_eventually("sessions", 0);
}
END_TEST

START_TEST(whoever_needs_berthd_waits_for_it_and_not_for_ever) {
	struct berth_options options = {.size = sizeof(options), .timeout_ms = patiently(200)};
	struct berth *b = NULL;
	struct child c;
	berth_slot slot;

	set_limit("alice", "5");
	expect_code(BERTH_SUCCESS, berth_open_options(&options, &b));
	(void)take(b, "alice");
	(void)instance_kill(&here, SIGKILL);
	expect_code(BERTH_CONNECTION_REFUSED, berth_acquire(b, "unknown", &slot));
	(void)take(b, "alice");
	/* A new process waits up to 5 s. */
	c = child_start(child_hold_one, (void *)"alice");
	instance_restart(&here);
	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "unknown", &slot));
	child_kill(&c);
	/* Stopped, it doesn't answer. */
	(void)instance_kill(&here, SIGSTOP);
	expect_code(BERTH_CONNECTION_REFUSED, berth_acquire(b, "unknown", &slot));
	(void)instance_kill(&here, SIGCONT);
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "unknown", &slot));
	berth_close(b);
}
END_TEST

/* The hello is read when nobody waits for its answer any more. */
START_TEST(a_welcome_that_comes_too_late_costs_no_slot) {
	struct berth_options options = {.size = sizeof(options), .timeout_ms = patiently(200)};
	struct berth *b = NULL;
	berth_slot slot, other;

	set_limit("alice", "5");
	expect_code(BERTH_SUCCESS, berth_open_options(&options, &b));
	slot = take(b, "alice");
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	(void)instance_kill(&here, SIGSTOP);
	expect_code(BERTH_CONNECTION_REFUSED, berth_acquire(b, "unknown", &other));
	(void)instance_kill(&here, SIGCONT);
	ck_assert_int_eq(current_of("alice"), 1);
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "unknown", &other));
	ck_assert_int_eq(current_of("alice"), 1);
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
}
END_TEST

/* Kills of berthd while four processes work; what they have charged must all be given back. */
START_TEST(no_count_drifts_when_berthd_is_killed_again_and_again) {
	struct child c[WORKERS];

	random_init();
	workers_start(c);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < WORKERS; i++)
			child_say(&c[i], ROUNDS / 4);
		(void)usleep(random_below(5000));
		(void)instance_kill(&here, SIGKILL);
		instance_restart(&here);
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

/* Holders killed in the middle of acquire and release, with and without a berthd. */
START_TEST(no_count_drifts_when_workers_are_killed_at_random) {
	struct child c[WORKERS];

	random_init();
	workers_start(c);
	for (int round = 0; round < 40; round++) {
		int victim = (int)random_below(WORKERS);

		for (int i = 0; i < WORKERS; i++)
			child_say(&c[i], 1000000000);
		(void)usleep(random_below(3000));
		if (round % 4 == 3)
			(void)instance_kill(&here, SIGKILL);
		for (int i = 0; i < WORKERS; i++)
			child_kill(&c[(victim + i) % WORKERS]);
		if (round % 4 == 3)
			instance_restart(&here);
		expect_current_eventually("acme", 0);
		expect_current_eventually("alice", 0);
		for (int i = 0; i < WORKERS; i++) {
			c[i] = child_start(child_work, NULL);
			ck_assert_int_eq(child_report(&c[i]), BERTH_SUCCESS);
		}
	}
	for (int i = 0; i < WORKERS; i++)
		child_kill(&c[i]);
	expect_current_eventually("acme", 0);
	ck_assert_int_eq(status_number("slots_held"), 0);
}
END_TEST

/* -- starting twice ---------------------------------------------------------------------------- */

static void expect_second_refused(const char *option, const char *dir) {
	struct instance second = here;
	char own[80];

	(void)snprintf(own, sizeof(own), "%s/second", here.dir);
	(void)mkdir(own, 0700);
	/* It shares one directory and has one of its own. */
	second.args[0] = strcmp(option, "--runtime-dir") == 0 ? "--state-dir" : "--runtime-dir";
	second.args[1] = own;
	second.args[2] = option;
	second.args[3] = dir;
	ck_assert_int_eq(start_refused(&second), 1);
	expect_logged("Another berthd uses");
	expect_logged(dir);
	/* The first goes on. */
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

START_TEST(two_instances_know_nothing_of_each_other) {
	struct instance first = here, second;
	struct berth *b, *other = NULL;
	berth_slot slot;

	set_limit("alice", "1");
	b = open_session();
	(void)take(b, "alice");
	instance_start(&second, NULL);
	set_limit("alice", "1"); /* the environment names the second now */
	expect_code(BERTH_SUCCESS, berth_open(second.runtime_dir, &other));
	(void)take(other, "alice");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(other, "alice", &slot));
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
	struct bytes b;
	char path[160];
	struct stat st;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", here.runtime_dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	/* The files are sparse and huge; what is used is at the front of each part. */
	b.size = st.st_size < (1 << 20) ? (size_t)st.st_size : 1 << 20;
	b.at = malloc(b.size);
	ck_assert_int_eq(pread(fd, b.at, b.size, 0), (ssize_t)b.size);
	(void)close(fd);
	return b;
}

static void file_patch(const char *name, size_t offset, uint64_t value) {
	char path[160];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", here.runtime_dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, &value, sizeof(value), (off_t)offset), sizeof(value));
	(void)close(fd);
}

static void expect_refused_and_untouched(const char *patched) {
	struct bytes segment = file_read("segment"), directory = file_read("directory"), after;

	ck_assert_int_eq(start_refused(&here), 78);
	ck_assert_msg(strstr(instance_log(&here), "another version") &&
			      strstr(instance_log(&here), "Leaving it alone"),
		"with another %s: %s", patched, instance_log(&here));
	after = file_read("segment");
	ck_assert_msg(after.size == segment.size && !memcmp(after.at, segment.at, after.size),
		"the segment was changed");
	free(after.at);
	after = file_read("directory");
	ck_assert_msg(after.size == directory.size && !memcmp(after.at, directory.at, after.size),
		"the directory was changed");
	free(after.at);
	free(segment.at);
	free(directory.at);
}

START_TEST(a_segment_of_another_layout_is_refused_and_left_alone) {
	struct berth *b = open_session();

	set_limit("alice", "5");
	(void)take(b, "alice");
	(void)instance_kill(&here, SIGKILL);

	file_patch("directory", offsetof(struct directory_header, fingerprint), 42);
	expect_refused_and_untouched("fingerprint of the directory");
	file_patch("directory", offsetof(struct directory_header, fingerprint), BERTH_FINGERPRINT);

	/* The servers that use it went on all the while. */
	(void)take(b, "alice");
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 2);
	berth_close(b);
}
END_TEST

/* Clients can write the segment, and can't write the directory: what the segment alone says of
 * itself is noise, not a version. */
START_TEST(a_scribbled_segment_header_doesnt_keep_berthd_from_starting) {
	struct berth *b;

	set_limit("alice", "5");
	(void)instance_kill(&here, SIGKILL);
	file_patch("segment", offsetof(struct segment_header, fingerprint), 42);
	instance_restart(&here);
	b = open_session();
	(void)take(b, "alice");
	ck_assert_int_eq(current_of("alice"), 1);
	berth_close(b);
}
END_TEST

START_TEST(a_segment_of_another_boot_makes_way_for_a_new_one) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("alice", "5");
	slot = take(b, "alice");
	(void)instance_kill(&here, SIGKILL);
	file_patch("directory", offsetof(struct directory_header, boot_id), 42);
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 0);
	berth_close(b);
	b = open_session();
	slot = take(b, "alice");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const TTest *const tests[] = {
		the_slot_of_a_killed_holder_is_free_again,
		a_hundred_thousand_slots_of_one_killed_process_come_back,
		a_process_that_exits_without_closing_leaves_nothing,
		known_accounts_are_served_while_berthd_is_stopped_or_dead,
		a_holder_that_dies_while_berthd_is_dead_is_reaped_when_it_returns,
		the_list_of_holders_outlives_sigkill_of_berthd,
		the_list_of_holders_outlives_stop_and_start,
		berthd_stops_with_success_and_keeps_the_segment,
		a_session_goes_on_with_a_new_berthd,
		whoever_needs_berthd_waits_for_it_and_not_for_ever,
		a_welcome_that_comes_too_late_costs_no_slot,
		no_count_drifts_when_berthd_is_killed_again_and_again,
		no_count_drifts_when_workers_are_killed_at_random,
		a_second_berthd_on_the_same_runtime_directory_is_refused,
		a_second_berthd_on_the_same_state_directory_is_refused,
		two_instances_know_nothing_of_each_other,
		a_segment_of_another_layout_is_refused_and_left_alone,
		a_scribbled_segment_header_doesnt_keep_berthd_from_starting,
		a_segment_of_another_boot_makes_way_for_a_new_one,
		NULL,
	};

	return suite_run("death", here_start, tests);
}
