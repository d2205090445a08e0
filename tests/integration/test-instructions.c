/* SPDX-License-Identifier: MIT */

/*
 * Counts the instructions of operations, and the locked ones among them, with the real libberth.so,
 * a real berthd, and names that the library already knows. If a count is above its limit, the test
 * fails. The machine's load doesn't change the counts, but another compiler does. So the test runs
 * only with gcc 12 on x86-64, with optimisation and without a sanitizer.
 *
 * tests/lib/instructions.h defines what is counted. If callgrind's count for 1,000 repetitions is
 * subtracted from its count for 3,000, the difference has the same instructions, but also those of
 * the caller's loop and of valgrind's replacement of the vDSO.
 *
 * A figure is the median of many repetitions, since now and then an operation wakes berthd. Before
 * the repetitions, 2,000 pairs (an acquire and its release) run that aren't counted.
 */

#include <pthread.h>
#include <semaphore.h>

#include "steps.h"

#include "instructions.h"
#include "ptrace.h"

#define WARM_UP     2000 /* pairs */
#define REPETITIONS 51   /* how often most operations are counted */

struct work {
	const char *name;
	/* Aligned to a page, so that strlen and strcmp always take the same path. */
	_Alignas(4096) char account[64];
	char label[32];
	void (*begin)(const struct work *w); /* called when the session is open; may be NULL */
	void (*operation)(const struct work *w);
	unsigned pairs;       /* per operation; the operation's count is divided by this number */
	unsigned repetitions; /* how often the operation is counted */
	struct count limit;
};

#define WINDOW_MAX 4200 /* acquires, in which the library asks for more records at least once */

/* Shared by the tests and their children. */
static struct {
	struct count accounts[2]; /* of the last two works */
	double ns[WINDOW_MAX];    /* see window_maximum() */
} * shared;

/* -- in the child ------------------------------------------------------------------------------ */

static struct berth *handle, *second_handle;

static void check_success(int code) {
	if (code == BERTH_SUCCESS)
		return;
	fprintf(stderr, "a call in the child returned %d (%s)\n", code, berth_errname(code));
	_exit(EXIT_FAILURE);
}

static void pair(const struct work *w) {
	berth_slot slot;

	check_success(berth_acquire(handle, w->account, &slot));
	check_success(berth_release(handle, slot));
}

static void pair_labelled(const struct work *w) {
	struct berth_request req = {
		.size = sizeof(req), .account = w->account, .weight = 1, .label = w->label};
	berth_slot slot;

	check_success(berth_acquire_req(handle, &req, &slot));
	check_success(berth_release(handle, slot));
}

static void denial(const struct work *w) {
	berth_slot slot;

	if (berth_acquire(handle, w->account, &slot) != BERTH_CONNECTION_COUNT_LIMIT)
		check_success(-1);
}

static void *thread_main(void *nothing) {
	for (;;)
		(void)pause();
	return nothing;
}

static void thread_begin(const struct work *w) {
	pthread_t thread;

	(void)w;
	check_success(pthread_create(&thread, NULL, thread_main, NULL));
}

#define QUEUE 5
static struct held {
	struct berth *handle;
	berth_slot slot;
} held[QUEUE];
static unsigned oldest;

static void held_begin(const struct work *w) {
	for (unsigned i = 0; i < QUEUE; i++) {
		held[i].handle = i % 2 && second_handle ? second_handle : handle;
		check_success(berth_acquire(held[i].handle, w->account, &held[i].slot));
	}
}

static void held_by_two_sessions_begin(const struct work *w) {
	check_success(berth_open(NULL, &second_handle));
	held_begin(w);
}

/* Releases the oldest slot, then acquires one. If there are two sessions, the acquire is made by
 * the session that didn't release. So the release finds the tag of another record in the cell, and
 * the acquire finds the tag of the other session's release. */
static void release_oldest_and_acquire(const struct work *w) {
	struct held *h = &held[oldest++ % QUEUE];

	check_success(berth_release(h->handle, h->slot));
	if (second_handle)
		h->handle = h->handle == handle ? second_handle : handle;
	check_success(berth_acquire(h->handle, w->account, &h->slot));
}

/* Two locked instructions outside of berth, which the counting must find. */
static void pair_of_semaphore(const struct work *w) {
	static sem_t semaphore;

	(void)w;
	check_success(sem_post(&semaphore));
	check_success(sem_trywait(&semaphore));
}

static _Alignas(64) char names_in_turn[100][64];

static void in_turn_begin(const struct work *w) {
	for (unsigned i = 0; i < w->pairs; i++)
		(void)snprintf(names_in_turn[i], sizeof(names_in_turn[i]), w->account, i);
}

static void pairs_in_turn(const struct work *w) {
	berth_slot slot;

	for (unsigned i = 0; i < w->pairs; i++) {
		check_success(berth_acquire(handle, names_in_turn[i], &slot));
		check_success(berth_release(handle, slot));
	}
}

/* -- the operations that are counted ----------------------------------------------------------- */

/* The last two works are compared with each other. strcmp executes more instructions near the end
 * of a page, so the table begins where a page begins. */
static const _Alignas(4096) struct work works[] = {
	{"pair, name of 17 bytes", "alice@example.com", "", NULL, pair, 1, REPETITIONS, {190, 2}},
	{"pair, beside a thread that sleeps", "alice@example.com", "", thread_begin, pair, 1,
		REPETITIONS, {190, 2}},
	{"pair, label of 13 bytes", "alice@example.com", "192.0.2.1:993", NULL, pair_labelled, 1,
		REPETITIONS, {250, 2}},
	{"pair, name of 34 bytes", "alice.liddell@students.example.com", "", NULL, pair, 1,
		REPETITIONS, {420, 2}},
	{"pair, 4 levels", "a/b/c/d", "", NULL, pair, 1, REPETITIONS, {1000, 8}},
	{"pair, 8 levels", "a/b/c/d/e/f/g/h", "", NULL, pair, 1, REPETITIONS, {1500, 16}},
	{"denied", "full@example.com", "", NULL, denial, 1, REPETITIONS, {125, 0}},
	{"5 held, release the oldest, acquire", "alice@example.com", "", held_begin,
		release_oldest_and_acquire, 1, REPETITIONS, {740, 4}},
	{"the same, held by 2 sessions", "alice@example.com", "", held_by_two_sessions_begin,
		release_oldest_and_acquire, 1, REPETITIONS, {740, 4}},
	{"pair, 10 accounts in turn", "u%04u@example.com", "", in_turn_begin, pairs_in_turn, 10, 21,
		{361, 2}},
	{"pair, 100 accounts in turn", "u%04u@example.com", "", in_turn_begin, pairs_in_turn, 100,
		5, {361, 2.1}},
};
#define WORKS COUNT_OF(works)

/* The limits of three figures. The first figure is the instructions with 100 accounts in turn,
 * divided by those with 10. The second one is the memory of a session in kB. The third one is the
 * most instructions of an acquire in a process that holds many slots, divided by the most in a
 * process that holds few. */
static const double accounts_limit = 1.1;
static const double memory_limit = 32;
static const double held_limit = 2;

/* -- counting ---------------------------------------------------------------------------------- */

static void work_prepare(const void *data) {
	const struct work *w = data;

	check_success(berth_open(NULL, &handle));
	if (w->begin)
		w->begin(w);
	for (unsigned i = 0; i < WARM_UP; i += w->pairs)
		w->operation(w);
}

static void work_operation(const void *data) {
	const struct work *w = data;

	w->operation(w);
}

static struct count count_of(
	void (*prepare)(const void *data), const struct work *w, unsigned repetitions) {
	struct count c = instructions_count(prepare, work_operation, w, repetitions);

	ck_assert_msg(c.instructions > 0, "the child ended early; berthd's log:\n%s",
		instance_log(&here));
	c.instructions /= w->pairs;
	c.locked /= w->pairs;
	return c;
}

/* -- the table --------------------------------------------------------------------------------- */

static void row_print(const struct work *w, const struct count *c) {
	const char *limit = text_of("%.0f, %.3g", w->limit.instructions, w->limit.locked);

	printf("%-42s %12.0f %7.1f   (%s)\n", w->name, c->instructions, c->locked,
		w->limit.instructions > 0 ? limit : "none");
	(void)fflush(stdout);
}

static void expect_within(const char *what, const char *unit, double value, double limit) {
	printf("%-42s %12.2f %7s   (%.2f)\n", what, value, unit, limit);
	(void)fflush(stdout);
	ck_assert_msg(value <= limit, "%s: %.2f %s, more than %.2f", what, value, unit, limit);
}

/* -- tests ------------------------------------------------------------------------------------- */

START_TEST(the_locked_instructions_of_a_semaphore_are_found) {
	static const struct work w = {.name = "sem_post, sem_trywait: to compare",
		.operation = pair_of_semaphore,
		.pairs = 1};
	struct count c = count_of(work_prepare, &w, REPETITIONS);

	row_print(&w, &c);
	ck_assert_double_gt(c.instructions, 2);
	ck_assert_double_eq(c.locked, 2);
}
END_TEST

START_TEST(an_operation_keeps_to_its_limit_of_instructions) {
	const struct work *w = &works[_i];
	struct count c = count_of(work_prepare, w, w->repetitions);

	row_print(w, &c);
	if (_i >= (int)WORKS - 2)
		shared->accounts[_i - ((int)WORKS - 2)] = c;
	ck_assert_msg(c.instructions <= w->limit.instructions && c.locked <= w->limit.locked,
		"%s: %.0f instructions, %.1f of them locked, where %.0f and %.1f are allowed",
		w->name, c.instructions, c.locked, w->limit.instructions, w->limit.locked);
}
END_TEST

/* Runs after the tests above, whose counts it compares. */
START_TEST(a_hundred_accounts_in_turn_cost_no_more_than_ten) {
	const struct count *few = &shared->accounts[0], *many_work = &shared->accounts[1];

	ck_assert(few->instructions > 0 && many_work->instructions > 0);
	expect_within("100 accounts in turn against 10", "times",
		many_work->instructions / few->instructions, accounts_limit);
}
END_TEST

static double anonymous_kb(void) {
	char text[4096], *at;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "Anonymous:");
	return at ? strtod(at + strlen("Anonymous:"), NULL) : 0;
}

static void child_session(struct child *c, void *data) {
	double before;
	berth_slot slot;

	(void)data;
	/* If the kernel used huge pages, the figure would be a multiple of 2 MB. */
	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	(void)anonymous_kb(); /* touches the pages that the function itself needs */
	before = anonymous_kb();
	check_success(berth_open(NULL, &handle));
	check_success(berth_acquire(handle, "alice@example.com", &slot));
	child_send(c, (int)(anonymous_kb() - before));
}

START_TEST(a_session_needs_little_memory) {
	struct child c = child_start(child_session, NULL);
	int kb = child_report(&c);

	(void)child_end(&c);
	ck_assert_int_gt(kb, 0);
	expect_within("memory of a session, anonymous", "kB", kb, memory_limit);
}
END_TEST

/* -- processes that hold many slots ------------------------------------------------------------ */

/* Most acquires cost the same however many slots the process holds. But now and then the library
 * asks for more records, and may search all its records. So these tests look for the maximum, not
 * the mean. */

static void acquire_one(const struct work *w) {
	berth_slot slot;

	check_success(berth_acquire(handle, w->account, &slot));
}

static unsigned held_before; /* the number of slots held before the acquire that is counted */

static void hold_before(const void *data) {
	check_success(berth_open(NULL, &handle));
	for (unsigned i = 0; i < held_before; i++)
		acquire_one(data);
}

static const struct work many_work = {
	.account = "many@example.com", .operation = acquire_one, .pairs = 1};

static double cpu_ns(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void child_window(struct child *c, void *data) {
	const unsigned *window = data;

	hold_before(&many_work);
	for (unsigned i = 0; i < *window; i++) {
		double before = cpu_ns();

		acquire_one(&many_work);
		shared->ns[i] = cpu_ns() - before;
	}
	child_send(c, 0);
}

#define WINDOW_CANDIDATES 3

/* Returns the most instructions that one of `window` acquires executes, which follow `before` other
 * acquires. To count the instructions of each would take too long. So a first process measures the
 * time of each. Then the instructions of the slowest ones are counted, each in a process of its
 * own. */
static double window_maximum(unsigned before, unsigned window) {
	double maximum = 0;
	struct child c;

	held_before = before;
	c = child_start(child_window, &window);
	(void)child_report(&c);
	(void)child_end(&c);
	for (unsigned i = 0; i < WINDOW_CANDIDATES; i++) {
		unsigned slowest = 0;
		struct count count;

		for (unsigned k = 1; k < window; k++)
			slowest = shared->ns[k] > shared->ns[slowest] ? k : slowest;
		shared->ns[slowest] = 0;
		held_before = before + slowest;
		count = count_of(hold_before, &many_work, 1);
		maximum = count.instructions > maximum ? count.instructions : maximum;
	}
	return maximum;
}

#define FEW_HELD 1100

/* Returns $HELD if it is large enough. Otherwise returns a number with which the test takes a few
 * seconds. */
static unsigned many_held(void) {
	unsigned n = (unsigned)environment_number("HELD", 0);

	return n > FEW_HELD + WINDOW_MAX ? n : 12400;
}

START_TEST(no_slot_costs_more_because_the_process_holds_many) {
	double few = window_maximum(0, FEW_HELD);
	double all = window_maximum(many_held() - WINDOW_MAX, WINDOW_MAX);

	expect_within(text_of("slowest slot: with %u held, with %u", many_held(), FEW_HELD),
		"times", all / few, held_limit);
}
END_TEST

/* -- running ----------------------------------------------------------------------------------- */

static void setup(void) {
	static const char *const args[] = {"--max-slots", "1100000", NULL};

	trace_pin();
	instance_start(&here, args);
	set_limits("alice@example.com 10", "alice.liddell@students.example.com 10",
		"full@example.com 0", "u*@example.com 10", "many@example.com unlimited", "a 10",
		"a/b 10", "a/b/c 10", "a/b/c/d 10", "a/b/c/d/e 10", "a/b/c/d/e/f 10",
		"a/b/c/d/e/f/g 10", "a/b/c/d/e/f/g/h 10");
}

int main(int argc, char **argv) {
	const struct test tests[] = {
		{the_locked_instructions_of_a_semaphore_are_found},
		{an_operation_keeps_to_its_limit_of_instructions, 0, (int)WORKS},
		{a_hundred_accounts_in_turn_cost_no_more_than_ten},
		{a_session_needs_little_memory},
		{no_slot_costs_more_because_the_process_holds_many},
		{NULL},
	};

	(void)argc;
	if (instructions_why_not()) {
		printf("skipped: %s\n", instructions_why_not());
		return EXIT_SUCCESS;
	}
	instructions_begin(argv);
	shared = shared_memory(sizeof(*shared));
	printf("%-42s %12s %7s   %s\n", "", "instructions", "locked", "(limit)");
	(void)fflush(stdout);
	return run_suites(
		{"instructions", tests, .setup = setup, .teardown = here_end, .seconds = 7200});
}
