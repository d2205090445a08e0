/* SPDX-License-Identifier: MIT */

/*
 * Tests deaths and stops at every instruction. A child is single-stepped through one operation of
 * the counter. After instruction k the child is killed, or it is stopped and later continued. If
 * the scenario has a race, the parent makes a second operation on the same record while the child
 * is stopped. In half of the runs the parent also acquires and releases slots of the same accounts,
 * and must not have to wait for the child. At each k, each count must be the sum of what the
 * records have charged. After the child's record is closed, each count must be what the other
 * records hold.
 *
 * To show that a stopped child doesn't slow other processes down, the test counts the instructions
 * of their acquires and releases. Beside a stopped child, an acquire and a release take at most an
 * eighth more instructions.
 *
 * If $STRIDE is n, only each n-th instruction is tried. If $SCENARIO is set, only the scenarios
 * whose names contain its value are tried. The child runs the object code of daemon and library in
 * a real segment. The first run of each scenario, the recording, checks the counts at every
 * instruction, whatever the stride is, and counts how often it sees the record in each state. At
 * the end, each kind of state must have been seen.
 */

#include <sys/mman.h>

#include "audit.h"
#include "ptrace.h"
#include "counter-fast.h"
#include "fixture.h"
#include "run.h"

#define R_CHILD 16u
#define R_OTHER 17u
#define R_FULL  18u
/* These records hold slots all the time, with a greater weight than the child's slot. If a level is
 * discharged once too often, part of this weight is missing from the count. */
#define R_LEAF 19u
#define R_TREE 20u
#define R_DEEP 21u
#define HELD   4u
#define LIMIT  12u
#define ROUNDS 20

/* The results of all tests, in shared memory, since each test runs in a process of its own. */
struct totals {
	unsigned long points;
	/* How often the child's record was seen in each state. The first index is the depth, and
	 * the last one tells whether the newest step is noted. The middle index of `placed` is the
	 * number of steps made in the cycle; if it is twice the depth, the record rests again. The
	 * middle index of `seized` is the number of charged levels. */
	unsigned long placed[BERTH_LEVELS_MAX + 1][2 * BERTH_LEVELS_MAX + 1][2];
	unsigned long seized[BERTH_LEVELS_MAX + 1][BERTH_LEVELS_MAX + 1][2];
	unsigned long state[8];
	int outcome; /* the result of the child's operation */
};

static struct path leaf, next, tree, bob, deep;
static const struct stamp stamp = {.since = 1};
static struct totals *all;
static size_t undisturbed; /* instructions of an acquire and a release without a stopped child */
static uint64_t slot;      /* the seq of the child's slot */

static uint64_t noted(void) {
	return words_of(R_CHILD).seq;
}

static uint32_t count(const struct path *p, uint32_t level) {
	return counter_count(f.map, p->level[level].account);
}

static int release(uint32_t record) {
	return counter_release(f.map, record, newest_of(record).seq);
}

/* -- the child's operation --------------------------------------------------------------------- */

struct scenario {
	const char *name;
	const struct path *path;
	uint32_t weight;
	void (*before)(const struct scenario *s); /* run by the parent first */
	int (*act)(const struct scenario *s);     /* run by the child, single-stepped */
	int (*race)(const struct scenario *s); /* run by the parent during the stop; may be NULL */
	uint32_t full;                         /* if not 0: level full - 1 refuses the child */
	bool noted; /* if true, the newest step is noted after `before` */
};

static void not_placed(const struct scenario *s) {
	(void)s;
}

static void held(const struct scenario *s) {
	slot = record_hold(R_CHILD, s->path, s->weight);
}

/* The record rests at the scenario's path, as it nearly always does in use. */
static void at_rest(const struct scenario *s) {
	held(s);
	record_release(R_CHILD, slot);
}

/* The record rests at another path. */
static void elsewhere(const struct scenario *s) {
	record_use(R_CHILD, s->path == &leaf ? &tree : &leaf, s->weight);
}

/* The record rests at another account without ancestors. */
static void at_next(const struct scenario *s) {
	record_use(R_CHILD, &next, s->weight);
}

/* The record's range isn't granted to a session. */
static void not_granted(const struct scenario *s) {
	at_rest(s);
	ck_assert_int_eq(counter_close(f.map, R_CHILD), 0);
}

/* Returns the base of a cycle that is later than all cycles that the record has used. */
static uint64_t next_base(void) {
	return seq_rest(newest_of(R_CHILD).seq) + (uint64_t)2 * BERTH_CYCLE;
}

/* Writes a step of the child's record into the cell, and notes the tag that it overwrites. */
static void tag_write(const struct scenario *s, uint32_t level, uint64_t seq, uint32_t weight) {
	struct cell *cell = s->path->level[level].cell;
	struct pair seen = cell_load(cell);
	uint64_t with = seen.first + ((uint64_t)weight << BERTH_COUNT_SHIFT);

	ck_assert_int_eq(counter_note(f.map, seen.second), 0);
	ck_assert(cas16(&cell->count, seen, (struct pair){with, tag_pack(R_CHILD, seq)}));
}

static uint64_t place_of(const struct scenario *s, enum record_state state) {
	return place_pack(state, s->path->depth - 1, s->weight, s->path->level[0].account);
}

/* Leaves the record as if its owner or berthd had stopped after this number of steps of the cycle.
 * No step is noted. The seqs of the steps that discharge a level are higher by `offset`. */
static void leave_half_done(
	const struct scenario *s, enum record_state state, uint32_t steps, uint64_t offset) {
	uint64_t base = next_base();
	uint32_t depth = s->path->depth;

	words_write(R_CHILD, (struct snapshot){place_of(s, state), base});
	for (uint32_t k = 0; k < depth; k++) {
		if (steps >= 2 * depth - k)
			tag_write(s, k, seq_down(base + offset, k), 0);
		else if (steps >= k + 1)
			tag_write(s, k, seq_up(base, k), s->weight);
	}
	slot = seq_up(base, depth - 1);
}

/* Defines a function that calls leave_half_done() before the child runs. */
#define HALF_DONE(name, state, steps, offset)                 \
	static void name(const struct scenario *s) {          \
		leave_half_done(s, state, (steps), (offset)); \
	}

HALF_DONE(charged, RECORD_PLACED, 2, 0)
HALF_DONE(charged_one, RECORD_PLACED, 1, 0)
/* A release (half_released) or a revocation (half_revoked) has discharged the top level. */
HALF_DONE(half_released, RECORD_PLACED, s->path->depth + 1, 0)
HALF_DONE(half_revoked, RECORD_PLACED, s->path->depth + 1, BERTH_CYCLE)
/* The record is seized (V1) while it holds a slot. */
HALF_DONE(seized, RECORD_SEIZED, s->path->depth, 0)

/* The record is seized, the step that took its slot is noted, and the top level is discharged. */
static void half_seized(const struct scenario *s) {
	leave_half_done(s, RECORD_SEIZED, s->path->depth + 1, 0);
	words_write(R_CHILD, (struct snapshot){place_of(s, RECORD_SEIZED), slot});
}

/* Writes this place into the record. Writes tags of an older cycle of the record into the cells. By
 * these tags alone, the levels would seem to be charged. */
static void leave_old_tags(const struct scenario *s, uint64_t place) {
	uint64_t base = next_base();

	words_write(R_CHILD, (struct snapshot){place, base + (uint64_t)2 * BERTH_CYCLE});
	for (uint32_t k = 0; k < s->path->depth; k++)
		tag_write(s, k, seq_up(base, k), 0);
}

static void old_tags(const struct scenario *s) {
	leave_old_tags(s, place_pack(RECORD_FREE, 0, 0, 0));
}

/* The record is placed at another path, which shares cells with the scenario's path, but has made
 * no step on it. */
static void old_tags_elsewhere(const struct scenario *s) {
	const struct scenario there = {.path = &tree, .weight = s->weight};

	leave_old_tags(s, place_of(&there, RECORD_PLACED));
}

/* The record rests at a removed account, and its last step there is noted. The account's index is
 * used again below other parents, whose cells have only old tags of the record. */
static void index_used_again(const struct scenario *s) {
	leave_old_tags(s, place_of(s, RECORD_PLACED));
}

/* The record rests, and has made a million cycles since a step was noted in it. */
static void far_away(const struct scenario *s) {
	uint64_t base = next_base(), far = base + ((uint64_t)BERTH_CYCLE << 20);

	words_write(R_CHILD, (struct snapshot){place_of(s, RECORD_PLACED), base});
	for (uint32_t k = 0; k < s->path->depth; k++)
		tag_write(s, k, seq_down(far, k), 0);
}

/* Defines an operation that is the same in every scenario. */
#define ACT(name, call)                             \
	static int name(const struct scenario *s) { \
		(void)s;                            \
		return call;                        \
	}

ACT(act_release, counter_release(f.map, R_CHILD, slot))
ACT(act_close, counter_close(f.map, R_CHILD))
ACT(act_finish_seized, counter_finish_seized(f.map, R_CHILD))
ACT(act_finish, counter_finish(f.map, R_CHILD))
ACT(act_open, counter_open(f.map, R_CHILD))

static int act_acquire(const struct scenario *s) {
	return record_try(R_CHILD, s->path, s->weight);
}

/* Acquires as the library does: expects the cells to be as counter_check() read them. */
static int act_acquire_fast(const struct scenario *s) {
	const struct record_at at = {map_record(f.map, R_CHILD), R_CHILD};
	struct slot_request request = {.path = s->path, .weight = s->weight, .stamp = stamp};
	uint64_t seq;
	int r = counter_check(f.map, s->path, s->weight, request.seen);

	return r == 0 ? counter_acquire(f.map, at, &request, &seq) : r;
}

static int act_release_fast(const struct scenario *s) {
	const struct record_at at = {map_record(f.map, R_CHILD), R_CHILD};
	uint32_t given = counter_release_fast(f.map, at, s->path, slot);

	if (given == s->path->depth)
		return 0;
	return given > 0 ? counter_release_continue(f.map, at, s->path, given, slot)
			 : counter_release(f.map, R_CHILD, slot);
}

static int act_acquire_release(const struct scenario *s) {
	int r = record_try(R_CHILD, s->path, s->weight);

	return r == 0 ? release(R_CHILD) : r;
}

/* The owner acquires and releases a slot at another path. */
static int act_elsewhere(const struct scenario *s) {
	const struct scenario elsewhere = {.path = s->path == &leaf ? &tree : &leaf, .weight = 1};

	return act_acquire_release(&elsewhere);
}

/* The owner goes on: it releases the slot, and acquires and releases slots here and at another
 * path. */
static int act_go_on(const struct scenario *s) {
	(void)act_release(s);
	(void)act_acquire_release(s);
	return act_elsewhere(s);
}

/* Revokes as berthd does for berthctl. Succeeds if a slot is held or being acquired. If a release
 * was begun, finishes it, but doesn't succeed. */
static int act_revoke(const struct scenario *s) {
	struct snapshot seen = newest_of(R_CHILD);

	(void)s;
	if (place_state(seen.place) != RECORD_PLACED || seq_step(seen.seq) == 0)
		return -EAGAIN;
	if (seq_goes_down(seen.seq))
		return counter_finish(f.map, R_CHILD) < 0 ? -EUCLEAN : -EAGAIN;
	return counter_revoke(f.map, R_CHILD, seen);
}

/* Acts as an owner that lacks the memory to go on. */
static int act_seize(const struct scenario *s) {
	(void)s;
	counter_seize(f.map, R_CHILD);
	return 0;
}

/* Discards the record, as a recount does that takes the record's words for noise. */
static int act_discard(const struct scenario *s) {
	struct snapshot seen = newest_of(R_CHILD);

	(void)s;
	return place_state(seen.place) == RECORD_FREE ? counter_discard(f.map, R_CHILD, seen)
						      : -EAGAIN;
}

/* Repairs each cell, but with the count that it has already. Fails if a cell changes meanwhile. */
static int act_repair(const struct scenario *s) {
	int r = 0;

	for (uint32_t k = 0; k < s->path->depth && r == 0; k++) {
		struct pair seen = cell_load(s->path->level[k].cell);

		r = counter_repair(f.map, s->path->level[k].account, seen, count_of(seen.first));
	}
	return r;
}

/* Changes the account's cell as a removal does after it has raised the generation. */
static int act_removal(const struct scenario *s) {
	int r = counter_bump(f.map, s->path->level[0].account);

	return r == 0 ? counter_note_cell(f.map, s->path->level[0].account) : r;
}

/* Finishes the release that was begun, as its owner may also do. Then acquires the owner's next
 * slot. */
static int act_finish_and_hold(const struct scenario *s) {
	(void)act_finish(s);
	return record_try(R_CHILD, s->path, s->weight);
}

static int act_bump(const struct scenario *s) {
	int r = 0;

	for (uint32_t k = 0; k < s->path->depth && r == 0; k++)
		r = counter_bump(f.map, s->path->level[k].account);
	return r;
}

/* Another process acquires and releases a slot. */
static int act_other(const struct scenario *s) {
	int r = record_try(R_OTHER, s->path, 1);

	return r == 0 ? release(R_OTHER) : r;
}

static const struct scenario scenarios[] = {
	{"fast acquire", &leaf, 1, at_rest, act_acquire_fast},
	{"fast acquire, placed first", &leaf, 1, not_placed, act_acquire_fast},
	{"fast acquire, placed from a neighbour", &leaf, 2, at_next, act_acquire_fast},
	{"fast acquire, placed from elsewhere", &leaf, 1, elsewhere, act_acquire_fast},
	{"fast acquire, denied", &leaf, 2, at_rest, act_acquire_fast, .full = 1},
	{"fast acquire, three levels", &tree, 2, at_rest, act_acquire_fast},
	{"fast acquire, denied at the third level", &tree, 2, at_rest, act_acquire_fast, .full = 3},
	{"fast release", &leaf, 2, held, act_release_fast},
	{"fast release, three levels", &tree, 2, held, act_release_fast},
	{"acquire, one level", &leaf, 1, at_rest, act_acquire},
	{"acquire, one level, placed first", &leaf, 1, not_placed, act_acquire},
	{"acquire, one level, placed from elsewhere", &leaf, 1, elsewhere, act_acquire},
	{"acquire, three levels, weight 3", &tree, 3, at_rest, act_acquire},
	{"acquire, three levels, weight 3, placed from elsewhere", &tree, 3, elsewhere,
		act_acquire},
	{"acquire, denied at the account", &tree, 2, at_rest, act_acquire, .full = 1},
	{"acquire, denied at the second level", &tree, 2, at_rest, act_acquire, .full = 2},
	{"acquire, denied at the third level", &tree, 2, not_placed, act_acquire, .full = 3},
	{"acquire among old tags", &tree, 2, old_tags, act_acquire},
	{"acquire among old tags, denied at the third level", &tree, 2, old_tags, act_acquire,
		.full = 3},
	{"acquire far from the noted step", &tree, 2, far_away, act_acquire},
	{"release, one level", &leaf, 1, held, act_release},
	{"release, three levels, weight 3", &tree, 3, held, act_release},
	{"acquire and release", &tree, 1, at_rest, act_acquire_release},
	{"acquire and release, eight levels", &deep, 1, at_rest, act_acquire_release},
	{"revoke of a slot, one level", &leaf, 2, held, act_revoke},
	{"revoke of a slot", &tree, 2, held, act_revoke},
	{"revoke of an acquire", &tree, 2, charged, act_revoke},
	{"end of a session at rest", &tree, 2, at_rest, act_close},
	{"end of a session with a slot", &tree, 2, held, act_close},
	{"end of a session in an acquire", &tree, 2, charged, act_close},
	{"end of a session in a release", &tree, 2, half_released, act_close},
	{"end of a session with a slot, eight levels", &deep, 2, held, act_close},
	{"finishing a seized record", &tree, 2, seized, act_finish_seized},
	{"finishing a release", &tree, 2, half_released, act_finish},
	{"finishing a release racing its owner, which acquires another slot", &tree, 2,
		half_released, act_finish, act_finish_and_hold},
	{"finishing a seized record before V2", &tree, 2, seized, act_finish},
	{"finishing a seized record amid V2", &tree, 2, half_seized, act_finish},
	{"bump", &tree, 2, charged, act_bump},
	{"fast acquire racing a revoke", &leaf, 3, at_rest, act_acquire_fast, act_revoke},
	{"fast acquire racing a bump", &leaf, 3, at_rest, act_acquire_fast, act_bump},
	{"fast acquire racing another record", &leaf, 3, at_rest, act_acquire_fast, act_other},
	{"fast acquire racing the end of its session", &leaf, 3, at_rest, act_acquire_fast,
		act_close},
	{"fast acquire from a neighbour, racing a bump", &leaf, 3, at_next, act_acquire_fast,
		act_bump},
	{"fast acquire from a neighbour, racing another record", &leaf, 3, at_next,
		act_acquire_fast, act_other},
	{"fast acquire from a neighbour, racing the end of its session", &leaf, 3, at_next,
		act_acquire_fast, act_close},
	{"fast acquire, three levels, racing another record", &tree, 3, at_rest, act_acquire_fast,
		act_other},
	{"fast acquire, three levels, racing a revoke", &tree, 3, at_rest, act_acquire_fast,
		act_revoke},
	{"fast release racing a revoke", &leaf, 3, held, act_release_fast, act_revoke},
	{"fast release, three levels, racing a revoke", &tree, 3, held, act_release_fast,
		act_revoke},
	{"fast release, three levels, racing a general one", &tree, 3, held, act_release_fast,
		act_release},
	{"fast release, three levels, racing another record", &tree, 3, held, act_release_fast,
		act_other},
	{"fast release, three levels, racing a new berthd", &tree, 3, held, act_release_fast,
		act_finish},
	{"fast release, three levels, racing the end of its session", &tree, 3, held,
		act_release_fast, act_close},
	{"fast release racing a general one", &leaf, 3, held, act_release_fast, act_release},
	{"general release racing a fast one", &leaf, 3, held, act_release, act_release_fast},
	{"fast release racing another record", &leaf, 3, held, act_release_fast, act_other},
	{"acquire racing a revoke", &tree, 3, at_rest, act_acquire, act_revoke},
	{"acquire, one level, racing a revoke", &leaf, 3, at_rest, act_acquire, act_revoke},
	{"acquire racing a bump", &tree, 3, at_rest, act_acquire, act_bump},
	{"acquire racing a bump, placed from elsewhere", &tree, 3, elsewhere, act_acquire,
		act_bump},
	{"acquire racing a new berthd", &tree, 3, at_rest, act_acquire, act_finish},
	{"acquire racing the end of its session", &tree, 3, elsewhere, act_acquire, act_close},
	{"acquire among old tags, racing a bump", &tree, 2, old_tags, act_acquire, act_bump},
	{"acquire among old tags, racing a revoke", &tree, 2, old_tags, act_acquire, act_revoke},
	{"acquire among old tags, from a path that shares a cell, racing a bump", &bob, 2,
		old_tags_elsewhere, act_acquire, act_bump},
	{"acquire far from the noted step, racing a bump", &tree, 2, far_away, act_acquire,
		act_bump},
	{"release racing a revoke", &tree, 3, held, act_release, act_revoke},
	{"release, one level, racing a revoke", &leaf, 3, held, act_release, act_revoke},
	{"release racing another", &tree, 3, held, act_release, act_release},
	{"release, one level, racing another", &leaf, 3, held, act_release, act_release},
	{"release racing the end of its session", &tree, 3, held, act_release, act_close},
	{"release racing a new berthd", &tree, 3, held, act_release, act_finish},
	{"release racing a bump", &tree, 3, held, act_release, act_bump},
	{"revoke racing a release", &tree, 3, held, act_revoke, act_release},
	{"revoke, one level, racing a release", &leaf, 3, held, act_revoke, act_release},
	{"revoke racing another", &tree, 3, held, act_revoke, act_revoke},
	{"revoke racing its owner, which goes on", &tree, 3, held, act_revoke, act_go_on},
	{"bump racing its owner, which goes on", &tree, 3, held, act_bump, act_go_on},
	{"bump, one level, racing its owner, which goes on", &leaf, 3, held, act_bump, act_go_on},
	{"bump racing its owner, which places it among old tags", &tree, 2, old_tags, act_bump,
		act_acquire},
	{"bump racing another", &tree, 2, charged, act_bump, act_bump},
	{"bump racing a new berthd", &tree, 2, half_seized, act_bump, act_finish},
	{"fast acquire, eight levels", &deep, 1, at_rest, act_acquire_fast},
	{"fast release, eight levels", &deep, 1, held, act_release_fast},
	{"fast acquire, three levels, racing a bump", &tree, 3, at_rest, act_acquire_fast,
		act_bump},
	{"fast acquire, three levels, racing the end of its session", &tree, 3, at_rest,
		act_acquire_fast, act_close},
	{"fast acquire far from the noted step, racing another record", &tree, 2, far_away,
		act_acquire_fast, act_other},
	{"fast release, three levels, of a slot that was noted", &tree, 2, held, act_release_fast,
		.noted = true},
	{"fast release, three levels, racing a bump", &tree, 3, held, act_release_fast, act_bump},
	{"acquire where an index is used again", &tree, 2, index_used_again, act_acquire},
	{"acquire where an index is used again, racing a bump", &tree, 2, index_used_again,
		act_acquire, act_bump},
	{"end of a session where an index is used again", &tree, 2, index_used_again, act_close},
	{"revoke of a slot that was noted", &tree, 2, held, act_revoke, .noted = true},
	{"revoke of a slot, eight levels", &deep, 2, held, act_revoke},
	{"revoke of an acquire that was noted", &tree, 2, charged, act_revoke, .noted = true},
	{"revoke of an acquire after one level", &tree, 2, charged_one, act_revoke},
	{"revoke that finishes a release", &tree, 2, half_released, act_revoke},
	{"revoke that finishes a release that was noted", &tree, 2, half_released, act_revoke,
		.noted = true},
	{"revoke of a slot, racing another record", &tree, 2, held, act_revoke, act_other},
	{"revoke of an acquire racing its owner, which goes on", &tree, 2, charged, act_revoke,
		act_go_on},
	{"end of a session with a slot that was noted", &tree, 2, held, act_close, .noted = true},
	{"end of a session in an acquire after one level", &tree, 2, charged_one, act_close},
	{"end of a session in a revocation", &tree, 2, half_revoked, act_close},
	{"end of a session in a revocation that was noted", &tree, 2, half_revoked, act_close,
		.noted = true},
	{"end of a session racing its owner, which goes on", &tree, 2, held, act_close, act_go_on},
	{"finishing a release, eight levels", &deep, 2, half_released, act_finish},
	{"finishing a release that was noted", &tree, 2, half_released, act_finish, .noted = true},
	{"finishing a revocation", &tree, 2, half_revoked, act_finish},
	{"finishing a revocation racing its owner, which goes on", &tree, 2, half_revoked,
		act_finish, act_go_on},
	{"finishing a release racing the end of its session", &tree, 2, half_released, act_finish,
		act_close},
	{"opening", &tree, 2, not_granted, act_open},
	{"opening racing another", &tree, 2, not_granted, act_open, act_open},
	{"opening racing its owner", &tree, 2, not_granted, act_open, act_acquire_release},
	{"seizure by the owner", &tree, 2, held, act_seize},
	{"seizure by the owner racing a revoke", &tree, 2, held, act_seize, act_revoke},
	{"discarding", &tree, 2, not_placed, act_discard},
	{"discarding racing its owner", &tree, 2, not_placed, act_discard, act_acquire_release},
	{"repair", &tree, 2, charged, act_repair},
	{"repair racing a release", &tree, 2, held, act_repair, act_release},
	{"repair racing its owner, which goes on", &tree, 2, held, act_repair, act_go_on},
	{"repair racing another", &tree, 2, charged, act_repair, act_repair},
	{"removal of an account where it rests", &tree, 2, at_rest, act_removal},
	{"removal of an account where it rests, racing another record", &tree, 2, at_rest,
		act_removal, act_other},
	{"removal of an account racing its owner, which places it elsewhere", &tree, 2, at_rest,
		act_removal, act_elsewhere},
};

/* True if the child acts as the record's owner; otherwise it acts as berthd. */
static bool is_by_owner(const struct scenario *s) {
	return s->act == act_acquire || s->act == act_acquire_fast || s->act == act_release ||
	       s->act == act_release_fast || s->act == act_acquire_release;
}

/* -- stepping ---------------------------------------------------------------------------------- */

static pid_t child_start(const struct scenario *s) {
	pid_t pid = fork();

	if (pid == 0) {
		trace_child_begin();
		all->outcome = s->act(s);
		trace_child_end(0);
	}
	ck_assert_int_gt(pid, 0);
	trace_child_wait(pid);
	return pid;
}

/* -- one run ----------------------------------------------------------------------------------- */

enum ending { KILLED, STOPPED_AND_CONTINUED, STOPPED_AND_KILLED, ENDINGS };

struct run {
	const struct scenario *s;
	size_t k;
	enum ending ending;
	bool busy;
};

/* If s->full isn't 0, makes level s->full - 1 and the levels above it nearly full. Their limit is
 * 12. The slots that are always held leave 8, and R_FULL takes 7 of these. So the child's weight of
 * 2 is refused, but R_OTHER's weight of 1 is admitted. */
static void fill(const struct scenario *s) {
	struct path up = {.depth = s->path->depth + 1 - s->full};

	if (s->full == 0)
		return;
	memcpy(up.level, &s->path->level[s->full - 1], up.depth * sizeof(up.level[0]));
	ck_assert_int_eq(counter_open(f.map, R_FULL), 0);
	(void)record_hold(R_FULL, &up, 7);
}

static uint32_t held_by_others(const struct scenario *s, uint32_t level) {
	return s->full > 0 && level + 1 >= s->full ? 7 + HELD : HELD;
}

/* Acquires and releases slots with another record, without waiting for the child. If the child has
 * charged the full level, an acquire may be denied. */
static void run_other(const struct run *r) {
	for (int i = 0; i < ROUNDS; i++) {
		int denied = record_try(R_OTHER, r->s->path, 1);

		ck_assert_msg(denied == 0 || denied == -EDQUOT,
			"%s, at instruction %zu: acquire returned %d", r->s->name, r->k, denied);
		if (denied == 0)
			ck_assert_int_eq(release(R_OTHER), 0);
	}
}

/* Counts the instructions of another process that acquires and releases a slot and exits. */
static size_t count_instructions_of_other(const struct scenario *s) {
	const struct scenario other = {.path = s->path, .act = act_other};
	struct trace_path path = {0};
	size_t count;

	trace_child_record(child_start(&other), &path);
	count = path.count;
	trace_path_free(&path);
	return count;
}

/* Returns what other processes can see of the child: the state of its record, the newest step, the
 * noted step, and which cells have a tag of the record. */
static uint32_t child_seen(const struct scenario *s) {
	struct snapshot newest = newest_of(R_CHILD);
	uint32_t seen = (uint32_t)place_state(newest.place) << 8 | seq_step(newest.seq) << 4 |
			seq_step(noted());

	for (uint32_t k = 0; k < s->path->depth; k++)
		seen = seen << 1 |
		       (tag_record(load_total(&s->path->level[k].cell->tag)) == R_CHILD);
	return seen;
}

static void audit(const struct run *r) {
	char why[512];

	ck_assert_msg(audit_counts(f.map, why), "%s, at instruction %zu (%d, %s): %s", r->s->name,
		r->k, r->ending, r->busy ? "busy" : "quiet", why);
}

/* Runs at each instruction of a recording. Checks the counts, and adds the state to the totals. */
static void check_instruction(void *data) {
	struct snapshot newest = newest_of(R_CHILD);
	uint32_t depth = place_top(newest.place) + 1;
	bool is_noted = newest.seq == noted();
	/* The number of the step in its cycle, from 1 to 2 * depth. */
	uint32_t step = seq_goes_down(newest.seq) ? 2 * depth - seq_charged(newest.seq)
						  : seq_step(newest.seq);
	const struct run *r = data;

	all->state[place_state(newest.place)]++;
	if (place_state(newest.place) == RECORD_PLACED)
		all->placed[depth][step == 0 && !is_noted ? 2 * depth : step][is_noted]++;
	else if (place_state(newest.place) == RECORD_SEIZED)
		all->seized[depth][seq_charged(newest.seq)][is_noted]++;
	audit(r);
}

/* Checks that an acquire and a release beside the stopped child take at most a few more branches.
 * They need no retry, since earlier acquires have noted the child's tags. If other processes see
 * the same of the child as in the last call, this function measures nothing. */
static void check_speed(const struct run *r, uint32_t seen) {
	static uint32_t last = UINT32_MAX;
	size_t n;

	if (seen == last)
		return;
	last = seen;
	n = count_instructions_of_other(r->s);

	ck_assert_msg(n <= undisturbed + undisturbed / 8,
		"%s, stopped at instruction %zu: another record's acquire and release take %zu "
		"instructions, %zu without the child",
		r->s->name, r->k, n, undisturbed);
}

/* Checks that every count is what the other records hold, plus the child's slot if it is held. */
static void check_counts(const struct run *r, const char *when) {
	const struct scenario *s = r->s;
	uint32_t mine = snapshot_is_held(newest_of(R_CHILD)) ? s->weight : 0;

	for (uint32_t level = 0; level < s->path->depth; level++)
		ck_assert_msg(count(s->path, level) == held_by_others(s, level) + mine,
			"%s, killed or stopped at instruction %zu (%d, %s), %s: level %u counts "
			"%u, not %u",
			s->name, r->k, r->ending, r->busy ? "busy" : "quiet", when, level,
			count(s->path, level), held_by_others(s, level) + mine);
}

/* The instructions of the scenario's child, as the recording found them. */
static struct trace_path path;
#define RECORDING SIZE_MAX /* the k of the run that records */

static bool is_release(int (*operation)(const struct scenario *s)) {
	return operation == act_release || operation == act_release_fast;
}

/* True if child and parent both release the slot, or one releases it and the other revokes it.
 * Exactly one of the two operations must succeed. */
static bool one_succeeds(const struct scenario *s) {
	return (is_release(s->act) && (is_release(s->race) || s->race == act_revoke)) ||
	       (s->act == act_revoke && is_release(s->race));
}

/* Checks that a revocation or a new berthd leaves no release half done, wherever the owner
 * stops. */
static void check_raced(const struct run *r) {
	struct snapshot now = newest_of(R_CHILD);

	if (r->s->race != act_revoke && r->s->race != act_finish)
		return;
	ck_assert_msg(place_state(now.place) != RECORD_PLACED || !seq_goes_down(now.seq),
		"%s, at instruction %zu: a release is left halfway", r->s->name, r->k);
	if (one_succeeds(r->s))
		ck_assert_msg(seq_charged(now.seq) == 0,
			"%s, at instruction %zu: %u levels are still charged after the revocation",
			r->s->name, r->k, seq_charged(now.seq));
}

/* Checks the results after the child has gone on to its end. */
static void check_continued(const struct run *r, int raced) {
	const struct scenario *s = r->s;
	struct snapshot now = newest_of(R_CHILD);

	if (one_succeeds(s))
		ck_assert_msg((raced == 0) + (all->outcome == 0) == 1,
			"%s, stopped at instruction %zu: the child got %d, the race %d", s->name,
			r->k, all->outcome, raced);
	/* When an account is removed, the newest steps of the records that rest there must be
	 * noted, since the tags are lost. */
	if (s->act == act_removal && place_account(now.place) == s->path->level[0].account)
		ck_assert_msg(now.seq == noted(), "%s, at instruction %zu: %#llx isn't noted",
			s->name, r->k, (unsigned long long)now.seq);
	if (is_by_owner(s))
		check_counts(r, "after it went on");
}

/* Opens the record, runs `before`, and fills the full level. */
static void run_begin(const struct scenario *s) {
	ck_assert_int_eq(counter_open(f.map, R_CHILD), 0);
	s->before(s);
	if (s->noted) {
		/* Another record's acquire and release notes the tags. */
		record_use(R_OTHER, s->path, 1);
	}
	fill(s);
}

static void run_once(const struct run *r) {
	const struct scenario *s = r->s;
	bool reached = false;
	int raced = 0;
	uint32_t seen;
	pid_t pid;

	run_begin(s);
	pid = child_start(s);
	if (r->k == RECORDING)
		trace_child_record(pid, &path);
	else
		reached = trace_child_goto(pid, &path, r->k);
	audit(r);
	if (reached && r->ending == KILLED)
		trace_child_kill(pid);
	if (s->race)
		raced = s->race(s);
	check_raced(r);
	audit(r);
	seen = child_seen(s);
	if (r->busy)
		run_other(r);
	if (r->busy && reached && r->ending == STOPPED_AND_KILLED)
		check_speed(r, seen);
	audit(r);
	if (reached && r->ending == STOPPED_AND_CONTINUED) {
		trace_child_finish(pid);
		check_continued(r, raced);
	}
	if (reached && r->ending == STOPPED_AND_KILLED)
		trace_child_kill(pid);
	/* The slot that the owner acquired in the race is still held. */
	if (s->race == act_finish_and_hold && raced == 0)
		ck_assert_msg(snapshot_is_held(newest_of(R_CHILD)),
			"%s, at instruction %zu: the slot is gone", s->name, r->k);
	/* If the child acts as berthd, and in half of the other runs, a new berthd starts and
	 * finishes what was begun. In each run the session then ends. */
	if (!is_by_owner(s) || r->k & 1)
		ck_assert_int_eq(counter_finish(f.map, R_CHILD), 0);
	audit(r);
	ck_assert_int_eq(counter_close(f.map, R_CHILD), 0);
	check_counts(r, "closed");
	audit(r);
	if (s->full > 0)
		ck_assert_int_eq(counter_close(f.map, R_FULL), 0);
	all->points += reached;
}

static size_t stride(void) {
	const char *text = getenv("STRIDE");
	size_t n = text ? strtoul(text, NULL, 10) : 199;

	return n > 0 ? n : 1;
}

START_TEST(a_death_or_stop_at_any_instruction_leaves_the_counts_exact) {
	struct run r = {.s = &scenarios[_i], .k = RECORDING};
	unsigned long before = all->points;

	if (getenv("SCENARIO") && !strstr(r.s->name, getenv("SCENARIO")))
		return;
	/* Place R_OTHER at the path, as usual, so that the first measurement isn't larger than the
	 * others. */
	(void)act_other(r.s);
	undisturbed = count_instructions_of_other(r.s);
	path.look = check_instruction;
	path.data = &r;
	/* Record twice: the first change after a checkpoint takes another branch. */
	run_once(&r);
	run_once(&r);
	for (int ending = 0; ending < ENDINGS; ending++)
		for (int busy = 0; busy < 2; busy++) {
			/* If nothing happens between stop and kill, this is the same as KILLED. */
			if (ending == STOPPED_AND_KILLED && !busy && !r.s->race)
				continue;
			r.ending = (enum ending)ending;
			r.busy = busy;
			/* For each `ending` and `busy`, the sample begins at another
			 * instruction. */
			for (r.k = (size_t)(ending * 2 + busy) * 3 % stride(); r.k < path.count;
				r.k += stride())
				run_once(&r);
		}
	ck_assert_uint_gt(all->points, before);
	printf("%s: %zu instructions, %lu points\n", r.s->name, path.count, all->points - before);
	(void)fflush(stdout);
}
END_TEST

/* Lowers the limit at every instruction of an acquire, whatever the stride is: an error might show
 * only if the acquire is stopped at one of a few instructions. */
static void lower_limit(void (*prepare)(const struct scenario *s)) {
	const struct scenario s = {"", &leaf, 2, prepare, act_acquire};
	const struct run recording = {.s = &s, .k = RECORDING};
	size_t admitted = 0;

	run_once(&recording);
	for (size_t k = 0; k < path.count; k++) {
		uint32_t before;
		bool reached;
		pid_t pid;

		run_begin(&s);
		pid = child_start(&s);
		reached = trace_child_goto(pid, &path, k);
		limit_set("alice", 1);
		before = count(&leaf, 0);
		if (reached)
			trace_child_finish(pid);
		ck_assert_msg(count(&leaf, 0) == before,
			"the limit was 1 since instruction %zu, and the count went from %u to %u",
			k, before, count(&leaf, 0));
		admitted += before > HELD;
		ck_assert_int_eq(counter_close(f.map, R_CHILD), 0);
		ck_assert_uint_eq(count(&leaf, 0), HELD);
		limit_set("alice", LIMIT);
	}
	/* When the limit was lowered, some acquires had charged the level, and some hadn't. */
	ck_assert_uint_gt(admitted, 1);
	ck_assert_uint_lt(admitted, path.count);
	all->points += path.count;
	printf("a limit lowered: %zu points\n", path.count);
}

START_TEST(no_acquire_charges_a_level_after_its_limit_was_lowered) {
	lower_limit(not_placed);
	lower_limit(at_rest);
}
END_TEST

/* Checks that a placed record of this depth was seen after each step while the step wasn't noted
 * yet. A seized record must have been seen with each number of charged levels, once with its newest
 * step noted, and once with this step not noted. */
static void check_seen(uint32_t depth) {
	for (uint32_t step = 1; step <= 2 * depth; step++)
		ck_assert_msg(all->placed[depth][step][0] > 0, "no record of depth %u at step %u",
			depth, step);
	for (uint32_t charged = 0; charged <= depth; charged++)
		for (int is_noted = 0; is_noted < 2 && depth > 1; is_noted++)
			ck_assert_msg(
				all->seized[depth][charged][is_noted] > 0 ||
					(is_noted && depth == BERTH_LEVELS_MAX && charged < depth),
				"no seized record of depth %u with %u levels charged, %snoted",
				depth, charged, is_noted ? "" : "not ");
}

/* Checks which states the earlier tests have seen. If this test is run alone, it checks nothing. */
START_TEST(every_kind_of_state_was_seen) {
	if (getenv("SCENARIO") || getenv("CK_RUN_CASE"))
		return;
	check_seen(1);
	check_seen(3);
	check_seen(BERTH_LEVELS_MAX);
	/* At depth 3, the base and the steps of an acquire except the first were also seen
	 * noted. */
	for (uint32_t step = 0; step <= 3; step++)
		ck_assert_msg(step == 1 || all->placed[3][step][1] > 0,
			"no record whose step %u is noted", step);
	ck_assert_uint_gt(all->state[RECORD_FREE], 0);
	ck_assert_uint_gt(all->state[RECORD_CLOSED], 0);
}
END_TEST

static void setup(void) {
	const struct capacities want = {64, 64, 4};

	trace_pin();
	fixture_new(&want);
	leaf = path_with("alice", LIMIT);
	next = path_with("next", LIMIT);
	limit_set("acme", LIMIT);
	bob = path_with("acme/bob", LIMIT);
	tree = path_with("acme/bob/web", LIMIT);
	deep = path_with("a/b/c/d/e/f/g/h", LIMIT);
	records_open(R_OTHER, 1);
	records_open(R_LEAF, 3);
	(void)record_hold(R_LEAF, &leaf, HELD);
	(void)record_hold(R_TREE, &tree, HELD);
	(void)record_hold(R_DEEP, &deep, HELD);
}

int main(void) {
	const struct test tests[] = {
		{a_death_or_stop_at_any_instruction_leaves_the_counts_exact, 0,
			ELEMENTS(scenarios)},
		{no_acquire_charges_a_level_after_its_limit_was_lowered},
		{every_kind_of_state_was_seen},
		{NULL},
	};
	int status;

	all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		return EXIT_FAILURE;
	status = run_suites(
		{"crash", tests, .setup = setup, .teardown = fixture_free, .seconds = 7200});
	printf("killed or stopped at %lu points\n", all->points);
	return status;
}
