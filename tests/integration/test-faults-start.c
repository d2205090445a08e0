/* SPDX-License-Identifier: MIT */

/* Starts berthd while each call in turn fails. Either berthd serves, with all acknowledged limits
 * and all held slots, or it logs the error and exits with 1. Then the next start succeeds. */

#include "faults.h"
#include "steps.h"

#define LIMIT 7
#define HELD  2

/* -- starting ---------------------------------------------------------------------------------- */

static bool has_started_or_ended(void *data) {
	return strstr(instance_log(&here), " serves ") || process_has_ended(data);
}

/* True if the log has the text of the error. If the error is one of the disk, the log may have the
 * text of a similar error: that there is no memory, for example, because the runtime directory is
 * in memory. */
static bool error_is_logged(void) {
	const char *why = strerror(fault->error), *log = instance_log(&here);
	bool space = fault_is_of_the_disk();

	/* pthread_create returns EAGAIN if there is no memory. LMDB returns EINVAL if there are no
	 * locks. */
	if (fault->what == INJECT_MEMORY && strstr(log, "Can't start the thread"))
		why = strerror(EAGAIN);
	if (fault->error == ENOLCK && strstr(log, "can't open the limits") && !strstr(log, why))
		why = strerror(EINVAL);
	/* The check of the store reads a copy in memory, where only injected I/O errors occur. */
	if ((fault->error == EIO || fault->what == INJECT_SHORT) &&
		strstr(log, "LMDB damages the file when it changes it"))
		return true;
	return strstr(log, "Can't start: ") &&
	       (strstr(log, why) ||
		       (space && (strstr(log, strerror(ENOSPC)) || strstr(log, strerror(EIO)) ||
					 strstr(log, strerror(ENOMEM)))));
}

/* Starts berthd with the fault. Returns true if berthd serves. */
static bool start_with_fault(void) {
	int status;

	(void)!truncate(text_of("%s/log", here.dir), 0);
	faults_preload(true);
	fault_arm();
	(void)instance_spawn(&here);
	faults_preload(false);
	fault_check(eventually(has_started_or_ended, &here.berthd),
		"berthd neither serves nor exits\n");
	fault_disarm();
	if (strstr(instance_log(&here), " serves "))
		return true;
	status = berthd_exit_status();
	fault_check(status == 1, "status %d\n", status);
	fault_check(error_is_logged(), "berthd doesn't log the error\n");
	fault_check(fault_hits > 0, "berthd refused to start without a fault\n");
	if (getenv("SHOW"))
		printf("%s\n%s\n", fault_text(), instance_log(&here));
	return false;
}

static void expect_number(const char *account, const char *key, long long want) {
	const char *output;
	int r = ctl(&output, "get", account, "--json", NULL);

	fault_check(r == 0 && json_number_in(output, key) == want, "%s\n", output);
}

static void expect_limits(void) {
	expect_number("acme/alice", "limit", LIMIT);
	expect_number("*@example.com", "limit", LIMIT);
}

static void expect_service(void) {
	struct berth *b = NULL;
	berth_slot slot;
	int code = berth_open(NULL, &b);

	if (code == BERTH_SUCCESS)
		code = berth_acquire(b, "acme/alice", &slot);
	fault_check(code == BERTH_SUCCESS, "%d\n", code);
	berth_close(b);
}

/* -- the first start --------------------------------------------------------------------------- */

static void first_start_step(void) {
	const char *output;
	int r;

	if (here.berthd)
		(void)instance_kill(&here, SIGKILL);
	directory_empty(here.runtime_dir);
	directory_empty(here.state_dir);
	if (!start_with_fault())
		instance_restart(&here);
	r = ctl(&output, "set", "acme/alice", "7", NULL);
	fault_check(r == 0, "%s\n", output);
	expect_service();
	r = instance_kill(&here, SIGTERM);
	fault_check(r == 0, "wait status %d\n", r);
	instance_restart(&here);
	expect_number("acme/alice", "limit", LIMIT);
}

START_TEST(a_first_start_succeeds_or_logs_the_error) {
	faults_sweep("first start", first_start_step);
}
END_TEST

/* -- after a reboot ---------------------------------------------------------------------------- */

static void reboot_step(void) {
	if (here.berthd)
		(void)instance_kill(&here, SIGKILL);
	directory_empty(here.runtime_dir);
	if (start_with_fault()) {
		expect_limits();
		(void)instance_kill(&here, SIGKILL);
	}
	instance_restart(&here);
	expect_limits();
	expect_service();
}

START_TEST(limits_are_in_force_after_any_start) {
	set_limits("acme/alice 7", "*@example.com 7");
	faults_sweep("start with limits", reboot_step);
}
END_TEST

/* -- while servers run ------------------------------------------------------------------------- */

/* In the child: holds HELD slots. For each number that the child receives, acquires one more slot
 * and releases it. */
static void child_hold_and_acquire(struct child *c, void *data) {
	struct berth *b = NULL;
	berth_slot slot;
	int code = berth_open(NULL, &b);

	(void)data;
	for (int i = 0; i < HELD && code == BERTH_SUCCESS; i++)
		code = berth_acquire(b, "acme/alice", &slot);
	for (;;) {
		child_send(c, code);
		(void)child_receive(c);
		code = berth_acquire(b, "acme/alice", &slot);
		if (code == BERTH_SUCCESS)
			code = berth_release(b, slot);
	}
}

static struct child holder;

static void expect_slots_held(void) {
	expect_number("acme/alice", "current", HELD);
	fault_check(status_number("slots_held") == HELD, "slots_held is wrong\n");
}

/* Another process dies while no berthd runs. The next berthd that starts frees the slot of this
 * process. */
static void adoption_step(void) {
	struct child dead = child_start(child_hold_one, (void *)"acme/alice");
	int code;

	fault_check(
		child_report(&dead) == BERTH_SUCCESS, "the process that is to die has no slot\n");
	(void)instance_kill(&here, SIGKILL);
	child_kill(&dead);
	if (start_with_fault()) {
		expect_limits();
		expect_current_eventually("acme/alice", HELD);
		(void)instance_kill(&here, SIGKILL);
	}
	instance_restart(&here);
	expect_limits();
	expect_slots_held();
	child_send(&holder, 0);
	code = child_report(&holder);
	fault_check(code == BERTH_SUCCESS, "the holder's next slot: %d\n", code);
	expect_slots_held();
}

START_TEST(living_processes_keep_their_slots_through_any_start) {
	set_limits("acme/alice 7", "*@example.com 7");
	holder = child_start(child_hold_and_acquire, NULL);
	ck_assert_int_eq(child_report(&holder), BERTH_SUCCESS);
	faults_sweep("start with servers", adoption_step);
	child_kill(&holder);
	expect_current_eventually("acme/alice", 0);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

static void setup(void) {
	faults_init();
	here_start();
}

int main(void) {
	const struct test tests[] = {
		{a_first_start_succeeds_or_logs_the_error},
		{limits_are_in_force_after_any_start},
		{living_processes_keep_their_slots_through_any_start},
		{NULL},
	};

	return run_berthd_suites({"faults at start", tests, .setup = setup, .teardown = here_end});
}
