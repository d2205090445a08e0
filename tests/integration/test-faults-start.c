/* SPDX-License-Identifier: MIT */

/* berthd's start with every call failing that can: it serves, with everything that was acknowledged
 * and everything that is held, or it says what failed and ends; and the next start is well. */

#include <ftw.h>

#include "faults.h"

#define LIMIT 7
#define HELD  2

/* -- directories ------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where) {
	(void)st, (void)type;
	return where->level == 0 ? 0 : remove(path);
}

static void directory_empty(const char *path) {
	ck_assert_int_eq(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void log_empty(void) {
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/log", here.dir);
	(void)truncate(path, 0);
}

/* -- starting ---------------------------------------------------------------------------------- */

static bool start_is_decided(void *data) {
	return strstr(instance_log(&here), " serves ") || process_has_ended(data);
}

/* What failed and why. A full disk may be the file system of the runtime directory, which is said
 * to have no memory. */
static bool log_names_what_failed(void) {
	const char *why = strerror(fault->error), *log = instance_log(&here);
	bool space = fault_is_of_the_disk();

	/* How pthread_create says that there is no memory; and LMDB, that there are no locks. */
	if (fault->what == INJECT_MEMORY && strstr(log, "Can't start the thread"))
		why = strerror(EAGAIN);
	if (fault->error == ENOLCK && strstr(log, "can't open the limits") && !strstr(log, why))
		why = strerror(EINVAL);
	return strstr(log, "Can't start: ") &&
	       (strstr(log, why) ||
		       (space && (strstr(log, strerror(ENOSPC)) || strstr(log, strerror(EIO)) ||
					 strstr(log, strerror(ENOMEM)))));
}

/* Starts berthd with the fault; true if it serves. */
static bool start_with_fault(void) {
	int status = 0;

	log_empty();
	faults_preload(true);
	fault_arm();
	(void)instance_spawn(&here);
	faults_preload(false);
	fault_check(eventually(start_is_decided, &here.berthd), "berthd hangs\n");
	fault_disarm();
	if (strstr(instance_log(&here), " serves "))
		return true;
	(void)waitpid(here.berthd, &status, 0);
	here.berthd = 0;
	fault_check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "wait status %d\n", status);
	fault_check(log_names_what_failed(), "it doesn't say what failed\n");
	fault_check(fault_hits > 0, "refused without a fault\n");
	if (getenv("SHOW"))
		printf("%s\n%s\n", fault_text(), instance_log(&here));
	return false;
}

static void expect_limit(void) {
	const char *said;
	int r = ctl(&said, "get", "acme/alice", "--json", NULL);

	fault_check(r == 0 && json_number_in(said, "limit") == LIMIT, "%s\n", said);
	r = ctl(&said, "get", "*@example.com", "--json", NULL);
	fault_check(r == 0 && json_number_in(said, "limit") == LIMIT, "%s\n", said);
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

static void end_cleanly(void) {
	int status = instance_kill(&here, SIGTERM);

	fault_check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "wait status %d\n", status);
}

/* -- from nothing ------------------------------------------------------------------------------ */

static void fresh_step(void) {
	const char *said;
	int r;

	if (here.berthd)
		(void)instance_kill(&here, SIGKILL);
	directory_empty(here.runtime_dir);
	directory_empty(here.state_dir);
	if (!start_with_fault())
		instance_restart(&here);
	r = ctl(&said, "set", "acme/alice", "7", NULL);
	fault_check(r == 0, "%s\n", said);
	expect_service();
	end_cleanly();
	instance_restart(&here);
	r = ctl(&said, "get", "acme/alice", "--json", NULL);
	fault_check(r == 0 && json_number_in(said, "limit") == LIMIT, "%s\n", said);
}

START_TEST(a_first_start_works_or_says_what_failed) {
	faults_sweep("first start", fresh_step);
}
END_TEST

/* -- after a reboot ---------------------------------------------------------------------------- */

static void rebooted_step(void) {
	if (here.berthd)
		(void)instance_kill(&here, SIGKILL);
	directory_empty(here.runtime_dir);
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
	faults_sweep("start with limits", rebooted_step);
}
END_TEST

/* -- with servers that go on ------------------------------------------------------------------- */

/* Holds HELD slots, and for each number it is told acquires one more and releases it. */
static void child_hold_and_go_on(struct child *c, void *data) {
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

static void expect_held(void) {
	const char *said;
	int r = ctl(&said, "get", "acme/alice", "--json", NULL);

	fault_check(r == 0 && json_number_in(said, "current") == HELD, "%s\n", said);
	fault_check(status_number("slots_held") == HELD, "slots_held is wrong\n");
}

/* Also one that died meanwhile is reaped by whichever berthd comes next. */
static void adopting_step(void) {
	struct child dead = child_start(child_hold_one, (void *)"acme/alice");
	int code;

	fault_check(child_report(&dead) == BERTH_SUCCESS, "one that is to die\n");
	(void)instance_kill(&here, SIGKILL);
	child_kill(&dead);
	if (start_with_fault()) {
		expect_limit();
		expect_current_eventually("acme/alice", HELD);
		(void)instance_kill(&here, SIGKILL);
	}
	instance_restart(&here);
	expect_limit();
	expect_held();
	child_send(&holder, 0);
	code = child_report(&holder);
	fault_check(code == BERTH_SUCCESS, "the holder's next slot: %d\n", code);
	expect_held();
}

START_TEST(slots_of_the_living_stay_held_through_any_start) {
	set_limit("acme/alice", "7");
	set_limit("*@example.com", "7");
	holder = child_start(child_hold_and_go_on, NULL);
	ck_assert_int_eq(child_report(&holder), BERTH_SUCCESS);
	faults_sweep("start with servers", adopting_step);
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
	const TTest *const tests[] = {
		a_first_start_works_or_says_what_failed,
		limits_are_in_force_after_any_start,
		slots_of_the_living_stay_held_through_any_start,
		NULL,
	};

	return suite_run("faults at start", setup, tests);
}
