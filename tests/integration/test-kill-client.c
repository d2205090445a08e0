/* SPDX-License-Identifier: MIT */

/*
 * Kills or stops a server at every instruction of berth_acquire and berth_release, with the real
 * library and a real berthd. After the server's death berthd frees its slots. In half of the runs
 * another server acquires and releases slots of the same account meanwhile, and must not wait.
 * While the server is stopped, the counts must be the sums of the records. After the server's death
 * the counts must be the slots of the other server. If a release is stopped for good after it has
 * discharged some of its levels, berthd finishes the release.
 *
 * The server has used the account before, so its calls don't need berthd. If $STRIDE is n, only
 * every n-th instruction is tried.
 */

#include "layout.h"
#include "steps.h"

#include "audit.h"
#include "kill.h"
#include "ptrace.h"

#define ROUNDS 20
/* The weight that the other server holds. It exceeds the child's weight, so that a level that is
 * discharged twice makes the count too small, but not less than 0. */
#define HELD_WEIGHT 4

struct scenario {
	const char *name;
	const char *account;
	/* The account of the last slot that the record held. If NULL, that slot was of `account`,
	 * with the same weight. */
	const char *last;
	uint32_t weight;
	bool release; /* if true, the server releases a slot; else it acquires one */
	bool revoke;  /* if true, berthd revokes the slots of the stopped server */
	int want, want_if_revoked;
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

enum ending { KILLED, STOPPED_AND_RESUMED, STOPPED_AND_KILLED, ENDINGS };
static const char *const ending_name[ENDINGS] = {"killed", "resumed", "stopped and killed"};

struct run {
	const struct scenario *s;
	size_t k;
	enum ending ending;
	bool busy;
};

static struct berth *other; /* the session of the other server, which is this process */
static berth_slot other_slot;
static struct map *map;
static int admin;
static unsigned long *points; /* shared by all tests, each of which is a process */

static const char *where(const struct run *r) {
	return text_of("%s, %s at instruction %zu (%s)", r->s->name, ending_name[r->ending], r->k,
		r->busy ? "busy" : "quiet");
}

/* -- the server that dies ---------------------------------------------------------------------- */

static void child_run(const struct scenario *s) {
	struct berth *b = NULL;
	berth_slot slot = 0;
	int code;

	/* The first acquire makes the library ask berthd for the account and a range. */
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
	trace_child_end(code == s->want || code == s->want_if_revoked ? 0 : 1);
}

static pid_t child_start_stopped(const struct scenario *s) {
	pid_t parent = getpid(), pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(4);
		child_run(s);
	}
	trace_child_wait(pid);
	return pid;
}

/* -- the other server -------------------------------------------------------------------------- */

/* If the stopped child has charged the account, the other server may be denied. */
static void other_acquires_and_releases(const struct run *r) {
	for (int i = 0; i < ROUNDS; i++) {
		berth_slot slot;
		int code = berth_acquire(other, r->s->account, &slot);

		ck_assert_msg(code == BERTH_SUCCESS ||
				      (code == BERTH_CONNECTION_COUNT_LIMIT && r->s->want == code),
			"%s: the other server gets %d", where(r), code);
		if (code == BERTH_SUCCESS)
			code = berth_release(other, slot);
		ck_assert_msg(code == BERTH_SUCCESS || code == r->s->want,
			"%s: the other server's release gives %d", where(r), code);
	}
}

static void audit(const struct run *r, const char *when) {
	char why[512];

	ck_assert_msg(audit_counts(map, why), "%s, %s: %s", where(r), when, why);
}

static bool session_has_ended(void *data) {
	return kill_sessions(map, *(pid_t *)data) == 0;
}

static void expect_count(const struct run *r, const char *account, uint32_t want) {
	struct berth_usage usage = usage_of(other, account);

	ck_assert_msg(usage.current == want, "%s: %s counts %u, not %u", where(r), account,
		usage.current, want);
}

/* After the child's death only the other server's slots count. */
static void judge(const struct run *r, pid_t pid) {
	ck_assert_msg(eventually(session_has_ended, &pid),
		"%s: the child's session doesn't end; %s", where(r), instance_log(&here));
	audit(r, "after its death");
	ck_assert_msg(kill_unfinished(map) == 0, "%s: a record is left halfway", where(r));
	expect_count(r, "acme", HELD_WEIGHT);
	expect_count(r, "acme/bob/web", HELD_WEIGHT);
	expect_count(r, "solo", HELD_WEIGHT);
	expect_count(r, "full", 1);
	expect_count(r, "tight", 1);
	expect_count(r, "tight/leaf", 0);
}

/* -- one run ----------------------------------------------------------------------------------- */

/* The instructions of the scenario's child, which record() finds. */
static struct trace_path path;

static void record(const struct run *r) {
	pid_t pid = child_start_stopped(r->s);

	trace_child_record(pid, &path);
	judge(r, pid);
}

static void run_to_point(const struct run *r) {
	pid_t pid = child_start_stopped(r->s);
	bool reached = trace_child_goto(pid, &path, r->k);

	if (reached)
		audit(r, "while stopped");
	if (reached && r->ending == KILLED)
		trace_child_kill(pid);
	if (r->s->revoke) {
		kill_send_revoke(admin, r->s->account[0] == 'a' ? "acme" : "solo", pid);
		ck_assert_msg(kill_replies_wait(admin, 1) == 0, "%s: no revoke", where(r));
	}
	if (r->busy)
		other_acquires_and_releases(r);
	if (reached && r->ending == STOPPED_AND_RESUMED)
		trace_child_finish(pid);
	if (reached && r->ending == STOPPED_AND_KILLED)
		trace_child_kill(pid);
	judge(r, pid);
	*points += reached;
}

START_TEST(counts_are_exact_when_a_server_dies_or_stops_at_any_instruction) {
	struct run r = {.s = &scenarios[_i]};
	size_t stride = environment_number("STRIDE", 97);
	unsigned long before = *points;

	record(&r);
	for (int ending = 0; ending < ENDINGS; ending++)
		for (int busy = 0; busy < 2; busy++) {
			/* If nothing happens between the stop and the kill, this case is the same
			 * as KILLED. */
			if (ending == STOPPED_AND_KILLED && !busy && !r.s->revoke)
				continue;
			r.ending = (enum ending)ending;
			r.busy = busy;
			r.k = random_below((uint32_t)stride);
			for (; r.k < path.count; r.k += stride)
				run_to_point(&r);
		}
	ck_assert_uint_gt(*points, before);
	printf("%s: %zu instructions, %lu points\n", r.s->name, path.count, *points - before);
	(void)fflush(stdout);
}
END_TEST

/* -- a release that is stopped for good -------------------------------------------------------- */

static const struct scenario three_levels = {"release", "acme/bob/web", NULL, 3, true, false, 0, 0};

/* The instructions at which the release has discharged some of its levels, but not all. */
struct window {
	size_t first, end;
	size_t k; /* the present instruction of the recording */
};

static void window_update(void *data) {
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

/* Each of these functions makes berthd finish the stopped release. If a recount had already
 * finished the release, the function returns false. */
static bool finish_by_revoke_of_process(pid_t pid) {
	const char *output;

	if (ctl(&output, "revoke", "--pid", text_of("%d", (int)pid), NULL) != 0)
		return false;
	ck_assert_msg(!strstr(output, "revoked"), "%s", output);
	return strstr(output, "finished 1 release that its server had begun");
}

/* Revokes the other server's slot, too. So the other server then acquires a new slot. */
static bool finish_by_revoke_of_all(pid_t pid) {
	const char *output;

	(void)pid;
	if (ctl(&output, "revoke", "acme", "--all", NULL) != 0)
		return false;
	ck_assert_msg(strstr(output, "revoked 1 slot\n"), "%s", output);
	expect_code(BERTH_CONNECTION_ABORTED, berth_release(other, other_slot));
	expect_code(BERTH_SUCCESS, acquire_weight(other, "acme/bob/web", HELD_WEIGHT, &other_slot));
	return strstr(output, "finished 1 release that its server had begun");
}

static bool finish_by_recount(pid_t pid) {
	(void)pid;
	ck_assert_msg(eventually(release_is_finished, NULL), "no recount finishes the release; %s",
		instance_log(&here));
	return logged_times("Finished 1 releases") > 0;
}

static bool finish_by_new_berthd(pid_t pid) {
	(void)pid;
	restart_after(SIGKILL);
	/* The request makes the library connect to the new berthd. */
	(void)usage_of(other, "acme");
	return true;
}

static bool (*const finishers[])(pid_t pid) = {finish_by_revoke_of_process, finish_by_revoke_of_all,
	finish_by_recount, finish_by_new_berthd};

/* Stops a release at instruction k, and then calls `finish`. Returns false if a recount finished
 * the release first. */
static bool release_stopped(size_t k, bool (*finish)(pid_t pid), bool resume) {
	const struct run r = {&three_levels, k, STOPPED_AND_RESUMED, false};
	pid_t pid = child_start_stopped(&three_levels);
	bool reached = trace_child_goto(pid, &path, k), finished;

	ck_assert_msg(reached, "%s isn't reached", where(&r));
	audit(&r, "while stopped");
	finished = finish(pid);
	audit(&r, "when finished");
	ck_assert_msg(kill_unfinished(map) == 0, "%s: the release isn't finished", where(&r));
	expect_count(&r, "acme", HELD_WEIGHT);
	expect_count(&r, "acme/bob", HELD_WEIGHT);
	expect_count(&r, "acme/bob/web", HELD_WEIGHT);
	/* The thread's release returns 0, although berthd finished it. Then the thread exits. */
	if (resume)
		trace_child_finish(pid);
	else
		trace_child_kill(pid);
	judge(&r, pid);
	++*points;
	return finished;
}

START_TEST(a_stopped_release_is_finished_by_others) {
	struct window w = {0};
	const struct run recording = {.s = &three_levels};
	size_t step, finished = 0, looks = 0;

	/* A recount during the recording may finish the release early and so end the window. */
	path.look = window_update;
	path.data = &w;
	record(&recording);
	path.look = NULL;
	ck_assert_uint_gt(w.end, w.first);
	step = MAX_OF((w.end - w.first) / 8, 1u);
	for (size_t k = w.first; k < w.end; k += step, looks++)
		finished += release_stopped(k, finishers[_i], looks % 2);
	ck_assert_msg(finished > 0, "berthd finished none of %zu releases; %s", looks,
		instance_log(&here));
}
END_TEST

static void setup(void) {
	berth_slot slot;
	char why[512];

	trace_pin();
	random_init();
	here_start();
	set_limits("acme 50", "acme/bob 50", "acme/bob/web 50", "solo 50", "full 50", "full/leaf 1",
		"tight 1", "tight/leaf 50", "tight/other 50");
	other = open_session();
	expect_code(BERTH_SUCCESS, acquire_weight(other, "acme/bob/web", HELD_WEIGHT, &other_slot));
	expect_code(BERTH_SUCCESS, acquire_weight(other, "solo", HELD_WEIGHT, &slot));
	(void)acquire_slot(other, "full/leaf");
	(void)acquire_slot(other, "tight/other");
	map = kill_map(here.runtime_dir);
	admin = kill_connect(here.runtime_dir);
	ck_assert_msg(map && admin >= 0 && audit_counts(map, why), "the setup failed");
}

int main(void) {
	const struct test tests[] = {
		{counts_are_exact_when_a_server_dies_or_stops_at_any_instruction, 0,
			COUNT_OF(scenarios)},
		{a_stopped_release_is_finished_by_others, 0, COUNT_OF(finishers)},
		{NULL},
	};
	int status;

	points = shared_memory(sizeof(*points));
	status = run_suites(
		{"kill-client", tests, .setup = setup, .teardown = here_end, .seconds = 7200});
	printf("servers were killed or stopped at %lu points\n", *points);
	return status;
}
