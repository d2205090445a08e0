/* SPDX-License-Identifier: MIT */

/* A resource of berthd is used up. Clients get BERTH_NO_SYSTEM_RESOURCES (8), never
 * BERTH_CONNECTION_COUNT_LIMIT (1238), and berthd logs what to do. Once the resource is available,
 * berthd serves again. */

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "counter.h"
#include "steps.h"

static void expect_logged_once(const char *text) {
	ck_assert_msg(logged_times(text) == 1, "'%s' is %d times in berthd's log:\n%s", text,
		logged_times(text), instance_log(&here));
}

/* -- slots ------------------------------------------------------------------------------------- */

#define SLOTS 64

static void start_with_few_slots(void) {
	static const char *const args[] = {"--max-slots", "64", NULL};

	instance_start(&here, args);
}

START_TEST(when_slots_run_out_an_acquire_gets_8_and_the_log_names_the_option) {
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

	/* Another process can open a session, but gets no slot. */
	other = open_session();
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(other, "alice", &more));
	ck_assert_uint_eq(usage_of(other, "alice").current, SLOTS);
	ck_assert_uint_eq(usage_of(other, "alice").denied, 0);

	/* When the session releases a slot, it keeps the slot's record, so it can acquire again. */
	expect_code(BERTH_SUCCESS, berth_release(b, slot[7]));
	slot[7] = acquire_slot(b, "alice");
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &more));

	/* When the session has ended, another session can use all records. */
	berth_close(b);
	expect_status_eventually("sessions", 1);
	acquire_slots(other, "alice", SLOTS, NULL);
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(other, "alice", &more));
	berth_close(other);
	ck_assert_int_eq(current_of("alice"), 0);
}
END_TEST

START_TEST(a_denial_stays_a_denial_when_slots_have_run_out) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limits("alice 1000", "full 1");
	(void)acquire_slot(b, "full");
	while (berth_acquire(b, "alice", &slot) == BERTH_SUCCESS)
		;
	expect_denied(b, "full");
	berth_close(b);
}
END_TEST

START_TEST(slots_granted_after_the_deadline_are_used) {
	struct berth_options options = {.size = sizeof(options), .timeout_ms = scale_timeout(200)};
	struct berth *b = NULL;
	berth_slot slot;
	int held = 0, late = 0, code;

	set_limit("alice", "1000");
	expect_code(BERTH_SUCCESS, open_retrying(&options, &b));
	for (; held < 16; held++)
		expect_code(BERTH_SUCCESS, acquire_retrying(b, "alice", &slot));
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

START_TEST(slots_of_a_killed_process_can_be_granted_again) {
	struct berth *b;

	set_limit("alice", "1000");
	for (int i = 0; i < 3 * SLOTS / 16; i++) {
		struct child c = holder_start("alice");

		child_kill(&c);
		expect_current_eventually("alice", 0);
	}
	b = open_session();
	acquire_slots(b, "alice", SLOTS, NULL);
	berth_close(b);
}
END_TEST

/* -- sequence numbers -------------------------------------------------------------------------- */

#define RECORDS 32

static void start_with_few_records(void) {
	static const char *const args[] = {"--max-slots", "32", NULL};

	instance_start(&here, args);
	set_limit("alice", "1000");
}

/* Sets the seqs of all records that hold no slot, so that each can acquire two or three more
 * slots. */
static void seqs_nearly_use_up(void) {
	struct map *m;

	ck_assert_int_eq(map_new(shared_open("segment", O_RDWR), shared_open("directory", O_RDONLY),
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

/* Acquires and releases one slot after another until an acquire fails. Returns the number of
 * slots. */
static int records_use_up(struct berth *b, int *ret_code) {
	int used = 0;
	berth_slot slot;

	while ((*ret_code = berth_acquire(b, "alice", &slot)) == BERTH_SUCCESS) {
		expect_code(BERTH_SUCCESS, berth_release(b, slot));
		ck_assert_int_lt(++used, 1000);
	}
	return used;
}

START_TEST(with_used_up_sequence_numbers_acquires_get_8_until_berthd_makes_a_new_table) {
	struct berth *b = open_session();
	berth_slot held = acquire_slot(b, "alice"), slot[RECORDS + 1];
	int used, code;

	seqs_nearly_use_up();
	used = records_use_up(b, &code);
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	/* Each record but one has held two or three slots. */
	ck_assert_msg(used >= 2 * (RECORDS - 1) - 1 && used <= 3 * RECORDS, "%d slots", used);
	expect_logged("used up their sequence numbers");
	expect_ctl(0, "retired      31 slots, whose sequence numbers are used up", "status");
	ck_assert_int_eq(status_number("slots_retired"), RECORDS - 1);
	/* berthd logs the message only once. The slot `held` is still held. */
	for (int i = 0; i < 10; i++)
		expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &slot[0]));
	expect_logged_once("used up their sequence numbers");
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	expect_code(BERTH_SUCCESS, berth_release(b, held));
	/* The record of `held` isn't used up. */
	expect_code(BERTH_SUCCESS, berth_release(b, acquire_slot(b, "alice")));

	/* At each start, berthd keeps the table of records if a server uses it. If no server does,
	 * berthd makes a new table. */
	restart_after(SIGTERM);
	ck_assert_int_eq(status_number("slots_retired"), RECORDS - 1);
	held = acquire_slot(b, "alice");
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &slot[0]));
	expect_code(BERTH_SUCCESS, berth_release(b, held));
	berth_close(b);
	expect_status_eventually("sessions", 0);
	restart_after(SIGTERM);
	ck_assert_int_eq(status_number("slots_retired"), 0);
	b = open_session();
	acquire_slots(b, "alice", RECORDS, slot);
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, "alice", &slot[RECORDS]));
	berth_close(b);
}
END_TEST

/* Other servers have used up the records and exited. */
START_TEST(records_that_are_used_up_are_granted_to_no_server) {
	struct berth *b = open_session(), *other;
	berth_slot slot;
	int code;

	(void)acquire_slot(b, "alice");
	berth_close(b);
	expect_status_eventually("sessions", 0);
	seqs_nearly_use_up();
	b = open_session();
	(void)records_use_up(b, &code);
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	berth_close(b);
	expect_status_eventually("sessions", 0);
	other = open_session();
	expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(other, "alice", &slot));
	ck_assert_int_eq(status_number("slots_granted"), 0);
	expect_logged("used up their sequence numbers");
	berth_close(other);
	expect_status_eventually("sessions", 0);
	restart_after(SIGTERM);
	other = open_session();
	acquire_slots(other, "alice", RECORDS, NULL);
	berth_close(other);
}
END_TEST

/* -- sessions ---------------------------------------------------------------------------------- */

static void start_with_few_sessions(void) {
	static const char *const args[] = {"--max-sessions", "3", NULL};

	instance_start(&here, args);
}

START_TEST(when_sessions_run_out_open_gets_8_until_a_session_ends) {
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

#define SESSIONS_MAX 64
#define DESCRIPTORS  60 /* berthd itself uses half of the descriptors */

START_TEST(without_descriptors_open_gets_8_and_berthd_recovers) {
	struct rlimit few = {DESCRIPTORS, DESCRIPTORS}, was;
	struct berth *b[SESSIONS_MAX], *last = NULL;
	int open = 0, code;

	set_limit("alice", "1000");
	ck_assert_int_eq(prlimit(here.berthd, RLIMIT_NOFILE, &few, &was), 0);
	while ((code = berth_open(NULL, &b[open])) == BERTH_SUCCESS) {
		(void)acquire_slot(b[open], "alice");
		ck_assert_int_lt(++open, SESSIONS_MAX);
	}
	ck_assert_msg(open > 4, "only %d sessions were opened", open);
	ck_assert_msg(code == BERTH_NO_SYSTEM_RESOURCES, "session %d: %d\n%s", open, code,
		instance_log(&here));
	for (int i = 0; i < 5; i++)
		expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_open(NULL, &last));
	expect_logged("LimitNOFILE");
	/* The open sessions are still served, even if their calls need berthd. */
	acquire_slots(b[0], "alice", 20, NULL);
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

/* berthctl reports the error, and works again afterwards. */
START_TEST(without_descriptors_berthctl_reports_the_error) {
	struct rlimit few = {DESCRIPTORS, DESCRIPTORS};
	struct berth *b[SESSIONS_MAX];
	int open = 0;
	const char *output;

	set_limit("alice", "1000");
	ck_assert_int_eq(prlimit(here.berthd, RLIMIT_NOFILE, &few, NULL), 0);
	while (berth_open(NULL, &b[open]) == BERTH_SUCCESS)
		ck_assert_int_lt(++open, SESSIONS_MAX);
	/* A session needs two descriptors, so one may be left for berthctl. */
	if (ctl(&output, "status", NULL) != 0)
		ck_assert_msg(strstr(output, "descriptors") || strstr(output, "LimitNOFILE"), "%s",
			output);
	while (open > 0)
		berth_close(b[--open]);
	expect_ctl(0, "", "status");
}
END_TEST

/* -- the file system of the runtime directory -------------------------------------------------- */

/* Mounts a small tmpfs as the runtime directory, in a mount namespace of the test's own. Returns
 * false if the test may not mount it. */
static bool mount_small_runtime_dir(const char *size) {
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

START_TEST(on_a_full_tmpfs_acquires_get_8_and_no_process_dies) {
	struct berth *b;
	berth_slot slot, more;
	int held = 0, code;

	if (!mount_small_runtime_dir("size=4m"))
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
		"the log doesn't name the resource:\n%s", instance_log(&here));
	berth_close(b);
	ck_assert_int_eq(current_of("alice"), 0);
	(void)umount2(here.runtime_dir, MNT_DETACH);
}
END_TEST

START_TEST(on_a_full_tmpfs_new_accounts_get_8_too) {
	struct berth *b;
	berth_slot slot;
	int made = 0, code;

	if (!mount_small_runtime_dir("size=4m"))
		return;
	set_limit("*", "unlimited");
	b = open_session();
	do
		code = berth_acquire(b, text_of("stranger%d", made++), &slot);
	while (code == BERTH_SUCCESS && made < 1000000);
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	(void)acquire_slot(b, "stranger0");
	berth_close(b);
	(void)umount2(here.runtime_dir, MNT_DETACH);
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const struct test slots[] = {
		{when_slots_run_out_an_acquire_gets_8_and_the_log_names_the_option},
		{a_denial_stays_a_denial_when_slots_have_run_out},
		{slots_granted_after_the_deadline_are_used},
		{slots_of_a_killed_process_can_be_granted_again},
		{NULL},
	};
	const struct test seqs[] = {
		{with_used_up_sequence_numbers_acquires_get_8_until_berthd_makes_a_new_table},
		{records_that_are_used_up_are_granted_to_no_server},
		{NULL},
	};
	const struct test sessions[] = {
		{when_sessions_run_out_open_gets_8_until_a_session_ends},
		{NULL},
	};
	const struct test others[] = {
		{without_descriptors_open_gets_8_and_berthd_recovers},
		{without_descriptors_berthctl_reports_the_error},
		{on_a_full_tmpfs_acquires_get_8_and_no_process_dies},
		{on_a_full_tmpfs_new_accounts_get_8_too},
		{NULL},
	};

	return run_berthd_suites(
		{"few slots", slots, .setup = start_with_few_slots, .teardown = here_end},
		{"few records", seqs, .setup = start_with_few_records, .teardown = here_end},
		{"few sessions", sessions, .setup = start_with_few_sessions, .teardown = here_end},
		{"few descriptors, little memory", others, .setup = here_start,
			.teardown = here_end});
}
