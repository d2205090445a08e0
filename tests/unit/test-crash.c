/* SPDX-License-Identifier: MIT */

/*
 * Deaths and stops at every instruction. A child carries out one operation of the counter, single-
 * stepped; after instruction k it is killed, or stopped and later let go on. Where two race for a
 * record, the other does its part at that instruction. In half of the runs another party works on the
 * same accounts meanwhile, which must not wait for the child. Whatever k: at that instant each count
 * is what cells and records say together; and once the record is closed, it is what the others hold.
 *
 * That the others go on at full speed is said in instructions: while the child is stopped, an acquire
 * and release take no more of them than when nobody is there.
 *
 * $STRIDE looks at every so many instructions only (1: all of them); $SCENARIO (a part of a name) at
 * some scenarios only. The child's code is the same object code that daemon and library are made of;
 * its shared memory is the real segment. A first run of each scenario looks at every instruction in
 * any case, and notes the states that it met: at the end all kinds of them must have been seen.
 */

#include <sys/mman.h>

#include "../audit.h"
#include "../ptrace.h"
#include "counter-warm.h"
#include "fixture.h"

#define R_CHILD 16u
#define R_OTHER 17u
#define R_FULL  18u
#define R_LEAF  19u /* held all the time, with more than the child ever has: */
#define R_TREE  20u /* what is given back once too often is missing here */
#define R_DEEP  21u
#define LODGED  4u
#define LIMIT   12u
#define ROUNDS  20
#define HALF    ((BERTH_SEQ_MASK >> 1) + 1)

/* Of all tests, each of which is a process. */
struct together {
	unsigned long points;
	/* Ways of the child's record, by depth, by steps of its cycle (2 * depth: it rests after the
	 * last), and whether the record knows the newest of them; and seized, by levels charged. */
	unsigned long placed[BERTH_LEVELS_MAX + 1][2 * BERTH_LEVELS_MAX + 1][2];
	unsigned long seized[BERTH_LEVELS_MAX + 1][BERTH_LEVELS_MAX + 1][2];
	unsigned long state[8];
	int outcome; /* of what the child did */
};

static struct fixture f;
static struct path leaf, next, tree, bob, deep;
static const struct stamp stamp = {.since = 1};
static struct together *all;
static size_t undisturbed; /* instructions of an acquire and a release of the path */
static uint32_t slot;      /* the child's, as a seq */
/* The cell on which its process knows the child's record to have taken its last slot; NULL: none. */
static struct cell *stood_on;

static void record_put(uint64_t word) {
	store_total(&map_record(f.map, R_CHILD)->word, word);
}

static uint64_t raw(void) {
	return load_total(&map_record(f.map, R_CHILD)->word);
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
	int (*act)(const struct scenario *s);     /* by the child */
	bool by_daemon; /* the child is the daemon; the record's owner is another */
	int (*race)(const struct scenario *s); /* by the parent, at the instruction; or NULL */
	bool once;                             /* of the two, exactly one has success */
};

static void before_nothing(const struct scenario *s) {
	(void)s;
	stood_on = NULL;
}

static void before_held(const struct scenario *s) {
	uint32_t level;

	ck_assert_int_eq(
		counter_acquire(f.map, R_CHILD, s->path, s->weight, &stamp, &slot, &level), 0);
	stood_on = s->path->level[0].cell;
}

/* On its path already, as nearly always. */
static void before_rest(const struct scenario *s) {
	before_held(s);
	ck_assert_int_eq(counter_release(f.map, R_CHILD, slot), 0);
}

/* It rests on another path. */
static void before_elsewhere(const struct scenario *s) {
	const struct path *other = s->path == &leaf ? &tree : &leaf;

	ck_assert_int_eq(take(R_CHILD, other, s->weight), 0);
	ck_assert_int_eq(give(R_CHILD), 0);
}

/* Likewise, on one without ancestors. */
static void before_next_door(const struct scenario *s) {
	ck_assert_int_eq(take(R_CHILD, &next, s->weight), 0);
	ck_assert_int_eq(give(R_CHILD), 0);
	stood_on = next.level[0].cell;
}

/* Where its next cycle of the path begins, clear of all that it has used. */
static uint32_t base_of(const struct scenario *s) {
	uint32_t cycle = record_cycle(record_pack(RECORD_PLACED, s->path->depth - 1, 0, 0, 0));

	return (record_seq(counter_record(f.map, R_CHILD)) / cycle + 2) * cycle & BERTH_SEQ_MASK;
}

/* The tag that is there is noted, as ever. */
static void tag_put(const struct scenario *s, uint32_t level, uint32_t seq, uint32_t weight) {
	struct cell *cell = s->path->level[level].cell;

	ck_assert_int_eq(counter_bump(f.map, s->path->level[level].account), 0);
	store_total(&cell->word, cell_pack(cell_count(load_total(&cell->word)) + weight, R_CHILD,
					 seq & BERTH_SEQ_MASK));
}

/* As an owner, or the daemon, that was killed or sleeps after so many steps of the cycle, and as much
 * as nobody has come upon its tags. */
static void half_way(const struct scenario *s, enum record_state state, uint32_t steps) {
	uint32_t base = base_of(s), depth = s->path->depth;

	for (uint32_t k = 0; k < depth; k++) {
		uint32_t up = k + 1, down = 2 * depth - k;

		if (steps >= down)
			tag_put(s, k, base + down, 0);
		else if (steps >= up)
			tag_put(s, k, base + up, s->weight);
	}
	record_put(record_pack(state, depth - 1, s->weight, s->path->level[0].account, base));
	slot = (base + depth) & BERTH_SEQ_MASK;
}

static void before_charged(const struct scenario *s) {
	half_way(s, RECORD_PLACED, 2);
}

/* R1 at the top is made. */
static void before_descent(const struct scenario *s) {
	half_way(s, RECORD_PLACED, s->path->depth + 1);
}

/* V1 is made. */
static void before_seized(const struct scenario *s) {
	half_way(s, RECORD_SEIZED, s->path->depth);
}

/* One level is given back, and that isn't noted. */
static void before_amid_v3(const struct scenario *s) {
	half_way(s, RECORD_SEIZED, s->path->depth + 1);
}

/* So old that they look newer than its seq, as steps of these very levels. */
static void before_old_tags(const struct scenario *s) {
	uint32_t base = base_of(s) + 16;

	for (uint32_t k = 0; k < s->path->depth; k++)
		tag_put(s, k, base + k + 1, 0);
}

/* It was placed on a path that shares cells with this one, and has made no step there; the tags aren't
 * too old for that place, but they are for the next. */
static void before_old_tags_elsewhere(const struct scenario *s) {
	const struct scenario there = {.path = &tree};
	uint32_t base = base_of(&there);

	for (uint32_t k = 0; k < s->path->depth; k++)
		tag_put(s, k, base - HALF + 20, 0);
	record_put(record_pack(RECORD_PLACED, 2, s->weight, tree.level[0].account, base));
}

/* It has gone as far as it may from what the record says. */
static void before_far(const struct scenario *s) {
	uint32_t base = base_of(s), depth = s->path->depth, far = base + HALF - 32;

	for (uint32_t k = 0; k < depth; k++)
		tag_put(s, k, far + 2 * depth - k, 0);
	record_put(
		record_pack(RECORD_PLACED, depth - 1, s->weight, s->path->level[0].account, base));
}

static int act_acquire(const struct scenario *s) {
	return take(R_CHILD, s->path, s->weight);
}

/* As the library does it (pool.c): a look, the short ways, and the long one where they don't go. */
static int act_acquire_short(const struct scenario *s) {
	const struct record_at at = {map_record(f.map, R_CHILD), R_CHILD};
	struct slot_request request = {.path = s->path, .weight = s->weight, .stamp = stamp};
	const struct level *l = &s->path->level[0];
	uint32_t seq, level;
	int r = counter_check(f.map, s->path, s->weight, request.word, &level);

	if (r < 0)
		return r;
	if (s->path->depth == 1 &&
		(counter_acquire_warm(f.map, at, l, request.word[0], s->weight, &stamp, &seq) ||
			counter_acquire_near(
				f.map, at, stood_on, l, request.word[0], s->weight, &stamp, &seq)))
		return 0;
	return counter_acquire_at(f.map, at, &request, &seq, &level);
}

static int act_release_short(const struct scenario *s) {
	const struct record_at at = {map_record(f.map, R_CHILD), R_CHILD};
	const struct level *l = &s->path->level[0];
	uint64_t tag = cell_pack(0, R_CHILD, slot);
	uint32_t given;

	if (s->path->depth == 1)
		given = counter_release_warm(f.map, at.record, tag, l->cell, l->dirty);
	else
		given = counter_release_levels(f.map, at.record, tag, s->path);
	if (given == s->path->depth)
		return 0;
	return given > 0 ? counter_release_rest(f.map, at, s->path, given, slot)
			 : counter_release(f.map, R_CHILD, slot);
}

static int act_release(const struct scenario *s) {
	(void)s;
	return counter_release(f.map, R_CHILD, slot);
}

static int act_both(const struct scenario *s) {
	int r = take(R_CHILD, s->path, s->weight);

	return r == 0 ? give(R_CHILD) : r;
}

/* The owner goes on: gives back, takes and gives back here, and elsewhere. */
static int act_go_on(const struct scenario *s) {
	const struct scenario elsewhere = {.path = s->path == &leaf ? &tree : &leaf, .weight = 1};

	(void)act_release(s);
	(void)act_both(s);
	return act_both(&elsewhere);
}

/* As daemon/admin.c: of what it sees, a slot or one that is being taken. */
static int act_revoke(const struct scenario *s) {
	uint64_t seen = counter_record(f.map, R_CHILD);

	(void)s;
	if (record_state(seen) != RECORD_PLACED || record_step(seen) == 0 ||
		record_step(seen) > record_top(seen) + 1)
		return -EAGAIN;
	return counter_revoke(f.map, R_CHILD, seen);
}

static int act_close(const struct scenario *s) {
	(void)s;
	return counter_close(f.map, R_CHILD);
}

static int act_settle(const struct scenario *s) {
	(void)s;
	return counter_settle(f.map, R_CHILD);
}

static int act_resume(const struct scenario *s) {
	(void)s;
	return counter_resume(f.map, R_CHILD);
}

/* An owner whose release a new daemon has come upon: he goes on with it himself, and takes another. */
static int act_finish_and_hold(const struct scenario *s) {
	(void)act_resume(s);
	return take(R_CHILD, s->path, s->weight);
}

static int act_bump(const struct scenario *s) {
	int r = 0;

	for (uint32_t k = 0; k < s->path->depth && r == 0; k++)
		r = counter_bump(f.map, s->path->level[k].account);
	return r;
}

/* Another one. */
static int act_come_and_go(const struct scenario *s) {
	int r = take(R_OTHER, s->path, 1);

	return r == 0 ? give(R_OTHER) : r;
}

static const struct scenario scenarios[] = {
	{"short acquire", &leaf, 1, -1, before_rest, act_acquire_short, false, NULL, false},
	{"short acquire, placed first", &leaf, 1, -1, before_nothing, act_acquire_short, false,
		NULL, false},
	{"short acquire, placed from next door", &leaf, 2, -1, before_next_door, act_acquire_short,
		false, NULL, false},
	{"short acquire, placed from elsewhere", &leaf, 1, -1, before_elsewhere, act_acquire_short,
		false, NULL, false},
	{"short acquire, denied", &leaf, 2, 0, before_rest, act_acquire_short, false, NULL, false},
	{"short acquire, three levels", &tree, 2, -1, before_rest, act_acquire_short, false, NULL,
		false},
	{"short acquire, denied at the third level", &tree, 2, 2, before_rest, act_acquire_short,
		false, NULL, false},
	{"short release", &leaf, 2, -1, before_held, act_release_short, false, NULL, false},
	{"short release, three levels", &tree, 2, -1, before_held, act_release_short, false, NULL,
		false},
	{"acquire, one level", &leaf, 1, -1, before_rest, act_acquire, false, NULL, false},
	{"acquire, one level, placed first", &leaf, 1, -1, before_nothing, act_acquire, false, NULL,
		false},
	{"acquire, one level, placed from elsewhere", &leaf, 1, -1, before_elsewhere, act_acquire,
		false, NULL, false},
	{"acquire, three levels, weight 3", &tree, 3, -1, before_rest, act_acquire, false, NULL,
		false},
	{"acquire, three levels, weight 3, placed from elsewhere", &tree, 3, -1, before_elsewhere,
		act_acquire, false, NULL, false},
	{"acquire, denied at the account", &tree, 2, 0, before_rest, act_acquire, false, NULL,
		false},
	{"acquire, denied at the second level", &tree, 2, 1, before_rest, act_acquire, false, NULL,
		false},
	{"acquire, denied at the third level", &tree, 2, 2, before_nothing, act_acquire, false,
		NULL, false},
	{"acquire among old tags", &tree, 2, -1, before_old_tags, act_acquire, false, NULL, false},
	{"acquire among old tags, denied at the third level", &tree, 2, 2, before_old_tags,
		act_acquire, false, NULL, false},
	{"acquire far from what the record says", &tree, 2, -1, before_far, act_acquire, false,
		NULL, false},
	{"release, one level", &leaf, 1, -1, before_held, act_release, false, NULL, false},
	{"release, three levels, weight 3", &tree, 3, -1, before_held, act_release, false, NULL,
		false},
	{"acquire and release", &tree, 1, -1, before_rest, act_both, false, NULL, false},
	{"acquire and release, eight levels", &deep, 1, -1, before_rest, act_both, false, NULL,
		false},
	{"revoke of a slot, one level", &leaf, 2, -1, before_held, act_revoke, true, NULL, false},
	{"revoke of a slot", &tree, 2, -1, before_held, act_revoke, true, NULL, false},
	{"revoke of a charge", &tree, 2, -1, before_charged, act_revoke, true, NULL, false},
	{"end of a session at rest", &tree, 2, -1, before_rest, act_close, true, NULL, false},
	{"end of a session with a slot", &tree, 2, -1, before_held, act_close, true, NULL, false},
	{"end of a session in a charge", &tree, 2, -1, before_charged, act_close, true, NULL,
		false},
	{"end of a session in a release", &tree, 2, -1, before_descent, act_close, true, NULL,
		false},
	{"end of a session with a slot, eight levels", &deep, 2, -1, before_held, act_close, true,
		NULL, false},
	{"settling", &tree, 2, -1, before_seized, act_settle, true, NULL, false},
	{"resuming a release", &tree, 2, -1, before_descent, act_resume, true, NULL, false},
	{"resuming a release racing its owner, who holds another slot then", &tree, 2, -1,
		before_descent, act_resume, true, act_finish_and_hold, false},
	{"resuming before V2", &tree, 2, -1, before_seized, act_resume, true, NULL, false},
	{"resuming amid V3", &tree, 2, -1, before_amid_v3, act_resume, true, NULL, false},
	{"bump", &tree, 2, -1, before_charged, act_bump, true, NULL, false},
	{"short acquire racing a revoke", &leaf, 3, -1, before_rest, act_acquire_short, false,
		act_revoke, false},
	{"short acquire racing a bump", &leaf, 3, -1, before_rest, act_acquire_short, false,
		act_bump, false},
	{"short acquire racing another's", &leaf, 3, -1, before_rest, act_acquire_short, false,
		act_come_and_go, false},
	{"short acquire racing the end of its session", &leaf, 3, -1, before_rest,
		act_acquire_short, false, act_close, false},
	{"short acquire from next door, racing a bump", &leaf, 3, -1, before_next_door,
		act_acquire_short, false, act_bump, false},
	{"short acquire from next door, racing another's", &leaf, 3, -1, before_next_door,
		act_acquire_short, false, act_come_and_go, false},
	{"short acquire from next door, racing the end of its session", &leaf, 3, -1,
		before_next_door, act_acquire_short, false, act_close, false},
	{"short acquire, three levels, racing another's", &tree, 3, -1, before_rest,
		act_acquire_short, false, act_come_and_go, false},
	{"short acquire, three levels, racing a revoke", &tree, 3, -1, before_rest,
		act_acquire_short, false, act_revoke, false},
	{"short release racing a revoke", &leaf, 3, -1, before_held, act_release_short, false,
		act_revoke, true},
	{"short release, three levels, racing a revoke", &tree, 3, -1, before_held,
		act_release_short, false, act_revoke, true},
	{"short release, three levels, racing a long one", &tree, 3, -1, before_held,
		act_release_short, false, act_release, true},
	{"short release, three levels, racing another's coming and going", &tree, 3, -1,
		before_held, act_release_short, false, act_come_and_go, false},
	{"short release, three levels, racing a new daemon", &tree, 3, -1, before_held,
		act_release_short, false, act_resume, false},
	{"short release, three levels, racing the end of its session", &tree, 3, -1, before_held,
		act_release_short, false, act_close, false},
	{"short release racing a long one", &leaf, 3, -1, before_held, act_release_short, false,
		act_release, true},
	{"long release racing a short one", &leaf, 3, -1, before_held, act_release, false,
		act_release_short, true},
	{"short release racing another's coming and going", &leaf, 3, -1, before_held,
		act_release_short, false, act_come_and_go, false},
	{"acquire racing a revoke", &tree, 3, -1, before_rest, act_acquire, false, act_revoke,
		false},
	{"acquire, one level, racing a revoke", &leaf, 3, -1, before_rest, act_acquire, false,
		act_revoke, false},
	{"acquire racing a bump", &tree, 3, -1, before_rest, act_acquire, false, act_bump, false},
	{"acquire racing a bump, placed from elsewhere", &tree, 3, -1, before_elsewhere,
		act_acquire, false, act_bump, false},
	{"acquire racing a new daemon", &tree, 3, -1, before_rest, act_acquire, false, act_resume,
		false},
	{"acquire racing the end of its session", &tree, 3, -1, before_elsewhere, act_acquire,
		false, act_close, false},
	{"acquire among old tags, racing a bump", &tree, 2, -1, before_old_tags, act_acquire, false,
		act_bump, false},
	{"acquire among old tags, racing a revoke", &tree, 2, -1, before_old_tags, act_acquire,
		false, act_revoke, false},
	{"acquire among old tags, from a path that shares a cell, racing a bump", &bob, 2, -1,
		before_old_tags_elsewhere, act_acquire, false, act_bump, false},
	{"acquire far from what the record says, racing a bump", &tree, 2, -1, before_far,
		act_acquire, false, act_bump, false},
	{"release racing a revoke", &tree, 3, -1, before_held, act_release, false, act_revoke,
		true},
	{"release, one level, racing a revoke", &leaf, 3, -1, before_held, act_release, false,
		act_revoke, true},
	{"release racing another", &tree, 3, -1, before_held, act_release, false, act_release,
		true},
	{"release, one level, racing another", &leaf, 3, -1, before_held, act_release, false,
		act_release, true},
	{"release racing the end of its session", &tree, 3, -1, before_held, act_release, false,
		act_close, false},
	{"release racing a new daemon", &tree, 3, -1, before_held, act_release, false, act_resume,
		false},
	{"release racing a bump", &tree, 3, -1, before_held, act_release, false, act_bump, false},
	{"revoke racing a release", &tree, 3, -1, before_held, act_revoke, true, act_release, true},
	{"revoke, one level, racing a release", &leaf, 3, -1, before_held, act_revoke, true,
		act_release, true},
	{"revoke racing another", &tree, 3, -1, before_held, act_revoke, true, act_revoke, false},
	{"revoke racing its owner, who goes on", &tree, 3, -1, before_held, act_revoke, true,
		act_go_on, false},
	{"bump racing its owner, who goes on", &tree, 3, -1, before_held, act_bump, true, act_go_on,
		false},
	{"bump, one level, racing its owner, who goes on", &leaf, 3, -1, before_held, act_bump,
		true, act_go_on, false},
	{"bump racing its owner, who places it among old tags", &tree, 2, -1, before_old_tags,
		act_bump, true, act_acquire, false},
	{"bump racing another", &tree, 2, -1, before_charged, act_bump, true, act_bump, false},
	{"bump racing a new daemon", &tree, 2, -1, before_amid_v3, act_bump, true, act_resume,
		false},
};

/* -- stepping ---------------------------------------------------------------------------------------- */

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

/* -- one run ------------------------------------------------------------------------------------------- */

enum ending { KILLED, STOPPED_AND_LET_GO_ON, STOPPED_AND_KILLED, ENDINGS };

struct run {
	const struct scenario *s;
	size_t k;
	enum ending ending;
	bool busy;
};

/* The limit of a level is 12; who fills it takes 7 of the 8 that are left, there and above, so that the
 * child's 2 find no room and the other party's 1 does. */
static void fill(const struct scenario *s) {
	struct path up = {.depth = s->path->depth - (uint32_t)s->full};

	if (s->full < 0)
		return;
	memcpy(up.level, &s->path->level[s->full], up.depth * sizeof(up.level[0]));
	ck_assert_int_eq(counter_open(f.map, R_FULL), 0);
	ck_assert_int_eq(take(R_FULL, &up, 7), 0);
}

static uint32_t others(const struct scenario *s, uint32_t level) {
	return s->full >= 0 && (int)level >= s->full ? 7 + LODGED : LODGED;
}

static void drain(const struct scenario *s) {
	if (s->full >= 0)
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

/* What others can see of the child: where its record stands, which step it is at, as far as that is
 * noted, and which cells bear its tag. */
static uint32_t child_seen(const struct scenario *s) {
	uint64_t newest = counter_record(f.map, R_CHILD);
	uint32_t seen =
		(uint32_t)record_state(newest) << 8 | record_step(newest) << 4 | record_step(raw());

	for (uint32_t k = 0; k < s->path->depth; k++)
		seen = seen << 1 |
		       (cell_record(load_total(&s->path->level[k].cell->word)) == R_CHILD);
	return seen;
}

static void audit(const struct run *r) {
	char why[512];

	ck_assert_msg(audit_counts(f.map, why), "%s, at instruction %zu (%d, %s): %s", r->s->name,
		r->k, r->ending, r->busy ? "busy" : "quiet", why);
}

/* At each instruction of a recording. */
static void look(void *data) {
	uint64_t newest = counter_record(f.map, R_CHILD);
	uint32_t depth = record_top(newest) + 1, step = record_step(newest);
	bool noted = newest == raw();
	const struct run *r = data;

	all->state[record_state(newest)]++;
	if (record_state(newest) == RECORD_PLACED)
		all->placed[depth][step == 0 && !noted ? 2 * depth : step][noted]++;
	else if (record_state(newest) == RECORD_SEIZED)
		all->seized[depth][record_charged(newest)][noted]++;
	audit(r);
}

/* What was in the way was noted by those who came before: no more than a branch or two. Looked
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
	uint32_t mine = record_is_held(rec) ? s->weight : 0;

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

/* A slot is taken from its holder, or given back, once. */
static void check_once(const struct run *r, int raced) {
	if (r->s->once)
		ck_assert_msg((raced == 0) + (all->outcome == 0) == 1,
			"%s, stopped at instruction %zu: one got %d, the other %d", r->s->name,
			r->k, all->outcome, raced);
}

/* What nobody wanted back stays. */
static void check_kept(const struct run *r, int raced) {
	if (r->s->race == act_finish_and_hold && raced == 0)
		ck_assert_msg(record_is_held(counter_record(f.map, R_CHILD)),
			"%s, at instruction %zu: the slot is gone", r->s->name, r->k);
}

/* A new daemon goes on where the last one was, or there is still the same; the session ends. */
static void run_end(const struct run *r) {
	if (r->s->by_daemon || r->k & 1)
		ck_assert_int_eq(counter_resume(f.map, R_CHILD), 0);
	audit(r);
	ck_assert_int_eq(counter_close(f.map, R_CHILD), 0);
	check_counts(r, "closed");
	audit(r);
	drain(r->s);
}

static void run_once(const struct run *r) {
	const struct scenario *s = r->s;
	bool reached = false;
	int raced = 0;
	uint32_t seen;
	pid_t pid;

	ck_assert_int_eq(counter_open(f.map, R_CHILD), 0);
	s->before(s);
	fill(s);
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
	audit(r);
	seen = child_seen(s);
	if (r->busy)
		work(r);
	if (r->busy && reached && r->ending == STOPPED_AND_KILLED)
		check_speed(r, seen);
	audit(r);
	if (reached && r->ending == STOPPED_AND_LET_GO_ON) {
		trace_child_finish(pid);
		check_once(r, raced);
		if (!s->by_daemon)
			check_counts(r, "let go on");
	}
	if (reached && r->ending == STOPPED_AND_KILLED)
		trace_child_kill(pid);
	check_kept(r, raced);
	run_end(r);
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
	/* Placed where it goes, as when it comes often. */
	(void)act_come_and_go(r.s);
	undisturbed = come_and_go(r.s);
	path.look = look;
	path.data = &r;
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
	ck_assert_uint_gt(all->points, before);
	printf("%s: %zu instructions, %lu points\n", r.s->name, path.count, all->points - before);
	(void)fflush(stdout);
}
END_TEST

/* Every instruction, always: what it guards against is a window of a few of them. */
static void lower_limit(void (*prepare)(const struct scenario *s)) {
	const struct scenario s = {"", &leaf, 2, -1, prepare, act_acquire, false, NULL, false};
	const struct run recording = {.s = &s, .k = RECORDING};
	size_t admitted = 0;

	run_once(&recording);
	for (size_t k = 0; k < path.count; k++) {
		uint32_t before;
		bool reached;
		pid_t pid;

		ck_assert_int_eq(counter_open(f.map, R_CHILD), 0);
		prepare(&s);
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
	all->points += path.count;
	printf("a limit lowered: %zu points\n", path.count);
}

START_TEST(no_charge_is_made_against_a_limit_that_was_lowered_before) {
	lower_limit(before_nothing);
	lower_limit(before_rest);
}
END_TEST

/* Of the steps that a record of this depth makes, each was seen before anybody had noted it; what the
 * record was seized with, before and after it was noted. */
static void check_seen(uint32_t depth) {
	for (uint32_t step = 1; step <= 2 * depth; step++)
		ck_assert_msg(all->placed[depth][step][0] > 0, "no record of depth %u at step %u",
			depth, step);
	for (uint32_t charged = 0; charged <= depth; charged++)
		for (int noted = 0; noted < 2 && depth > 1; noted++)
			ck_assert_msg(all->seized[depth][charged][noted] > 0,
				"no seized record of depth %u with %u levels charged, %snoted",
				depth, charged, noted ? "" : "not ");
}

START_TEST(states_of_all_kinds_were_seen) {
	if (getenv("SCENARIO"))
		return;
	check_seen(1);
	check_seen(3);
	check_seen(BERTH_LEVELS_MAX);
	/* At the base, where it was placed; on its way up, and with the slot, and somebody has noted it. */
	for (uint32_t step = 0; step <= 3; step++)
		ck_assert_msg(step == 1 || all->placed[3][step][1] > 0,
			"no record that knows of step %u", step);
	ck_assert_uint_gt(all->state[RECORD_FREE], 0);
	ck_assert_uint_gt(all->state[RECORD_CLOSED], 0);
}
END_TEST

static void setup(void) {
	const struct capacities want = {64, 64, 4};

	trace_pin();
	fixture_new(&f, &want);
	leaf = fixture_path(&f, "alice", LIMIT);
	next = fixture_path(&f, "next", LIMIT);
	(void)fixture_path(&f, "acme", LIMIT);
	(void)fixture_path(&f, "acme/bob", LIMIT);
	tree = fixture_path(&f, "acme/bob/web", LIMIT);
	bob = fixture_path(&f, "acme/bob", LIMIT);
	deep = fixture_path(&f, "a/b/c/d/e/f/g/h", LIMIT);
	fixture_open_records(&f, R_OTHER, 1);
	fixture_open_records(&f, R_LEAF, 3);
	ck_assert_int_eq(take(R_LEAF, &leaf, LODGED), 0);
	ck_assert_int_eq(take(R_TREE, &tree, LODGED), 0);
	ck_assert_int_eq(take(R_DEEP, &deep, LODGED), 0);
}

static void teardown(void) {
	fixture_free(&f);
}

int main(void) {
	Suite *suite = suite_create("crash");
	TCase *tc = tcase_create("crash");
	SRunner *runner = srunner_create(suite);
	int failed;

	all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		return EXIT_FAILURE;
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 7200);
	tcase_add_loop_test(tc, a_death_or_stop_at_any_instruction_leaves_the_counts_exact, 0,
		ELEMENTS(scenarios));
	tcase_add_test(tc, no_charge_is_made_against_a_limit_that_was_lowered_before);
	tcase_add_test(tc, states_of_all_kinds_were_seen);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	printf("killed or stopped at %lu points\n", all->points);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
