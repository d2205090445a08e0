/* SPDX-License-Identifier: MIT */

/* The counter, step by step: what each operation does, and what every death in its middle leaves. */

#include "fixture.h"

#define R1    16u
#define R2    17u
#define R_FAR 32u /* of another range */
/* Of another window, which nobody has touched. */
#define R_UNMAPPED ((uint32_t)(MAP_WINDOW / sizeof(struct record)) * 2)

static struct fixture f;
static struct path leaf, tree; /* one level; three levels */
static struct path deep;       /* as many as there may be */
static const struct stamp stamp = {.since = 1, .label = "test"};

static void setup(void) {
	const struct capacities want = {64, 2 * R_UNMAPPED, 4};

	fixture_new(&f, &want);
	leaf = fixture_path(&f, "alice", 5);
	(void)fixture_path(&f, "acme", 6);
	(void)fixture_path(&f, "acme/bob", 5);
	tree = fixture_path(&f, "acme/bob/web", 4);
	deep = fixture_path(&f, "a/b/c/d/e/f/g/h", 9);
	fixture_open_records(&f, 16, 17);
}

static void teardown(void) {
	fixture_free(&f);
}

static uint32_t count(const struct path *p, uint32_t level) {
	return counter_count(f.map, p->level[level].account);
}

static struct snapshot newest_of(uint32_t record) {
	struct snapshot s;

	ck_assert_int_eq(counter_record(f.map, record, &s), 0);
	return s;
}

/* As it stands there, without what only the cells' tags say. */
static struct snapshot raw_of(uint32_t record) {
	const struct record *r = map_record(f.map, record);

	return (struct snapshot){load_total(&r->place), load_total(&r->noted)};
}

static bool same(struct snapshot a, struct snapshot b) {
	return a.place == b.place && a.seq == b.seq;
}

static struct pair cell_of(const struct path *p, uint32_t level) {
	return cell_load(p->level[level].cell);
}

static bool same_cell(struct pair a, struct pair b) {
	return a.first == b.first && a.second == b.second;
}

static void record_put(uint32_t record, struct snapshot s) {
	store_total(&map_record(f.map, record)->place, s.place);
	store_total(&map_record(f.map, record)->noted, s.seq);
}

static struct snapshot placed(const struct path *p, uint32_t weight, uint64_t seq) {
	return (struct snapshot){
		place_pack(RECORD_PLACED, p->depth - 1, weight, p->level[0].account), seq};
}

static struct snapshot seized(const struct path *p, uint32_t weight, uint64_t seq) {
	return (struct snapshot){
		place_pack(RECORD_SEIZED, p->depth - 1, weight, p->level[0].account), seq};
}

static struct snapshot unplaced(enum record_state state, uint64_t seq) {
	return (struct snapshot){place_pack(state, 0, 0, 0), seq};
}

static void cell_put(const struct path *p, uint32_t level, uint32_t count, uint64_t tag) {
	store_total(&p->level[level].cell->count, count_pack(count, 0));
	store_total(&p->level[level].cell->tag, tag);
}

static int take_try(uint32_t record, const struct path *p, uint32_t weight) {
	uint32_t level;
	uint64_t seq;

	return record_acquire(f.map, record, p, weight, &stamp, &seq, &level);
}

static uint64_t take(uint32_t record, const struct path *p, uint32_t weight) {
	uint32_t level;
	uint64_t seq;

	ck_assert_int_eq(record_acquire(f.map, record, p, weight, &stamp, &seq, &level), 0);
	return seq;
}

static void check_counts(const struct path *p, uint32_t l0, uint32_t l1, uint32_t l2) {
	ck_assert_uint_eq(count(p, 0), l0);
	ck_assert_uint_eq(count(p, 1), l1);
	ck_assert_uint_eq(count(p, 2), l2);
}

/* As ck_assert_msg(), which makes a system call each time, where there are a million. */
#define must(what, ...)                            \
	do {                                       \
		if (!(what))                       \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

/* Placed on the path, and nothing charged. */
static void check_rests(uint32_t record, const struct path *p) {
	struct snapshot s = newest_of(record);

	ck_assert_int_eq(place_state(s.place), RECORD_PLACED);
	ck_assert_uint_eq(place_account(s.place), p->level[0].account);
	ck_assert_uint_eq(seq_step(s.seq), 0);
}

/* Each level's limit alone is this. */
static void limit_put(const struct path *p, uint32_t level, uint32_t limit) {
	struct entry *entry = map_entry(f.map, p->level[level].account);
	uint64_t said = load_relaxed(&entry->word);

	store_relaxed(&entry->word, entry_pack(limit, entry_flags(said), entry_generation(said)));
}

START_TEST(an_acquire_charges_every_level_and_a_release_gives_each_back) {
	uint64_t seq = take(R1, &tree, 3);

	ck_assert_uint_eq(tree.depth, 3);
	check_counts(&tree, 3, 3, 3);
	ck_assert(snapshot_is_held(newest_of(R1)));
	ck_assert_uint_eq(newest_of(R1).seq, seq);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	check_counts(&tree, 0, 0, 0);
	check_rests(R1, &tree);
}
END_TEST

/* The same as layout.h says, by walking. */
START_TEST(a_seq_tells_the_step_and_what_is_charged_after_it) {
	for (uint32_t depth = 1; depth <= BERTH_LEVELS_MAX; depth++)
		for (uint64_t base = 0; base <= 160; base += BERTH_CYCLE) {
			uint64_t seq = base;

			ck_assert_uint_eq(seq_charged(seq), 0);
			for (uint32_t k = 0; k < depth; k++) {
				ck_assert_uint_eq(seq_up(base, k), ++seq);
				ck_assert_uint_eq(seq_charged(seq), k + 1);
				ck_assert(!seq_goes_down(seq));
				ck_assert_uint_eq(seq_base(seq), base);
			}
			for (uint32_t k = depth; k-- > 0;) {
				ck_assert_uint_gt(seq_down(base, k), seq);
				seq = seq_down(base, k);
				ck_assert_uint_eq(seq_charged(seq), k);
				ck_assert(seq_goes_down(seq) == (k > 0));
			}
			/* The cycle's last step is where the next one begins. */
			ck_assert_uint_eq(seq, base + BERTH_CYCLE);
			ck_assert_uint_eq(seq_rest(seq), seq);
			ck_assert_uint_eq(seq_rest(base + 1), seq);
		}
}
END_TEST

START_TEST(a_record_that_is_placed_is_not_written_again) {
	uint64_t first = take(R1, &tree, 2), seq;
	struct snapshot raw = raw_of(R1);

	ck_assert_int_eq(counter_release(f.map, R1, first), 0);
	ck_assert(same(raw_of(R1), raw));
	seq = take(R1, &tree, 2);
	ck_assert(same(raw_of(R1), raw));
	ck_assert_uint_eq(seq, first + BERTH_CYCLE);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	for (uint32_t k = 0; k < 3; k++)
		ck_assert_uint_eq(
			cell_of(&tree, k).second, tag_pack(R1, seq_down(seq_base(seq), k)));
}
END_TEST

START_TEST(a_record_is_placed_anew_for_another_path_or_weight_above_all_it_has_used) {
	uint64_t seq = take(R1, &leaf, 2), last;

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	last = newest_of(R1).seq;
	seq = take(R1, &leaf, 1);
	ck_assert_uint_eq(place_weight(raw_of(R1).place), 1);
	ck_assert_uint_gt(raw_of(R1).seq, last);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	last = newest_of(R1).seq;
	seq = take(R1, &tree, 1);
	ck_assert_uint_eq(raw_of(R1).place, placed(&tree, 1, 0).place);
	ck_assert_uint_gt(raw_of(R1).seq, last);
	ck_assert_uint_eq(seq_step(raw_of(R1).seq), 0);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	last = newest_of(R1).seq;
	seq = take(R1, &leaf, 1);
	ck_assert_uint_gt(raw_of(R1).seq, last);
	ck_assert_uint_eq(count(&leaf, 0), 1);
	check_counts(&tree, 0, 0, 0);
}
END_TEST

START_TEST(a_refusal_at_the_lowest_level_writes_nothing) {
	struct snapshot before = raw_of(R1);
	struct pair cell;
	uint32_t level;
	uint64_t seq;

	(void)take(R2, &leaf, 5);
	cell = cell_of(&leaf, 0);
	ck_assert_int_eq(record_acquire(f.map, R1, &leaf, 1, &stamp, &seq, &level), -EDQUOT);
	ck_assert_uint_eq(level, 0);
	ck_assert(same(raw_of(R1), before));
	ck_assert(same_cell(cell_of(&leaf, 0), cell));
}
END_TEST

/* By that a process tells it from a release of its own. */
START_TEST(a_revoke_goes_on_to_the_next_cycle) {
	const struct path *const paths[] = {&leaf, &tree, &deep};

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		const struct path *p = paths[i];
		uint64_t seq = take(R1, p, 1);

		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		ck_assert_uint_eq(newest_of(R1).seq, seq_rest(seq));
		seq = take(R1, p, 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
		ck_assert_uint_eq(newest_of(R1).seq, seq_rest(seq) + BERTH_CYCLE);
		check_rests(R1, p);
		for (uint32_t k = 0; k < p->depth; k++) {
			ck_assert_uint_eq(count(p, k), 0);
			ck_assert_uint_eq(
				cell_of(p, k).second, tag_pack(R1, seq_down(seq_rest(seq), k)));
		}
		ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
		/* The record is as good as before. */
		seq = take(R1, p, 1);
		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	}
}
END_TEST

/* Without counter_check(), as when the level fills up after it. */
START_TEST(a_refusal_at_any_level_leaves_every_level_as_it_was) {
	for (uint32_t k = 0; k < deep.depth; k++) {
		struct snapshot before = raw_of(R1);
		uint32_t level = 9;
		uint64_t seq;

		limit_put(&deep, k, 1);
		ck_assert_int_eq(
			record_acquire(f.map, R1, &deep, 2, &stamp, &seq, &level), -EDQUOT);
		ck_assert_uint_eq(level, k);
		ck_assert_uint_eq(load_relaxed(&deep.level[k].cell->denied), 1);
		for (uint32_t j = 0; j < deep.depth; j++) {
			ck_assert_uint_eq(count(&deep, j), 0);
			ck_assert_uint_eq(tag_record(cell_of(&deep, j).second), j < k ? R1 : 0);
		}
		if (k == 0)
			ck_assert(same(raw_of(R1), before));
		else
			check_rests(R1, &deep);
		limit_put(&deep, k, 9);
	}
}
END_TEST

/* In the same cycle; the next one begins where that ended. */
START_TEST(a_refusal_above_a_charged_level_leaves_the_record_at_rest) {
	uint64_t seq = take(R1, &tree, 2);

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	limit_put(&tree, 1, 1);
	ck_assert_int_eq(take_try(R1, &tree, 2), -EDQUOT);
	ck_assert_uint_eq(newest_of(R1).seq, seq_rest(seq) + BERTH_CYCLE);
	check_rests(R1, &tree);
	check_counts(&tree, 0, 0, 0);
	limit_put(&tree, 1, 5);
	ck_assert_uint_eq(take(R1, &tree, 2), seq + 2 * BERTH_CYCLE);
}
END_TEST

START_TEST(the_check_before_writes_nothing_but_the_denial) {
	struct pair before, seen[BERTH_LEVELS_MAX];
	uint32_t level;

	(void)take(R1, &leaf, 5);
	before = cell_of(&leaf, 0);
	ck_assert_int_eq(counter_check(f.map, &leaf, 1, seen, &level), -EDQUOT);
	ck_assert_uint_eq(level, 0);
	ck_assert(same_cell(before, cell_of(&leaf, 0)));
	ck_assert_uint_eq(load_relaxed(&leaf.level[0].cell->denied), 1);
	ck_assert_int_eq(counter_check(f.map, &tree, 1, seen, &level), 0);
	for (uint32_t k = 0; k < tree.depth; k++)
		ck_assert(same_cell(seen[k], cell_of(&tree, k)));
}
END_TEST

/* An acquire charges what was seen; if another party changes a cell in between, it looks again. */
START_TEST(an_acquire_by_a_pair_that_is_gone_counts_right) {
	const struct record_at at = {map_record(f.map, R1), R1};
	struct slot_request request = {.path = &leaf, .weight = 2, .stamp = stamp};
	uint32_t level;
	uint64_t seq;

	for (int placed_before = 0; placed_before < 2; placed_before++) {
		ck_assert_int_eq(counter_check(f.map, &leaf, 2, request.seen, &level), 0);
		(void)take(R2, &leaf, 1);
		ck_assert_int_eq(counter_acquire(f.map, at, &request, &seq, &level), 0);
		ck_assert_uint_eq(count(&leaf, 0), 3);
		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		ck_assert_int_eq(counter_check(f.map, &leaf, 2, request.seen, &level), 0);
		limit_put(&leaf, 0, 2);
		ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
		ck_assert_int_eq(counter_acquire(f.map, at, &request, &seq, &level), -EDQUOT);
		ck_assert_uint_eq(level, 0);
		limit_put(&leaf, 0, 5);
		ck_assert_int_eq(counter_release(f.map, R2, newest_of(R2).seq), 0);
		ck_assert_uint_eq(count(&leaf, 0), 0);
	}
}
END_TEST

/* A thread looks at a cell and is stopped before it claims. A sibling takes a slot there and gives
 * it back with the same record, uses it elsewhere, however often, and gives it back. */
START_TEST(a_look_from_before_the_claim_places_nothing) {
	const struct record_at at = {map_record(f.map, R1), R1};
	const struct path *const paths[] = {&leaf, &tree};

	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (int others = 0; others < 3; others++) {
			const struct path *p = paths[i];
			struct slot_request request = {.path = p, .weight = 1, .stamp = stamp};
			struct path away = fixture_path(&f, "away", 5);
			uint32_t level;
			uint64_t seq;

			if (others > 0)
				(void)take(R2, p, 1);
			ck_assert_int_eq(counter_check(f.map, p, 1, request.seen, &level), 0);
			ck_assert_int_eq(counter_release(f.map, R1, take(R1, p, 1)), 0);
			if (others > 1) /* and another record's tag lies over it */
				ck_assert_int_eq(
					counter_release(f.map, R_FAR, take(R_FAR, p, 1)), 0);
			ck_assert_int_eq(counter_release(f.map, R1, take(R1, &away, 1)), 0);
			record_put(R1, placed(&away, 1, newest_of(R1).seq + 1000 * BERTH_CYCLE));
			ck_assert_int_eq(counter_acquire(f.map, at, &request, &seq, &level), 0);
			for (uint32_t k = 0; k < p->depth; k++)
				ck_assert_uint_eq(count(p, k), 1 + (others > 0));
			ck_assert_uint_eq(count(&away, 0), 0);
			ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
			if (others > 0)
				ck_assert_int_eq(counter_release(f.map, R2, newest_of(R2).seq), 0);
			for (uint32_t k = 0; k < p->depth; k++)
				ck_assert_uint_eq(count(p, k), 0);
		}
}
END_TEST

START_TEST(a_slot_is_released_once) {
	const struct path *const paths[] = {&leaf, &tree};

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		uint64_t seq = take(R1, paths[i], 1), later;

		ck_assert_int_eq(counter_release(f.map, R1, seq + 1), -ENOENT);
		ck_assert_int_eq(counter_release(f.map, R1, seq - 1), -ENOENT);
		ck_assert_int_eq(counter_release(f.map, R1, seq + BERTH_CYCLE), -ENOENT);
		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		/* Nor is what it has come to by that, nor anything up to the next slot, a slot. */
		(void)take(R2, paths[i], 1);
		for (uint32_t n = 0; n < 2 * BERTH_CYCLE; n++)
			ck_assert_int_eq(counter_release(f.map, R1, seq + n), -ENOENT);
		ck_assert_uint_eq(count(paths[i], 0), 1);
		ck_assert_int_eq(counter_release(f.map, R2, newest_of(R2).seq), 0);
		later = take(R1, paths[i], 1);
		ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
		ck_assert_uint_eq(count(paths[i], 0), 1);
		ck_assert_int_eq(counter_release(f.map, R1, later), 0);
		ck_assert_uint_eq(count(paths[i], 0), 0);
	}
}
END_TEST

START_TEST(a_count_never_passes_its_field) {
	struct path p = fixture_path(&f, "free", BERTH_LIMIT_NONE);
	struct pair seen[BERTH_LEVELS_MAX];
	uint32_t level;
	uint64_t seq;

	cell_put(&p, 0, BERTH_COUNT_MAX - 1, 0);
	ck_assert_int_eq(counter_check(f.map, &p, 2, seen, &level), -EOVERFLOW);
	ck_assert_int_eq(record_acquire(f.map, R1, &p, 2, &stamp, &seq, &level), -EOVERFLOW);
	(void)take(R1, &p, 1);
	ck_assert_uint_eq(count(&p, 0), BERTH_COUNT_MAX);
	ck_assert_int_eq(record_acquire(f.map, R2, &p, 1, &stamp, &seq, &level), -EOVERFLOW);
	/* The answer to that is 8, which is no denial. */
	ck_assert_uint_eq(load_relaxed(&p.level[0].cell->denied), 0);
}
END_TEST

START_TEST(a_release_of_more_than_there_is_is_damage_and_no_wrap) {
	uint64_t seq = take(R1, &leaf, 3);

	cell_put(&leaf, 0, 2, tag_pack(R1, seq));
	ck_assert_int_eq(counter_release(f.map, R1, seq), COUNTER_NEEDS_RECOUNT);
	ck_assert_uint_eq(count(&leaf, 0), 2);
	check_rests(R1, &leaf);
}
END_TEST

/* Whatever takes back: the level that is damaged stays as it is, the others are right; and it is done. */
START_TEST(damage_at_one_level_keeps_nothing_from_the_others) {
	for (uint32_t k = 0; k < 3; k++)
		for (int how = 0; how < 4; how++) {
			uint64_t seq = take(R1, &tree, 3);
			struct snapshot seen;
			int r;

			cell_put(&tree, k, 1, cell_of(&tree, k).second);
			seen = newest_of(R1);
			if (how == 3)
				counter_seize(f.map, R1);
			r = how == 0   ? counter_release(f.map, R1, seq)
			    : how == 1 ? counter_revoke(f.map, R1, seen)
			    : how == 2 ? counter_close(f.map, R1)
				       : counter_finish_seized(f.map, R1);
			ck_assert_int_eq(r, COUNTER_NEEDS_RECOUNT);
			check_counts(&tree, k == 0, k == 1, k == 2);
			ck_assert_uint_eq(seq_charged(newest_of(R1).seq), 0);
			cell_put(&tree, k, 0, cell_of(&tree, k).second);
			if (how == 2)
				ck_assert_int_eq(counter_open(f.map, R1), 0);
		}
}
END_TEST

START_TEST(an_account_that_is_not_what_it_was_admits_nothing) {
	for (uint32_t k = 0; k < 3; k++) {
		struct path old = tree;

		ck_assert_int_eq(directory_renew(accounts_directory(f.accounts),
					 tree.level[k].account, 5, ENTRY_USABLE | ENTRY_CONFIGURED),
			0);
		ck_assert_int_eq(take_try(R1, &old, 1), -ESTALE);
		check_counts(&tree, 0, 0, 0);
		ck_assert_uint_eq(seq_step(newest_of(R1).seq), 0);
		tree.level[k].generation = entry_generation(
			directory_word(accounts_directory(f.accounts), tree.level[k].account));
		ck_assert_int_eq(counter_release(f.map, R1, take(R1, &tree, 1)), 0);
		ck_assert_int_eq(counter_close(f.map, R1), 0);
		ck_assert_int_eq(counter_open(f.map, R1), 0);
	}
}
END_TEST

/* A tag that names a record out of reach can't be noted, at whichever level it stands. */
START_TEST(an_acquire_that_lacks_memory_leaves_to_the_daemon_what_it_has_charged) {
	uint64_t seq = take(R1, &deep, 2);

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	store_relaxed(&f.segment->names->slots, R_UNMAPPED + BERTH_RANGE);
	map_close_files(f.map);
	for (uint32_t k = 0; k < deep.depth; k++) {
		uint64_t before = cell_of(&deep, k).second;

		ck_assert_int_eq(counter_note(f.map, before), 0);
		cell_put(&deep, k, 1, tag_pack(R_UNMAPPED, 5));
		ck_assert_int_eq(take_try(R1, &deep, 2), -ENOMEM);
		ck_assert_uint_eq(cell_of(&deep, k).second, tag_pack(R_UNMAPPED, 5));
		for (uint32_t j = 0; j < deep.depth; j++)
			ck_assert_uint_eq(count(&deep, j), j < k ? 2 : j == k);
		if (k > 0)
			ck_assert_int_eq(place_state(raw_of(R1).place), RECORD_SEIZED);
		/* The daemon has the memory. */
		cell_put(&deep, k, 0, before);
		ck_assert_int_eq(counter_finish_seized(f.map, R1), 0);
		for (uint32_t j = 0; j < deep.depth; j++)
			ck_assert_uint_eq(count(&deep, j), 0);
		ck_assert_int_eq(counter_release(f.map, R1, take(R1, &deep, 2)), 0);
	}
}
END_TEST

/* -- the end of the seqs ------------------------------------------------------------------------- */

/* Takes and gives back with a revocation among it, and judges after each. */
static void go_round(uint32_t record, const struct path *p, uint32_t others) {
	uint64_t seq = take(record, p, 1);

	for (uint32_t k = 0; k < p->depth; k++) {
		ck_assert_uint_eq(count(p, k), others + 1);
		ck_assert(counter_has_charged(raw_of(record), record, k, cell_of(p, k).second));
	}
	ck_assert(snapshot_is_held(newest_of(record)));
	ck_assert_uint_eq(newest_of(record).seq, seq);
	ck_assert_int_eq(counter_release(f.map, record, seq), 0);
	(void)take(record, p, 1);
	ck_assert_int_eq(counter_revoke(f.map, record, newest_of(record)), 0);
	for (uint32_t k = 0; k < p->depth; k++) {
		ck_assert_uint_eq(count(p, k), others);
		ck_assert(!counter_has_charged(raw_of(record), record, k, cell_of(p, k).second));
	}
	check_rests(record, p);
}

/* Wherever it stands, and for whatever path. */
START_TEST(a_record_that_has_used_up_its_seqs_takes_no_slot) {
	const struct path *const paths[] = {&leaf, &tree, &deep};
	const uint64_t end = BERTH_SEQ_LAST + BERTH_CYCLE;

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		const struct path *p = paths[i];
		struct snapshot last;

		record_put(R1, unplaced(RECORD_FREE, end - 3 * BERTH_CYCLE));
		ck_assert(!counter_is_retired(f.map, R1));
		/* It is placed a cycle on, and goes on for one more. */
		ck_assert_int_eq(counter_release(f.map, R1, take(R1, p, 1)), 0);
		(void)take(R1, p, 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
		last = newest_of(R1);
		ck_assert_uint_ge(last.seq, end);
		ck_assert_uint_le(last.seq, BERTH_SEQ_MASK);
		ck_assert_int_eq(take_try(R1, p, 1), -ERANGE);
		ck_assert_int_eq(take_try(R1, &leaf, 2), -ERANGE);
		ck_assert(same(newest_of(R1), last));
		/* Nor for its next owner, nor after any number of them. */
		for (int owner = 0; owner < 20; owner++) {
			ck_assert_int_eq(counter_close(f.map, R1), 0);
			ck_assert(counter_is_retired(f.map, R1));
			ck_assert_int_eq(counter_open(f.map, R1), 0);
			ck_assert_uint_le(raw_of(R1).seq, BERTH_SEQ_MASK);
			ck_assert_int_eq(take_try(R1, p, 1), -ERANGE);
		}
		for (uint32_t k = 0; k < p->depth; k++)
			ck_assert_uint_eq(count(p, k), 0);
	}
}
END_TEST

/* What was begun has room to end: released, revoked, or closed with its session. */
START_TEST(the_last_slot_of_all_is_given_back_like_any) {
	for (int how = 0; how < 3; how++) {
		uint64_t seq;

		record_put(R1, placed(&deep, 1, seq_base(BERTH_SEQ_LAST)));
		for (uint32_t k = 0; k < deep.depth; k++)
			cell_put(&deep, k, 0, 0);
		seq = take(R1, &deep, 1);
		if (how == 0)
			ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		else if (how == 1)
			ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
		else
			ck_assert_int_eq(counter_close(f.map, R1), 0);
		for (uint32_t k = 0; k < deep.depth; k++)
			ck_assert_uint_eq(count(&deep, k), 0);
		ck_assert_uint_le(newest_of(R1).seq, BERTH_SEQ_MASK);
		ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
	}
}
END_TEST

START_TEST(a_bump_that_has_no_room_refuses) {
	struct pair *words = (struct pair *)(void *)&leaf.level[0].cell->count;

	words->first = count_pack(3, BERTH_BUMPS_LAST - 1);
	ck_assert(counter_has_bumps(f.map, leaf.level[0].account, 1));
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	ck_assert(!counter_has_bumps(f.map, leaf.level[0].account, 1));
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), -EOVERFLOW);
	ck_assert_uint_eq(words->first, count_pack(3, BERTH_BUMPS_LAST));
	/* Slots come and go all the same. */
	ck_assert_int_eq(counter_release(f.map, R1, take(R1, &leaf, 1)), 0);
	ck_assert_uint_eq(words->first, count_pack(3, BERTH_BUMPS_LAST));
	/* A repair finds noise, which may have used them up. */
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, cell_of(&leaf, 0), 2), 0);
	ck_assert_uint_eq(count(&leaf, 0), 2);
	ck_assert(counter_has_bumps(f.map, leaf.level[0].account, 1));
}
END_TEST

/* `closed` is for work to come: whatever changes a count keeps it, and so does a bump. */
START_TEST(every_step_keeps_what_stands_beside_the_count) {
	struct cell *cell = leaf.level[0].cell;
	uint64_t beside = BERTH_CLOSED | 77, seq;

	store_total(&cell->count, beside);
	seq = take(R1, &leaf, 2);
	ck_assert_uint_eq(load_total(&cell->count), count_pack(2, beside));
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	ck_assert_uint_eq(load_total(&cell->count), beside);
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	ck_assert_uint_eq(load_total(&cell->count), beside + 1);
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, cell_of(&leaf, 0), 4), 0);
	ck_assert_uint_eq(load_total(&cell->count), count_pack(4, beside + 2));
}
END_TEST

/* -- notes: N1 ----------------------------------------------------------------------------------- */

enum changer {
	ACQUIRE,
	ACQUIRE_FROM_AFAR,
	RELEASE,
	RELEASE_FROM_AFAR,
	REVOKE,
	BUMP,
	REPAIR,
	CHANGERS
};

/* Another record, or the daemon, changes the cell of a level. */
static void change(enum changer who, const struct path *p, uint32_t level) {
	uint32_t account = p->level[level].account;
	struct pair seen = cell_of(p, level);
	struct path up = {.depth = p->depth - level};
	uint32_t other = who == ACQUIRE || who == RELEASE ? R2 : R_FAR;

	memcpy(up.level, &p->level[level], up.depth * sizeof(up.level[0]));
	switch (who) {
	case ACQUIRE:
	case ACQUIRE_FROM_AFAR:
		ck_assert_int_eq(take_try(other, &up, 1), 0);
		break;
	case RELEASE:
	case RELEASE_FROM_AFAR:
	case REVOKE:
		/* It holds its slot since before; its own tags are overwritten by now. */
		record_put(other, placed(&up, 1, up.depth));
		for (uint32_t k = 0; k < up.depth; k++)
			store_total(
				&up.level[k].cell->count, cell_of(&up, k).first + count_pack(1, 0));
		if (who == REVOKE)
			ck_assert_int_eq(counter_revoke(f.map, other, newest_of(other)), 0);
		else
			ck_assert_int_eq(counter_release(f.map, other, up.depth), 0);
		break;
	case BUMP:
		ck_assert_int_eq(counter_bump(f.map, account), 0);
		break;
	default:
		ck_assert_int_eq(counter_repair(f.map, account, seen, count_of(seen.first)), 0);
		break;
	}
	ck_assert(!same_cell(cell_of(p, level), seen));
	/* A bump leaves the tag where it is: it needs no note. */
	ck_assert((tag_record(cell_of(p, level).second) == R1) == (who == BUMP));
}

static void others_put_back(void) {
	for (uint32_t k = 0; k < 3; k++)
		cell_put(&tree, k, 1, 0);
	record_put(R2, unplaced(RECORD_FREE, 0));
	record_put(R_FAR, unplaced(RECORD_FREE, 0));
}

START_TEST(a_party_that_overwrites_a_tag_notes_it_in_the_record_that_it_names) {
	const uint64_t places[] = {placed(&tree, 1, 0).place, seized(&tree, 1, 0).place,
		placed(&leaf, 1, 0).place, unplaced(RECORD_FREE, 0).place,
		unplaced(RECORD_CLOSED, 0).place, UINT64_MAX};

	/* Wherever the record stands: a note is true whenever it is written. */
	for (size_t i = 0; i < ELEMENTS(places); i++)
		for (int who = 0; who < CHANGERS; who++)
			for (uint32_t level = 0; level < 3; level++)
				for (uint64_t step = 1; step <= 16; step++) {
					record_put(R1, (struct snapshot){places[i], 40});
					cell_put(&tree, level, 1, tag_pack(R1, 40 + step));
					change((enum changer)who, &tree, level);
					ck_assert_uint_eq(raw_of(R1).place, places[i]);
					ck_assert_uint_eq(
						raw_of(R1).seq, who != BUMP ? 40 + step : 40);
					others_put_back();
				}
}
END_TEST

START_TEST(a_tag_that_tells_nothing_new_is_not_noted) {
	for (int who = 0; who < CHANGERS; who++)
		for (uint64_t ago = 0; ago < 20; ago++) {
			record_put(R1, placed(&tree, 1, 40));
			cell_put(&tree, 0, 1, tag_pack(R1, 40 - ago));
			change((enum changer)who, &tree, 0);
			ck_assert(same(raw_of(R1), placed(&tree, 1, 40)));
			others_put_back();
		}
}
END_TEST

/* What a record has charged stays told, whatever comes after. */
START_TEST(a_note_keeps_what_was_charged) {
	for (int who = 0; who < CHANGERS; who++) {
		(void)take(R1, &leaf, 2);
		change((enum changer)who, &leaf, 0);
		ck_assert(snapshot_is_held(newest_of(R1)));
		ck_assert(counter_has_charged(raw_of(R1), R1, 0, cell_of(&leaf, 0).second));
		ck_assert_int_eq(counter_release(f.map, R1, newest_of(R1).seq), 0);
		for (uint32_t n = R1; n <= R_FAR; n++) {
			ck_assert_int_eq(counter_close(f.map, n), 0);
			ck_assert_int_eq(counter_open(f.map, n), 0);
		}
		ck_assert_uint_eq(count(&leaf, 0), 0);
	}
}
END_TEST

START_TEST(a_bump_changes_the_pair_and_neither_count_nor_tag) {
	struct pair first, second;

	(void)take(R1, &leaf, 2);
	first = cell_of(&leaf, 0);
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	second = cell_of(&leaf, 0);
	ck_assert(first.first != second.first);
	ck_assert_uint_eq(first.second, second.second);
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	ck_assert(cell_of(&leaf, 0).first != second.first);
	ck_assert_uint_eq(count(&leaf, 0), 2);
}
END_TEST

/* -- deaths -------------------------------------------------------------------------------------- */

#define OTHERS 1
#define WEIGHT 2

/* A record that goes round the path, and how far it has come when its owner dies. */
struct death {
	const struct path *path;
	enum record_state state;
	uint64_t base;
	uint32_t turn;    /* the level that refused it; the path's depth: none, it held the slot */
	bool revoked;     /* from the slot down it is the daemon, a cycle on */
	uint32_t made;    /* steps, of 2 * turn */
	uint32_t noted;   /* the one that the record knows of */
	uint32_t covered; /* levels whose tags another's change has overwritten, as bits */
};

static uint32_t death_level(const struct death *d, uint32_t n) {
	return n <= d->turn ? n - 1 : 2 * d->turn - n;
}

/* The seq of the n-th step. */
static uint64_t death_seq(const struct death *d, uint32_t n) {
	if (n <= d->turn)
		return d->base + n;
	return d->base + BERTH_CYCLE - death_level(d, n) + (d->revoked ? BERTH_CYCLE : 0);
}

static uint32_t death_charged(const struct death *d) {
	return d->made <= d->turn ? d->made : 2 * d->turn - d->made;
}

/* The newest step at the level; 0: none. */
static uint32_t death_newest(const struct death *d, uint32_t level) {
	uint32_t newest = 0;

	for (uint32_t n = 1; n <= d->made; n++)
		if (death_level(d, n) == level)
			newest = n;
	return newest;
}

/* False if that can't be: what isn't noted isn't overwritten. */
static bool death_put(const struct death *d) {
	for (uint32_t k = 0; k < d->path->depth; k++) {
		uint32_t n = death_newest(d, k);
		uint32_t now = OTHERS + (k < death_charged(d) ? WEIGHT : 0);
		bool covered = d->covered >> k & 1;

		if (covered && n > d->noted)
			return false;
		cell_put(d->path, k, now, covered || n == 0 ? k : tag_pack(R1, death_seq(d, n)));
	}
	record_put(R1, (struct snapshot){place_pack(d->state, d->path->depth - 1, WEIGHT,
						 d->path->level[0].account),
			       death_seq(d, d->noted)});
	return true;
}

static const char *death_text(const struct death *d) {
	static char text[200];

	(void)snprintf(text, sizeof(text),
		"depth %u, %s from %llu, turned at %u%s, %u steps made, %u noted, covered %#x",
		d->path->depth, d->state == RECORD_SEIZED ? "SEIZED" : "PLACED",
		(unsigned long long)d->base, d->turn, d->revoked ? " (revoked)" : "", d->made,
		d->noted, d->covered);
	return text;
}

static void check_given_back(const struct death *d, const char *how) {
	struct snapshot s = newest_of(R1);

	for (uint32_t k = 0; k < d->path->depth; k++)
		must(count(d->path, k) == OTHERS, "%s, %s: level %u counts %u, not %u",
			death_text(d), how, k, count(d->path, k), OTHERS);
	must(place_state(s.place) != RECORD_SEIZED && seq_step(s.seq) == 0,
		"%s, %s: the record is %016llx, %llu", death_text(d), how,
		(unsigned long long)s.place, (unsigned long long)s.seq);
	/* Whatever it does next is newer than what it did. */
	must(s.seq >= death_seq(d, d->made), "%s", death_text(d));
	must(counter_close(f.map, R1) == 0, "%s", death_text(d));
	must(counter_open(f.map, R1) == 0, "%s", death_text(d));
}

/* Any instant can be read: each level alone, and all by the newest of them. */
static void check_told(const struct death *d) {
	struct snapshot raw = raw_of(R1), newest = newest_of(R1);

	must(seq_charged(newest.seq) == death_charged(d), "%s: %u levels are charged",
		death_text(d), seq_charged(newest.seq));
	for (uint32_t k = 0; k < d->path->depth; k++) {
		bool charged = k < death_charged(d);
		uint64_t tag = cell_of(d->path, k).second;

		must(counter_has_charged(raw, R1, k, tag) == charged, "%s: level %u is told wrong",
			death_text(d), k);
		must(counter_has_charged(newest, R1, k, tag) == charged,
			"%s: level %u is told wrong by the newest", death_text(d), k);
	}
}

static bool goes_down(const struct death *d) {
	return d->made > d->turn && d->made < 2 * d->turn;
}

/* An operation that a dead daemon had begun, or an owner's way down, is finished. */
static void check_finished(const struct death *d) {
	struct snapshot before = raw_of(R1);

	must(counter_finish(f.map, R1) == 0, "%s", death_text(d));
	if (d->state == RECORD_SEIZED || goes_down(d)) {
		must(place_state(raw_of(R1).place) ==
				(d->state == RECORD_SEIZED ? RECORD_FREE : RECORD_PLACED),
			"%s", death_text(d));
		check_given_back(d, "finished");
		return;
	}
	must(same(raw_of(R1), before), "%s: was finished", death_text(d));
	check_told(d);
}

/* The owner goes on with its release, or finds that it can't. */
static void check_owner(const struct death *d) {
	const struct record_at at = {map_record(f.map, R1), R1};
	bool down = d->state == RECORD_PLACED && !d->revoked && d->turn == d->path->depth;

	if (!down || d->made < d->turn || d->made == 2 * d->turn)
		return;
	if (d->made == d->turn)
		must(counter_release(f.map, R1, death_seq(d, d->made)) == 0, "%s", death_text(d));
	else
		must(counter_release_continue(
			     f.map, at, d->path, d->made - d->turn, death_seq(d, d->turn)) == 0,
			"%s", death_text(d));
	check_given_back(d, "by the owner");
}

/* As a revoke by account does. */
static void check_revoked(const struct death *d) {
	if (goes_down(d) && d->state == RECORD_PLACED)
		return;
	must(counter_revoke(f.map, R1, newest_of(R1)) == 0, "%s", death_text(d));
	check_given_back(d, "revoked");
}

static void check_settled(const struct death *d) {
	counter_seize(f.map, R1);
	must(place_state(raw_of(R1).place) == RECORD_SEIZED, "%s", death_text(d));
	check_told(d);
	must(counter_finish_seized(f.map, R1) == 0, "%s", death_text(d));
	must(place_state(raw_of(R1).place) == RECORD_FREE, "%s", death_text(d));
	check_given_back(d, "settled");
}

static void check_closed(const struct death *d) {
	must(counter_close(f.map, R1) == 0, "%s", death_text(d));
	must(place_state(raw_of(R1).place) == RECORD_CLOSED, "%s", death_text(d));
	check_given_back(d, "closed");
}

static unsigned long check_death(const struct death *d) {
	static void (*const check[])(const struct death *) = {check_told, check_closed,
		check_finished, check_owner, check_revoked, check_settled};

	for (size_t i = 0; i < ELEMENTS(check); i++) {
		if (!death_put(d))
			return 0;
		check[i](d);
	}
	return 1;
}

/* All that the record may know of, and all that may be overwritten. */
static unsigned long check_deaths(struct death d) {
	unsigned long n = 0;

	for (d.made = 0; d.made <= 2 * d.turn; d.made++)
		for (d.noted = 0; d.noted <= d.made; d.noted++)
			for (d.covered = 0; d.covered < 1u << d.path->depth; d.covered++)
				n += check_death(&d);
	return n;
}

/* Every state that a death can leave: PLACED or SEIZED; after each step, on the way up to the slot, or
 * to a refusal, and down again, by the owner or by the daemon. */
START_TEST(every_death_in_the_middle_is_told_apart_and_undone) {
	const struct path *const paths[] = {&leaf, &tree, &deep};
	const uint64_t bases[] = {48, seq_base(BERTH_SEQ_LAST)};
	const struct path *p = paths[_i % 3];
	unsigned long n = 0;

	for (size_t b = 0; b < ELEMENTS(bases); b++)
		for (uint32_t turn = p->depth == BERTH_LEVELS_MAX ? 7 : 1; turn <= p->depth; turn++)
			for (int revoked = 0; revoked < 1 + (turn == p->depth); revoked++)
				n += check_deaths((struct death){
					.path = p,
					.state = _i < 3 ? RECORD_PLACED : RECORD_SEIZED,
					.base = bases[b],
					.turn = turn,
					.revoked = revoked,
				});
	ck_assert_uint_gt(n, 10);
}
END_TEST

START_TEST(a_record_on_no_path_is_closed_and_nothing_else) {
	const uint64_t seq = 48;

	record_put(R1, unplaced(RECORD_FREE, seq));
	cell_put(&leaf, 0, 3, tag_pack(R1, 41));
	ck_assert_int_eq(counter_finish(f.map, R1), 0);
	ck_assert_int_eq(counter_finish_seized(f.map, R1), 0);
	counter_seize(f.map, R1);
	ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
	ck_assert(same(raw_of(R1), unplaced(RECORD_FREE, seq)));
	ck_assert_int_eq(counter_close(f.map, R1), 0);
	ck_assert(same(raw_of(R1), unplaced(RECORD_CLOSED, seq)));
	counter_seize(f.map, R1);
	ck_assert_int_eq(counter_finish(f.map, R1), 0);
	ck_assert(same(raw_of(R1), unplaced(RECORD_CLOSED, seq)));
	ck_assert_uint_eq(count(&leaf, 0), 3);
}
END_TEST

START_TEST(a_revoke_takes_what_was_seen_and_nothing_later) {
	const struct path *const paths[] = {&leaf, &tree};

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		uint64_t seq = take(R1, paths[i], 1);
		struct snapshot seen = newest_of(R1);

		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
		(void)take(R1, paths[i], 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
		ck_assert_uint_eq(count(paths[i], 0), 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
		ck_assert_uint_eq(count(paths[i], 0), 0);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
	}
	/* On its way up when it was seen, and at the next step now. */
	record_put(R1, placed(&tree, 1, 161));
	for (uint32_t k = 0; k < 3; k++)
		cell_put(&tree, k, k < 2, tag_pack(R1, k < 2 ? 161 + k : 100));
	ck_assert_int_eq(counter_revoke(f.map, R1, placed(&tree, 1, 161)), -EAGAIN);
	check_counts(&tree, 1, 1, 0);
	ck_assert_int_eq(counter_revoke(f.map, R1, placed(&tree, 1, 162)), 0);
	check_counts(&tree, 0, 0, 0);
}
END_TEST

START_TEST(a_record_that_is_in_use_is_not_used_again) {
	struct snapshot before;

	(void)take(R1, &leaf, 1);
	before = newest_of(R1);
	/* For the same, another weight, another path. */
	ck_assert_int_eq(take_try(R1, &leaf, 1), -EAGAIN);
	ck_assert_int_eq(take_try(R1, &leaf, 2), -EAGAIN);
	ck_assert_int_eq(take_try(R1, &tree, 1), -EAGAIN);
	ck_assert(same(newest_of(R1), before));
	/* Before and after the slot, whichever tags are left. */
	for (uint32_t step = 1; step < BERTH_CYCLE; step++) {
		cell_put(&tree, 0, 1, tag_pack(R2, 0));
		cell_put(&tree, 1, 1, tag_pack(R2, 0));
		record_put(R2, placed(&tree, 1, 160 + step));
		ck_assert_int_eq(take_try(R2, &tree, 1), -EAGAIN);
		ck_assert_int_eq(take_try(R2, &leaf, 1), -EAGAIN);
		ck_assert(same(raw_of(R2), placed(&tree, 1, 160 + step)));
		record_put(R2, seized(&tree, 1, 160 + step));
		ck_assert_int_eq(take_try(R2, &tree, 1), -EAGAIN);
		ck_assert_int_eq(counter_release(f.map, R2, 160 + step), -ENOENT);
	}
}
END_TEST

START_TEST(a_record_of_a_session_that_has_ended_is_closed_until_it_is_opened) {
	(void)take(R1, &leaf, 1);
	ck_assert_int_eq(counter_close(f.map, R2), 0);
	ck_assert_int_eq(take_try(R2, &leaf, 1), -ESHUTDOWN);
	ck_assert_int_eq(counter_open(f.map, R1), -EBUSY);
	ck_assert_int_eq(counter_open(f.map, R2), 0);
	(void)take(R2, &leaf, 1);
}
END_TEST

/* A thread of the last owner that is still about to place it finds it changed, even FREE again. */
START_TEST(a_record_that_is_opened_is_a_cycle_on) {
	for (int placed_before = 0; placed_before < 2; placed_before++) {
		uint64_t before;

		if (placed_before)
			ck_assert_int_eq(counter_release(f.map, R1, take(R1, &leaf, 1)), 0);
		before = newest_of(R1).seq;
		ck_assert_int_eq(counter_close(f.map, R1), 0);
		ck_assert_int_eq(counter_open(f.map, R1), 0);
		ck_assert_uint_ge(raw_of(R1).seq, before + BERTH_CYCLE);
	}
}
END_TEST

START_TEST(what_was_begun_is_finished_and_nothing_else) {
	uint64_t seq = take(R1, &tree, 1);
	struct snapshot before = newest_of(R1);

	ck_assert_int_eq(counter_finish(f.map, R1), 0);
	ck_assert(same(newest_of(R1), before));
	/* It rests; it is on its way up; it is seized. */
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	before = newest_of(R1);
	ck_assert_int_eq(counter_finish(f.map, R1), 0);
	ck_assert(same(newest_of(R1), before));
	record_put(R2, placed(&tree, 1, 161));
	for (uint32_t k = 0; k < 3; k++)
		cell_put(&tree, k, k == 0, 0);
	ck_assert_int_eq(counter_finish(f.map, R2), 0);
	ck_assert(same(raw_of(R2), placed(&tree, 1, 161)));
	record_put(R2, seized(&tree, 1, 161));
	ck_assert_int_eq(counter_finish(f.map, R2), 0);
	ck_assert_int_eq(place_state(newest_of(R2).place), RECORD_FREE);
	check_counts(&tree, 0, 0, 0);
}
END_TEST

/* Whatever party was on its way down, and wherever it was stopped, however long. */
START_TEST(a_step_down_is_made_once) {
	const struct path *const paths[] = {&tree, &deep};

	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (uint32_t k = 0; k + 1 < paths[i]->depth; k++) {
			const struct path *p = paths[i];
			const struct record_at at = {map_record(f.map, R1), R1};
			uint64_t seq = take(R1, p, 1), later;

			/* Down to level k, which is still charged. */
			for (uint32_t j = k + 1; j < p->depth; j++)
				cell_put(p, j, 0, tag_pack(R1, seq_down(seq_base(seq), j)));
			ck_assert_uint_eq(seq_charged(newest_of(R1).seq), k + 1);
			ck_assert_int_eq(counter_finish(f.map, R1), 0);
			for (uint32_t j = 0; j < p->depth; j++)
				ck_assert_uint_eq(count(p, j), 0);
			ck_assert_int_eq(counter_finish(f.map, R1), 0);
			ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
			/* The stopped party wakes when the record has gone on, and gives nothing back. */
			later = take(R1, p, 1);
			ck_assert_int_eq(
				counter_release_continue(f.map, at, p, p->depth - k - 1, seq), 0);
			for (uint32_t j = 0; j < p->depth; j++)
				ck_assert_uint_eq(count(p, j), 1);
			ck_assert_int_eq(counter_release(f.map, R1, later), 0);
			for (uint32_t j = 0; j < p->depth; j++)
				ck_assert_uint_eq(count(p, j), 0);
		}
}
END_TEST

static struct snapshot noise_at(size_t i) {
	const uint32_t account = leaf.level[0].account;
	const struct snapshot noise[] = {{UINT64_MAX, UINT64_MAX}, {(uint64_t)7 << 61, 5},
		{(uint64_t)4 << 61 | 1, UINT64_MAX - 15},
		{place_pack(RECORD_PLACED, 7, 4095, 0xFFFFFF), 1},
		{place_pack(RECORD_SEIZED, 7, 4095, 0xFFFFFF), 8},
		{place_pack(RECORD_PLACED, 7, 1, account), UINT64_MAX / 3},
		{place_pack(RECORD_PLACED, 2, 1, account), 3},
		{place_pack(RECORD_SEIZED, 7, 1, account), 8},
		{place_pack(RECORD_SEIZED, 5, 1, 60), 1}, {place_pack(RECORD_PLACED, 7, 9, 0), 1},
		{place_pack(RECORD_FREE, 0, 0, 0) | 0x3FFFFF, 3}};

	return i < ELEMENTS(noise) ? noise[i] : (struct snapshot){0};
}

START_TEST(noise_in_a_record_counts_for_nothing_and_crashes_nothing) {
	for (size_t i = 0; noise_at(i).place != 0; i++) {
		for (int how = 0; how < 5; how++) {
			record_put(R1, noise_at(i));
			if (how == 0)
				(void)counter_finish(f.map, R1);
			else if (how == 1)
				(void)counter_revoke(f.map, R1, newest_of(R1));
			else if (how == 2)
				(void)counter_release(f.map, R1, noise_at(i).seq);
			else if (how == 3)
				(void)take_try(R1, &tree, 1);
			(void)counter_close(f.map, R1);
			ck_assert_msg(place_state(raw_of(R1).place) == RECORD_CLOSED,
				"noise %zu is not closed: %016llx", i,
				(unsigned long long)raw_of(R1).place);
			ck_assert_uint_eq(count(&leaf, 0), 0);
			check_counts(&tree, 0, 0, 0);
		}
		record_put(R1, noise_at(i));
		ck_assert_int_eq(counter_discard(f.map, R1, noise_at(i)), 0);
		ck_assert_int_eq(place_state(raw_of(R1).place), RECORD_FREE);
		ck_assert(!counter_is_retired(f.map, R1));
		go_round(R1, &leaf, 0);
	}
	/* A tag that names a record which isn't there, or noise, keeps nothing out. */
	cell_put(&leaf, 0, 0, tag_pack(0x3FFFFF, 5));
	record_put(R1, (struct snapshot){UINT64_MAX, UINT64_MAX});
	(void)take(R2, &leaf, 1);
	cell_put(&leaf, 0, 1, tag_pack(R1, BERTH_SEQ_MASK));
	ck_assert_int_eq(counter_release(f.map, R2, newest_of(R2).seq), -ENOENT);
	cell_put(&leaf, 0, 1, tag_pack(R2, 17));
	record_put(R2, placed(&leaf, 1, 17));
	ck_assert_int_eq(counter_release(f.map, R2, 17), 0);
}
END_TEST

START_TEST(what_was_repaired_is_not_what_was_seen_any_more) {
	const struct snapshot gone = {place_pack(RECORD_SEIZED, 7, 1, 60), 1};
	struct pair seen = cell_of(&leaf, 0);

	(void)take(R1, &leaf, 1);
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, seen, 4), -EAGAIN);
	ck_assert_uint_eq(count(&leaf, 0), 1);
	seen = cell_of(&leaf, 0);
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, seen, 4), 0);
	ck_assert_uint_eq(count(&leaf, 0), 4);
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, seen, 4), -EAGAIN);
	ck_assert(snapshot_is_held(newest_of(R1)));
	ck_assert_int_eq(counter_discard(f.map, R1, gone), -EAGAIN);
	ck_assert(snapshot_is_held(newest_of(R1)));
}
END_TEST

START_TEST(the_peak_is_the_highest_count) {
	uint64_t seq = take(R1, &leaf, 4);

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	(void)take(R2, &leaf, 1);
	ck_assert_uint_eq(load_relaxed(&map_cell(f.map, leaf.level[0].account)->peak), 4);
}
END_TEST

START_TEST(a_label_is_cut_and_forgotten_with_its_slot) {
	const struct stamp labelled = {
		.since = 5, .label = "0123456789012345678901234567890123456789 too long"};
	const struct stamp bare = {.since = 6};
	uint32_t level;
	uint64_t seq;
	char shown[BERTH_LABEL_SIZE];

	ck_assert_int_eq(record_acquire(f.map, R1, &leaf, 1, &labelled, &seq, &level), 0);
	memcpy(shown, (const void *)map_record(f.map, R1)->label, sizeof(shown));
	ck_assert_str_eq(shown, "012345678901234567890123456789012345678");
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	ck_assert_int_eq(record_acquire(f.map, R1, &leaf, 1, &bare, &seq, &level), 0);
	memcpy(shown, (const void *)map_record(f.map, R1)->label, sizeof(shown));
	ck_assert_str_eq(shown, "");
	ck_assert_uint_eq(load_relaxed(&map_record(f.map, R1)->since), 6);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("counter");
	TCase *tc = tcase_create("counter");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, an_acquire_charges_every_level_and_a_release_gives_each_back);
	tcase_add_test(tc, a_seq_tells_the_step_and_what_is_charged_after_it);
	tcase_add_test(tc, a_record_that_is_placed_is_not_written_again);
	tcase_add_test(
		tc, a_record_is_placed_anew_for_another_path_or_weight_above_all_it_has_used);
	tcase_add_test(tc, a_refusal_at_the_lowest_level_writes_nothing);
	tcase_add_test(tc, a_revoke_goes_on_to_the_next_cycle);
	tcase_add_test(tc, a_refusal_at_any_level_leaves_every_level_as_it_was);
	tcase_add_test(tc, a_refusal_above_a_charged_level_leaves_the_record_at_rest);
	tcase_add_test(tc, the_check_before_writes_nothing_but_the_denial);
	tcase_add_test(tc, an_acquire_by_a_pair_that_is_gone_counts_right);
	tcase_add_test(tc, a_look_from_before_the_claim_places_nothing);
	tcase_add_test(tc, a_slot_is_released_once);
	tcase_add_test(tc, a_count_never_passes_its_field);
	tcase_add_test(tc, a_release_of_more_than_there_is_is_damage_and_no_wrap);
	tcase_add_test(tc, damage_at_one_level_keeps_nothing_from_the_others);
	tcase_add_test(tc, an_account_that_is_not_what_it_was_admits_nothing);
	tcase_add_test(tc, an_acquire_that_lacks_memory_leaves_to_the_daemon_what_it_has_charged);
	tcase_add_test(tc, a_record_that_has_used_up_its_seqs_takes_no_slot);
	tcase_add_test(tc, the_last_slot_of_all_is_given_back_like_any);
	tcase_add_test(tc, a_bump_that_has_no_room_refuses);
	tcase_add_test(tc, every_step_keeps_what_stands_beside_the_count);
	tcase_add_test(tc, a_party_that_overwrites_a_tag_notes_it_in_the_record_that_it_names);
	tcase_add_test(tc, a_tag_that_tells_nothing_new_is_not_noted);
	tcase_add_test(tc, a_note_keeps_what_was_charged);
	tcase_add_test(tc, a_bump_changes_the_pair_and_neither_count_nor_tag);
	tcase_add_loop_test(tc, every_death_in_the_middle_is_told_apart_and_undone, 0, 6);
	tcase_add_test(tc, a_record_on_no_path_is_closed_and_nothing_else);
	tcase_add_test(tc, a_revoke_takes_what_was_seen_and_nothing_later);
	tcase_add_test(tc, a_record_that_is_in_use_is_not_used_again);
	tcase_add_test(tc, a_record_of_a_session_that_has_ended_is_closed_until_it_is_opened);
	tcase_add_test(tc, a_record_that_is_opened_is_a_cycle_on);
	tcase_add_test(tc, what_was_begun_is_finished_and_nothing_else);
	tcase_add_test(tc, a_step_down_is_made_once);
	tcase_add_test(tc, noise_in_a_record_counts_for_nothing_and_crashes_nothing);
	tcase_add_test(tc, what_was_repaired_is_not_what_was_seen_any_more);
	tcase_add_test(tc, the_peak_is_the_highest_count);
	tcase_add_test(tc, a_label_is_cut_and_forgotten_with_its_slot);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
