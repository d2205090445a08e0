/* SPDX-License-Identifier: MIT */

/* An idle system has an idle daemon: no thread of berthd wakes up, whoever holds what; and one
 * change is one checkpoint. */

#include <dirent.h>

#include "suite.h"

/* Long enough for anything that comes every second or two to show; a measurement, nothing waits on
 * it. */
#define WINDOW_MS 2200
#define TRIES     12

static long number_in_file(const char *path, const char *key) {
	char line[256];
	long n = -1;
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			n = atol(line + strlen(key));
	if (f)
		(void)fclose(f);
	return n;
}

/* How often berthd's threads have gone to sleep so far: once for each time that they woke. */
static long sleeps(void) {
	char path[512];
	struct dirent *e;
	long sum = 0;
	int threads = 0;
	DIR *d;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)here.berthd);
	d = opendir(path);
	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(
			path, sizeof(path), "/proc/%d/task/%s/status", (int)here.berthd, e->d_name);
		sum += number_in_file(path, "voluntary_ctxt_switches:");
		threads++;
	}
	(void)closedir(d);
	ck_assert_int_ge(threads, 2);
	return sum;
}

/* Things settle for a while after a change; then a window without any wake-up must come. */
static void expect_idle(const char *when) {
	long before, after = 0;

	for (int i = 0; i < TRIES; i++) {
		before = sleeps();
		(void)usleep(WINDOW_MS * 1000);
		after = sleeps();
		if (after == before)
			return;
	}
	ck_abort_msg("%s, berthd still woke %ld times in the last of %d windows of %d ms", when,
		after - before, TRIES, WINDOW_MS);
}

static bool has_slept(void *data) {
	return sleeps() > *(long *)data;
}

static void checkpoint_read(char to[64]) {
	const char *at = strstr(expect_ctl(0, "", "status", "--json"), "\"checkpointed\":");

	(void)snprintf(to, 64, "%.38s", at);
}

/* As a reboot does. */
static void runtime_files_remove(void) {
	static const char *const names[] = {"segment", "directory"};
	char path[128];

	for (size_t i = 0; i < COUNT_OF(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", here.runtime_dir, names[i]);
		ck_assert_int_eq(unlink(path), 0);
	}
}

START_TEST(berthd_sleeps_while_nothing_changes_and_wakes_for_a_change) {
	struct berth *b = open_session(), *other = open_session();
	char before[64], after[64];
	struct berth_usage usage;
	berth_slot slot;
	long n;

	set_limit("alice", "2");
	set_limit("*", "3");
	slot = acquire_slot(b, "alice");
	(void)acquire_slot(other, "alice");
	(void)acquire_slot(other, "someone");
	expect_idle("with slots held");

	/* Asking, and names that are known, concern nobody. */
	n = sleeps();
	for (int i = 0; i < 100000; i++) {
		usage = (struct berth_usage){.size = sizeof(usage)};
		expect_code(BERTH_SUCCESS, berth_query(b, "alice", &usage));
	}
	ck_assert_int_eq(sleeps(), n);

	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert_msg(eventually(has_slept, &n), "a release woke nobody");
	expect_idle("after a release");

	/* One change, one checkpoint: the second question's time is that of the first. */
	checkpoint_read(before);
	expect_idle("after a question");
	checkpoint_read(after);
	ck_assert_str_eq(before, after);
	berth_close(b);
	berth_close(other);
}
END_TEST

/* A flood of strangers who are denied keeps berthd as busy as one change a second does. */
START_TEST(denials_are_stored_like_changes_and_a_flood_of_them_wakes_berthd_now_and_then) {
	struct berth *b = open_session();
	berth_slot slot;
	long n;

	set_limit("alice", "0");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	expect_idle("after a denial");
	n = sleeps();
	for (int i = 1; i < 100000; i++)
		expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	ck_assert_msg(eventually(has_slept, &n), "denials woke nobody");
	expect_idle("after a hundred thousand denials");
	/* However slow the machine: not once for every hundred of them. */
	ck_assert_int_lt(sleeps() - n, 1000);
	berth_close(b);
	(void)instance_kill(&here, SIGKILL);
	runtime_files_remove();
	instance_restart(&here);
	ck_assert_int_eq(
		json_number_in(expect_ctl(0, "", "get", "alice", "--json"), "denied"), 100000);
}
END_TEST

int main(void) {
	const TTest *const tests[] = {
		berthd_sleeps_while_nothing_changes_and_wakes_for_a_change,
		denials_are_stored_like_changes_and_a_flood_of_them_wakes_berthd_now_and_then,
		NULL,
	};

	return suite_run("idle", here_start, tests);
}
