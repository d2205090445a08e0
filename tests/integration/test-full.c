/* SPDX-License-Identifier: MIT */

/* What berthd says and does when something of its own is used up: 8 and a word in the log, never
 * 1238, and service again once there is room. */

#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "counter.h"
#include "suite.h"

static void expect_logged_once(const char *text) {
	ck_assert_msg(logged_times(text) == 1, "'%s' is %d times in berthd's log:\n%s", text,
		logged_times(text), instance_log(&here));
}

/* -- slots ------------------------------------------------------------------------------------- */

#define SLOTS 64

static void few_slots_start(void) {
	static const char *const args[] = {"--max-slots", "64", NULL};

	instance_start(&here, args);
}

START_TEST(when_slots_run_out_the_next_is_8_and_the_log_says_what_to_raise) {
	struct berth *b = open_session(), *other;
	berth_slot slot[2 * SLOTS], more;
	int held = 0, code;

	set_limit("alice", "1000");
	while ((code = berth_acquire(b, "alice", &slot[held])) == BERTH_SUCCESS)
		ck_assert_int_lt(++held, 2 * SLOTS);
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	ck_assert_int_eq(held, SLOTS);
	for (int i = 0; i < 100; i++)
		expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &more));
	expect_logged("--max-slots");
	expect_logged_once("slots are handed out");

	/* Another process can have a session, and no slot. */
	other = open_session();
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(other, "alice", &more));
	ck_assert_uint_eq(usage_of(other, "alice").current, SLOTS);
	ck_assert_uint_eq(usage_of(other, "alice").denied, 0);

	/* A slot given back can be taken again, by the one who has its record. */
	expect_code(BERTH_SUCCESS, berth_release(b, slot[7]));
	slot[7] = acquire_slot(b, "alice");
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &more));

	/* And all of them by others once the session is over. */
	berth_close(b);
	expect_status_eventually("sessions", 1);
	for (int i = 0; i < SLOTS; i++)
		(void)acquire_slot(other, "alice");
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(other, "alice", &more));
	berth_close(other);
	ck_assert_int_eq(current_of("alice"), 0);
}
END_TEST

START_TEST(a_denial_stays_a_denial_when_slots_have_run_out) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("alice", "1000");
	set_limit("full", "1");
	(void)acquire_slot(b, "full");
	while (berth_acquire(b, "alice", &slot) == BERTH_SUCCESS)
		;
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "full", &slot));
	berth_close(b);
}
END_TEST

START_TEST(slots_that_were_granted_too_late_are_used_all_the_same) {
	struct berth_options options = {.size = sizeof(options), .timeout_ms = scale_timeout(200)};
	struct berth *b = NULL;
	berth_slot slot;
	int held = 0, late = 0, code;

	set_limit("alice", "1000");
	expect_code(BERTH_SUCCESS, berth_open_options(&options, &b));
	for (; held < 16; held++)
		(void)acquire_slot(b, "alice");
	(void)instance_kill(&here, SIGSTOP);
	expect_code(BERTH_CONNECTION_REFUSED, berth_acquire(b, "alice", &slot));
	(void)instance_kill(&here, SIGCONT);
	do {
		code = berth_acquire(b, "alice", &slot);
		held += code == BERTH_SUCCESS;
		late += code == BERTH_CONNECTION_REFUSED;
	} while (code == BERTH_SUCCESS || (code == BERTH_CONNECTION_REFUSED && late < 100));
	expect_code(BERTH_NO_SYSTEM_RESOURCES, code);
	ck_assert_int_eq(held, SLOTS);
	berth_close(b);
}
END_TEST

START_TEST(slots_of_a_killed_process_are_there_for_others) {
	struct child c;
	struct berth *b;

	set_limit("alice", "1000");
	for (int i = 0; i < 3 * SLOTS / 16; i++) {
		c = child_start(child_hold_one, (void *)"alice");
		ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
		child_kill(&c);
		expect_current_eventually("alice", 0);
	}
	b = open_session();
	for (int i = 0; i < SLOTS; i++)
		(void)acquire_slot(b, "alice");
	berth_close(b);
}
END_TEST

/* -- sequence numbers -------------------------------------------------------------------------- */

#define RECORDS 32

static void few_records_start(void) {
	static const char *const args[] = {"--max-slots", "32", NULL};

	instance_start(&here, args);
	set_limit("alice", "1000");
}

static int file_open(const char *name, int flags) {
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%.80s/%s", here.runtime_dir, name);
	fd = open(path, flags | O_CLOEXEC);
	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

/* As if each record but those that hold slots had taken all the slots it can, but for two or
 * three. */
static void seqs_use_up(void) {
	struct map *m;

	ck_assert_int_eq(map_new(file_open("segment", O_RDWR), file_open("directory", O_RDONLY),
				 PROT_READ, &m),
		0);
	for (uint32_t n = BERTH_RANGE; n < load_acquire(&m->names->slots); n++) {
		struct snapshot s;

		ck_assert_int_eq(counter_record(m, n, &s), 0);
		if (!snapshot_is_held(s))
			store_total(&map_record(m, n)->noted,
				seq_base(BERTH_SEQ_LAST) - 3 * (uint64_t)BERTH_CYCLE);
	}
	map_free(m);
}

/* Slots, one after another, until there is none; how many. */
static int use_up(struct berth *b, int *ret_code) {
	int used = 0;
	berth_slot slot;

	while ((*ret_code = berth_acquire(b, "alice", &slot)) == BERTH_SUCCESS) {
		expect_code(BERTH_SUCCESS, berth_release(b, slot));
		ck_assert_int_lt(++used, 1000);
	}
	return used;
}

START_TEST(sequence_numbers_that_are_used_up_are_8_until_berthd_makes_a_new_table) {
	struct berth *b = open_session();
	berth_slot held = acquire_slot(b, "alice"), slot[RECORDS + 1];
	int used, code;

	seqs_use_up();
	used = use_up(b, &code);
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	/* Two or three each, and none twice. */
	ck_assert_msg(used >= 2 * (RECORDS - 1) - 1 && used <= 3 * RECORDS, "%d slots", used);
	expect_logged("used up their sequence numbers");
	expect_ctl(0, "retired      31 slots, whose sequence numbers are used up", "status");
	ck_assert_int_eq(status_number("slots_retired"), RECORDS - 1);
	/* That is said once; a denial stays one, and what was taken before is its holder's. */
	for (int i = 0; i < 10; i++)
		expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &slot[0]));
	expect_logged_once("used up their sequence numbers");
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	expect_code(BERTH_SUCCESS, berth_release(b, held));
	/* The one that isn't used up goes on. */
	expect_code(BERTH_SUCCESS, berth_release(b, acquire_slot(b, "alice")));

	/* berthd keeps the table while a server uses it, and makes a new one when none does. */
	(void)instance_kill(&here, SIGTERM);
	instance_restart(&here);
	ck_assert_int_eq(status_number("slots_retired"), RECORDS - 1);
	held = acquire_slot(b, "alice");
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &slot[0]));
	expect_code(BERTH_SUCCESS, berth_release(b, held));
	berth_close(b);
	expect_status_eventually("sessions", 0);
	(void)instance_kill(&here, SIGTERM);
	instance_restart(&here);
	ck_assert_int_eq(status_number("slots_retired"), 0);
	b = open_session();
	for (int i = 0; i < RECORDS; i++)
		slot[i] = acquire_slot(b, "alice");
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &slot[RECORDS]));
	berth_close(b);
}
END_TEST

/* The servers that used them up are gone, and others come. */
START_TEST(records_that_are_used_up_are_granted_to_no_server) {
	struct berth *b = open_session(), *other;
	berth_slot slot;
	int code;

	(void)acquire_slot(b, "alice");
	berth_close(b);
	expect_status_eventually("sessions", 0);
	seqs_use_up();
	b = open_session();
	(void)use_up(b, &code);
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	berth_close(b);
	expect_status_eventually("sessions", 0);
	other = open_session();
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(other, "alice", &slot));
	ck_assert_int_eq(status_number("slots_granted"), 0);
	expect_logged("used up their sequence numbers");
	berth_close(other);
	expect_status_eventually("sessions", 0);
	(void)instance_kill(&here, SIGTERM);
	instance_restart(&here);
	other = open_session();
	for (int i = 0; i < RECORDS; i++)
		(void)acquire_slot(other, "alice");
	berth_close(other);
}
END_TEST

/* -- sessions ---------------------------------------------------------------------------------- */

static void few_sessions_start(void) {
	static const char *const args[] = {"--max-sessions", "3", NULL};

	instance_start(&here, args);
}

START_TEST(when_sessions_run_out_opening_is_8_and_one_that_ends_makes_room) {
	struct berth *b[3], *more = NULL;

	set_limit("alice", "10");
	for (int i = 0; i < 3; i++)
		b[i] = open_session();
	for (int i = 0; i < 5; i++)
		expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_open(NULL, &more));
	ck_assert_ptr_null(more);
	expect_logged("--max-sessions");
	expect_logged_once("sessions are in use");
	(void)acquire_slot(b[0], "alice");
	berth_close(b[1]);
	expect_status_eventually("sessions", 2);
	b[1] = open_session();
	(void)acquire_slot(b[1], "alice");
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_open(NULL, &more));
	for (int i = 0; i < 3; i++)
		berth_close(b[i]);
	expect_status_eventually("sessions", 0);
	for (int i = 0; i < 3; i++)
		b[i] = open_session();
}
END_TEST

/* -- descriptors ------------------------------------------------------------------------------- */

#define MANY 64
#define FEW  60 /* berthd itself has half of them */

START_TEST(without_descriptors_opening_is_8_and_berthd_recovers) {
	struct rlimit few = {FEW, FEW}, was;
	struct berth *b[MANY], *last = NULL;
	int open = 0, code;

	set_limit("alice", "1000");
	ck_assert_int_eq(prlimit(here.berthd, RLIMIT_NOFILE, &few, &was), 0);
	while ((code = berth_open(NULL, &b[open])) == BERTH_SUCCESS) {
		(void)acquire_slot(b[open], "alice");
		ck_assert_int_lt(++open, MANY);
	}
	ck_assert_msg(open > 4, "only %d sessions were opened", open);
	ck_assert_msg(code == BERTH_NO_SYSTEM_RESOURCES, "session %d: %d\n%s", open, code,
		instance_log(&here));
	for (int i = 0; i < 5; i++)
		expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_open(NULL, &last));
	expect_logged("LimitNOFILE");
	/* Those that are in are served, also with what berthd must be asked for. */
	for (int i = 0; i < 20; i++)
		(void)acquire_slot(b[0], "alice");
	for (int i = 0; i < 2; i++)
		berth_close(b[--open]);
	while (berth_open(NULL, &last) != BERTH_SUCCESS)
		(void)sched_yield(); /* until berthd has read the goodbyes */
	(void)acquire_slot(last, "alice");
	berth_close(last);
	while (open > 0)
		berth_close(b[--open]);
	ck_assert_int_eq(current_of("alice"), 0);
	ck_assert_int_eq(status_number("slots_held"), 0);
}
END_TEST

/* berthctl, too, hears it, and can be used again. */
START_TEST(without_descriptors_berthctl_says_so) {
	struct rlimit few = {FEW, FEW};
	struct berth *b[MANY];
	int open = 0;
	const char *said;

	set_limit("alice", "1000");
	ck_assert_int_eq(prlimit(here.berthd, RLIMIT_NOFILE, &few, NULL), 0);
	while (berth_open(NULL, &b[open]) == BERTH_SUCCESS)
		ck_assert_int_lt(++open, MANY);
	/* One descriptor may be left that a session, which takes two, had no use for. */
	if (ctl(&said, "status", NULL) != 0)
		ck_assert_msg(
			strstr(said, "descriptors") || strstr(said, "LimitNOFILE"), "%s", said);
	while (open > 0)
		berth_close(b[--open]);
	expect_ctl(0, "", "status");
}
END_TEST

/* -- the file system of the runtime directory -------------------------------------------------- */

/* A tmpfs of the test's own over run/, in a mount namespace of its own; false: not allowed here. */
static bool small_runtime_dir(const char *size) {
	(void)instance_kill(&here, SIGTERM);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("berth-test", here.runtime_dir, "tmpfs", 0, size) < 0) {
		printf("not allowed to mount (%s), so a full tmpfs isn't tested\n",
			strerror(errno));
		return false;
	}
	instance_restart(&here);
	return true;
}

START_TEST(a_full_tmpfs_is_8_and_kills_nobody) {
	struct berth *b;
	berth_slot slot, more;
	int held = 0, code;

	if (!small_runtime_dir("size=4m"))
		return;
	set_limit("alice", "unlimited");
	b = open_session();
	while ((code = berth_acquire(b, "alice", &slot)) == BERTH_SUCCESS && held < 1000000)
		held++;
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	ck_assert_int_gt(held, 100);
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &more));
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	(void)acquire_slot(b, "alice");
	ck_assert_int_eq(current_of("alice"), held);
	ck_assert_msg(strcasestr(instance_log(&here), "space") ||
			      strcasestr(instance_log(&here), "memory") ||
			      strcasestr(instance_log(&here), "full"),
		"the log doesn't say what is used up:\n%s", instance_log(&here));
	berth_close(b);
	ck_assert_int_eq(current_of("alice"), 0);
	(void)umount2(here.runtime_dir, MNT_DETACH);
}
END_TEST

START_TEST(a_tmpfs_too_small_for_more_accounts_is_8_too) {
	struct berth *b;
	berth_slot slot;
	char name[32];
	int made = 0, code;

	if (!small_runtime_dir("size=4m"))
		return;
	set_limit("*", "unlimited");
	b = open_session();
	do
		(void)snprintf(name, sizeof(name), "stranger%d", made++);
	while ((code = berth_acquire(b, name, &slot)) == BERTH_SUCCESS && made < 1000000);
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	(void)acquire_slot(b, "stranger0");
	berth_close(b);
	(void)umount2(here.runtime_dir, MNT_DETACH);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const TTest *const slots[] = {
		when_slots_run_out_the_next_is_8_and_the_log_says_what_to_raise,
		a_denial_stays_a_denial_when_slots_have_run_out,
		slots_that_were_granted_too_late_are_used_all_the_same,
		slots_of_a_killed_process_are_there_for_others,
		NULL,
	};
	const TTest *const seqs[] = {
		sequence_numbers_that_are_used_up_are_8_until_berthd_makes_a_new_table,
		records_that_are_used_up_are_granted_to_no_server,
		NULL,
	};
	const TTest *const sessions[] = {
		when_sessions_run_out_opening_is_8_and_one_that_ends_makes_room,
		NULL,
	};
	const TTest *const others[] = {
		without_descriptors_opening_is_8_and_berthd_recovers,
		without_descriptors_berthctl_says_so,
		a_full_tmpfs_is_8_and_kills_nobody,
		a_tmpfs_too_small_for_more_accounts_is_8_too,
		NULL,
	};
	int failed = suite_run("few slots", few_slots_start, slots);

	failed |= suite_run("few records", few_records_start, seqs);
	failed |= suite_run("few sessions", few_sessions_start, sessions);
	return failed | suite_run("few descriptors, little memory", here_start, others);
}
