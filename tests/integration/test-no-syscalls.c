/* SPDX-License-Identifier: MIT */

/*
 * Acquiring, being denied, releasing and asking make no system call once the session is open and
 * the account known, but for at most one futex wake per checkpoint.
 *
 * A child does it thousands of times under a seccomp filter that kills it at any other call. That
 * the filter is in force is shown, too.
 */

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>

#include "layout.h"
#include "suite.h"

#define ROUNDS 5000

/* -- the filter -------------------------------------------------------------------------------- */

/* Kills at every call but exit_group, and futex if futex_allowed. */
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

/* -- what is done under it --------------------------------------------------------------------- */

static const char *const known[] = {"alice", "acme/sales/alice", "full", "one/two/full",
	"covered-by-a-template", "1/2/3/4/5/6/7/8",
	/* longer than an entry's inline name */
	"a-name-that-is-much-longer-than-the-thirty-two-bytes-that-an-entry-has-room-for"};

static void limits_set(void) {
	set_limit("alice", "5");
	set_limit("acme", "50");
	set_limit("acme/sales/alice", "5");
	set_limit("full", "0");
	set_limit("one/two/full", "5");
	set_limit("one", "0");
	set_limit("covered-*", "3");
	set_limit(known[5], "9");
	set_limit(known[6], "9");
}

/* Each account: a slot (or a denial), a query, a release. 0 if all was as it should be. */
static int round_do(struct berth *b) {
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

static void rounds_do(struct berth *b, int rounds) {
	int wrong = 0;

	for (int i = 0; i < rounds && wrong == 0; i++)
		wrong = round_do(b);
	_exit(wrong);
}

struct plan {
	bool futex_allowed;
	void (*last)(void); /* what the child does under the filter; NULL: rounds */
	bool waits;         /* for a word from the test before the filter */
};

static void child_filtered(struct child *c, void *data) {
	const struct plan *plan = data;
	struct berth *b = NULL;

	if (berth_open(NULL, &b) != BERTH_SUCCESS || round_do(b) != 0)
		_exit(95);
	child_send(c, 0);
	if (plan->waits)
		(void)child_receive(c);
	filter_install(plan->futex_allowed);
	if (plan->last)
		plan->last();
	rounds_do(b, ROUNDS);
}

static void expect_clean(int status) {
	ck_assert_msg(!WIFSIGNALED(status),
		"the child died of signal %d (%d is SIGSYS: a system call)", WTERMSIG(status),
		SIGSYS);
	ck_assert_msg(WEXITSTATUS(status) == 0, "the child found something wrong: %d",
		WEXITSTATUS(status));
}

/* -- the segment's words ----------------------------------------------------------------------- */

static struct segment_header *segment_map(void) {
	char path[128];
	void *p;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/segment", here.runtime_dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	p = mmap(NULL, sizeof(struct segment_header), PROT_READ, MAP_SHARED, fd, 0);
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
	struct plan plan = {.futex_allowed = true, .last = call_getppid};
	struct child c;
	int status;

	limits_set();
	c = child_start(child_filtered, &plan);
	ck_assert_int_eq(child_report(&c), 0);
	status = child_end(&c);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}
END_TEST

START_TEST(nothing_but_a_futex_wake_is_called) {
	struct plan plan = {.futex_allowed = true};
	struct child c;

	limits_set();
	c = child_start(child_filtered, &plan);
	ck_assert_int_eq(child_report(&c), 0);
	expect_clean(child_end(&c));
	ck_assert_int_eq(current_of("acme"), 0);
}
END_TEST

/* berthd is stopped in the second between a change and its checkpoint: then there is nothing to
 * wake, and the filter lets no futex through. */
START_TEST(between_a_change_and_the_checkpoint_nothing_at_all_is_called) {
	struct plan plan = {.futex_allowed = false, .waits = true};
	struct segment_header *h = segment_map();
	struct berth *b = open_session();
	struct child c;

	limits_set();
	c = child_start(child_filtered, &plan);
	ck_assert_int_eq(child_report(&c), 0);
	for (int i = 0; i < 100; i++) {
		ck_assert(eventually(is_armed, h));
		expect_code(BERTH_SUCCESS, berth_release(b, acquire_slot(b, "alice")));
		ck_assert(eventually(is_disarmed, h));
		(void)instance_kill(&here, SIGSTOP);
		if (!is_armed(h))
			break;
		(void)instance_kill(&here, SIGCONT);
	}
	ck_assert_msg(!is_armed(h), "berthd couldn't be caught between change and checkpoint");
	child_send(&c, 0);
	expect_clean(child_end(&c));
	ck_assert(!is_armed(h));
	(void)instance_kill(&here, SIGCONT);
	berth_close(b);
}
END_TEST

/* `wakes` grows by 1 before each futex wake, so it counts them, whoever makes them. */
START_TEST(berthd_is_woken_at_most_once_per_checkpoint) {
	struct segment_header *h = segment_map();
	struct berth *b = open_session();
	uint32_t before;
	int64_t begin;
	double seconds;

	limits_set();
	ck_assert_int_eq(round_do(b), 0);
	begin = now_us();
	before = load_total(&h->wakes);
	for (int i = 0; i < 20 * ROUNDS; i++)
		ck_assert_int_eq(round_do(b), 0);
	seconds = (double)(now_us() - begin) / 1e6;
	/* A checkpoint is a second after the change. This process is alone and has one thread, so
	 * nobody else can be between C3 and C5. */
	ck_assert_msg(load_total(&h->wakes) - before <= (uint32_t)seconds + 2,
		"%u wake-ups in %.1f s", load_total(&h->wakes) - before, seconds);
	berth_close(b);
}
END_TEST

/* Nobody takes the arming back when berthd dies asleep; the first change after that is announced,
 * and the others must not be. */
START_TEST(a_berthd_that_died_asleep_isnt_woken_again_and_again) {
	struct segment_header *h = segment_map();
	struct berth *b = open_session();
	uint32_t before;

	limits_set();
	ck_assert_int_eq(round_do(b), 0);
	ck_assert(eventually(is_disarmed, h));
	ck_assert(eventually(is_armed, h));
	(void)instance_kill(&here, SIGKILL);
	before = load_total(&h->wakes);
	for (int i = 0; i < ROUNDS; i++)
		ck_assert_int_eq(round_do(b), 0);
	ck_assert_msg(load_total(&h->wakes) - before <= 1, "%u wake-ups in %d rounds",
		load_total(&h->wakes) - before, ROUNDS);
	/* Nor may what happened meanwhile be missed by the next berthd. */
	(void)acquire_slot(b, "alice");
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 1);
	berth_close(b);
}
END_TEST

START_TEST(several_processes_at_once_call_nothing_either) {
	struct plan plan = {.futex_allowed = true};
	struct child c[4];

	/* Room for all of them: a denial would be right, and yet look wrong. */
	limits_set();
	set_limit("alice", "unlimited");
	set_limit("acme/sales/alice", "unlimited");
	set_limit("covered-*", "unlimited");
	set_limit(known[5], "unlimited");
	set_limit(known[6], "unlimited");
	for (size_t i = 0; i < COUNT_OF(c); i++)
		c[i] = child_start(child_filtered, &plan);
	for (size_t i = 0; i < COUNT_OF(c); i++)
		ck_assert_int_eq(child_report(&c[i]), 0);
	for (size_t i = 0; i < COUNT_OF(c); i++)
		expect_clean(child_end(&c[i]));
	ck_assert_int_eq(current_of("acme"), 0);
}
END_TEST

int main(void) {
	const TTest *const tests[] = {
		the_filter_kills_at_a_system_call,
		nothing_but_a_futex_wake_is_called,
		between_a_change_and_the_checkpoint_nothing_at_all_is_called,
		berthd_is_woken_at_most_once_per_checkpoint,
		a_berthd_that_died_asleep_isnt_woken_again_and_again,
		several_processes_at_once_call_nothing_either,
		NULL,
	};

	return suite_run("no system calls", here_start, tests);
}
