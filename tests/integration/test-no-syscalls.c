/* SPDX-License-Identifier: MIT */

/*
 * Once the session is open and the account is known, acquire, denial, release and query make no
 * system call, except for at most one futex wake per checkpoint.
 *
 * A child makes these calls thousands of times under a seccomp filter. If the child makes any other
 * system call, the filter kills it. One test shows that the filter works.
 */

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#include "layout.h"
#include "steps.h"

#define ROUNDS 5000

/* -- the filter -------------------------------------------------------------------------------- */

/* Allows exit_group. If futex_allowed, allows futex. Any other system call kills the process. */
static void filter_install(bool futex_allowed) {
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, futex_allowed ? SYS_futex : SYS_exit_group, 1,
			0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = COUNT_OF(code), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(90);
}

/* -- the calls under the filter ---------------------------------------------------------------- */

static const char *const known[] = {"alice", "acme/sales/alice", "full", "one/two/full",
	"covered-by-a-template", "1/2/3/4/5/6/7/8",
	/* longer than the name in a directory entry */
	"a-name-that-is-much-longer-than-the-thirty-two-bytes-that-an-entry-has-room-for"};

static void setup(void) {
	here_start();
	set_limits("alice 5", "acme 50", "acme/sales/alice 5", "full 0", "one/two/full 5", "one 0",
		"covered-* 3");
	set_limit(known[5], "9");
	set_limit(known[6], "9");
}

/* For each account: acquires a slot or is denied, queries the account, and releases the slot.
 * Returns 0 if all codes are right. */
static int run_round(struct berth *b) {
	for (size_t i = 0; i < COUNT_OF(known); i++) {
		struct berth_request req = {.size = sizeof(req),
			.account = known[i],
			.weight = 1 + (uint32_t)i % 3,
			.label = "a label"};
		struct berth_usage usage = {.size = sizeof(usage)};
		int want = strstr(known[i], "full") ? BERTH_CONNECTION_COUNT_LIMIT : BERTH_SUCCESS;
		berth_slot slot;

		if (berth_acquire_req(b, &req, &slot) != want)
			return 91;
		if (berth_query(b, known[i], &usage) != BERTH_SUCCESS)
			return 92;
		if (want == BERTH_SUCCESS && berth_release(b, slot) != BERTH_SUCCESS)
			return 93;
		if (want == BERTH_SUCCESS && berth_release(b, slot) != BERTH_TOO_MANY_POSTS)
			return 94;
	}
	return 0;
}

struct plan {
	bool futex_allowed;
	void (*call)(void); /* called under the filter, before the rounds; may be NULL */
	bool waits;         /* the child waits for a number before it installs the filter */
};

static void child_filtered(struct child *c, void *data) {
	const struct plan *plan = data;
	struct berth *b = NULL;
	int wrong = 0;

	if (berth_open(NULL, &b) != BERTH_SUCCESS || run_round(b) != 0)
		_exit(95);
	child_send(c, 0);
	if (plan->waits)
		(void)child_receive(c);
	filter_install(plan->futex_allowed);
	if (plan->call)
		plan->call();
	for (int i = 0; i < ROUNDS && wrong == 0; i++)
		wrong = run_round(b);
	_exit(wrong);
}

static struct child filtered_start(struct plan *plan) {
	struct child c = child_start(child_filtered, plan);

	ck_assert_int_eq(child_report(&c), 0);
	return c;
}

static void expect_success(struct child *c) {
	int status = child_end(c);

	ck_assert_msg(!WIFSIGNALED(status),
		"the child died of signal %d (%d is SIGSYS: a system call)", WTERMSIG(status),
		SIGSYS);
	ck_assert_msg(WEXITSTATUS(status) == 0, "the child failed with %d", WEXITSTATUS(status));
}

/* -- the segment's header ---------------------------------------------------------------------- */

static struct segment_header *segment_map(void) {
	int fd = shared_open("segment", O_RDONLY);
	void *p = mmap(NULL, sizeof(struct segment_header), PROT_READ, MAP_SHARED, fd, 0);

	(void)close(fd);
	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

static bool is_armed(void *data) {
	struct segment_header *h = data;

	return load_total(&h->armed) != 0;
}

static bool is_disarmed(void *data) {
	return !is_armed(data);
}

/* -- tests ------------------------------------------------------------------------------------- */

static void call_getppid(void) {
	(void)syscall(SYS_getppid);
	_exit(0);
}

START_TEST(the_filter_kills_at_a_system_call) {
	struct plan plan = {.futex_allowed = true, .call = call_getppid};
	struct child c = filtered_start(&plan);
	int status;

	status = child_end(&c);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}
END_TEST

START_TEST(no_system_call_but_a_futex_wake_is_made) {
	struct plan plan = {.futex_allowed = true};
	struct child c = filtered_start(&plan);

	expect_success(&c);
	ck_assert_int_eq(current_of("acme"), 0);
}
END_TEST

/* berthd is stopped within the second between a change and its checkpoint. During this second the
 * library doesn't wake berthd, so the filter allows no futex. */
START_TEST(between_a_change_and_the_checkpoint_no_system_call_is_made) {
	struct plan plan = {.futex_allowed = false, .waits = true};
	struct segment_header *h = segment_map();
	struct berth *b = open_session();
	struct child c = filtered_start(&plan);

	for (int i = 0; i < 100; i++) {
		ck_assert(eventually(is_armed, h));
		expect_code(BERTH_SUCCESS, berth_release(b, acquire_slot(b, "alice")));
		ck_assert(eventually(is_disarmed, h));
		(void)instance_kill(&here, SIGSTOP);
		if (!is_armed(h))
			break;
		(void)instance_kill(&here, SIGCONT);
	}
	ck_assert_msg(!is_armed(h), "berthd wasn't stopped between a change and its checkpoint");
	child_send(&c, 0);
	expect_success(&c);
	ck_assert(!is_armed(h));
	(void)instance_kill(&here, SIGCONT);
	berth_close(b);
}
END_TEST

/* Each process adds 1 to `wakes` before its futex wake. */
START_TEST(berthd_is_woken_at_most_once_per_checkpoint) {
	struct segment_header *h = segment_map();
	struct berth *b = open_session();
	uint32_t before;
	int64_t begin;
	double seconds;

	ck_assert_int_eq(run_round(b), 0);
	begin = now_us();
	before = load_total(&h->wakes);
	for (int i = 0; i < 20 * ROUNDS; i++)
		ck_assert_int_eq(run_round(b), 0);
	seconds = (double)(now_us() - begin) / 1e6;
	/* A checkpoint comes a second after the change. No other process or thread can be between
	 * the steps C3 and C5 of wake.h. */
	ck_assert_msg(load_total(&h->wakes) - before <= (uint32_t)seconds + 2,
		"%u wake-ups in %.1f s", load_total(&h->wakes) - before, seconds);
	berth_close(b);
}
END_TEST

/* If berthd dies while it sleeps, `armed` stays set. The first change after the death makes a futex
 * wake. Later changes must not make one. */
START_TEST(a_berthd_that_died_asleep_is_woken_only_once) {
	struct segment_header *h = segment_map();
	struct berth *b = open_session();
	uint32_t before;

	ck_assert_int_eq(run_round(b), 0);
	ck_assert(eventually(is_disarmed, h));
	ck_assert(eventually(is_armed, h));
	(void)instance_kill(&here, SIGKILL);
	before = load_total(&h->wakes);
	for (int i = 0; i < ROUNDS; i++)
		ck_assert_int_eq(run_round(b), 0);
	ck_assert_msg(load_total(&h->wakes) - before <= 1, "%u wake-ups in %d rounds",
		load_total(&h->wakes) - before, ROUNDS);
	/* The next berthd finds the change that was made meanwhile. */
	(void)acquire_slot(b, "alice");
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 1);
	berth_close(b);
}
END_TEST

START_TEST(several_processes_at_once_make_no_system_call_either) {
	struct plan plan = {.futex_allowed = true};
	struct child c[4];

	/* The limits are so high that no process is denied, which run_round() would report. */
	set_limits("alice unlimited", "acme/sales/alice unlimited", "covered-* unlimited");
	set_limit(known[5], "unlimited");
	set_limit(known[6], "unlimited");
	for (size_t i = 0; i < COUNT_OF(c); i++)
		c[i] = child_start(child_filtered, &plan);
	for (size_t i = 0; i < COUNT_OF(c); i++)
		ck_assert_int_eq(child_report(&c[i]), 0);
	for (size_t i = 0; i < COUNT_OF(c); i++)
		expect_success(&c[i]);
	ck_assert_int_eq(current_of("acme"), 0);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{the_filter_kills_at_a_system_call},
		{no_system_call_but_a_futex_wake_is_made},
		{between_a_change_and_the_checkpoint_no_system_call_is_made},
		{berthd_is_woken_at_most_once_per_checkpoint},
		{a_berthd_that_died_asleep_is_woken_only_once},
		{several_processes_at_once_make_no_system_call_either},
		{NULL},
	};

	return run_berthd_suites({"no system calls", tests, .setup = setup, .teardown = here_end});
}
