/* SPDX-License-Identifier: MIT */

/*
 * How many instructions, and how many locked ones, an operation takes in steady state: the real
 * libberth.so, a real berthd, names that are known. A count above its limit fails the test. Load
 * doesn't change the counts, but another compiler does: they are judged for gcc 12 on x86-64 only,
 * with optimisation and without a sanitizer.
 *
 * What is counted is said in tests/lib/instructions.h. callgrind, by the difference of 1,000 and
 * 3,000 repetitions, counts the same, and in addition the caller's loop and what valgrind executes
 * in place of the vDSO.
 *
 * A figure is the median of the repetitions, since now and then one of them wakes berthd; 2,000
 * operations come before, which aren't looked at.
 */

#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

#include "suite.h"

#include "instructions.h"
#include "ptrace.h"

#define WARM_UP     2000 /* pairs */
#define REPETITIONS 51   /* of an operation that is looked at, unless the work says otherwise */

struct work {
	const char *name;
	_Alignas(64) char account[64]; /* so that strlen always has the same to do */
	char label[32];
	void (*begin)(const struct work *w); /* after the session is open; or NULL */
	void (*operation)(const struct work *w);
	unsigned pairs; /* in one operation, among which its count is divided; 0 is 1 */
	unsigned repetitions;
	struct count limit;
};

#define WINDOW_MAX 4200 /* slots; a process asks for more records once in so many, or oftener */

/* Shared with children, and among the tests. */
static struct {
	struct count accounts[2]; /* of the last two works */
	double ns[WINDOW_MAX];    /* see window_dearest() */
} * shared;

/* -- in the child ------------------------------------------------------------------------------ */

static struct berth *handle, *second_handle;

static void must(int code) {
	if (code == BERTH_SUCCESS)
		return;
	fprintf(stderr, "a call in the child returned %d (%s)\n", code, berth_errname(code));
	_exit(EXIT_FAILURE);
}

static void pair(const struct work *w) {
	berth_slot slot;

	must(berth_acquire(handle, w->account, &slot));
	must(berth_release(handle, slot));
}

static void pair_labelled(const struct work *w) {
	struct berth_request req = {
		.size = sizeof(req), .account = w->account, .weight = 1, .label = w->label};
	berth_slot slot;

	must(berth_acquire_req(handle, &req, &slot));
	must(berth_release(handle, slot));
}

static void denial(const struct work *w) {
	berth_slot slot;

	if (berth_acquire(handle, w->account, &slot) != BERTH_CONNECTION_COUNT_LIMIT)
		must(-1);
}

static void *sleep_on(void *nothing) {
	for (;;)
		(void)pause();
	return nothing;
}

static void thread_begin(const struct work *w) {
	pthread_t thread;

	(void)w;
	must(pthread_create(&thread, NULL, sleep_on, NULL));
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
		must(berth_acquire(held[i].handle, w->account, &held[i].slot));
	}
}

static void held_by_two_begin(const struct work *w) {
	must(berth_open(NULL, &second_handle));
	held_begin(w);
}

/* The session that has the oldest slot releases it; the other one acquires, if there is another. So
 * the release meets what the last acquire wrote into the cell, with another record, and the acquire
 * of the other session what the release wrote. */
static void oldest_goes_one_comes(const struct work *w) {
	struct held *h = &held[oldest++ % QUEUE];

	must(berth_release(h->handle, h->slot));
	if (second_handle)
		h->handle = h->handle == handle ? second_handle : handle;
	must(berth_acquire(h->handle, w->account, &h->slot));
}

/* Not berth's: two locked instructions that the counting must find. */
static void pair_of_semaphore(const struct work *w) {
	static sem_t semaphore;

	(void)w;
	must(sem_post(&semaphore));
	must(sem_trywait(&semaphore));
}

static _Alignas(64) char in_turn[100][64];

static void in_turn_begin(const struct work *w) {
	for (unsigned i = 0; i < w->pairs; i++)
		(void)snprintf(in_turn[i], sizeof(in_turn[i]), w->account, i);
}

static void pairs_in_turn(const struct work *w) {
	berth_slot slot;

	for (unsigned i = 0; i < w->pairs; i++) {
		must(berth_acquire(handle, in_turn[i], &slot));
		must(berth_release(handle, slot));
	}
}

/* -- what is counted --------------------------------------------------------------------------- */

/* The last two are compared with each other. */
static const struct work works[] = {
	{.name = "pair, name of 17 bytes",
		.account = "alice@example.com",
		.operation = pair,
		.limit = {190, 2}},
	{.name = "pair, beside a thread that sleeps",
		.account = "alice@example.com",
		.begin = thread_begin,
		.operation = pair,
		.limit = {190, 2}},
	{.name = "pair, label of 13 bytes",
		.account = "alice@example.com",
		.label = "192.0.2.1:993",
		.operation = pair_labelled,
		.limit = {250, 2}},
	{.name = "pair, name of 34 bytes",
		.account = "alice.liddell@students.example.com",
		.operation = pair,
		.limit = {420, 2}},
	{.name = "pair, 4 levels", .account = "a/b/c/d", .operation = pair, .limit = {1000, 8}},
	{.name = "pair, 8 levels",
		.account = "a/b/c/d/e/f/g/h",
		.operation = pair,
		.limit = {1500, 16}},
	{.name = "denied", .account = "full@example.com", .operation = denial, .limit = {125, 0}},
	{.name = "5 held, the oldest goes, one comes",
		.account = "alice@example.com",
		.begin = held_begin,
		.operation = oldest_goes_one_comes,
		.limit = {740, 4}},
	{.name = "the same, held by 2 sessions",
		.account = "alice@example.com",
		.begin = held_by_two_begin,
		.operation = oldest_goes_one_comes,
		.limit = {740, 4}},
	{.name = "pair, 10 accounts in turn",
		.account = "u%04u@example.com",
		.begin = in_turn_begin,
		.operation = pairs_in_turn,
		.pairs = 10,
		.repetitions = 21,
		.limit = {361, 2}},
	{.name = "pair, 100 accounts in turn",
		.account = "u%04u@example.com",
		.begin = in_turn_begin,
		.operation = pairs_in_turn,
		.pairs = 100,
		.repetitions = 5,
		.limit = {361, 2.1}},
};
#define WORKS COUNT_OF(works)

/* Against the instructions of 10 in turn. */
static const double accounts_limit = 1.1;
/* What a session's memory is to be, and may be, in kB. */
static const double memory_limit = 32;
/* The dearest slot where the process holds many, against the dearest where it holds few. */
static const double held_limit = 2;

/* -- counting ---------------------------------------------------------------------------------- */

static unsigned pairs_of(const struct work *w) {
	return w->pairs ? w->pairs : 1;
}

static void work_prepare(const void *data) {
	const struct work *w = data;

	must(berth_open(NULL, &handle));
	if (w->begin)
		w->begin(w);
	for (unsigned i = 0; i < WARM_UP; i += pairs_of(w))
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
	c.instructions /= pairs_of(w);
	c.locked /= pairs_of(w);
	return c;
}

/* -- the table --------------------------------------------------------------------------------- */

static void table_head(void) {
	printf("%-42s %12s %7s   %s\n", "", "instructions", "locked", "(limit)");
	(void)fflush(stdout);
}

static const char *count_text(const struct count *c, char to[32]) {
	(void)snprintf(to, 32, "%.0f, %.3g", c->instructions, c->locked);
	return c->instructions > 0 ? to : "none";
}

static void row_show(const struct work *w, const struct count *c) {
	char limit[32];

	printf("%-42s %12.0f %7.1f   (%s)\n", w->name, c->instructions, c->locked,
		count_text(&w->limit, limit));
	(void)fflush(stdout);
}

static void expect_within(const char *what, const char *unit, double value, double limit) {
	printf("%-42s %12.2f %7s   (%.2f)\n", what, value, unit, limit);
	(void)fflush(stdout);
	ck_assert_msg(value <= limit, "%s: %.2f %s, more than %.2f", what, value, unit, limit);
}

/* -- tests ------------------------------------------------------------------------------------- */

START_TEST(the_locked_instructions_of_a_semaphore_are_found) {
	static const struct work w = {
		.name = "sem_post, sem_trywait: to compare", .operation = pair_of_semaphore};
	struct count c = count_of(work_prepare, &w, REPETITIONS);

	row_show(&w, &c);
	ck_assert_double_gt(c.instructions, 2);
	ck_assert_double_eq(c.locked, 2);
}
END_TEST

START_TEST(an_operation_takes_no_more_instructions_than_it_may) {
	const struct work *w = &works[_i];
	struct count c = count_of(work_prepare, w, w->repetitions ? w->repetitions : REPETITIONS);

	row_show(w, &c);
	if (_i >= (int)WORKS - 2)
		shared->accounts[_i - ((int)WORKS - 2)] = c;
	ck_assert_msg(c.instructions <= w->limit.instructions && c.locked <= w->limit.locked,
		"%s: %.0f instructions, %.1f of them locked, where %.0f and %.1f are allowed",
		w->name, c.instructions, c.locked, w->limit.instructions, w->limit.locked);
}
END_TEST

/* After those. */
START_TEST(a_hundred_accounts_in_turn_cost_no_more_than_ten) {
	const struct count *few = &shared->accounts[0], *many = &shared->accounts[1];

	ck_assert(few->instructions > 0 && many->instructions > 0);
	expect_within("100 accounts in turn against 10", "times",
		many->instructions / few->instructions, accounts_limit);
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
	/* Of memory that comes by 2 MB, one couldn't tell how much is used. */
	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	(void)anonymous_kb(); /* the pages that this itself touches */
	before = anonymous_kb();
	must(berth_open(NULL, &handle));
	must(berth_acquire(handle, "alice@example.com", &slot));
	child_send(c, (int)(anonymous_kb() - before));
}

START_TEST(a_session_takes_little_memory) {
	struct child c = child_start(child_session, NULL);
	int kb = child_report(&c);

	(void)child_end(&c);
	ck_assert_int_gt(kb, 0);
	expect_within("memory of a session, anonymous", "kB", kb, memory_limit);
}
END_TEST

/* -- slots that the process holds itself ------------------------------------------------------- */

/* Not the mean: most slots of a process cost the same at any number. But at times it asks for more
 * records, and may look at all that it has. */

static void take_one(const struct work *w) {
	berth_slot slot;

	must(berth_acquire(handle, w->account, &slot));
}

static unsigned held_before; /* the slot that is looked at */

static void take_those_before(const void *data) {
	must(berth_open(NULL, &handle));
	for (unsigned i = 0; i < held_before; i++)
		take_one(data);
}

static const struct work many = {.account = "many@example.com", .operation = take_one};

static double cpu_ns(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void child_window(struct child *c, void *data) {
	const unsigned *window = data;

	take_those_before(&many);
	for (unsigned i = 0; i < *window; i++) {
		double before = cpu_ns();

		take_one(&many);
		shared->ns[i] = cpu_ns() - before;
	}
	child_send(c, 0);
}

static unsigned slowest_of(unsigned window) {
	unsigned slowest = 0;

	for (unsigned i = 1; i < window; i++)
		if (shared->ns[i] > shared->ns[slowest])
			slowest = i;
	return slowest;
}

#define WINDOW_TRIED 3

/* The instructions of the dearest of so many slots, after others. Time tells only which are worth
 * to be counted: each of the slowest is, in a process of its own. */
static double window_dearest(unsigned before, unsigned window) {
	double dearest = 0;
	struct child c;

	held_before = before;
	c = child_start(child_window, &window);
	(void)child_report(&c);
	(void)child_end(&c);
	for (unsigned tried = 0; tried < WINDOW_TRIED; tried++) {
		unsigned slowest = slowest_of(window);
		struct count count;

		shared->ns[slowest] = 0;
		held_before = before + slowest;
		count = count_of(take_those_before, &many, 1);
		dearest = count.instructions > dearest ? count.instructions : dearest;
	}
	return dearest;
}

#define FEW 1100

/* $HELD, or as many as the test has patience for. */
static unsigned many_held(void) {
	const char *given = getenv("HELD");
	unsigned n = given ? (unsigned)strtoul(given, NULL, 10) : 0;

	return n > FEW + WINDOW_MAX ? n : 12400;
}

START_TEST(no_slot_is_dearer_because_the_process_holds_many) {
	double few = window_dearest(0, FEW);
	double all = window_dearest(many_held() - WINDOW_MAX, WINDOW_MAX);
	char what[64];

	(void)snprintf(what, sizeof(what), "dearest slot: with %u held, with %u", many_held(), FEW);
	expect_within(what, "times", all / few, held_limit);
}
END_TEST

/* -- running ----------------------------------------------------------------------------------- */

static void setup(void) {
	static const char *const limit[][2] = {{"alice@example.com", "10"},
		{"alice.liddell@students.example.com", "10"}, {"full@example.com", "0"},
		{"u*@example.com", "10"}, {"many@example.com", "unlimited"}, {"a", "10"},
		{"a/b", "10"}, {"a/b/c", "10"}, {"a/b/c/d", "10"}, {"a/b/c/d/e", "10"},
		{"a/b/c/d/e/f", "10"}, {"a/b/c/d/e/f/g", "10"}, {"a/b/c/d/e/f/g/h", "10"}};
	static const char *const args[] = {"--max-slots", "1100000", NULL};

	trace_pin();
	instance_start(&here, args);
	for (size_t i = 0; i < COUNT_OF(limit); i++)
		set_limit(limit[i][0], limit[i][1]);
}

int main(int argc, char **argv) {
	SRunner *runner;
	Suite *suite;
	TCase *tc;
	int failed;

	(void)argc;
	if (instructions_why_not()) {
		printf("skipped: %s\n", instructions_why_not());
		return EXIT_SUCCESS;
	}
	instructions_begin(argv);
	shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return EXIT_FAILURE;
	tc = tcase_create("instructions");
	suite = suite_create("instructions");
	tcase_add_checked_fixture(tc, setup, here_end);
	tcase_set_timeout(tc, 7200);
	tcase_add_test(tc, the_locked_instructions_of_a_semaphore_are_found);
	tcase_add_loop_test(tc, an_operation_takes_no_more_instructions_than_it_may, 0, (int)WORKS);
	tcase_add_test(tc, a_hundred_accounts_in_turn_cost_no_more_than_ten);
	tcase_add_test(tc, a_session_takes_little_memory);
	tcase_add_test(tc, no_slot_is_dearer_because_the_process_holds_many);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	table_head();
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
