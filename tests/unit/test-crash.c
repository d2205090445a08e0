/* SPDX-License-Identifier: MIT */

/*
 * Deaths and stops at every instruction. A child carries out one operation of the counter, single-
 * stepped; after instruction k it is killed, or stopped and later let go on. Where two race for a
 * record, the other does its part at that instruction. In half of the runs another party works on the
 * same accounts meanwhile, which must not wait for the child. Whatever k: at that instant each count
 * is what cells and records say together; and once the record is closed, it is what the others hold.
 *
 * That the others go on at full speed is said in instructions: while the child is stopped, an acquire
 * and release take no more of them than when no process is there.
 *
 * $STRIDE looks at every so many instructions only (1: all of them); $SCENARIO (a part of a name) at
 * some scenarios only. The child's code is the same object code that daemon and library are made of;
 * its shared memory is the real segment. A first run of each scenario looks at every instruction in
 * any case, and notes the states that it met: at the end all kinds of them must have been seen.
 */

#include <sys/mman.h>

#include "audit.h"
#include "ptrace.h"
#include "counter-fast.h"
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

/* Of all tests, each of which is a process. */
struct together {
	unsigned long points;
	/* Ways of the child's record, by depth, by steps of its cycle (2 * depth: it rests after the
	 * last), and whether the newest of them is noted; and seized, by levels charged. */
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
static uint64_t slot;      /* the child's, as a seq */

static void record_put(uint64_t place, uint64_t noted) {
	struct record *record = map_record(f.map, R_CHILD);

	store_total(&record->place, place);
	store_total(&record->noted, noted);
}

static uint64_t noted(void) {
	return load_total(&map_record(f.map, R_CHILD)->noted);
}

static struct snapshot snapshot_of(uint32_t record) {
	struct snapshot now;

	if (counter_record(f.map, record, &now) != 0)
		ck_abort_msg("record %u can't be read", record);
	return now;
}

static uint32_t count(const struct path *p, uint32_t level) {
	return counter_count(f.map, p->level[level].account);
}

static int take(uint32_t record, const struct path *p, uint32_t weight) {
	uint64_t seq;
	uint32_t level;

	return record_acquire(f.map, record, p, weight, &stamp, &seq, &level);
}

static int give(uint32_t record) {
	return counter_release(f.map, record, snapshot_of(record).seq);
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
}

static void before_held(const struct scenario *s) {
	uint32_t level;

	ck_assert_int_eq(
		record_acquire(f.map, R_CHILD, s->path, s->weight, &stamp, &slot, &level), 0);
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
}

/* The range isn't granted, or not yet. */
static void before_closed(const struct scenario *s) {
	before_rest(s);
	ck_assert_int_eq(counter_close(f.map, R_CHILD), 0);
}

/* Where its next cycle of the path begins, clear of all that it has used. */
static uint64_t base_of(void) {
	return seq_rest(snapshot_of(R_CHILD).seq) + (uint64_t)2 * BERTH_CYCLE;
}

/* The tag that is there is noted, as ever. */
static void tag_put(const struct scenario *s, uint32_t level, uint64_t seq, uint32_t weight) {
	struct cell *cell = s->path->level[level].cell;
	struct pair seen = cell_load(cell);
	uint64_t with = seen.first + ((uint64_t)weight << BERTH_COUNT_SHIFT);

	ck_assert_int_eq(counter_note(f.map, seen.second), 0);
	ck_assert(cas16(&cell->count, seen, (struct pair){with, tag_pack(R_CHILD, seq)}));
}

static uint64_t place_of(const struct scenario *s, enum record_state state) {
	return place_pack(state, s->path->depth - 1, s->weight, s->path->level[0].account);
}

/* As an owner, or the daemon, that was killed or sleeps after so many steps of the cycle; no party has
 * come upon its tags. Those of the way down have seqs of the cycle that begins at `down`. */
static void half_way(
	const struct scenario *s, enum record_state state, uint32_t steps, uint64_t apart) {
	uint64_t base = base_of();
	uint32_t depth = s->path->depth;

	record_put(place_of(s, state), base);
	for (uint32_t k = 0; k < depth; k++) {
		if (steps >= 2 * depth - k)
			tag_put(s, k, seq_down(base + apart, k), 0);
		else if (steps >= k + 1)
			tag_put(s, k, seq_up(base, k), s->weight);
	}
	slot = seq_up(base, depth - 1);
}

static void before_charged(const struct scenario *s) {
	half_way(s, RECORD_PLACED, 2, 0);
}

static void before_charged_one(const struct scenario *s) {
	half_way(s, RECORD_PLACED, 1, 0);
}

/* R1 at the top is made. */
static void before_descent(const struct scenario *s) {
	half_way(s, RECORD_PLACED, s->path->depth + 1, 0);
}

/* By the daemon, of a slot that was held. */
static void before_revocation(const struct scenario *s) {
	half_way(s, RECORD_PLACED, s->path->depth + 1, BERTH_CYCLE);
}

/* V1 is made. */
static void before_seized(const struct scenario *s) {
	half_way(s, RECORD_SEIZED, s->path->depth, 0);
}

/* Moreover N1, and the first R1. */
static void before_amid_v2(const struct scenario *s) {
	half_way(s, RECORD_SEIZED, s->path->depth + 1, 0);
	record_put(place_of(s, RECORD_SEIZED), slot);
}

/* Another process has come and gone since, and noted the tags. */
static void others_note(const struct scenario *s) {
	ck_assert_int_eq(take(R_OTHER, s->path, 1), 0);
	ck_assert_int_eq(give(R_OTHER), 0);
}

static void before_held_noted(const struct scenario *s) {
	before_held(s);
	others_note(s);
}

static void before_charged_noted(const struct scenario *s) {
	before_charged(s);
	others_note(s);
}

static void before_descent_noted(const struct scenario *s) {
	before_descent(s);
	others_note(s);
}

static void before_revocation_noted(const struct scenario *s) {
	before_revocation(s);
	others_note(s);
}

/* Of cycles long past, as steps that charged these very levels. */
static void before_old_tags(const struct scenario *s) {
	uint64_t base = base_of();

	record_put(place_pack(RECORD_FREE, 0, 0, 0), base + (uint64_t)2 * BERTH_CYCLE);
	for (uint32_t k = 0; k < s->path->depth; k++)
		tag_put(s, k, seq_up(base, k), 0);
}

/* It was placed on a path that shares cells with this one, and has made no step there. */
static void before_old_tags_elsewhere(const struct scenario *s) {
	const struct scenario there = {.path = &tree, .weight = s->weight};
	uint64_t base = base_of();

	record_put(place_of(&there, RECORD_PLACED), base + (uint64_t)2 * BERTH_CYCLE);
	for (uint32_t k = 0; k < s->path->depth; k++)
		tag_put(s, k, seq_up(base, k), 0);
}

/* The index of an account that was removed is used again below other parents, whose cells have never
 * borne a tag of the record's; or old ones. What it did there last is noted (counter_note_cell). */
static void before_index_used_again(const struct scenario *s) {
	before_old_tags(s);
	record_put(place_of(s, RECORD_PLACED), noted());
}

/* It has made a million cycles since the record was told of a step. */
static void before_far(const struct scenario *s) {
	uint64_t base = base_of(), far = base + ((uint64_t)BERTH_CYCLE << 20);

	record_put(place_of(s, RECORD_PLACED), base);
	for (uint32_t k = 0; k < s->path->depth; k++)
		tag_put(s, k, seq_down(far, k), 0);
}

static int act_acquire(const struct scenario *s) {
	return take(R_CHILD, s->path, s->weight);
}

/* As the library does it: a look, and then what goes on from there where it can. */
static int act_acquire_fast(const struct scenario *s) {
	const struct record_at at = {map_record(f.map, R_CHILD), R_CHILD};
	struct slot_request request = {.path = s->path, .weight = s->weight, .stamp = stamp};
	uint64_t seq;
	uint32_t level;
	int r = counter_check(f.map, s->path, s->weight, request.seen, &level);

	return r == 0 ? counter_acquire(f.map, at, &request, &seq, &level) : r;
}

static int act_release_fast(const struct scenario *s) {
	const struct record_at at = {map_record(f.map, R_CHILD), R_CHILD};
	uint32_t given = counter_release_fast(f.map, at, s->path, slot);

	if (given == s->path->depth)
		return 0;
	return given > 0 ? counter_release_continue(f.map, at, s->path, given, slot)
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

/* The owner takes and gives back elsewhere. */
static int act_leave(const struct scenario *s) {
	const struct scenario elsewhere = {.path = s->path == &leaf ? &tree : &leaf, .weight = 1};

	return act_both(&elsewhere);
}

/* The owner goes on: gives back, takes and gives back here, and elsewhere. */
static int act_go_on(const struct scenario *s) {
	(void)act_release(s);
	(void)act_both(s);
	return act_leave(s);
}

/* As daemon/admin.c: of what it sees, a slot or one that is being taken; a release that was begun it brings
 * to its end, and that is no success. */
static int act_revoke(const struct scenario *s) {
	struct snapshot seen = snapshot_of(R_CHILD);

	(void)s;
	if (place_state(seen.place) != RECORD_PLACED || seq_step(seen.seq) == 0)
		return -EAGAIN;
	if (seq_goes_down(seen.seq))
		return counter_finish(f.map, R_CHILD) < 0 ? -EUCLEAN : -EAGAIN;
	return counter_revoke(f.map, R_CHILD, seen);
}

static int act_close(const struct scenario *s) {
	(void)s;
	return counter_close(f.map, R_CHILD);
}

static int act_settle(const struct scenario *s) {
	(void)s;
	return counter_finish_seized(f.map, R_CHILD);
}

static int act_finish(const struct scenario *s) {
	(void)s;
	return counter_finish(f.map, R_CHILD);
}

static int act_open(const struct scenario *s) {
	(void)s;
	return counter_open(f.map, R_CHILD);
}

/* An owner without the memory to go on. */
static int act_abandon(const struct scenario *s) {
	(void)s;
	counter_seize(f.map, R_CHILD);
	return 0;
}

/* Its words looked like noise. */
static int act_discard(const struct scenario *s) {
	struct snapshot seen = snapshot_of(R_CHILD);

	(void)s;
	return place_state(seen.place) == RECORD_FREE ? counter_discard(f.map, R_CHILD, seen)
						      : -EAGAIN;
}

/* What was counted is right, and is written once more, unless the cell isn't what was seen. */
static int act_repair(const struct scenario *s) {
	int r = 0;

	for (uint32_t k = 0; k < s->path->depth && r == 0; k++) {
		struct pair seen = cell_load(s->path->level[k].cell);

		r = counter_repair(f.map, s->path->level[k].account, seen, count_of(seen.first));
	}
	return r;
}

/* As daemon/directory-write.c removes an account, once its generation is another. */
static int act_part(const struct scenario *s) {
	int r = counter_bump(f.map, s->path->level[0].account);

	return r == 0 ? counter_note_cell(f.map, s->path->level[0].account) : r;
}

/* An owner whose release a new daemon has come upon: it goes on with it itself, and takes another. */
static int act_finish_and_hold(const struct scenario *s) {
	(void)act_finish(s);
	return take(R_CHILD, s->path, s->weight);
}

static int act_bump(const struct scenario *s) {
	int r = 0;

	for (uint32_t k = 0; k < s->path->depth && r == 0; k++)
		r = counter_bump(f.map, s->path->level[k].account);
	return r;
}

/* Another process. */
static int act_come_and_go(const struct scenario *s) {
	int r = take(R_OTHER, s->path, 1);

	return r == 0 ? give(R_OTHER) : r;
}

static const struct scenario scenarios[] = {
	{"quick acquire", &leaf, 1, -1, before_rest, act_acquire_fast, false, NULL, false},
	{"quick acquire, placed first", &leaf, 1, -1, before_nothing, act_acquire_fast, false, NULL,
		false},
	{"quick acquire, placed from next door", &leaf, 2, -1, before_next_door, act_acquire_fast,
		false, NULL, false},
	{"quick acquire, placed from elsewhere", &leaf, 1, -1, before_elsewhere, act_acquire_fast,
		false, NULL, false},
	{"quick acquire, denied", &leaf, 2, 0, before_rest, act_acquire_fast, false, NULL, false},
	{"quick acquire, three levels", &tree, 2, -1, before_rest, act_acquire_fast, false, NULL,
		false},
	{"quick acquire, denied at the third level", &tree, 2, 2, before_rest, act_acquire_fast,
		false, NULL, false},
	{"quick release", &leaf, 2, -1, before_held, act_release_fast, false, NULL, false},
	{"quick release, three levels", &tree, 2, -1, before_held, act_release_fast, false, NULL,
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
	{"resuming a release", &tree, 2, -1, before_descent, act_finish, true, NULL, false},
	{"resuming a release racing its owner, which holds another slot then", &tree, 2, -1,
		before_descent, act_finish, true, act_finish_and_hold, false},
	{"resuming before V2", &tree, 2, -1, before_seized, act_finish, true, NULL, false},
	{"resuming amid V2", &tree, 2, -1, before_amid_v2, act_finish, true, NULL, false},
	{"bump", &tree, 2, -1, before_charged, act_bump, true, NULL, false},
	{"quick acquire racing a revoke", &leaf, 3, -1, before_rest, act_acquire_fast, false,
		act_revoke, false},
	{"quick acquire racing a bump", &leaf, 3, -1, before_rest, act_acquire_fast, false,
		act_bump, false},
	{"quick acquire racing another's", &leaf, 3, -1, before_rest, act_acquire_fast, false,
		act_come_and_go, false},
	{"quick acquire racing the end of its session", &leaf, 3, -1, before_rest, act_acquire_fast,
		false, act_close, false},
	{"quick acquire from next door, racing a bump", &leaf, 3, -1, before_next_door,
		act_acquire_fast, false, act_bump, false},
	{"quick acquire from next door, racing another's", &leaf, 3, -1, before_next_door,
		act_acquire_fast, false, act_come_and_go, false},
	{"quick acquire from next door, racing the end of its session", &leaf, 3, -1,
		before_next_door, act_acquire_fast, false, act_close, false},
	{"quick acquire, three levels, racing another's", &tree, 3, -1, before_rest,
		act_acquire_fast, false, act_come_and_go, false},
	{"quick acquire, three levels, racing a revoke", &tree, 3, -1, before_rest,
		act_acquire_fast, false, act_revoke, false},
	{"quick release racing a revoke", &leaf, 3, -1, before_held, act_release_fast, false,
		act_revoke, true},
	{"quick release, three levels, racing a revoke", &tree, 3, -1, before_held,
		act_release_fast, false, act_revoke, true},
	{"quick release, three levels, racing a slow one", &tree, 3, -1, before_held,
		act_release_fast, false, act_release, true},
	{"quick release, three levels, racing another's coming and going", &tree, 3, -1,
		before_held, act_release_fast, false, act_come_and_go, false},
	{"quick release, three levels, racing a new daemon", &tree, 3, -1, before_held,
		act_release_fast, false, act_finish, false},
	{"quick release, three levels, racing the end of its session", &tree, 3, -1, before_held,
		act_release_fast, false, act_close, false},
	{"quick release racing a slow one", &leaf, 3, -1, before_held, act_release_fast, false,
		act_release, true},
	{"slow release racing a quick one", &leaf, 3, -1, before_held, act_release, false,
		act_release_fast, true},
	{"quick release racing another's coming and going", &leaf, 3, -1, before_held,
		act_release_fast, false, act_come_and_go, false},
	{"acquire racing a revoke", &tree, 3, -1, before_rest, act_acquire, false, act_revoke,
		false},
	{"acquire, one level, racing a revoke", &leaf, 3, -1, before_rest, act_acquire, false,
		act_revoke, false},
	{"acquire racing a bump", &tree, 3, -1, before_rest, act_acquire, false, act_bump, false},
	{"acquire racing a bump, placed from elsewhere", &tree, 3, -1, before_elsewhere,
		act_acquire, false, act_bump, false},
	{"acquire racing a new daemon", &tree, 3, -1, before_rest, act_acquire, false, act_finish,
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
	{"release racing a new daemon", &tree, 3, -1, before_held, act_release, false, act_finish,
		false},
	{"release racing a bump", &tree, 3, -1, before_held, act_release, false, act_bump, false},
	{"revoke racing a release", &tree, 3, -1, before_held, act_revoke, true, act_release, true},
	{"revoke, one level, racing a release", &leaf, 3, -1, before_held, act_revoke, true,
		act_release, true},
	{"revoke racing another", &tree, 3, -1, before_held, act_revoke, true, act_revoke, false},
	{"revoke racing its owner, which goes on", &tree, 3, -1, before_held, act_revoke, true,
		act_go_on, false},
	{"bump racing its owner, which goes on", &tree, 3, -1, before_held, act_bump, true,
		act_go_on, false},
	{"bump, one level, racing its owner, which goes on", &leaf, 3, -1, before_held, act_bump,
		true, act_go_on, false},
	{"bump racing its owner, which places it among old tags", &tree, 2, -1, before_old_tags,
		act_bump, true, act_acquire, false},
	{"bump racing another", &tree, 2, -1, before_charged, act_bump, true, act_bump, false},
	{"bump racing a new daemon", &tree, 2, -1, before_amid_v2, act_bump, true, act_finish,
		false},
	{"quick acquire, eight levels", &deep, 1, -1, before_rest, act_acquire_fast, false, NULL,
		false},
	{"quick release, eight levels", &deep, 1, -1, before_held, act_release_fast, false, NULL,
		false},
	{"quick acquire, three levels, racing a bump", &tree, 3, -1, before_rest, act_acquire_fast,
		false, act_bump, false},
	{"quick acquire, three levels, racing the end of its session", &tree, 3, -1, before_rest,
		act_acquire_fast, false, act_close, false},
	{"quick acquire far from what is noted, racing another's", &tree, 2, -1, before_far,
		act_acquire_fast, false, act_come_and_go, false},
	{"quick release, three levels, of a slot that was noted", &tree, 2, -1, before_held_noted,
		act_release_fast, false, NULL, false},
	{"quick release, three levels, racing a bump", &tree, 3, -1, before_held, act_release_fast,
		false, act_bump, false},
	{"acquire where an index is used again", &tree, 2, -1, before_index_used_again, act_acquire,
		false, NULL, false},
	{"acquire where an index is used again, racing a bump", &tree, 2, -1,
		before_index_used_again, act_acquire, false, act_bump, false},
	{"end of a session where an index is used again", &tree, 2, -1, before_index_used_again,
		act_close, true, NULL, false},
	{"revoke of a slot that was noted", &tree, 2, -1, before_held_noted, act_revoke, true, NULL,
		false},
	{"revoke of a slot, eight levels", &deep, 2, -1, before_held, act_revoke, true, NULL,
		false},
	{"revoke of a charge that was noted", &tree, 2, -1, before_charged_noted, act_revoke, true,
		NULL, false},
	{"revoke of a charge of one level", &tree, 2, -1, before_charged_one, act_revoke, true,
		NULL, false},
	{"revoke that finishes a release", &tree, 2, -1, before_descent, act_revoke, true, NULL,
		false},
	{"revoke that finishes a release that was noted", &tree, 2, -1, before_descent_noted,
		act_revoke, true, NULL, false},
	{"revoke of a slot, racing another's coming and going", &tree, 2, -1, before_held,
		act_revoke, true, act_come_and_go, false},
	{"revoke of a charge racing its owner, which goes on", &tree, 2, -1, before_charged,
		act_revoke, true, act_go_on, false},
	{"end of a session with a slot that was noted", &tree, 2, -1, before_held_noted, act_close,
		true, NULL, false},
	{"end of a session in a charge of one level", &tree, 2, -1, before_charged_one, act_close,
		true, NULL, false},
	{"end of a session in a revocation", &tree, 2, -1, before_revocation, act_close, true, NULL,
		false},
	{"end of a session in a revocation that was noted", &tree, 2, -1, before_revocation_noted,
		act_close, true, NULL, false},
	{"end of a session racing its owner, which goes on", &tree, 2, -1, before_held, act_close,
		true, act_go_on, false},
	{"resuming a release, eight levels", &deep, 2, -1, before_descent, act_finish, true, NULL,
		false},
	{"resuming a release that was noted", &tree, 2, -1, before_descent_noted, act_finish, true,
		NULL, false},
	{"resuming a revocation", &tree, 2, -1, before_revocation, act_finish, true, NULL, false},
	{"resuming a revocation racing its owner, which goes on", &tree, 2, -1, before_revocation,
		act_finish, true, act_go_on, false},
	{"resuming a release racing the end of its session", &tree, 2, -1, before_descent,
		act_finish, true, act_close, false},
	{"opening", &tree, 2, -1, before_closed, act_open, true, NULL, false},
	{"opening racing another", &tree, 2, -1, before_closed, act_open, true, act_open, false},
	{"opening racing its owner", &tree, 2, -1, before_closed, act_open, true, act_both, false},
	{"abandoning a slot", &tree, 2, -1, before_held, act_abandon, true, NULL, false},
	{"abandoning a slot racing a revoke", &tree, 2, -1, before_held, act_abandon, true,
		act_revoke, false},
	{"discarding", &tree, 2, -1, before_nothing, act_discard, true, NULL, false},
	{"discarding racing its owner", &tree, 2, -1, before_nothing, act_discard, true, act_both,
		false},
	{"repair", &tree, 2, -1, before_charged, act_repair, true, NULL, false},
	{"repair racing a release", &tree, 2, -1, before_held, act_repair, true, act_release,
		false},
	{"repair racing its owner, which goes on", &tree, 2, -1, before_held, act_repair, true,
		act_go_on, false},
	{"repair racing another", &tree, 2, -1, before_charged, act_repair, true, act_repair,
		false},
	{"removal of an account where it rests", &tree, 2, -1, before_rest, act_part, true, NULL,
		false},
	{"removal of an account where it rests, racing another's coming and going", &tree, 2, -1,
		before_rest, act_part, true, act_come_and_go, false},
	{"removal of an account racing its owner, which places it elsewhere", &tree, 2, -1,
		before_rest, act_part, true, act_leave, false},
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

/* The how manieth step of the cycle it is: 2 * depth is the last. */
static uint32_t step_of(uint32_t depth, uint64_t seq) {
	return seq_goes_down(seq) ? 2 * depth - seq_charged(seq) : seq_step(seq);
}

/* What others can see of the child: where its record stands, which step it is at, as far as that is
 * noted, and which cells bear its tag. */
static uint32_t child_seen(const struct scenario *s) {
	struct snapshot newest = snapshot_of(R_CHILD);
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

/* At each instruction of a recording. */
static void look(void *data) {
	struct snapshot newest = snapshot_of(R_CHILD);
	uint32_t depth = place_top(newest.place) + 1, step = step_of(depth, newest.seq);
	bool is_noted = newest.seq == noted();
	const struct run *r = data;

	all->state[place_state(newest.place)]++;
	if (place_state(newest.place) == RECORD_PLACED)
		all->placed[depth][step == 0 && !is_noted ? 2 * depth : step][is_noted]++;
	else if (place_state(newest.place) == RECORD_SEIZED)
		all->seized[depth][seq_charged(newest.seq)][is_noted]++;
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
	uint32_t mine = snapshot_is_held(snapshot_of(R_CHILD)) ? s->weight : 0;

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

/* What no party wanted back stays. */
static void check_kept(const struct run *r, int raced) {
	if (r->s->race == act_finish_and_hold && raced == 0)
		ck_assert_msg(snapshot_is_held(snapshot_of(R_CHILD)),
			"%s, at instruction %zu: the slot is gone", r->s->name, r->k);
}

/* A revoke, or a new daemon, leaves nothing on the way down, wherever its owner stands. */
static void check_raced(const struct run *r) {
	struct snapshot now = snapshot_of(R_CHILD);

	if (r->s->race != act_revoke && r->s->race != act_finish)
		return;
	ck_assert_msg(place_state(now.place) != RECORD_PLACED || !seq_goes_down(now.seq),
		"%s, at instruction %zu: a release is left halfway", r->s->name, r->k);
	if (r->s->once)
		ck_assert_msg(seq_charged(now.seq) == 0,
			"%s, at instruction %zu: %u levels are charged by what was taken back",
			r->s->name, r->k, seq_charged(now.seq));
}

/* Once an account is removed, `noted` alone tells of the records that rest there. */
static void check_parted(const struct run *r) {
	struct snapshot now = snapshot_of(R_CHILD);

	if (r->s->act == act_part && place_account(now.place) == r->s->path->level[0].account)
		ck_assert_msg(now.seq == noted(), "%s, at instruction %zu: %#llx isn't noted",
			r->s->name, r->k, (unsigned long long)now.seq);
}

/* A new daemon goes on where the last one was, or there is still the same; the session ends. */
static void run_end(const struct run *r) {
	if (r->s->by_daemon || r->k & 1)
		ck_assert_int_eq(counter_finish(f.map, R_CHILD), 0);
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
	check_raced(r);
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
		check_parted(r);
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
			/* As killed at once: no party does anything in between. */
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

/* Of the steps that a record of this depth makes, each was seen before any party had noted it; what the
 * record was seized with, before it was noted, and after. */
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

START_TEST(states_of_all_kinds_were_seen) {
	if (getenv("SCENARIO"))
		return;
	check_seen(1);
	check_seen(3);
	check_seen(BERTH_LEVELS_MAX);
	/* At the base, where it was placed; on its way up, and with the slot, and a party has noted it. */
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
