/* SPDX-License-Identifier: MIT */

/*
 * A server dies, or is stopped, at every instruction of berth_acquire and berth_release: the real
 * library, a real berthd that frees what is left. In half of the runs another server takes and gives
 * back slots of the same account meanwhile, and need not wait. At the instant of the stop, the counts
 * are what the records say; once the process is dead and freed, they are what the other one holds.
 * A release that stands still for good, some of its levels given back, is finished by berthd.
 *
 * What is stepped is the way that every call takes: the name is known, and a record is at hand.
 * $STRIDE looks at every so many instructions (1: all of them).
 */

#include <sys/mman.h>

#include "layout.h"
#include "suite.h"

#include "audit.h"
#include "kill.h"
#include "ptrace.h"

#define ROUNDS 20
#define LODGED \
	4 /* held by the other, more than the child's: it would miss what is given back twice */

struct scenario {
	const char *name;
	const char *account;
	const char
		*last; /* where the record was used before; NULL: of the same account and weight */
	uint32_t weight;
	bool release; /* of a slot that it holds; else it acquires */
	bool revoke;  /* berthd revokes its slots at the instruction */
	int want, or_else;
};

static const struct scenario scenarios[] = {
	{"acquire", "acme/bob/web", NULL, 1, false, false, 0, 0},
	{"acquire, one level", "solo", NULL, 1, false, false, 0, 0},
	{"acquire, weight 3", "acme/bob/web", NULL, 3, false, false, 0, 0},
	{"acquire, placed from elsewhere", "acme/bob/web", "acme/bob", 3, false, false, 0, 0},
	{"acquire, denied at the account", "full/leaf", NULL, 1, false, false,
		BERTH_CONNECTION_COUNT_LIMIT, BERTH_CONNECTION_COUNT_LIMIT},
	{"acquire, denied at the second level", "tight/leaf", NULL, 1, false, false,
		BERTH_CONNECTION_COUNT_LIMIT, BERTH_CONNECTION_COUNT_LIMIT},
	{"acquire racing a revoke", "acme/bob/web", NULL, 3, false, true, 0,
		BERTH_CONNECTION_ABORTED},
	{"acquire, one level, racing a revoke", "solo", NULL, 3, false, true, 0,
		BERTH_CONNECTION_ABORTED},
	{"release", "acme/bob/web", NULL, 1, true, false, 0, 0},
	{"release, one level", "solo", NULL, 1, true, false, 0, 0},
	{"release, weight 3", "acme/bob/web", NULL, 3, true, false, 0, 0},
	{"release racing a revoke", "acme/bob/web", NULL, 3, true, true, 0,
		BERTH_CONNECTION_ABORTED},
	{"release, one level, racing a revoke", "solo", NULL, 3, true, true, 0,
		BERTH_CONNECTION_ABORTED},
};

enum ending { KILLED, STOPPED_AND_LET_GO_ON, STOPPED_AND_KILLED, ENDINGS };
static const char *const ending_name[ENDINGS] = {"killed", "let go on", "stopped and killed"};

struct run {
	const struct scenario *s;
	size_t k;
	enum ending ending;
	bool busy;
};

static struct berth *other;
static berth_slot lodged; /* the other's */
static struct map *map;
static int admin;
static unsigned long *points; /* of all tests, each of which is a process */

static const char *where(const struct run *r) {
	static char text[256];

	(void)snprintf(text, sizeof(text), "%s, %s at instruction %zu (%s)", r->s->name,
		ending_name[r->ending], r->k, r->busy ? "busy" : "quiet");
	return text;
}

/* -- the one that dies --------------------------------------------------------------------------- */

static void child_act(const struct scenario *s) {
	struct berth *b = NULL;
	berth_slot slot = 0;
	int code;

	/* Once before, so that nothing has to be asked for or looked up any more. */
	if (berth_open(NULL, &b) != BERTH_SUCCESS)
		_exit(2);
	if (acquire_weight(b, s->account, s->weight, &slot) == BERTH_SUCCESS)
		(void)berth_release(b, slot);
	if (s->last && (berth_acquire(b, s->last, &slot) || berth_release(b, slot)))
		_exit(5);
	if (s->release && acquire_weight(b, s->account, s->weight, &slot) != BERTH_SUCCESS)
		_exit(3);
	trace_child_begin();
	code = s->release ? berth_release(b, slot)
			  : acquire_weight(b, s->account, s->weight, &slot);
	trace_child_end(code == s->want || code == s->or_else ? 0 : 1);
}

static pid_t child_stopped(const struct scenario *s) {
	pid_t parent = getpid(), pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(4);
		child_act(s);
	}
	trace_child_wait(pid);
	return pid;
}

/* -- the others ------------------------------------------------------------------------------------ */

/* So many operations, whatever the child is in the middle of; its charge may be in the way. */
static void work(const struct run *r) {
	for (int i = 0; i < ROUNDS; i++) {
		berth_slot slot;
		int code = berth_acquire(other, r->s->account, &slot);

		ck_assert_msg(code == BERTH_SUCCESS ||
				      (code == BERTH_CONNECTION_COUNT_LIMIT && r->s->want == code),
			"%s: the other gets %d", where(r), code);
		if (code == BERTH_SUCCESS)
			code = berth_release(other, slot);
		ck_assert_msg(code == BERTH_SUCCESS || code == r->s->want,
			"%s: the other's release gives %d", where(r), code);
	}
}

static void audit(const struct run *r, const char *when) {
	char why[512];

	ck_assert_msg(audit_counts(map, why), "%s, %s: %s", where(r), when, why);
}

static bool session_is_over(void *data) {
	return kill_sessions(map, *(pid_t *)data) == 0;
}

static void expect_count(const struct run *r, const char *account, uint32_t want) {
	struct berth_usage usage = usage_of(other, account);

	ck_assert_msg(usage.current == want, "%s: %s counts %u, not %u", where(r), account,
		usage.current, want);
}

/* What the other one holds, and nothing else. */
static void judge(const struct run *r, pid_t pid) {
	ck_assert_msg(eventually(session_is_over, &pid), "%s: its session doesn't end; %s",
		where(r), instance_log(&here));
	audit(r, "freed");
	ck_assert_msg(kill_unfinished(map) == 0, "%s: a record is left halfway", where(r));
	expect_count(r, "acme", LODGED);
	expect_count(r, "acme/bob/web", LODGED);
	expect_count(r, "solo", LODGED);
	expect_count(r, "full", 1);
	expect_count(r, "tight", 1);
	expect_count(r, "tight/leaf", 0);
}

/* -- one run ----------------------------------------------------------------------------------------- */

/* Where the scenario's child goes; recorded by a run of its own. */
static struct trace_path path;

static void record(const struct run *r) {
	pid_t pid = child_stopped(r->s);

	trace_child_record(pid, &path);
	judge(r, pid);
}

static void run_once(const struct run *r) {
	pid_t pid = child_stopped(r->s);
	bool reached = trace_child_goto(pid, &path, r->k);

	if (reached)
		audit(r, "standing still");
	if (reached && r->ending == KILLED)
		trace_child_kill(pid);
	if (r->s->revoke) {
		kill_send_revoke(admin, r->s->account[0] == 'a' ? "acme" : "solo", pid);
		ck_assert_msg(kill_replies_wait(admin, 1) == 0, "%s: no revoke", where(r));
	}
	if (r->busy)
		work(r);
	if (reached && r->ending == STOPPED_AND_LET_GO_ON)
		trace_child_finish(pid);
	if (reached && r->ending == STOPPED_AND_KILLED)
		trace_child_kill(pid);
	judge(r, pid);
	*points += reached;
}

static size_t stride(void) {
	const char *text = getenv("STRIDE");
	size_t n = text ? strtoul(text, NULL, 10) : 0;

	return n > 0 ? n : 97;
}

START_TEST(a_server_dies_or_stops_at_any_instruction_and_the_counts_are_exact) {
	struct run r = {.s = &scenarios[_i]};
	unsigned long before = *points;

	record(&r);
	for (int ending = 0; ending < ENDINGS; ending++)
		for (int busy = 0; busy < 2; busy++) {
			/* As killed at once: nobody does anything in between. */
			if (ending == STOPPED_AND_KILLED && !busy && !r.s->revoke)
				continue;
			r.ending = (enum ending)ending;
			r.busy = busy;
			for (r.k = random_below((uint32_t)stride()); r.k < path.count;
				r.k += stride())
				run_once(&r);
		}
	ck_assert_uint_gt(*points, before);
	printf("%s: %zu instructions, %lu points\n", r.s->name, path.count, *points - before);
	(void)fflush(stdout);
}
END_TEST

/* -- a release that stands still ------------------------------------------------------------------- */

static const struct scenario three_levels = {"release", "acme/bob/web", NULL, 3, true, false, 0, 0};

/* The instructions before which the release has given back some of its levels, and not all. */
struct window {
	size_t first, end;
	size_t k; /* the next one that is looked at */
};

static void window_look(void *data) {
	struct window *w = data;

	if (kill_unfinished(map) > 0) {
		w->first = w->end > 0 ? w->first : w->k;
		w->end = w->k + 1;
	}
	w->k++;
}

static bool release_is_finished(void *data) {
	(void)data;
	(void)current_of("acme");
	return kill_unfinished(map) == 0;
}

/* What brings the release to its end, in place of its own thread. */
static bool by_revoke_of_process(pid_t pid) {
	char text[16];
	const char *said;

	(void)snprintf(text, sizeof(text), "%d", (int)pid);
	if (ctl(&said, "revoke", "--pid", text, NULL) != 0)
		return false;
	ck_assert_msg(!strstr(said, "revoked"), "%s", said);
	return strstr(said, "finished 1 release that its server had begun");
}

/* With those that the other one holds, and gets back then. */
static bool by_revoke_of_all(pid_t pid) {
	const char *said;

	(void)pid;
	if (ctl(&said, "revoke", "acme", "--all", NULL) != 0)
		return false;
	ck_assert_msg(strstr(said, "revoked 1 slot\n"), "%s", said);
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(other, lodged));
	expect_code(BERTH_SUCCESS, acquire_weight(other, "acme/bob/web", LODGED, &lodged));
	return strstr(said, "finished 1 release that its server had begun");
}

static bool by_recount(pid_t pid) {
	(void)pid;
	ck_assert_msg(eventually(release_is_finished, NULL), "no recount finishes it; %s",
		instance_log(&here));
	return logged_times("Finished 1 releases") > 0;
}

static bool by_new_berthd(pid_t pid) {
	(void)pid;
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	/* Asks the new one for something, so that it is the library's berthd from now on. */
	(void)usage_of(other, "acme");
	return true;
}

static bool (*const finishers[])(pid_t pid) = {
	by_revoke_of_process, by_revoke_of_all, by_recount, by_new_berthd};

/* True if it was this finisher's work: a recount may be faster. */
static bool release_stand_still(size_t k, bool (*finish)(pid_t pid), bool let_go_on) {
	const struct run r = {&three_levels, k, STOPPED_AND_LET_GO_ON, false};
	pid_t pid = child_stopped(&three_levels);
	bool reached = trace_child_goto(pid, &path, k), did;

	ck_assert_msg(reached, "%s isn't reached", where(&r));
	audit(&r, "standing still");
	did = finish(pid);
	audit(&r, "finished");
	ck_assert_msg(kill_unfinished(map) == 0, "%s: it is left halfway", where(&r));
	expect_count(&r, "acme", LODGED);
	expect_count(&r, "acme/bob", LODGED);
	expect_count(&r, "acme/bob/web", LODGED);
	/* Whichever party went on, the thread released its slot: its status says that it heard 0. */
	if (let_go_on)
		trace_child_finish(pid);
	else
		trace_child_kill(pid);
	judge(&r, pid);
	++*points;
	return did;
}

START_TEST(a_release_that_stands_still_keeps_no_level_from_others) {
	struct window w = {0};
	const struct run recording = {.s = &three_levels};
	size_t step, did = 0, looks = 0;

	/* A recount meanwhile would show it as one that is finished. */
	path.look = window_look;
	path.data = &w;
	record(&recording);
	path.look = NULL;
	ck_assert_uint_gt(w.end, w.first);
	step = MAX_OF((w.end - w.first) / 8, 1u);
	for (size_t k = w.first; k < w.end; k += step, looks++)
		did += release_stand_still(k, finishers[_i], looks % 2);
	ck_assert_msg(did > 0, "it was never seen to finish a release, of %zu; %s", looks,
		instance_log(&here));
}
END_TEST

static void setup(void) {
	static const char *const limit[][2] = {{"acme", "50"}, {"acme/bob", "50"},
		{"acme/bob/web", "50"}, {"solo", "50"}, {"full", "50"}, {"full/leaf", "1"},
		{"tight", "1"}, {"tight/leaf", "50"}, {"tight/other", "50"}};
	berth_slot slot;
	char why[512];

	trace_pin();
	random_init();
	here_start();
	for (size_t i = 0; i < COUNT_OF(limit); i++)
		set_limit(limit[i][0], limit[i][1]);
	other = open_session();
	expect_code(BERTH_SUCCESS, acquire_weight(other, "acme/bob/web", LODGED, &lodged));
	expect_code(BERTH_SUCCESS, acquire_weight(other, "solo", LODGED, &slot));
	(void)acquire_slot(other, "full/leaf");
	(void)acquire_slot(other, "tight/other");
	map = kill_map(here.runtime_dir);
	admin = kill_connect(here.runtime_dir);
	ck_assert_msg(map && admin >= 0 && audit_counts(map, why), "no beginning");
}

int main(void) {
	Suite *suite = suite_create("kill-client");
	TCase *tc = tcase_create("kill-client");
	SRunner *runner = srunner_create(suite);
	int failed;

	points = mmap(
		NULL, sizeof(*points), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (points == MAP_FAILED)
		return EXIT_FAILURE;
	tcase_add_checked_fixture(tc, setup, here_end);
	tcase_set_timeout(tc, 7200);
	tcase_add_loop_test(tc, a_server_dies_or_stops_at_any_instruction_and_the_counts_are_exact,
		0, COUNT_OF(scenarios));
	tcase_add_loop_test(
		tc, a_release_that_stands_still_keeps_no_level_from_others, 0, COUNT_OF(finishers));
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	printf("a server was killed or stopped at %lu points\n", *points);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
