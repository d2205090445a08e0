/* SPDX-License-Identifier: MIT */

/* Tests the counter step by step: what each operation changes, and which state a death leaves after
 * each step. */

#include "fixture.h"
#include "run.h"

#define R1    16u
#define R2    17u
#define R_FAR 32u /* a record of another range */
/* A record in a window of the segment (map.h) that this process hasn't mapped yet. */
#define R_UNMAPPED ((uint32_t)(MAP_WINDOW / sizeof(struct record)) * 2)

static struct path leaf, tree; /* one level; three levels */
static struct path deep;       /* BERTH_LEVELS_MAX levels */
static const struct path *const paths[] = {&leaf, &tree, &deep};
static const struct stamp stamp = {.since = 1, .label = "test"};

static void setup(void) {
	const struct capacities want = {64, 2 * R_UNMAPPED, 4};

	fixture_new(&want);
	leaf = path_with("alice", 5);
	limit_set("acme", 6);
	limit_set("acme/bob", 5);
	tree = path_with("acme/bob/web", 4);
	deep = path_with("a/b/c/d/e/f/g/h", 9);
	records_open(16, 17);
}

static uint32_t count(const struct path *p, uint32_t level) {
	return counter_count(f.map, p->level[level].account);
}

static struct pair cell_of(const struct path *p, uint32_t level) {
	return cell_load(p->level[level].cell);
}

static bool same_cell(struct pair a, struct pair b) {
	return a.first == b.first && a.second == b.second;
}

static struct snapshot at_path(
	enum record_state state, const struct path *p, uint32_t weight, uint64_t seq) {
	return (struct snapshot){place_pack(state, p->depth - 1, weight, p->level[0].account), seq};
}

static struct snapshot placed(const struct path *p, uint32_t weight, uint64_t seq) {
	return at_path(RECORD_PLACED, p, weight, seq);
}

static struct snapshot seized(const struct path *p, uint32_t weight, uint64_t seq) {
	return at_path(RECORD_SEIZED, p, weight, seq);
}

static struct snapshot unplaced(enum record_state state, uint64_t seq) {
	return (struct snapshot){place_pack(state, 0, 0, 0), seq};
}

static void cell_write(const struct path *p, uint32_t level, uint32_t count, uint64_t tag) {
	store_total(&p->level[level].cell->count, count_pack(count, 0));
	store_total(&p->level[level].cell->tag, tag);
}

static void check_counts(const struct path *p, uint32_t l0, uint32_t l1, uint32_t l2) {
	ck_assert_uint_eq(count(p, 0), l0);
	ck_assert_uint_eq(count(p, 1), l1);
	ck_assert_uint_eq(count(p, 2), l2);
}

/* Like ck_assert_msg(), which makes a system call even if the condition holds. The tests of deaths
 * make a million checks, so they use this macro. */
#define check_msg(condition, ...)                  \
	do {                                       \
		if (!(condition))                  \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

/* Checks that the record is placed at the path and has charged no level. */
static void check_rests(uint32_t record, const struct path *p) {
	struct snapshot s = newest_of(record);

	ck_assert_int_eq(place_state(s.place), RECORD_PLACED);
	ck_assert_uint_eq(place_account(s.place), p->level[0].account);
	ck_assert_uint_eq(seq_step(s.seq), 0);
}

START_TEST(an_acquire_charges_every_level_and_a_release_discharges_each) {
	uint64_t seq = record_hold(R1, &tree, 3);

	ck_assert_uint_eq(tree.depth, 3);
	check_path(&tree, 3);
	ck_assert(snapshot_is_held(newest_of(R1)));
	ck_assert_uint_eq(newest_of(R1).seq, seq);
	record_release(R1, seq);
	check_path(&tree, 0);
	check_rests(R1, &tree);
}
END_TEST

/* Walks through the steps of a cycle and compares them with the functions of layout.h. */
START_TEST(a_seq_tells_the_step_and_the_levels_charged_after_it) {
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
			/* The last step of a cycle is the base of the next one. */
			ck_assert_uint_eq(seq, base + BERTH_CYCLE);
			ck_assert_uint_eq(seq_rest(seq), seq);
			ck_assert_uint_eq(seq_rest(base + 1), seq);
		}
}
END_TEST

START_TEST(a_record_that_is_placed_is_not_written_again) {
	uint64_t first = record_hold(R1, &tree, 2), seq;
	struct snapshot raw = words_of(R1);

	record_release(R1, first);
	ck_assert(same_words(words_of(R1), raw));
	seq = record_hold(R1, &tree, 2);
	ck_assert(same_words(words_of(R1), raw));
	ck_assert_uint_eq(seq, first + BERTH_CYCLE);
	record_release(R1, seq);
	for (uint32_t k = 0; k < 3; k++)
		ck_assert_uint_eq(
			cell_of(&tree, k).second, tag_pack(R1, seq_down(seq_base(seq), k)));
}
END_TEST

START_TEST(a_record_is_placed_for_another_path_or_weight_with_a_newer_seq) {
	uint64_t seq = record_hold(R1, &leaf, 2), last;

	record_release(R1, seq);
	last = newest_of(R1).seq;
	seq = record_hold(R1, &leaf, 1);
	ck_assert_uint_eq(place_weight(words_of(R1).place), 1);
	ck_assert_uint_gt(words_of(R1).seq, last);
	record_release(R1, seq);
	last = newest_of(R1).seq;
	seq = record_hold(R1, &tree, 1);
	ck_assert_uint_eq(words_of(R1).place, placed(&tree, 1, 0).place);
	ck_assert_uint_gt(words_of(R1).seq, last);
	ck_assert_uint_eq(seq_step(words_of(R1).seq), 0);
	record_release(R1, seq);
	last = newest_of(R1).seq;
	seq = record_hold(R1, &leaf, 1);
	ck_assert_uint_gt(words_of(R1).seq, last);
	ck_assert_uint_eq(count(&leaf, 0), 1);
	check_path(&tree, 0);
}
END_TEST

START_TEST(a_refusal_at_the_lowest_level_writes_nothing) {
	struct snapshot before = words_of(R1);
	struct pair cell;
	uint64_t seq;

	(void)record_hold(R2, &leaf, 5);
	cell = cell_of(&leaf, 0);
	ck_assert_int_eq(record_acquire(f.map, R1, &leaf, 1, &stamp, &seq), -EDQUOT);
	ck_assert_uint_eq(load_relaxed(&leaf.level[0].cell->denied), 1);
	ck_assert(same_words(words_of(R1), before));
	ck_assert(same_cell(cell_of(&leaf, 0), cell));
}
END_TEST

/* By the record's cycle, a process tells a revocation by berthd from a release by its threads. */
START_TEST(a_revocation_moves_the_record_to_the_next_cycle) {
	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		const struct path *p = paths[i];
		uint64_t seq = record_hold(R1, p, 1);

		record_release(R1, seq);
		ck_assert_uint_eq(newest_of(R1).seq, seq_rest(seq));
		seq = record_hold(R1, p, 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
		ck_assert_uint_eq(newest_of(R1).seq, seq_rest(seq) + BERTH_CYCLE);
		check_rests(R1, p);
		for (uint32_t k = 0; k < p->depth; k++) {
			ck_assert_uint_eq(count(p, k), 0);
			ck_assert_uint_eq(
				cell_of(p, k).second, tag_pack(R1, seq_down(seq_rest(seq), k)));
		}
		ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
		/* The record can be used again. */
		seq = record_hold(R1, p, 1);
		record_release(R1, seq);
	}
}
END_TEST

/* If level 0 is full, counter_check() refuses. If a level above is full, counter_acquire() refuses,
 * as it does if the level fills up after counter_check(). */
START_TEST(a_refusal_at_any_level_leaves_every_level_as_it_was) {
	for (uint32_t k = 0; k < deep.depth; k++) {
		struct snapshot before = words_of(R1);
		uint64_t seq;

		limit_write(deep.level[k].entry, 1);
		ck_assert_int_eq(record_acquire(f.map, R1, &deep, 2, &stamp, &seq), -EDQUOT);
		for (uint32_t j = 0; j < deep.depth; j++) {
			ck_assert_uint_eq(load_relaxed(&deep.level[j].cell->denied), j <= k);
			ck_assert_uint_eq(count(&deep, j), 0);
			ck_assert_uint_eq(tag_record(cell_of(&deep, j).second), j < k ? R1 : 0);
		}
		if (k == 0)
			ck_assert(same_words(words_of(R1), before));
		else
			check_rests(R1, &deep);
		limit_write(deep.level[k].entry, 9);
	}
}
END_TEST

/* A refused acquire ends within the cycle that it began. The next acquire begins the next cycle. */
START_TEST(a_refusal_above_a_charged_level_leaves_the_record_at_rest) {
	uint64_t seq = record_hold(R1, &tree, 2);

	record_release(R1, seq);
	limit_write(tree.level[1].entry, 1);
	ck_assert_int_eq(record_try(R1, &tree, 2), -EDQUOT);
	ck_assert_uint_eq(newest_of(R1).seq, seq_rest(seq) + BERTH_CYCLE);
	check_rests(R1, &tree);
	check_path(&tree, 0);
	limit_write(tree.level[1].entry, 5);
	ck_assert_uint_eq(record_hold(R1, &tree, 2), seq + 2 * BERTH_CYCLE);
}
END_TEST

START_TEST(the_check_before_an_acquire_writes_only_the_denial) {
	struct pair before, seen[BERTH_LEVELS_MAX];

	(void)record_hold(R1, &leaf, 5);
	before = cell_of(&leaf, 0);
	ck_assert_int_eq(counter_check(f.map, &leaf, 1, seen), -EDQUOT);
	ck_assert(same_cell(before, cell_of(&leaf, 0)));
	ck_assert_uint_eq(load_relaxed(&leaf.level[0].cell->denied), 1);
	ck_assert_int_eq(counter_check(f.map, &tree, 1, seen), 0);
	for (uint32_t k = 0; k < tree.depth; k++)
		ck_assert(same_cell(seen[k], cell_of(&tree, k)));
}
END_TEST

/* The compare-and-swap of an acquire expects the words that counter_check() read. If another
 * process has changed the cell since then, the compare-and-swap fails, and the acquire reads the
 * cell again. */
START_TEST(an_acquire_counts_right_if_the_cell_has_changed_since_the_check) {
	const struct record_at at = {map_record(f.map, R1), R1};
	struct slot_request request = {.path = &leaf, .weight = 2, .stamp = stamp};
	uint64_t seq;

	for (int placed_before = 0; placed_before < 2; placed_before++) {
		ck_assert_int_eq(counter_check(f.map, &leaf, 2, request.seen), 0);
		(void)record_hold(R2, &leaf, 1);
		ck_assert_int_eq(counter_acquire(f.map, at, &request, &seq), 0);
		ck_assert_uint_eq(count(&leaf, 0), 3);
		record_release(R1, seq);
		ck_assert_int_eq(counter_check(f.map, &leaf, 2, request.seen), 0);
		limit_write(leaf.level[0].entry, 2);
		ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
		ck_assert_int_eq(counter_acquire(f.map, at, &request, &seq), -EDQUOT);
		ck_assert_uint_eq(load_relaxed(&leaf.level[0].cell->denied), placed_before + 1);
		limit_write(leaf.level[0].entry, 5);
		record_release(R2, newest_of(R2).seq);
		ck_assert_uint_eq(count(&leaf, 0), 0);
	}
}
END_TEST

/* A thread reads a cell and is stopped before it claims a record. Another thread uses this record
 * for a slot at the same path, and then for many slots at another account. */
START_TEST(a_cell_read_before_the_claim_is_not_charged_blindly) {
	const struct record_at at = {map_record(f.map, R1), R1};
	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (int others = 0; others < 3; others++) {
			const struct path *p = paths[i];
			struct slot_request request = {.path = p, .weight = 1, .stamp = stamp};
			struct path away = path_with("away", 5);
			uint64_t seq;

			if (others > 0)
				(void)record_hold(R2, p, 1);
			ck_assert_int_eq(counter_check(f.map, p, 1, request.seen), 0);
			record_use(R1, p, 1);
			if (others > 1) /* another record overwrites the tag */
				record_use(R_FAR, p, 1);
			record_use(R1, &away, 1);
			words_write(R1, placed(&away, 1, newest_of(R1).seq + 1000 * BERTH_CYCLE));
			ck_assert_int_eq(counter_acquire(f.map, at, &request, &seq), 0);
			check_path(p, 1 + (others > 0));
			ck_assert_uint_eq(count(&away, 0), 0);
			record_release(R1, seq);
			if (others > 0)
				record_release(R2, newest_of(R2).seq);
			check_path(p, 0);
		}
}
END_TEST

START_TEST(a_slot_is_released_once) {
	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		uint64_t seq = record_hold(R1, paths[i], 1), later;

		ck_assert_int_eq(counter_release(f.map, R1, seq + 1), -ENOENT);
		ck_assert_int_eq(counter_release(f.map, R1, seq - 1), -ENOENT);
		ck_assert_int_eq(counter_release(f.map, R1, seq + BERTH_CYCLE), -ENOENT);
		record_release(R1, seq);
		/* A release is refused with each seq of this cycle and of the next one. */
		(void)record_hold(R2, paths[i], 1);
		for (uint32_t n = 0; n < 2 * BERTH_CYCLE; n++)
			ck_assert_int_eq(counter_release(f.map, R1, seq + n), -ENOENT);
		ck_assert_uint_eq(count(paths[i], 0), 1);
		record_release(R2, newest_of(R2).seq);
		later = record_hold(R1, paths[i], 1);
		ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
		ck_assert_uint_eq(count(paths[i], 0), 1);
		record_release(R1, later);
		ck_assert_uint_eq(count(paths[i], 0), 0);
	}
}
END_TEST

START_TEST(a_count_never_overflows_its_field) {
	struct path p = path_with("free", BERTH_LIMIT_NONE);
	struct pair seen[BERTH_LEVELS_MAX];
	uint64_t seq;

	cell_write(&p, 0, BERTH_COUNT_MAX - 1, 0);
	ck_assert_int_eq(counter_check(f.map, &p, 2, seen), -EOVERFLOW);
	ck_assert_int_eq(record_acquire(f.map, R1, &p, 2, &stamp, &seq), -EOVERFLOW);
	(void)record_hold(R1, &p, 1);
	ck_assert_uint_eq(count(&p, 0), BERTH_COUNT_MAX);
	ck_assert_int_eq(record_acquire(f.map, R2, &p, 1, &stamp, &seq), -EOVERFLOW);
	/* This error isn't counted as a denial: for it the library returns
	 * BERTH_NO_SYSTEM_RESOURCES. */
	ck_assert_uint_eq(load_relaxed(&p.level[0].cell->denied), 0);
}
END_TEST

START_TEST(a_release_of_more_than_the_count_is_damage_and_does_not_wrap) {
	uint64_t seq = record_hold(R1, &leaf, 3);

	cell_write(&leaf, 0, 2, tag_pack(R1, seq));
	ck_assert_int_eq(counter_release(f.map, R1, seq), COUNTER_NEEDS_RECOUNT);
	ck_assert_uint_eq(count(&leaf, 0), 2);
	check_rests(R1, &leaf);
}
END_TEST

/* A release, a revocation, a close, or counter_finish_seized() meets a level whose count is too
 * small. Then this level stays as it is, all other levels are discharged, and the operation
 * ends. */
START_TEST(damage_at_one_level_does_not_affect_the_others) {
	for (uint32_t k = 0; k < 3; k++)
		for (int how = 0; how < 4; how++) {
			uint64_t seq = record_hold(R1, &tree, 3);
			struct snapshot seen;
			int r;

			cell_write(&tree, k, 1, cell_of(&tree, k).second);
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
			cell_write(&tree, k, 0, cell_of(&tree, k).second);
			if (how == 2)
				ck_assert_int_eq(counter_open(f.map, R1), 0);
		}
}
END_TEST

START_TEST(an_account_of_a_new_generation_admits_no_old_path) {
	for (uint32_t k = 0; k < 3; k++) {
		struct path old = tree;

		ck_assert_int_eq(directory_renew(accounts_directory(f.accounts),
					 tree.level[k].account, 5, ENTRY_USABLE | ENTRY_CONFIGURED),
			0);
		ck_assert_int_eq(record_try(R1, &old, 1), -ESTALE);
		check_path(&tree, 0);
		ck_assert_uint_eq(seq_step(newest_of(R1).seq), 0);
		tree.level[k].generation = entry_generation(
			directory_word(accounts_directory(f.accounts), tree.level[k].account));
		record_use(R1, &tree, 1);
		record_renew(R1);
	}
}
END_TEST

/* In each round, the tag of one level names a record that can't be mapped. So this tag can't be
 * noted. */
START_TEST(an_acquire_that_lacks_memory_leaves_the_charged_levels_to_berthd) {
	uint64_t seq = record_hold(R1, &deep, 2);

	record_release(R1, seq);
	store_relaxed(&f.segment->names->slots, R_UNMAPPED + BERTH_RANGE);
	map_close_files(f.map);
	for (uint32_t k = 0; k < deep.depth; k++) {
		uint64_t before = cell_of(&deep, k).second;

		ck_assert_int_eq(counter_note(f.map, before), 0);
		cell_write(&deep, k, 1, tag_pack(R_UNMAPPED, 5));
		ck_assert_int_eq(record_try(R1, &deep, 2), -ENOMEM);
		ck_assert_uint_eq(cell_of(&deep, k).second, tag_pack(R_UNMAPPED, 5));
		for (uint32_t j = 0; j < deep.depth; j++)
			ck_assert_uint_eq(count(&deep, j), j < k ? 2 : j == k);
		if (k > 0)
			ck_assert_int_eq(place_state(words_of(R1).place), RECORD_SEIZED);
		/* As berthd has enough memory, it discharges the charged levels. */
		cell_write(&deep, k, 0, before);
		ck_assert_int_eq(counter_finish_seized(f.map, R1), 0);
		check_path(&deep, 0);
		record_use(R1, &deep, 2);
	}
}
END_TEST

/* -- records without seqs left ----------------------------------------------------------------- */

/* Acquires and releases a slot, acquires and revokes another, and checks the counts meanwhile and
 * afterwards. `others` is the count without the record's slot. */
static void check_whole_cycles(uint32_t record, const struct path *p, uint32_t others) {
	uint64_t seq = record_hold(record, p, 1);

	for (uint32_t k = 0; k < p->depth; k++) {
		ck_assert_uint_eq(count(p, k), others + 1);
		ck_assert(counter_has_charged(words_of(record), record, k, cell_of(p, k).second));
	}
	ck_assert(snapshot_is_held(newest_of(record)));
	ck_assert_uint_eq(newest_of(record).seq, seq);
	record_release(record, seq);
	(void)record_hold(record, p, 1);
	ck_assert_int_eq(counter_revoke(f.map, record, newest_of(record)), 0);
	for (uint32_t k = 0; k < p->depth; k++) {
		ck_assert_uint_eq(count(p, k), others);
		ck_assert(!counter_has_charged(words_of(record), record, k, cell_of(p, k).second));
	}
	check_rests(record, p);
}

/* Every later acquire with the record fails, whatever its path and weight are, and in whichever
 * session it is made. */
START_TEST(a_record_that_has_used_up_its_seqs_takes_no_slot) {
	const uint64_t end = BERTH_SEQ_LAST + BERTH_CYCLE;

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		const struct path *p = paths[i];
		struct snapshot last;

		words_write(R1, unplaced(RECORD_FREE, end - 3 * BERTH_CYCLE));
		ck_assert(!counter_is_retired(f.map, R1));
		/* After the record is placed, two cycles are left, one for each of these slots. */
		record_use(R1, p, 1);
		(void)record_hold(R1, p, 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
		last = newest_of(R1);
		ck_assert_uint_ge(last.seq, end);
		ck_assert_uint_le(last.seq, BERTH_SEQ_MASK);
		ck_assert_int_eq(record_try(R1, p, 1), -ERANGE);
		ck_assert_int_eq(record_try(R1, &leaf, 2), -ERANGE);
		ck_assert(same_words(newest_of(R1), last));
		/* Later sessions that own the record can't use it, either. */
		for (int owner = 0; owner < 20; owner++) {
			ck_assert_int_eq(counter_close(f.map, R1), 0);
			ck_assert(counter_is_retired(f.map, R1));
			ck_assert_int_eq(counter_open(f.map, R1), 0);
			ck_assert_uint_le(words_of(R1).seq, BERTH_SEQ_MASK);
			ck_assert_int_eq(record_try(R1, p, 1), -ERANGE);
		}
		check_path(p, 0);
	}
}
END_TEST

/* The record holds its last slot. If the slot is released, if it is revoked, and if the session
 * ends, the seqs suffice for the steps. */
START_TEST(the_last_slot_of_a_record_is_discharged_like_any_other) {
	for (int how = 0; how < 3; how++) {
		uint64_t seq;

		words_write(R1, placed(&deep, 1, seq_base(BERTH_SEQ_LAST)));
		for (uint32_t k = 0; k < deep.depth; k++)
			cell_write(&deep, k, 0, 0);
		seq = record_hold(R1, &deep, 1);
		if (how == 0)
			record_release(R1, seq);
		else if (how == 1)
			ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
		else
			ck_assert_int_eq(counter_close(f.map, R1), 0);
		check_path(&deep, 0);
		ck_assert_uint_le(newest_of(R1).seq, BERTH_SEQ_MASK);
		ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
	}
}
END_TEST

START_TEST(a_bump_beyond_the_last_one_is_refused) {
	struct pair *words = (struct pair *)(void *)&leaf.level[0].cell->count;

	words->first = count_pack(3, BERTH_BUMPS_LAST - 1);
	ck_assert(counter_has_bumps(f.map, leaf.level[0].account, 1));
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	ck_assert(!counter_has_bumps(f.map, leaf.level[0].account, 1));
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), -EOVERFLOW);
	ck_assert_uint_eq(words->first, count_pack(3, BERTH_BUMPS_LAST));
	/* Slots are still acquired and released. */
	record_use(R1, &leaf, 1);
	ck_assert_uint_eq(words->first, count_pack(3, BERTH_BUMPS_LAST));
	/* A repair gives the cell new bumps, since noise may have used up the old ones. */
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, cell_of(&leaf, 0), 2), 0);
	ck_assert_uint_eq(count(&leaf, 0), 2);
	ck_assert(counter_has_bumps(f.map, leaf.level[0].account, 1));
}
END_TEST

/* No code uses the bit BERTH_CLOSED yet, but every change of a cell keeps this bit. */
START_TEST(every_step_keeps_the_other_bits_of_the_count_word) {
	struct cell *cell = leaf.level[0].cell;
	uint64_t beside = BERTH_CLOSED | 77, seq;

	store_total(&cell->count, beside);
	seq = record_hold(R1, &leaf, 2);
	ck_assert_uint_eq(load_total(&cell->count), count_pack(2, beside));
	record_release(R1, seq);
	ck_assert_uint_eq(load_total(&cell->count), beside);
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	ck_assert_uint_eq(load_total(&cell->count), beside + 1);
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, cell_of(&leaf, 0), 4), 0);
	ck_assert_uint_eq(load_total(&cell->count), count_pack(4, beside + 2));
}
END_TEST

/* -- notes (N1) -------------------------------------------------------------------------------- */

/* The operations that change a cell. */
enum operation {
	ACQUIRE,
	ACQUIRE_FROM_AFAR,
	RELEASE,
	RELEASE_FROM_AFAR,
	REVOKE,
	BUMP,
	REPAIR,
	OPERATIONS
};

/* Changes the cell of a level, as another record or berthd does. */
static void operation_run(enum operation operation, const struct path *p, uint32_t level) {
	uint32_t account = p->level[level].account;
	struct pair seen = cell_of(p, level);
	struct path up = {.depth = p->depth - level};
	uint32_t other = operation == ACQUIRE || operation == RELEASE ? R2 : R_FAR;

	memcpy(up.level, &p->level[level], up.depth * sizeof(up.level[0]));
	switch (operation) {
	case ACQUIRE:
	case ACQUIRE_FROM_AFAR:
		ck_assert_int_eq(record_try(other, &up, 1), 0);
		break;
	case RELEASE:
	case RELEASE_FROM_AFAR:
	case REVOKE:
		/* The other record holds a slot, and all of its tags are overwritten. */
		words_write(other, placed(&up, 1, up.depth));
		for (uint32_t k = 0; k < up.depth; k++)
			store_total(
				&up.level[k].cell->count, cell_of(&up, k).first + count_pack(1, 0));
		if (operation == REVOKE)
			ck_assert_int_eq(counter_revoke(f.map, other, newest_of(other)), 0);
		else
			record_release(other, up.depth);
		break;
	case BUMP:
		ck_assert_int_eq(counter_bump(f.map, account), 0);
		break;
	default:
		ck_assert_int_eq(counter_repair(f.map, account, seen, count_of(seen.first)), 0);
		break;
	}
	ck_assert(!same_cell(cell_of(p, level), seen));
	/* A bump keeps the tag, so the tag needn't be noted. */
	ck_assert((tag_record(cell_of(p, level).second) == R1) == (operation == BUMP));
}

static void others_reset(void) {
	for (uint32_t k = 0; k < 3; k++)
		cell_write(&tree, k, 1, 0);
	words_write(R2, unplaced(RECORD_FREE, 0));
	words_write(R_FAR, unplaced(RECORD_FREE, 0));
}

START_TEST(an_overwritten_tag_is_noted_in_the_record_that_it_names) {
	const uint64_t places[] = {placed(&tree, 1, 0).place, seized(&tree, 1, 0).place,
		placed(&leaf, 1, 0).place, unplaced(RECORD_FREE, 0).place,
		unplaced(RECORD_CLOSED, 0).place, UINT64_MAX};

	/* The note is written whatever the record's place is. */
	for (size_t i = 0; i < ELEMENTS(places); i++)
		for (int operation = 0; operation < OPERATIONS; operation++)
			for (uint32_t level = 0; level < 3; level++)
				for (uint64_t step = 1; step <= 16; step++) {
					words_write(R1, (struct snapshot){places[i], 40});
					cell_write(&tree, level, 1, tag_pack(R1, 40 + step));
					operation_run((enum operation)operation, &tree, level);
					ck_assert_uint_eq(words_of(R1).place, places[i]);
					ck_assert_uint_eq(words_of(R1).seq,
						operation != BUMP ? 40 + step : 40);
					others_reset();
				}
}
END_TEST

START_TEST(a_tag_that_is_older_than_the_note_is_not_noted) {
	for (int operation = 0; operation < OPERATIONS; operation++)
		for (uint64_t ago = 0; ago < 20; ago++) {
			words_write(R1, placed(&tree, 1, 40));
			cell_write(&tree, 0, 1, tag_pack(R1, 40 - ago));
			operation_run((enum operation)operation, &tree, 0);
			ck_assert(same_words(words_of(R1), placed(&tree, 1, 40)));
			others_reset();
		}
}
END_TEST

/* After a change of the cell, the record still tells that it has charged the level. */
START_TEST(a_note_preserves_that_a_level_was_charged) {
	for (int operation = 0; operation < OPERATIONS; operation++) {
		(void)record_hold(R1, &leaf, 2);
		operation_run((enum operation)operation, &leaf, 0);
		ck_assert(snapshot_is_held(newest_of(R1)));
		ck_assert(counter_has_charged(words_of(R1), R1, 0, cell_of(&leaf, 0).second));
		record_release(R1, newest_of(R1).seq);
		for (uint32_t n = R1; n <= R_FAR; n++) {
			record_renew(n);
		}
		ck_assert_uint_eq(count(&leaf, 0), 0);
	}
}
END_TEST

START_TEST(a_bump_changes_the_pair_and_neither_count_nor_tag) {
	struct pair first, second;

	(void)record_hold(R1, &leaf, 2);
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

/* -- deaths ------------------------------------------------------------------------------------ */

#define OTHERS 1
#define WEIGHT 2

/* An operation that charges the levels below `turn` and then discharges them, and the step after
 * which its process dies. */
struct death {
	const struct path *path;
	enum record_state state;
	uint64_t base;
	uint32_t turn;        /* the level that refused the acquire; if none did, path->depth */
	bool revoked;         /* true if berthd discharges the levels, in the next cycle */
	uint32_t made;        /* steps that were made, of 2 * turn */
	uint32_t noted;       /* the newest step that the record has noted */
	uint32_t overwritten; /* levels whose tags were overwritten by other changes, as bits */
};

/* The level of the n-th step. */
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

/* Writes the state into the record and the cells. False if the state is impossible: a tag is
 * overwritten only after it was noted. */
static bool death_write(const struct death *d) {
	for (uint32_t k = 0; k < d->path->depth; k++) {
		uint32_t n = 0; /* the newest step at the level; 0 if there is none */
		uint32_t now = OTHERS + (k < death_charged(d) ? WEIGHT : 0);
		bool overwritten = d->overwritten >> k & 1;

		for (uint32_t i = 1; i <= d->made; i++)
			n = death_level(d, i) == k ? i : n;
		if (overwritten && n > d->noted)
			return false;
		cell_write(
			d->path, k, now, overwritten || n == 0 ? k : tag_pack(R1, death_seq(d, n)));
	}
	words_write(R1, at_path(d->state, d->path, WEIGHT, death_seq(d, d->noted)));
	return true;
}

static const char *death_text(const struct death *d) {
	static char text[200];

	(void)snprintf(text, sizeof(text),
		"depth %u, %s from %llu, turned at %u%s, %u steps made, %u noted, overwritten %#x",
		d->path->depth, d->state == RECORD_SEIZED ? "SEIZED" : "PLACED",
		(unsigned long long)d->base, d->turn, d->revoked ? " (revoked)" : "", d->made,
		d->noted, d->overwritten);
	return text;
}

static void check_discharged(const struct death *d, const char *how) {
	struct snapshot s = newest_of(R1);

	for (uint32_t k = 0; k < d->path->depth; k++)
		check_msg(count(d->path, k) == OTHERS, "%s, %s: level %u counts %u, not %u",
			death_text(d), how, k, count(d->path, k), OTHERS);
	check_msg(place_state(s.place) != RECORD_SEIZED && seq_step(s.seq) == 0,
		"%s, %s: the record is %016llx, %llu", death_text(d), how,
		(unsigned long long)s.place, (unsigned long long)s.seq);
	/* No step that was made before the death may be newer than the record's newest step. */
	check_msg(s.seq >= death_seq(d, d->made), "%s", death_text(d));
	check_msg(counter_close(f.map, R1) == 0, "%s", death_text(d));
	check_msg(counter_open(f.map, R1) == 0, "%s", death_text(d));
}

/* Checks two ways to tell which levels are charged. Each level's cell, with the record's words,
 * tells about this level. The newest step tells about all levels. */
static void check_charged_levels(const struct death *d) {
	struct snapshot raw = words_of(R1), newest = newest_of(R1);

	check_msg(seq_charged(newest.seq) == death_charged(d), "%s: %u levels are charged",
		death_text(d), seq_charged(newest.seq));
	for (uint32_t k = 0; k < d->path->depth; k++) {
		bool charged = k < death_charged(d);
		uint64_t tag = cell_of(d->path, k).second;

		check_msg(counter_has_charged(raw, R1, k, tag) == charged,
			"%s: level %u: charged isn't %d", death_text(d), k, charged);
		check_msg(counter_has_charged(newest, R1, k, tag) == charged,
			"%s: level %u: charged isn't %d, by the newest step", death_text(d), k,
			charged);
	}
}

static bool death_goes_down(const struct death *d) {
	return d->made > d->turn && d->made < 2 * d->turn;
}

/* Checks that counter_finish() finishes releases and what a dead berthd began, and nothing else. */
static void check_finished(const struct death *d) {
	struct snapshot before = words_of(R1);

	check_msg(counter_finish(f.map, R1) == 0, "%s", death_text(d));
	if (d->state == RECORD_SEIZED || death_goes_down(d)) {
		check_msg(place_state(words_of(R1).place) ==
				  (d->state == RECORD_SEIZED ? RECORD_FREE : RECORD_PLACED),
			"%s", death_text(d));
		check_discharged(d, "finished");
		return;
	}
	check_msg(same_words(words_of(R1), before), "%s: was finished", death_text(d));
	check_charged_levels(d);
}

/* If the owner held the slot, it releases the slot. If it had begun the release, it goes on with
 * it. */
static void check_owner(const struct death *d) {
	const struct record_at at = {map_record(f.map, R1), R1};
	bool down = d->state == RECORD_PLACED && !d->revoked && d->turn == d->path->depth;

	if (!down || d->made < d->turn || d->made == 2 * d->turn)
		return;
	if (d->made == d->turn)
		check_msg(counter_release(f.map, R1, death_seq(d, d->made)) == 0, "%s",
			death_text(d));
	else
		check_msg(counter_release_continue(f.map, at, d->path, d->made - d->turn,
				  death_seq(d, d->turn)) == 0,
			"%s", death_text(d));
	check_discharged(d, "by the owner");
}

/* Acts as berthd, which revokes the slot that the record holds or acquires. */
static void check_revoked(const struct death *d) {
	if (death_goes_down(d) && d->state == RECORD_PLACED)
		return;
	check_msg(counter_revoke(f.map, R1, newest_of(R1)) == 0, "%s", death_text(d));
	check_discharged(d, "revoked");
}

static void check_seized(const struct death *d) {
	counter_seize(f.map, R1);
	check_msg(place_state(words_of(R1).place) == RECORD_SEIZED, "%s", death_text(d));
	check_charged_levels(d);
	check_msg(counter_finish_seized(f.map, R1) == 0, "%s", death_text(d));
	check_msg(place_state(words_of(R1).place) == RECORD_FREE, "%s", death_text(d));
	check_discharged(d, "seized");
}

static void check_closed(const struct death *d) {
	check_msg(counter_close(f.map, R1) == 0, "%s", death_text(d));
	check_msg(place_state(words_of(R1).place) == RECORD_CLOSED, "%s", death_text(d));
	check_discharged(d, "closed");
}

static unsigned long check_death(const struct death *d) {
	static void (*const check[])(const struct death *) = {check_charged_levels, check_closed,
		check_finished, check_owner, check_revoked, check_seized};

	for (size_t i = 0; i < ELEMENTS(check); i++) {
		if (!death_write(d))
			return 0;
		check[i](d);
	}
	return 1;
}

/* Checks the death after each number of steps, with each number of these steps noted, and with each
 * subset of the tags overwritten. */
static unsigned long check_deaths(struct death d) {
	unsigned long n = 0;

	for (d.made = 0; d.made <= 2 * d.turn; d.made++)
		for (d.noted = 0; d.noted <= d.made; d.noted++)
			for (d.overwritten = 0; d.overwritten < 1u << d.path->depth;
				d.overwritten++)
				n += check_death(&d);
	return n;
}

/* Checks every state that a death can leave. The record is PLACED or SEIZED. The process died after
 * some step of an acquire (admitted or denied), or of the release or revocation that followed. */
START_TEST(every_state_that_a_death_leaves_is_recognized_and_undone) {
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

START_TEST(a_record_at_no_path_is_closed_and_otherwise_unchanged) {
	const uint64_t seq = 48;

	words_write(R1, unplaced(RECORD_FREE, seq));
	cell_write(&leaf, 0, 3, tag_pack(R1, 41));
	ck_assert_int_eq(counter_finish(f.map, R1), 0);
	ck_assert_int_eq(counter_finish_seized(f.map, R1), 0);
	counter_seize(f.map, R1);
	ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
	ck_assert(same_words(words_of(R1), unplaced(RECORD_FREE, seq)));
	ck_assert_int_eq(counter_close(f.map, R1), 0);
	ck_assert(same_words(words_of(R1), unplaced(RECORD_CLOSED, seq)));
	counter_seize(f.map, R1);
	ck_assert_int_eq(counter_finish(f.map, R1), 0);
	ck_assert(same_words(words_of(R1), unplaced(RECORD_CLOSED, seq)));
	ck_assert_uint_eq(count(&leaf, 0), 3);
}
END_TEST

START_TEST(a_revocation_takes_back_the_slot_that_was_seen_and_no_later_one) {
	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		uint64_t seq = record_hold(R1, paths[i], 1);
		struct snapshot seen = newest_of(R1);

		record_release(R1, seq);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
		(void)record_hold(R1, paths[i], 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
		ck_assert_uint_eq(count(paths[i], 0), 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, newest_of(R1)), 0);
		ck_assert_uint_eq(count(paths[i], 0), 0);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
	}
	/* The record was seen during an acquire, and has made another step since. */
	words_write(R1, placed(&tree, 1, 161));
	for (uint32_t k = 0; k < 3; k++)
		cell_write(&tree, k, k < 2, tag_pack(R1, k < 2 ? 161 + k : 100));
	ck_assert_int_eq(counter_revoke(f.map, R1, placed(&tree, 1, 161)), -EAGAIN);
	check_counts(&tree, 1, 1, 0);
	ck_assert_int_eq(counter_revoke(f.map, R1, placed(&tree, 1, 162)), 0);
	check_path(&tree, 0);
}
END_TEST

START_TEST(a_record_that_is_in_use_is_not_used_again) {
	struct snapshot before;

	(void)record_hold(R1, &leaf, 1);
	before = newest_of(R1);
	/* The record is refused with the same path and weight, another weight, or another path. */
	ck_assert_int_eq(record_try(R1, &leaf, 1), -EAGAIN);
	ck_assert_int_eq(record_try(R1, &leaf, 2), -EAGAIN);
	ck_assert_int_eq(record_try(R1, &tree, 1), -EAGAIN);
	ck_assert(same_words(newest_of(R1), before));
	/* The record is refused at each step of its cycle, even if all its tags are overwritten. */
	for (uint32_t step = 1; step < BERTH_CYCLE; step++) {
		cell_write(&tree, 0, 1, tag_pack(R2, 0));
		cell_write(&tree, 1, 1, tag_pack(R2, 0));
		words_write(R2, placed(&tree, 1, 160 + step));
		ck_assert_int_eq(record_try(R2, &tree, 1), -EAGAIN);
		ck_assert_int_eq(record_try(R2, &leaf, 1), -EAGAIN);
		ck_assert(same_words(words_of(R2), placed(&tree, 1, 160 + step)));
		words_write(R2, seized(&tree, 1, 160 + step));
		ck_assert_int_eq(record_try(R2, &tree, 1), -EAGAIN);
		ck_assert_int_eq(counter_release(f.map, R2, 160 + step), -ENOENT);
	}
}
END_TEST

START_TEST(a_record_of_a_session_that_has_ended_is_closed_until_it_is_opened) {
	(void)record_hold(R1, &leaf, 1);
	ck_assert_int_eq(counter_close(f.map, R2), 0);
	ck_assert_int_eq(record_try(R2, &leaf, 1), -ESHUTDOWN);
	ck_assert_int_eq(counter_open(f.map, R1), -EBUSY);
	ck_assert_int_eq(counter_open(f.map, R2), 0);
	(void)record_hold(R2, &leaf, 1);
}
END_TEST

/* A thread of the previous owner may still be about to place the record (P1). Although the record
 * is FREE as before, the thread's compare-and-swap fails, because the record is in a later
 * cycle. */
START_TEST(a_record_that_is_opened_is_in_a_later_cycle) {
	for (int placed_before = 0; placed_before < 2; placed_before++) {
		uint64_t before;

		if (placed_before)
			record_use(R1, &leaf, 1);
		before = newest_of(R1).seq;
		record_renew(R1);
		ck_assert_uint_ge(words_of(R1).seq, before + BERTH_CYCLE);
	}
}
END_TEST

START_TEST(only_an_operation_that_was_begun_is_finished) {
	uint64_t seq = record_hold(R1, &tree, 1);
	struct snapshot before = newest_of(R1);

	ck_assert_int_eq(counter_finish(f.map, R1), 0);
	ck_assert(same_words(newest_of(R1), before));
	/* A record that rests or is acquiring a slot isn't changed. A seized record is freed. */
	record_release(R1, seq);
	before = newest_of(R1);
	ck_assert_int_eq(counter_finish(f.map, R1), 0);
	ck_assert(same_words(newest_of(R1), before));
	words_write(R2, placed(&tree, 1, 161));
	for (uint32_t k = 0; k < 3; k++)
		cell_write(&tree, k, k == 0, 0);
	ck_assert_int_eq(counter_finish(f.map, R2), 0);
	ck_assert(same_words(words_of(R2), placed(&tree, 1, 161)));
	words_write(R2, seized(&tree, 1, 161));
	ck_assert_int_eq(counter_finish(f.map, R2), 0);
	ck_assert_int_eq(place_state(newest_of(R2).place), RECORD_FREE);
	check_path(&tree, 0);
}
END_TEST

/* A release is stopped at level k, and berthd finishes the release. When the stopped release goes
 * on, it must change nothing. */
START_TEST(a_step_down_is_made_once) {
	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (uint32_t k = 0; k + 1 < paths[i]->depth; k++) {
			const struct path *p = paths[i];
			const struct record_at at = {map_record(f.map, R1), R1};
			uint64_t seq = record_hold(R1, p, 1), later;

			/* The levels above k are discharged, and level k is still charged. */
			for (uint32_t j = k + 1; j < p->depth; j++)
				cell_write(p, j, 0, tag_pack(R1, seq_down(seq_base(seq), j)));
			ck_assert_uint_eq(seq_charged(newest_of(R1).seq), k + 1);
			ck_assert_int_eq(counter_finish(f.map, R1), 0);
			check_path(p, 0);
			ck_assert_int_eq(counter_finish(f.map, R1), 0);
			ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
			/* The stopped release goes on when the record holds its next slot. */
			later = record_hold(R1, p, 1);
			ck_assert_int_eq(
				counter_release_continue(f.map, at, p, p->depth - k - 1, seq), 0);
			check_path(p, 1);
			record_release(R1, later);
			check_path(p, 0);
		}
}
END_TEST

START_TEST(noise_in_a_record_changes_no_count_and_crashes_nothing) {
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

	for (size_t i = 0; i < ELEMENTS(noise); i++) {
		for (int how = 0; how < 5; how++) {
			words_write(R1, noise[i]);
			if (how == 0)
				(void)counter_finish(f.map, R1);
			else if (how == 1)
				(void)counter_revoke(f.map, R1, newest_of(R1));
			else if (how == 2)
				(void)counter_release(f.map, R1, noise[i].seq);
			else if (how == 3)
				(void)record_try(R1, &tree, 1);
			(void)counter_close(f.map, R1);
			ck_assert_msg(place_state(words_of(R1).place) == RECORD_CLOSED,
				"noise %zu is not closed: %016llx", i,
				(unsigned long long)words_of(R1).place);
			ck_assert_uint_eq(count(&leaf, 0), 0);
			check_path(&tree, 0);
		}
		words_write(R1, noise[i]);
		ck_assert_int_eq(counter_discard(f.map, R1, noise[i]), 0);
		ck_assert_int_eq(place_state(words_of(R1).place), RECORD_FREE);
		ck_assert(!counter_is_retired(f.map, R1));
		check_whole_cycles(R1, &leaf, 0);
	}
	/* A cell whose tag names a missing or noisy record still admits slots. */
	cell_write(&leaf, 0, 0, tag_pack(0x3FFFFF, 5));
	words_write(R1, (struct snapshot){UINT64_MAX, UINT64_MAX});
	(void)record_hold(R2, &leaf, 1);
	cell_write(&leaf, 0, 1, tag_pack(R1, BERTH_SEQ_MASK));
	ck_assert_int_eq(counter_release(f.map, R2, newest_of(R2).seq), -ENOENT);
	cell_write(&leaf, 0, 1, tag_pack(R2, 17));
	words_write(R2, placed(&leaf, 1, 17));
	record_release(R2, 17);
}
END_TEST

START_TEST(a_repair_fails_if_the_cell_or_record_has_changed) {
	const struct snapshot gone = {place_pack(RECORD_SEIZED, 7, 1, 60), 1};
	struct pair seen = cell_of(&leaf, 0);

	(void)record_hold(R1, &leaf, 1);
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
	uint64_t seq = record_hold(R1, &leaf, 4);

	record_release(R1, seq);
	(void)record_hold(R2, &leaf, 1);
	ck_assert_uint_eq(load_relaxed(&map_cell(f.map, leaf.level[0].account)->peak), 4);
}
END_TEST

START_TEST(a_label_is_cut_and_is_gone_with_its_slot) {
	const struct stamp labelled = {
		.since = 5, .label = "0123456789012345678901234567890123456789 too long"};
	const struct stamp bare = {.since = 6};
	uint64_t seq;
	char shown[BERTH_LABEL_SIZE];

	ck_assert_int_eq(record_acquire(f.map, R1, &leaf, 1, &labelled, &seq), 0);
	memcpy(shown, (const void *)map_record(f.map, R1)->label, sizeof(shown));
	ck_assert_str_eq(shown, "012345678901234567890123456789012345678");
	record_release(R1, seq);
	ck_assert_int_eq(record_acquire(f.map, R1, &leaf, 1, &bare, &seq), 0);
	memcpy(shown, (const void *)map_record(f.map, R1)->label, sizeof(shown));
	ck_assert_str_eq(shown, "");
	ck_assert_uint_eq(load_relaxed(&map_record(f.map, R1)->since), 6);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{an_acquire_charges_every_level_and_a_release_discharges_each},
		{a_seq_tells_the_step_and_the_levels_charged_after_it},
		{a_record_that_is_placed_is_not_written_again},
		{a_record_is_placed_for_another_path_or_weight_with_a_newer_seq},
		{a_refusal_at_the_lowest_level_writes_nothing},
		{a_revocation_moves_the_record_to_the_next_cycle},
		{a_refusal_at_any_level_leaves_every_level_as_it_was},
		{a_refusal_above_a_charged_level_leaves_the_record_at_rest},
		{the_check_before_an_acquire_writes_only_the_denial},
		{an_acquire_counts_right_if_the_cell_has_changed_since_the_check},
		{a_cell_read_before_the_claim_is_not_charged_blindly},
		{a_slot_is_released_once},
		{a_count_never_overflows_its_field},
		{a_release_of_more_than_the_count_is_damage_and_does_not_wrap},
		{damage_at_one_level_does_not_affect_the_others},
		{an_account_of_a_new_generation_admits_no_old_path},
		{an_acquire_that_lacks_memory_leaves_the_charged_levels_to_berthd},
		{a_record_that_has_used_up_its_seqs_takes_no_slot},
		{the_last_slot_of_a_record_is_discharged_like_any_other},
		{a_bump_beyond_the_last_one_is_refused},
		{every_step_keeps_the_other_bits_of_the_count_word},
		{an_overwritten_tag_is_noted_in_the_record_that_it_names},
		{a_tag_that_is_older_than_the_note_is_not_noted},
		{a_note_preserves_that_a_level_was_charged},
		{a_bump_changes_the_pair_and_neither_count_nor_tag},
		{every_state_that_a_death_leaves_is_recognized_and_undone, 0, 6},
		{a_record_at_no_path_is_closed_and_otherwise_unchanged},
		{a_revocation_takes_back_the_slot_that_was_seen_and_no_later_one},
		{a_record_that_is_in_use_is_not_used_again},
		{a_record_of_a_session_that_has_ended_is_closed_until_it_is_opened},
		{a_record_that_is_opened_is_in_a_later_cycle},
		{only_an_operation_that_was_begun_is_finished},
		{a_step_down_is_made_once},
		{noise_in_a_record_changes_no_count_and_crashes_nothing},
		{a_repair_fails_if_the_cell_or_record_has_changed},
		{the_peak_is_the_highest_count},
		{a_label_is_cut_and_is_gone_with_its_slot},
		{NULL},
	};

	return run_suites({"counter", tests, .setup = setup, .teardown = fixture_free});
}
