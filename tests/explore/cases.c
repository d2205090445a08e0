/* SPDX-License-Identifier: MIT */

/* The faults that were found in the counter, or in designs of it, as scripts. */

#include "schedule.h"
#include "scripts.h"
#include "verdict.h"
#include "view.h"

/* Two processes, and accounts of one and of two levels. */
static void prepare(const struct stops *s) {
	const struct plan plan_of_scripts = {
		.processes = 2,
		.threads = 2,
		.names = 1u << A | 1u << B | 1u << P | 1u << Q | 1u << P_X | 1u << P_Y | 1u << MANY,
		.limit = 1,
		.free = 1,
		.kept = s->kept,
		.entries = NAMES,
		.one_range = true,
		.stall = 1,
	};

	chance_seed(1);
	run_prepare(&plan_of_scripts);
	process_start(0);
	process_start(1);
	for (uint32_t name = A; name <= P_Y; name++)
		perform(DAEMON, 0, task_raise, name);
	perform(0, 1, task_occupy, 1);
}

/* Everybody comes by once more. */
static void come_by(uint32_t name) {
	for (int i = 0; i < 3; i++) {
		perform(0, 1, task_pair, name);
		perform(1, 0, task_pair, name);
	}
}

/* A thread looks at p. A sibling leaves a tag of their only free record in p, and goes far with it
 * elsewhere. The thread places it on p by what it saw. */
static void stale_look(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(0, 1, task_pair, P);
	perform(0, 1, task_end, 0);
	perform(1, 0, task_pair, P);
	warm_up(s, 0, 0, P);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_go_far, A);
	perform(0, 1, task_end, 0);
	finish(victim);
	perform(0, 0, task_release, P);
	come_by(P);
}

/* The same, and the sibling uses the record on p meanwhile: the thread's first compare-and-swap fails, and
 * what it was going to write must not be used. */
static void stale_base(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	perform(1, 0, task_pair, P);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P_X);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	perform(1, 0, task_acquire, P);
	finish(victim);
	perform(1, 0, task_pair, P_X);
	perform(0, 0, task_release, P_X);
	perform(1, 0, task_release, P);
	come_by(P_X);
}

/* A thread has found the path of p/x, which is removed then; its index comes to be q/x. A sibling leaves a
 * tag in q, goes far, and the thread has the record stand where it found the path. */
static void stale_path(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P_X);
	perform(DAEMON, 0, task_remove, P_X);
	perform(DAEMON, 0, task_create, Q_X);
	perform(0, 1, task_pair, Q_X);
	perform(0, 1, task_go_far, A);
	perform(0, 1, task_end, 0);
	finish(victim);
	perform(0, 0, task_release, P_X);
	come_by(Q_X);
}

/* A release is stopped between its steps. The next berthd comes upon it, and is stopped while it finishes
 * it; the release goes on, and its record goes far. */
static void finished_twice(struct stops *s) {
	struct coroutine *victim, *berthd;

	prepare(s);
	perform(0, 0, task_acquire, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_release, P_X);
	daemon_kill();
	berthd = begin_and_stop(s, 1, DAEMON, 0, task_start, 0);
	finish(victim);
	perform(0, 0, task_go_far, P_X);
	perform(0, 0, task_acquire, P_X);
	finish(berthd);
	perform(0, 0, task_release, P_X);
	come_by(P_X);
}

/* A record rests on p/x, and says of itself that it holds a slot: its last steps are in tags only. The
 * index becomes q/x, where no tag tells of them. The record's session ends. */
static void rests_where_another_is(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(0, 0, task_acquire, P_X);
	perform(1, 0, task_pair, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_release, P_X);
	finish(victim);
	perform(DAEMON, 0, task_remove, P_X);
	perform(DAEMON, 0, task_create, Q_X);
	perform(1, 0, task_acquire, Q_X);
	process_kill(0);
	perform(DAEMON, 0, task_serve, 0);
	perform(1, 0, task_release, Q_X);
}

/* A slot is revoked, its account removed, and perhaps another made of the index, before or while it is
 * released: the holder must be told that it was revoked. */
static void released_after_removal(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(0, 0, task_acquire, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_release, P_X);
	perform(DAEMON, 0, task_revoke, 0);
	perform(DAEMON, 0, task_remove, P_X);
	perform(DAEMON, 0, task_remove, P_Y);
	perform(DAEMON, 0, task_remove, P);
	finish(victim);
	perform(DAEMON, 0, task_create, P);
	come_by(P);
}

/* The same where the release begins only then. */
static void released_long_after(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(0, 0, task_acquire, P_X);
	perform(DAEMON, 0, task_revoke, 0);
	perform(DAEMON, 0, task_remove, P_X);
	perform(DAEMON, 0, task_create, Q_X);
	victim = begin_and_stop(s, 0, 0, 0, task_release, P_X);
	perform(1, 0, task_acquire, Q_X);
	finish(victim);
	perform(1, 0, task_release, Q_X);
	come_by(Q_X);
}

/* An acquire of p is refused after its record was placed there. The next one finds the record on p, but
 * the process remembers the path of a. */
static void remembered_path(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(DAEMON, 0, task_fill, P);
	perform(0, 0, task_pair, A);
	perform(1, 0, task_pair, P);
	warm_up(s, 0, 0, P);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P);
	perform(1, 0, task_acquire, P);
	finish(victim);
	perform(1, 0, task_release, P);
	perform(0, 0, task_release, P);
	perform(0, 0, task_acquire, P);
	perform(0, 0, task_release, P);
	come_by(P);
	come_by(A);
}

/* A thread's record of p comes back from another thread, and takes a slot below p. Then the thread is
 * refused at p, where it still remembers that record. */
static void remembered_record(struct stops *s) {
	prepare(s);
	perform(0, 0, task_acquire, P);
	perform(0, 1, task_release_other, 0);
	perform(0, 1, task_end, 0);
	perform(0, 0, task_acquire, P_X);
	perform(DAEMON, 0, task_fill, P);
	perform(0, 0, task_pair, P);
	perform(0, 0, task_release, P_X);
	come_by(P_X);
}

/* As remembered_path() with two levels, where it is the upper one that is full. */
static void refused_above(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(DAEMON, 0, task_fill, P);
	perform(0, 0, task_pair, P_Y);
	perform(1, 0, task_pair, P_X);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P_X);
	perform(1, 0, task_acquire, P_Y);
	finish(victim);
	perform(1, 0, task_release, P_Y);
	perform(0, 0, task_release, P_X);
	perform(0, 0, task_acquire, P_X);
	perform(0, 0, task_release, P_X);
	come_by(P_X);
}

/* A revocation is cut short, others write over its tag at the top, and the session's end goes on with
 * it. */
static void revoked_halfway(struct stops *s) {
	struct coroutine *berthd;

	prepare(s);
	perform(0, 0, task_acquire, P_X);
	perform(1, 0, task_pair, P_X);
	berthd = begin_and_stop(s, 0, DAEMON, 0, task_revoke, 0);
	perform(1, 0, task_pair, P);
	berthd->alive = false;
	daemon_kill();
	process_kill(0);
	berthd = begin_and_stop(s, 1, DAEMON, 0, task_start, 0);
	perform(1, 0, task_pair, P_Y);
	finish(berthd);
	perform(DAEMON, 0, task_serve, 0);
	perform(1, 0, task_pair, P_X);
}

/* The same where the next berthd lacks the memory to finish it. */
static void revoked_halfway_and_closed(struct stops *s) {
	struct coroutine *berthd;

	prepare(s);
	perform(1, 0, task_pair, P);
	perform(0, 0, task_acquire, P_X);
	berthd = begin_and_stop(s, 0, DAEMON, 0, task_revoke, 0);
	berthd->alive = false;
	daemon_kill();
	process_kill(0);
	berthd = begin_and_stop(s, 1, DAEMON, 0, task_close_records, 0);
	perform(1, 0, task_pair, P);
	finish(berthd);
	perform(DAEMON, 0, task_start, 0);
	perform(DAEMON, 0, task_serve, 0);
	perform(1, 0, task_pair, P_X);
}

/* The same while a thread is taking the slot, or giving it back. */
static void revoked_while_taking(struct stops *s) {
	struct coroutine *victim, *berthd;

	prepare(s);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P_X);
	berthd = begin_and_stop(s, 1, DAEMON, 0, task_revoke, 0);
	perform(1, 0, task_pair, P);
	finish(victim);
	finish(berthd);
	perform(0, 0, task_release, P_X);
	come_by(P_X);
}

static void revoked_while_giving_back(struct stops *s) {
	struct coroutine *victim, *berthd;

	prepare(s);
	perform(0, 0, task_acquire, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_release, P_X);
	berthd = begin_and_stop(s, 1, DAEMON, 0, task_revoke, 0);
	perform(1, 0, task_pair, P);
	finish(victim);
	perform(0, 0, task_pair, P_X);
	finish(berthd);
	come_by(P_X);
}

/* A limit is lowered while a thread that has looked at the old one takes a slot. */
static void limit_lowered(struct stops *s) {
	struct coroutine *victim, *berthd;

	prepare(s);
	perform(1, 0, task_acquire, P_X);
	warm_up(s, 0, 0, P_Y);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P_Y);
	berthd = begin_and_stop(s, 1, DAEMON, 0, task_fill, P);
	finish(berthd);
	finish(victim);
	perform(0, 0, task_release, P_Y);
	perform(1, 0, task_release, P_X);
	come_by(P_X);
}

/* An account is removed while a thread that has looked at it takes a slot. */
static void removed_while_taking(struct stops *s) {
	struct coroutine *victim, *berthd;

	prepare(s);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P_X);
	berthd = begin_and_stop(s, 1, DAEMON, 0, task_remove, P_X);
	perform(1, 0, task_pair, P);
	finish(berthd);
	perform(DAEMON, 0, task_create, Q_X);
	finish(victim);
	perform(0, 0, task_release, P_X);
	come_by(Q_X);
}

/* A limit is set, and berthd dies between that and its acknowledgement; so does the next. */
static void limit_cut_short(struct stops *s) {
	struct coroutine *victim, *berthd;

	prepare(s);
	perform(1, 0, task_acquire, P);
	warm_up(s, 0, 0, P);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P);
	berthd = begin_and_stop(s, 1, DAEMON, 0, task_fill, P);
	berthd->alive = false;
	daemon_kill();
	perform(DAEMON, 0, task_start, 0);
	finish(victim);
	perform(0, 0, task_release, P);
	perform(1, 0, task_release, P);
}

/* A handle is closed while a thread is inside, and its records go to another process at once. */
static void closed_while_taking(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_acquire, P_X);
	perform(0, 1, task_close, 0);
	perform(DAEMON, 0, task_serve, 0);
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		perform(1, 0, task_acquire, MANY);
	perform(1, 1, task_acquire, P_X);
	finish(victim);
	perform(1, 0, task_pair, P);
	perform(0, 0, task_release, P_X);
	perform(1, 1, task_release, P_X);
	come_by(P_X);
}

static void closed_while_giving_back(struct stops *s) {
	struct coroutine *victim;

	prepare(s);
	perform(0, 0, task_acquire, P_X);
	victim = begin_and_stop(s, 0, 0, 0, task_release, P_X);
	perform(0, 1, task_close, 0);
	perform(DAEMON, 0, task_serve, 0);
	perform(1, 1, task_acquire, P_X);
	finish(victim);
	perform(1, 0, task_pair, P);
	perform(1, 1, task_release, P_X);
	come_by(P_X);
}

/* A slot is released twice, by two threads at once, while its record goes on to a longer path. */
static void released_twice(struct stops *s) {
	struct coroutine *first, *second;

	prepare(s);
	perform(0, 0, task_acquire, A);
	first = begin_and_stop(s, 0, 0, 1, task_release_other, 0);
	perform(0, 0, task_release, A);
	second = begin_and_stop(s, 1, 0, 0, task_acquire, P_X);
	finish(first);
	finish(second);
	perform(0, 0, task_release, P_X);
	come_by(P_X);
}

/* Records that are noise go to a session like others, and those that have used up their seqs don't; a
 * session without any is given another range. */
static void noise_and_used_up(struct stops *s) {
	prepare(s);
	for (uint32_t n = 2 * BERTH_RANGE; n < RECORDS; n++)
		view_use_up(n, n % 2 == 0 ? UINT64_MAX : n % 4 == 1 ? 1 : 8);
	perform(1, 0, task_pair, P);
	for (uint32_t i = 0; i < 2 * BERTH_RANGE; i++)
		perform(1, 0, task_pair, i % 2 == 0 ? P : P_X);
	for (uint32_t i = 0; i < BERTH_RANGE / 2; i++)
		perform(1, 0, task_acquire, MANY);
	if (!task_held(1, 0))
		verdict_fault("of 16 records, 8 of which are noise, none is left");
}

const struct script scripts[] = {
	{"stale-look", stale_look, 1, false},
	{"stale-path", stale_path, 1, false},
	{"finished-twice", finished_twice, 2, false},
	{"stale-base", stale_base, 1, false},
	{"rests-where-another-is", rests_where_another_is, 1, false},
	{"released-after-removal", released_after_removal, 1, false},
	{"released-long-after", released_long_after, 1, false},
	{"remembered-path", remembered_path, 1, false},
	{"remembered-record", remembered_record, 0, false},
	{"refused-above", refused_above, 1, false},
	{"revoked-halfway", revoked_halfway, 2, false},
	{"revoked-halfway-and-closed", revoked_halfway_and_closed, 2, false},
	{"revoked-while-taking", revoked_while_taking, 2, false},
	{"revoked-while-giving-back", revoked_while_giving_back, 2, false},
	{"limit-lowered", limit_lowered, 2, false},
	{"limit-cut-short", limit_cut_short, 2, false},
	{"removed-while-taking", removed_while_taking, 2, false},
	{"closed-while-taking", closed_while_taking, 1, false},
	{"closed-while-giving-back", closed_while_giving_back, 1, false},
	{"released-twice", released_twice, 2, true},
	{"noise-and-used-up", noise_and_used_up, 0, false},
};

const size_t scripts_end = ELEMENTS(scripts);
