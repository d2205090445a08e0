/* SPDX-License-Identifier: MIT */

/* A sync of the store fails, or berthd can't start the process that checks the store. */

#include "faults.h"
#include "steps.h"

/* From now on, all calls of the kind `what` fail. If `what` is 0, no call fails. */
static void calls_fail(uint32_t what, int error) {
	inject->nth = 1;
	inject->sticky = 1;
	inject->error = error;
	inject->calls = 0;
	inject->what = what;
}

START_TEST(after_a_failed_sync_changes_are_1392_until_the_limits_are_open_again) {
	const char *text;

	faults_restart_after(SIGTERM);
	set_limit("a", "1");
	calls_fail(INJECT_SYNC, EIO);
	ck_assert_int_eq(ctl(&text, "set", "a", "2", NULL), 1);
	ck_assert_msg(strstr(text, "may or may not be there") && strstr(text, "(8)"), "%s", text);
	ck_assert_int_eq(ctl(&text, "set", "b", "2", NULL), 1);
	ck_assert_msg(strstr(text, "(1392)") && strstr(text, "Input/output error") &&
			      strstr(text, "nothing has changed"),
		"%s", text);
	expect_logged("may or may not be there after a restart");
	/* The limit in force doesn't change. */
	ck_assert_int_eq(account_number("a", "limit"), 1);
	calls_fail(0, 0);
	ck_assert(eventually(is_logged, (void *)"opened the limits"));
	set_limit("b", "3");
	restart_after(SIGKILL);
	ck_assert_int_eq(account_number("b", "limit"), 3);
}
END_TEST

/* After a failed sync, the store opens the limits again: after a second, or, if a change arrives
 * earlier, at once. */
START_TEST(a_change_after_a_failed_sync_opens_the_limits_itself) {
	const char *text;

	faults_restart_after(SIGTERM);
	calls_fail(INJECT_SYNC, EIO);
	ck_assert_int_eq(ctl(&text, "set", "a", "2", NULL), 1);
	calls_fail(0, 0);
	set_limit("a", "3");
	restart_after(SIGKILL);
	ck_assert_int_eq(account_number("a", "limit"), 3);
}
END_TEST

START_TEST(a_start_without_a_process_says_so) {
	set_limit("a", "1");
	(void)instance_kill(&here, SIGTERM);
	faults_preload(true);
	calls_fail(INJECT_PROCESS, EAGAIN);
	ck_assert_int_eq(start_refused(&here), 1);
	calls_fail(0, 0);
	faults_preload(false);
	expect_logged("Can't start the process that checks the limits");
	instance_restart(&here);
	ck_assert_int_eq(status_number("configured"), 1);
}
END_TEST

static void setup(void) {
	faults_init();
	here_start();
}

int main(void) {
	const struct test tests[] = {
		{after_a_failed_sync_changes_are_1392_until_the_limits_are_open_again},
		{a_change_after_a_failed_sync_opens_the_limits_itself},
		{a_start_without_a_process_says_so},
		{0},
	};

	return run_berthd_suites({"faults-store", tests, .setup = setup, .teardown = here_end});
}
