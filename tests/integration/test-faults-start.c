/* SPDX-License-Identifier: MIT */

/* Starts berthd while each call in turn fails. Either berthd serves, with all acknowledged limits
 * and all held slots, or it logs the error and exits with 1. Then the next start succeeds. */

#include <ftw.h>

#include "faults.h"

#define LIMIT 7
#define HELD  2

/* -- directories ------------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where) {
	(void)st, (void)type;
	return where->level == 0 ? 0 : remove(path);
}

static void empty_directory(const char *path) {
	ck_assert_int_eq(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void empty_log(void) {
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/log", here.dir);
	(void)truncate(path, 0);
}

/* -- starting ---------------------------------------------------------------------------------- */

static bool has_started_or_ended(void *data) {
	return strstr(instance_log(&here), " serves ") || process_has_ended(data);
}

/* The log has the text of the error. On a full disk the log may have a similar text, for example
 * that there is no memory, since the runtime directory is in memory. */
static bool error_is_logged(void) {
	const char *why = strerror(fault->error), *log = instance_log(&here);
	bool space = fault_is_of_the_disk();

	/* pthread_create returns EAGAIN if there is no memory. LMDB returns EINVAL if there are no
	 * locks. */
	if (fault->what == INJECT_MEMORY && strstr(log, "Can't start the thread"))
		why = strerror(EAGAIN);
	if (fault->error == ENOLCK && strstr(log, "can't open the limits") && !strstr(log, why))
		why = strerror(EINVAL);
	/* The check of the store has its copy in memory, where only injected I/O errors occur. */
	if ((fault->error == EIO || fault->what == INJECT_SHORT) &&
		strstr(log, "LMDB damages the file when it changes it"))
		return true;
	return strstr(log, "Can't start: ") &&
	       (strstr(log, why) ||
		       (space && (strstr(log, strerror(ENOSPC)) || strstr(log, strerror(EIO)) ||
					 strstr(log, strerror(ENOMEM)))));
}

/* Starts berthd with the fault; true if it serves. */
static bool start_with_fault(void) {
	int status = 0;

	empty_log();
	faults_preload(true);
	fault_arm();
	(void)instance_spawn(&here);
	faults_preload(false);
	fault_check(eventually(has_started_or_ended, &here.berthd),
		"berthd neither serves nor exits\n");
	fault_disarm();
	if (strstr(instance_log(&here), " serves "))
		return true;
	(void)waitpid(here.berthd, &status, 0);
	here.berthd = 0;
	fault_check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "wait status %d\n", status);
	fault_check(error_is_logged(), "berthd doesn't log the error\n");
	fault_check(fault_hits > 0, "berthd refused to start without a fault\n");
	if (getenv("SHOW"))
		printf("%s\n%s\n", fault_text(), instance_log(&here));
	return false;
}

static void expect_limit(void) {
	const char *output;
	int r = ctl(&output, "get", "acme/alice", "--json", NULL);

	fault_check(r == 0 && json_number_in(output, "limit") == LIMIT, "%s\n", output);
	r = ctl(&output, "get", "*@example.com", "--json", NULL);
	fault_check(r == 0 && json_number_in(output, "limit") == LIMIT, "%s\n", output);
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

static void stop_berthd(void) {
	int status = instance_kill(&here, SIGTERM);

	fault_check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "wait status %d\n", status);
}

/* -- the first start --------------------------------------------------------------------------- */

static void first_start_step(void) {
	const char *output;
	int r;

	if (here.berthd)
		(void)instance_kill(&here, SIGKILL);
	empty_directory(here.runtime_dir);
	empty_directory(here.state_dir);
	if (!start_with_fault())
		instance_restart(&here);
	r = ctl(&output, "set", "acme/alice", "7", NULL);
	fault_check(r == 0, "%s\n", output);
	expect_service();
	stop_berthd();
	instance_restart(&here);
	r = ctl(&output, "get", "acme/alice", "--json", NULL);
	fault_check(r == 0 && json_number_in(output, "limit") == LIMIT, "%s\n", output);
}

START_TEST(a_first_start_succeeds_or_logs_the_error) {
	faults_sweep("first start", first_start_step);
}
END_TEST

/* -- after a reboot ---------------------------------------------------------------------------- */

static void reboot_step(void) {
	if (here.berthd)
		(void)instance_kill(&here, SIGKILL);
	empty_directory(here.runtime_dir);
	if (start_with_fault()) {
		expect_limit();
		(void)instance_kill(&here, SIGKILL);
	}
	instance_restart(&here);
	expect_limit();
	expect_service();
}

START_TEST(limits_are_in_force_after_any_start) {
	set_limit("acme/alice", "7");
	set_limit("*@example.com", "7");
	faults_sweep("start with limits", reboot_step);
}
END_TEST

/* -- while servers run ------------------------------------------------------------------------- */

/* Holds HELD slots. For each number that it receives it acquires one more slot and releases it. */
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
	const char *output;
	int r = ctl(&output, "get", "acme/alice", "--json", NULL);

	fault_check(r == 0 && json_number_in(output, "current") == HELD, "%s\n", output);
	fault_check(status_number("slots_held") == HELD, "slots_held is wrong\n");
}

/* Another process dies while no berthd runs. The next berthd that starts frees its slot. */
static void adoption_step(void) {
	struct child dead = child_start(child_hold_one, (void *)"acme/alice");
	int code;

	fault_check(
		child_report(&dead) == BERTH_SUCCESS, "the process that is to die has no slot\n");
	(void)instance_kill(&here, SIGKILL);
	child_kill(&dead);
	if (start_with_fault()) {
		expect_limit();
		expect_current_eventually("acme/alice", HELD);
		(void)instance_kill(&here, SIGKILL);
	}
	instance_restart(&here);
	expect_limit();
	expect_slots_held();
	child_send(&holder, 0);
	code = child_report(&holder);
	fault_check(code == BERTH_SUCCESS, "the holder's next slot: %d\n", code);
	expect_slots_held();
}

START_TEST(living_processes_keep_their_slots_through_any_start) {
	set_limit("acme/alice", "7");
	set_limit("*@example.com", "7");
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
