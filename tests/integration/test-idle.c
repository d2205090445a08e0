/* SPDX-License-Identifier: MIT */

/* Even if slots are held, no thread of berthd wakes up while nothing changes. After one change,
 * berthd writes one checkpoint. */

#include "steps.h"

/* How long a measurement (a window) takes: long enough to show anything that runs every second or
 * two. The test sleeps meanwhile, since there is no event to wait for. */
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

/* The number of times that berthd's threads have gone to sleep, which is once for each wake-up. */
static long sleeps(void) {
	DIR *d = opendir(text_of("/proc/%d/task", (int)here.berthd));
	struct dirent *e;
	long sum = 0;
	int threads = 0;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		sum += number_in_file(
			text_of("/proc/%d/task/%s/status", (int)here.berthd, e->d_name),
			"voluntary_ctxt_switches:");
		threads++;
	}
	(void)closedir(d);
	ck_assert_int_ge(threads, 2);
	return sum;
}

/* After a change berthd works for a while. Then there must be a window without any wake-up. */
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

START_TEST(berthd_sleeps_while_nothing_changes_and_wakes_for_a_change) {
	struct berth *b = open_session(), *other = open_session();
	char before[64], after[64];
	struct berth_usage usage;
	berth_slot slot;
	long n;

	set_limits("alice 2", "* 3");
	slot = acquire_slot(b, "alice");
	(void)acquire_slot(other, "alice");
	(void)acquire_slot(other, "someone");
	expect_idle("with slots held");

	/* Queries don't wake berthd. */
	n = sleeps();
	for (int i = 0; i < 100000; i++) {
		usage = (struct berth_usage){.size = sizeof(usage)};
		expect_code(BERTH_SUCCESS, berth_query(b, "alice", &usage));
	}
	ck_assert_int_eq(sleeps(), n);

	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	ck_assert_msg(eventually(has_slept, &n), "a release didn't wake berthd");
	expect_idle("after a release");

	/* The release has made its checkpoint. No other checkpoint follows, so the time of the last
	 * checkpoint stays the same. */
	checkpoint_time(before);
	expect_idle("after a request for the status");
	checkpoint_time(after);
	ck_assert_str_eq(before, after);
	berth_close(b);
	berth_close(other);
}
END_TEST

/* However many denials there are, they wake berthd no more often than one change a second would. */
START_TEST(denials_are_stored_and_many_of_them_wake_berthd_rarely) {
	struct berth *b = open_session();
	long n;

	set_limit("alice", "0");
	expect_denied(b, "alice");
	expect_idle("after a denial");
	n = sleeps();
	for (int i = 1; i < 100000; i++)
		expect_denied(b, "alice");
	ck_assert_msg(eventually(has_slept, &n), "the denials didn't wake berthd");
	expect_idle("after a hundred thousand denials");
	/* Even on a slow machine this is far less than one wake-up per hundred denials. */
	ck_assert_int_lt(sleeps() - n, 1000);
	berth_close(b);
	(void)instance_kill(&here, SIGKILL);
	directory_empty(here.runtime_dir); /* as a reboot does */
	instance_restart(&here);
	ck_assert_int_eq(account_number("alice", "denied"), 100000);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{berthd_sleeps_while_nothing_changes_and_wakes_for_a_change},
		{denials_are_stored_and_many_of_them_wake_berthd_rarely},
		{NULL},
	};

	return run_berthd_suites({"idle", tests, .setup = here_start, .teardown = here_end});
}
