/* SPDX-License-Identifier: MIT */

/*
 * Deaths and stops at every instruction. A child carries out one operation of the counter, single-
 * stepped; after instruction k it is killed, or stopped and later let go on. Where two race for a
 * record, the other does its part at that instruction. In half of the runs another party works on the
 * same accounts meanwhile, which must not wait for the child. Whatever k: once the record is closed,
 * each count is what the others hold.
 *
 * That the others go on at full speed is said in instructions: while the child is stopped, an acquire
 * and release take no more of them than when nobody is there.
 *
 * $STRIDE looks at every so many instructions only (1: all of them). The child's code is the same
 * object code that daemon and library are made of; its shared memory is the real segment.
 */

#include <sys/mman.h>

#include "../ptrace.h"
#include "fixture.h"

#define R_CHILD 16u
#define R_OTHER 17u
#define R_FULL  18u
#define R_LEAF  19u /* held all the time, with more than the child ever has: */
#define R_TREE  20u /* what is given back once too often is missing here */
#define LODGED  4u
#define LIMIT   12u
#define ROUNDS  20

static struct fixture f;
static struct path leaf, tree;
static const struct stamp stamp = {.since = 1};
static unsigned long *points; /* of all tests, each of which is a process */
static size_t undisturbed;    /* instructions of an acquire and a release of the path */

static void record_put(uint64_t word) {
	store_total(&map_record(f.map, R_CHILD)->word, word);
}

static uint32_t count(const struct path *p, uint32_t level) {
	return counter_count(f.map, p->level[level].account);
}

static int take(uint32_t record, const struct path *p, uint32_t weight) {
	uint32_t seq, level;

	return counter_acquire(f.map, record, p, weight, &stamp, &seq, &level);
}

static int give(uint32_t record) {
	return counter_release(f.map, record, record_seq(counter_record(f.map, record)));
}

/* -- what the child does -------------------------------------------------------------------------- */

struct scenario {
	const char *name;
	const struct path *path;
	uint32_t weight;
	int full; /* the level that has no room for the child; -1: all have */
	void (*before)(const struct scenario *s); /* by the parent */
	void (*act)(const struct scenario *s);    /* by the child */
	bool by_daemon; /* the child is the daemon; the record's owner is another */
	void (*race)(const struct scenario *s); /* by the parent, at the instruction; or NULL */
};

static void before_nothing(const struct scenario *s) {
	(void)s;
}

static void before_held(const struct scenario *s) {
	ck_assert_int_eq(take(R_CHILD, s->path, s->weight), 0);
}

/* As an owner that was killed, or sleeps, between A2 and A3 of level 1. */
static void before_charged(const struct scenario *s) {
	const uint32_t seq = (record_seq(counter_record(f.map, R_CHILD)) + 1) & BERTH_SEQ_MASK;

	before_held(s);
	ck_assert_int_eq(give(R_CHILD), 0);
	for (uint32_t k = 0; k < 2; k++) {
		struct cell *cell = s->path->level[k].cell;
		uint32_t now = cell_count(load_total(&cell->word));

		store_total(&cell->word,
			cell_pack(now + s->weight, R_CHILD, (seq + 100 + k) & BERTH_SEQ_MASK));
	}
	record_put(record_pack(RECORD_CHARGE, 1, s->weight, s->path->level[0].account,
		(seq + 101) & BERTH_SEQ_MASK));
}

static void act_acquire(const struct scenario *s) {
	(void)take(R_CHILD, s->path, s->weight);
}

static void act_release(const struct scenario *s) {
	(void)s;
	(void)give(R_CHILD);
}

static void act_both(const struct scenario *s) {
	if (take(R_CHILD, s->path, s->weight) == 0)
		(void)give(R_CHILD);
}

static void act_revoke(const struct scenario *s) {
	(void)s;
	(void)counter_revoke(f.map, R_CHILD, counter_record(f.map, R_CHILD));
}

static void act_close(const struct scenario *s) {
	(void)s;
	(void)counter_close(f.map, R_CHILD);
}

static void act_bump(const struct scenario *s) {
	(void)counter_bump(f.map, s->path->level[0].account);
}

static const struct scenario scenarios[] = {
	{"acquire, one level", &leaf, 1, -1, before_nothing, act_acquire, false, NULL},
	{"acquire, three levels, weight 3", &tree, 3, -1, before_nothing, act_acquire, false, NULL},
	{"acquire, denied at the account", &tree, 2, 0, before_nothing, act_acquire, false, NULL},
	{"acquire, denied at the second level", &tree, 2, 1, before_nothing, act_acquire, false,
		NULL},
	{"acquire, denied at the third level", &tree, 2, 2, before_nothing, act_acquire, false,
		NULL},
	{"release, one level", &leaf, 1, -1, before_held, act_release, false, NULL},
	{"release, three levels, weight 3", &tree, 3, -1, before_held, act_release, false, NULL},
	{"acquire and release", &tree, 1, -1, before_nothing, act_both, false, NULL},
	{"revoke of a slot", &tree, 2, -1, before_held, act_revoke, true, NULL},
	{"revoke of a charge", &tree, 2, -1, before_charged, act_revoke, true, NULL},
	{"end of a session with a slot", &tree, 2, -1, before_held, act_close, true, NULL},
	{"end of a session in a charge", &tree, 2, -1, before_charged, act_close, true, NULL},
	{"bump", &tree, 2, -1, before_charged, act_bump, true, NULL},
	{"acquire racing a revoke", &tree, 3, -1, before_nothing, act_acquire, false, act_revoke},
	{"release racing a revoke", &tree, 3, -1, before_held, act_release, false, act_revoke},
	{"release racing the end of its session", &tree, 3, -1, before_held, act_release, false,
		act_close},
	{"revoke racing a release", &tree, 3, -1, before_held, act_revoke, true, act_release},
	{"revoke racing another", &tree, 3, -1, before_held, act_revoke, true, act_revoke},
};

/* -- stepping ---------------------------------------------------------------------------------------- */

static pid_t child_start(const struct scenario *s) {
	pid_t pid = fork();

	if (pid == 0) {
		trace_child_begin();
		s->act(s);
		trace_child_end(0);
	}
	ck_assert_int_gt(pid, 0);
	trace_child_wait(pid);
	return pid;
}

/* -- one run ------------------------------------------------------------------------------------------- */

enum ending { KILLED, STOPPED_AND_LET_GO_ON, STOPPED_AND_KILLED, ENDINGS };

struct run {
	const struct scenario *s;
	size_t k;
	enum ending ending;
	bool busy;
};

/* The limit of a level is 12; who fills it takes 7 of the 8 that are left, so that the child's 2 find no room and the other
 * party's 1 does. */
static void fill(const struct scenario *s) {
	if (s->full < 0)
		return;
	ck_assert_int_eq(counter_open(f.map, R_FULL), 0);
	for (uint32_t k = 0; k <= (uint32_t)s->full; k++)
		if (k == (uint32_t)s->full) {
			struct cell *cell = s->path->level[k].cell;

			store_total(&cell->word, cell_pack(7 + LODGED, 0, 0));
		}
}

static uint32_t others(const struct scenario *s, uint32_t level) {
	return s->full == (int)level ? 7 + LODGED : LODGED;
}

static void drain(const struct scenario *s) {
	if (s->full < 0)
		return;
	store_total(&s->path->level[s->full].cell->word, cell_pack(LODGED, 0, 1));
	ck_assert_int_eq(counter_close(f.map, R_FULL), 0);
}

/* Somebody else comes and goes; nobody in the middle of anything may keep them waiting. The child's
 * charge may be in their way, and then they are denied. */
static void work(const struct run *r) {
	for (int i = 0; i < ROUNDS; i++) {
		int denied = take(R_OTHER, r->s->path, 1);

		ck_assert_msg(denied == 0 || denied == -EDQUOT, "%s, %zu: acquire says %d",
			r->s->name, r->k, denied);
		if (denied == 0)
			ck_assert_int_eq(give(R_OTHER), 0);
	}
}

static void act_come_and_go(const struct scenario *s) {
	if (take(R_OTHER, s->path, 1) == 0)
		(void)give(R_OTHER);
}

/* Instructions of a party that comes and goes, to its process's end. */
static size_t come_and_go(const struct scenario *s) {
	const struct scenario other = {.path = s->path, .act = act_come_and_go};
	struct trace_path path = {0};
	size_t count;

	trace_child_record(child_start(&other), &path);
	count = path.count;
	trace_path_free(&path);
	return count;
}

/* What others can see of the child: where its record stands, and which cells bear its tag. */
static uint32_t child_seen(const struct scenario *s) {
	uint64_t rec = counter_record(f.map, R_CHILD);
	uint32_t seen = (uint32_t)record_state(rec) << 4 | record_level(rec);

	for (uint32_t k = 0; k < s->path->depth; k++)
		seen = seen << 1 |
		       (cell_record(load_total(&s->path->level[k].cell->word)) == R_CHILD);
	return seen;
}

/* Whatever was in the way was helped by those who came before: no more than a branch or two. Looked
 * at once for all instructions in a row after which nothing differs for the others. */
static void check_speed(const struct run *r, uint32_t seen) {
	static uint32_t last = UINT32_MAX;
	size_t n;

	if (seen == last)
		return;
	last = seen;
	n = come_and_go(r->s);

	ck_assert_msg(n <= undisturbed + undisturbed / 8,
		"%s, stopped at instruction %zu: another's acquire and release take %zu "
		"instructions, %zu when undisturbed",
		r->s->name, r->k, n, undisturbed);
}

/* Every count is what is held by the others, and by the child if it holds (or nobody took back what
 * it had). */
static void check_counts(const struct run *r, const char *when) {
	const struct scenario *s = r->s;
	uint64_t rec = counter_record(f.map, R_CHILD);
	uint32_t mine = record_state(rec) == RECORD_HELD ? s->weight : 0;

	for (uint32_t level = 0; level < s->path->depth; level++)
		ck_assert_msg(count(s->path, level) == others(s, level) + mine,
			"%s, killed or stopped at instruction %zu (%d, %s), %s: level %u counts "
			"%u, not %u",
			s->name, r->k, r->ending, r->busy ? "busy" : "quiet", when, level,
			count(s->path, level), others(s, level) + mine);
}

/* Where the scenario's child goes; recorded by a run of its own. */
static struct trace_path path;
#define RECORDING SIZE_MAX /* as k: records, and the child goes to its end */

static void run_once(const struct run *r) {
	const struct scenario *s = r->s;
	bool reached = false;
	uint32_t seen;
	pid_t pid;

	ck_assert_int_eq(counter_open(f.map, R_CHILD), 0);
	fill(s);
	s->before(s);
	pid = child_start(s);
	if (r->k == RECORDING)
		trace_child_record(pid, &path);
	else
		reached = trace_child_goto(pid, &path, r->k);
	if (reached && r->ending == KILLED)
		trace_child_kill(pid);
	if (s->race)
		s->race(s);
	seen = child_seen(s);
	if (r->busy)
		work(r);
	if (r->busy && reached && r->ending == STOPPED_AND_KILLED)
		check_speed(r, seen);
	if (reached && r->ending == STOPPED_AND_LET_GO_ON) {
		trace_child_finish(pid);
		if (!s->by_daemon)
			check_counts(r, "let go on");
	}
	if (reached && r->ending == STOPPED_AND_KILLED)
		trace_child_kill(pid);
	/* A new daemon goes on where the last one was, and then the session ends. */
	ck_assert_int_eq(counter_resume(f.map, R_CHILD), 0);
	ck_assert_int_eq(counter_close(f.map, R_CHILD), 0);
	check_counts(r, "closed");
	drain(s);
	*points += reached;
}

static size_t stride(void) {
	const char *text = getenv("STRIDE");
	size_t n = text ? strtoul(text, NULL, 10) : 199;

	return n > 0 ? n : 1;
}

START_TEST(a_death_or_stop_at_any_instruction_leaves_the_counts_exact) {
	struct run r = {.s = &scenarios[_i], .k = RECORDING};
	unsigned long before = *points;

	undisturbed = come_and_go(r.s);
	/* Twice: the first change after a checkpoint goes a way of its own. */
	run_once(&r);
	run_once(&r);
	for (int ending = 0; ending < ENDINGS; ending++)
		for (int busy = 0; busy < 2; busy++) {
			/* As killed at once: nobody does anything in between. */
			if (ending == STOPPED_AND_KILLED && !busy && !r.s->race)
				continue;
			r.ending = (enum ending)ending;
			r.busy = busy;
			/* Another offset each time, so that a sample is spread. */
			for (r.k = (size_t)(ending * 2 + busy) * 3 % stride(); r.k < path.count;
				r.k += stride())
				run_once(&r);
		}
	ck_assert_uint_gt(*points, before);
	printf("%s: %zu instructions, %lu points\n", r.s->name, path.count, *points - before);
	(void)fflush(stdout);
}
END_TEST

/* Every instruction, always: what it guards against is a window of a few of them. */
START_TEST(no_charge_is_made_against_a_limit_that_was_lowered_before) {
	const struct scenario s = {"", &leaf, 2, -1, before_nothing, act_acquire, false, NULL};
	const struct run recording = {.s = &s, .k = RECORDING};
	size_t admitted = 0;

	run_once(&recording);
	for (size_t k = 0; k < path.count; k++) {
		uint32_t before;
		bool reached;
		pid_t pid;

		ck_assert_int_eq(counter_open(f.map, R_CHILD), 0);
		pid = child_start(&s);
		reached = trace_child_goto(pid, &path, k);
		ck_assert_int_eq(fixture_configure(f.accounts, "alice", 1), 0);
		before = count(&leaf, 0);
		if (reached)
			trace_child_finish(pid);
		ck_assert_msg(count(&leaf, 0) == before,
			"the limit was 1 since instruction %zu, and the count went from %u to %u",
			k, before, count(&leaf, 0));
		admitted += before > LODGED;
		ck_assert_int_eq(counter_close(f.map, R_CHILD), 0);
		ck_assert_uint_eq(count(&leaf, 0), LODGED);
		ck_assert_int_eq(fixture_configure(f.accounts, "alice", LIMIT), 0);
	}
	/* Some were early enough, and some were not. */
	ck_assert_uint_gt(admitted, 1);
	ck_assert_uint_lt(admitted, path.count);
	*points += path.count;
	printf("a limit lowered: %zu points\n", path.count);
}
END_TEST

static void setup(void) {
	const struct capacities want = {64, 64, 4};

	trace_pin();
	fixture_new(&f, &want);
	leaf = fixture_path(&f, "alice", LIMIT);
	(void)fixture_path(&f, "acme", LIMIT);
	(void)fixture_path(&f, "acme/bob", LIMIT);
	tree = fixture_path(&f, "acme/bob/web", LIMIT);
	fixture_open_records(&f, R_OTHER, 1);
	fixture_open_records(&f, R_LEAF, 2);
	ck_assert_int_eq(take(R_LEAF, &leaf, LODGED), 0);
	ck_assert_int_eq(take(R_TREE, &tree, LODGED), 0);
}

static void teardown(void) {
	fixture_free(&f);
}

int main(void) {
	Suite *suite = suite_create("crash");
	TCase *tc = tcase_create("crash");
	SRunner *runner = srunner_create(suite);
	int failed;

	points = mmap(
		NULL, sizeof(*points), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (points == MAP_FAILED)
		return EXIT_FAILURE;
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 7200);
	tcase_add_loop_test(tc, a_death_or_stop_at_any_instruction_leaves_the_counts_exact, 0,
		ELEMENTS(scenarios));
	tcase_add_test(tc, no_charge_is_made_against_a_limit_that_was_lowered_before);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	printf("killed or stopped at %lu points\n", *points);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
