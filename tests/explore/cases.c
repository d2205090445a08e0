/* SPDX-License-Identifier: MIT */

/* The scripts. Each shows a fault that was once in the counter, or in a design of it. "Victim" is
 * the party that is stopped; process 0 is A in traces, process 1 is B. */

#include "schedule.h"
#include "scripts.h"
#include "verdict.h"
#include "view.h"

/* A task has two parameters, of which it may need none. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* -- tasks ------------------------------------------------------------------------------------- */

/* The slot of each thread's last task_acquire(). */
static struct holding *held[PROCESSES][THREADS];

static void task_acquire(struct process *p, uint32_t name) {
	struct holding **h = &held[p->index][running->thread];

	*h = NULL;
	(void)thread_acquire(p, name, 1, h);
}

/* Releases the slot of the same thread's last task_acquire(). */
static void task_release(struct process *p, uint32_t name) {
	struct holding *h = held[p->index][running->thread];

	if (h)
		(void)thread_release(p, h);
	held[p->index][running->thread] = NULL;
}

/* Releases the slot that another thread of the process acquired. */
static void task_release_other(struct process *p, uint32_t thread) {
	struct holding *h = held[p->index][thread];

	if (h && h->used)
		(void)thread_release(p, h);
}

static void task_pair(struct process *p, uint32_t name) {
	struct holding *h;

	if (thread_acquire(p, name, 1, &h) == 0)
		(void)thread_release(p, h);
}

/* The thread ends. Its next task is that of a new thread. */
static void task_end(struct process *p, uint32_t unused) {
	seam_thread_end();
}

static void task_close(struct process *p, uint32_t unused) {
	process_close(p);
}

/* True if the thread's last task_acquire() got a slot. */
static bool task_held(uint32_t process, uint32_t thread) {
	return held[process][thread] != NULL;
}

/* Holds slots of MANY, so that `free` records of the first range are left. */
static void task_occupy(struct process *p, uint32_t free) {
	plan.free_records = free;
	process_occupy(p);
}

/* Makes so many pairs that the record's seqs leave all old tags far behind. */
static void task_many_pairs(struct process *p, uint32_t name) {
	for (uint32_t i = 0; i < 1u << MANY_PAIRS_BITS; i++)
		task_pair(p, name);
}

static void task_start(struct process *p, uint32_t unused) {
	daemon_start();
}

static void task_close_records(struct process *p, uint32_t process) {
	daemon_close_records(process);
}

static void task_serve(struct process *p, uint32_t unused) {
	while (daemon_serve())
		;
}

/* Revokes all slots but those of MANY. */
static void task_revoke(struct process *p, uint32_t unused) {
	for (uint32_t n = BERTH_RANGE; n < RECORDS; n++) {
		struct record_view r = view_record(n);

		if (view_stands(&r) && r.account != truth.account[MANY])
			(void)daemon_revoke(n);
	}
}

static void task_remove(struct process *p, uint32_t name) {
	(void)daemon_remove(name);
}

static void task_create(struct process *p, uint32_t name) {
	(void)daemon_create(name, 3);
}

static void task_fill(struct process *p, uint32_t name) {
	(void)daemon_limit(name, 1);
}

static void task_raise(struct process *p, uint32_t name) {
	(void)daemon_limit(name, 3);
}

/* -- scripts ----------------------------------------------------------------------------------- */

/* Two processes with two threads, and accounts of one and of two levels, all with a limit of 3. */
void script_prepare(uint32_t kept_records) {
	const struct plan plan_of_scripts = {
		.processes = 2,
		.threads = 2,
		.names = 1u << A | 1u << B | 1u << P | 1u << Q | 1u << P_X | 1u << P_Y | 1u << MANY,
		.limit = 1,
		.free_records = 1,
		.kept_records = kept_records,
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

/* If the script is played warm: makes a pair first, so that the thread knows the account and the
 * acquire that follows takes the fast path. */
static void warm_up(const struct stops *s, uint32_t process, uint32_t thread, uint32_t name) {
	if (s->warm)
		perform(process, thread, task_pair, name);
}

/* The parties that the script has stopped. */
static struct coroutine *victim, *other, *berthd;

/* Both processes use the account again, so that a damaged cell or record shows. */
static void use_again(uint32_t name) {
	for (int i = 0; i < 3; i++) {
		perform(0, 1, task_pair, name);
		perform(1, 0, task_pair, name);
	}
}

/* A thread reads the cell of p. Another thread leaves a tag of their only free record in that cell,
 * then makes many pairs elsewhere with the record. The first thread places the record on p, by what
 * it read before. */
static void stale_look(struct stops *s) {
	perform(0, 1, task_pair, P);
	perform(0, 1, task_end, 0);
	perform(1, 0, task_pair, P);
	warm_up(s, 0, 0, P);
	victim = begin_and_stop(s, 0, 0, task_acquire, P);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_many_pairs, A);
	perform(0, 1, task_end, 0);
	finish(victim);
	perform(0, 0, task_release, P);
	use_again(P);
}

/* The same, but the other thread uses the record on p. So the first thread's compare-and-swap
 * fails, and it mustn't go on with the seqs that it had chosen. */
static void stale_base(struct stops *s) {
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	perform(1, 0, task_pair, P);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, task_acquire, P_X);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	perform(1, 0, task_acquire, P);
	finish(victim);
	perform(1, 0, task_pair, P_X);
	perform(0, 0, task_release, P_X);
	perform(1, 0, task_release, P);
	use_again(P_X);
}

/* A thread has found the path of p/x. Then p/x is removed, and q/x gets its index. Another thread
 * leaves a tag of their record in q and makes many pairs with it. The first thread places the
 * record on the path that it found. */
static void stale_path(struct stops *s) {
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, task_acquire, P_X);
	perform(DAEMON, 0, task_remove, P_X);
	perform(DAEMON, 0, task_create, Q_X);
	perform(0, 1, task_pair, Q_X);
	perform(0, 1, task_many_pairs, A);
	perform(0, 1, task_end, 0);
	finish(victim);
	perform(0, 0, task_release, P_X);
	use_again(Q_X);
}

/* A release is stopped between its steps. The next berthd finishes it, and is stopped while it
 * does. The release goes on, and its record makes many pairs. */
static void finished_twice(struct stops *s) {
	perform(0, 0, task_acquire, P_X);
	victim = begin_and_stop(s, 0, 0, task_release, P_X);
	daemon_kill();
	berthd = begin_and_stop(s, DAEMON, 0, task_start, 0);
	finish(victim);
	perform(0, 0, task_many_pairs, P_X);
	perform(0, 0, task_acquire, P_X);
	finish(berthd);
	perform(0, 0, task_release, P_X);
	use_again(P_X);
}

/* A record rests on p/x, but its own words say that it holds a slot: only tags tell of its last
 * steps. p/x is removed, and q/x gets its index; the cells of that path have no such tags. The
 * record's session ends. */
static void rests_where_another_is(struct stops *s) {
	perform(0, 0, task_acquire, P_X);
	perform(1, 0, task_pair, P_X);
	victim = begin_and_stop(s, 0, 0, task_release, P_X);
	finish(victim);
	perform(DAEMON, 0, task_remove, P_X);
	perform(DAEMON, 0, task_create, Q_X);
	perform(1, 0, task_acquire, Q_X);
	process_kill(0);
	perform(DAEMON, 0, task_serve, 0);
	perform(1, 0, task_release, Q_X);
}

/* A slot is revoked while it is released, then its account is removed and perhaps another one gets
 * the index. The holder must be told that the slot was revoked. */
static void released_after_removal(struct stops *s) {
	perform(0, 0, task_acquire, P_X);
	victim = begin_and_stop(s, 0, 0, task_release, P_X);
	perform(DAEMON, 0, task_revoke, 0);
	perform(DAEMON, 0, task_remove, P_X);
	perform(DAEMON, 0, task_remove, P_Y);
	perform(DAEMON, 0, task_remove, P);
	finish(victim);
	perform(DAEMON, 0, task_create, P);
	use_again(P);
}

/* The same, but the release begins after all that. */
static void released_long_after(struct stops *s) {
	perform(0, 0, task_acquire, P_X);
	perform(DAEMON, 0, task_revoke, 0);
	perform(DAEMON, 0, task_remove, P_X);
	perform(DAEMON, 0, task_create, Q_X);
	victim = begin_and_stop(s, 0, 0, task_release, P_X);
	perform(1, 0, task_acquire, Q_X);
	finish(victim);
	perform(1, 0, task_release, Q_X);
	use_again(Q_X);
}

/* An acquire of p is refused after its record was placed on p. The next acquire finds the record on
 * p, but in the process's memory the record still belongs to the path of a. */
static void remembered_path(struct stops *s) {
	perform(DAEMON, 0, task_fill, P);
	perform(0, 0, task_pair, A);
	perform(1, 0, task_pair, P);
	warm_up(s, 0, 0, P);
	victim = begin_and_stop(s, 0, 0, task_acquire, P);
	perform(1, 0, task_acquire, P);
	finish(victim);
	perform(1, 0, task_release, P);
	perform(0, 0, task_release, P);
	perform(0, 0, task_acquire, P);
	perform(0, 0, task_release, P);
	use_again(P);
	use_again(A);
}

/* A thread's record for p returns to it from another thread, and gets a slot of p/x. Then p refuses
 * the thread, whose path cache still has that record for p. */
static void remembered_record(struct stops *s) {
	perform(0, 0, task_acquire, P);
	perform(0, 1, task_release_other, 0);
	perform(0, 1, task_end, 0);
	perform(0, 0, task_acquire, P_X);
	perform(DAEMON, 0, task_fill, P);
	perform(0, 0, task_pair, P);
	perform(0, 0, task_release, P_X);
	use_again(P_X);
}

/* As remembered_path(), but with two levels, of which the upper one is full. */
static void refused_above(struct stops *s) {
	perform(DAEMON, 0, task_fill, P);
	perform(0, 0, task_pair, P_Y);
	perform(1, 0, task_pair, P_X);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, task_acquire, P_X);
	perform(1, 0, task_acquire, P_Y);
	finish(victim);
	perform(1, 0, task_release, P_Y);
	perform(0, 0, task_release, P_X);
	perform(0, 0, task_acquire, P_X);
	perform(0, 0, task_release, P_X);
	use_again(P_X);
}

/* berthd is killed in the middle of a revocation. Others overwrite the tag of its first step. The
 * end of the session must finish the revocation. */
static void revoked_halfway(struct stops *s) {
	perform(0, 0, task_acquire, P_X);
	perform(1, 0, task_pair, P_X);
	berthd = begin_and_stop(s, DAEMON, 0, task_revoke, 0);
	perform(1, 0, task_pair, P);
	daemon_kill();
	process_kill(0);
	berthd = begin_and_stop(s, DAEMON, 0, task_start, 0);
	perform(1, 0, task_pair, P_Y);
	finish(berthd);
	perform(DAEMON, 0, task_serve, 0);
	perform(1, 0, task_pair, P_X);
}

/* The same, but the records are closed while the next berthd can't finish the revocation. */
static void revoked_halfway_and_closed(struct stops *s) {
	perform(1, 0, task_pair, P);
	perform(0, 0, task_acquire, P_X);
	berthd = begin_and_stop(s, DAEMON, 0, task_revoke, 0);
	daemon_kill();
	process_kill(0);
	berthd = begin_and_stop(s, DAEMON, 0, task_close_records, 0);
	perform(1, 0, task_pair, P);
	finish(berthd);
	perform(DAEMON, 0, task_start, 0);
	perform(DAEMON, 0, task_serve, 0);
	perform(1, 0, task_pair, P_X);
}

/* A slot is revoked while a thread acquires it; in the next script, while the thread releases
 * it. */
static void revoked_while_taking(struct stops *s) {
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, task_acquire, P_X);
	berthd = begin_and_stop(s, DAEMON, 0, task_revoke, 0);
	perform(1, 0, task_pair, P);
	finish(victim);
	finish(berthd);
	perform(0, 0, task_release, P_X);
	use_again(P_X);
}

static void revoked_while_giving_back(struct stops *s) {
	perform(0, 0, task_acquire, P_X);
	victim = begin_and_stop(s, 0, 0, task_release, P_X);
	berthd = begin_and_stop(s, DAEMON, 0, task_revoke, 0);
	perform(1, 0, task_pair, P);
	finish(victim);
	perform(0, 0, task_pair, P_X);
	finish(berthd);
	use_again(P_X);
}

/* A limit is lowered while a thread that has read the old one acquires a slot. */
static void limit_lowered(struct stops *s) {
	perform(1, 0, task_acquire, P_X);
	warm_up(s, 0, 0, P_Y);
	victim = begin_and_stop(s, 0, 0, task_acquire, P_Y);
	berthd = begin_and_stop(s, DAEMON, 0, task_fill, P);
	finish(berthd);
	finish(victim);
	perform(0, 0, task_release, P_Y);
	perform(1, 0, task_release, P_X);
	use_again(P_X);
}

/* An account is removed while a thread that has read its entry acquires a slot. */
static void removed_while_taking(struct stops *s) {
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, task_acquire, P_X);
	berthd = begin_and_stop(s, DAEMON, 0, task_remove, P_X);
	perform(1, 0, task_pair, P);
	finish(berthd);
	perform(DAEMON, 0, task_create, Q_X);
	finish(victim);
	perform(0, 0, task_release, P_X);
	use_again(Q_X);
}

/* A limit is set, and berthd is killed before it acknowledges that. The next berthd starts. */
static void limit_cut_short(struct stops *s) {
	perform(1, 0, task_acquire, P);
	warm_up(s, 0, 0, P);
	victim = begin_and_stop(s, 0, 0, task_acquire, P);
	berthd = begin_and_stop(s, DAEMON, 0, task_fill, P);
	daemon_kill();
	perform(DAEMON, 0, task_start, 0);
	finish(victim);
	perform(0, 0, task_release, P);
	perform(1, 0, task_release, P);
}

/* A handle is closed while a thread is inside an acquire; in the next script, inside a release.
 * Another process gets the records at once. */
static void closed_while_taking(struct stops *s) {
	perform(0, 1, task_pair, P_X);
	perform(0, 1, task_end, 0);
	warm_up(s, 0, 0, P_X);
	victim = begin_and_stop(s, 0, 0, task_acquire, P_X);
	perform(0, 1, task_close, 0);
	perform(DAEMON, 0, task_serve, 0);
	for (uint32_t i = 0; i < BERTH_RANGE; i++)
		perform(1, 0, task_acquire, MANY);
	perform(1, 1, task_acquire, P_X);
	finish(victim);
	perform(1, 0, task_pair, P);
	perform(0, 0, task_release, P_X);
	perform(1, 1, task_release, P_X);
	use_again(P_X);
}

static void closed_while_giving_back(struct stops *s) {
	perform(0, 0, task_acquire, P_X);
	victim = begin_and_stop(s, 0, 0, task_release, P_X);
	perform(0, 1, task_close, 0);
	perform(DAEMON, 0, task_serve, 0);
	perform(1, 1, task_acquire, P_X);
	finish(victim);
	perform(1, 0, task_pair, P);
	perform(1, 1, task_release, P_X);
	use_again(P_X);
}

/* Two threads release the same slot at the same time, while its record is placed on a longer
 * path. */
static void released_twice(struct stops *s) {
	perform(0, 0, task_acquire, A);
	victim = begin_and_stop(s, 0, 1, task_release_other, 0);
	perform(0, 0, task_release, A);
	other = begin_and_stop(s, 0, 0, task_acquire, P_X);
	finish(victim);
	finish(other);
	perform(0, 0, task_release, P_X);
	use_again(P_X);
}

/* Records with noise in their words are used like others. Records that have used up their seqs
 * aren't; a session that has only such records gets another range. */
static void noise_and_used_up(struct stops *s) {
	for (uint32_t n = 2 * BERTH_RANGE; n < RECORDS; n++)
		view_use_up(n, n % 2 == 0 ? UINT64_MAX : n % 4 == 1 ? 1 : 8);
	perform(1, 0, task_pair, P);
	for (uint32_t i = 0; i < 2 * BERTH_RANGE; i++)
		perform(1, 0, task_pair, i % 2 == 0 ? P : P_X);
	for (uint32_t i = 0; i < BERTH_RANGE / 2; i++)
		perform(1, 0, task_acquire, MANY);
	if (!task_held(1, 0))
		verdict_fault("none of 16 records can be used, though 8 have noise in them and the "
			      "others few seqs");
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
