/* SPDX-License-Identifier: MIT */

/* The counter, step by step: what each operation does, and what every death in its middle leaves. */

#include "fixture.h"

#define R1    16u
#define R2    17u
#define R_FAR 32u /* of another range */
/* Of another window, which nobody has touched. */
#define R_UNMAPPED ((uint32_t)(MAP_WINDOW / sizeof(struct record)) * 2)

/* Half a round of seqs. */
#define HALF ((BERTH_SEQ_MASK >> 1) + 1)

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

static uint64_t word_of(uint32_t record) {
	return counter_record(f.map, record);
}

/* As it stands there, without what only the cells' tags say. */
static uint64_t raw_of(uint32_t record) {
	return load_total(&map_record(f.map, record)->word);
}

static uint64_t cell_of(const struct path *p, uint32_t level) {
	return load_total(&p->level[level].cell->word);
}

static void record_put(uint32_t record, uint64_t word) {
	store_total(&map_record(f.map, record)->word, word);
}

static uint64_t placed(const struct path *p, uint32_t weight, uint32_t seq) {
	return record_pack(
		RECORD_PLACED, p->depth - 1, weight, p->level[0].account, seq & BERTH_SEQ_MASK);
}

static uint64_t seized(const struct path *p, uint32_t weight, uint32_t seq) {
	return record_pack(
		RECORD_SEIZED, p->depth - 1, weight, p->level[0].account, seq & BERTH_SEQ_MASK);
}

static void cell_put(const struct path *p, uint32_t level, uint64_t word) {
	store_total(&map_cell(f.map, p->level[level].account)->word, word);
}

static int take_try(uint32_t record, const struct path *p, uint32_t weight) {
	uint32_t seq, level;

	return counter_acquire(f.map, record, p, weight, &stamp, &seq, &level);
}

static uint32_t take(uint32_t record, const struct path *p, uint32_t weight) {
	uint32_t seq, level;

	ck_assert_int_eq(counter_acquire(f.map, record, p, weight, &stamp, &seq, &level), 0);
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
	uint64_t rec = word_of(record);

	ck_assert_int_eq(record_state(rec), RECORD_PLACED);
	ck_assert_uint_eq(record_account(rec), p->level[0].account);
	ck_assert_uint_eq(record_charged(rec), 0);
}

/* Each level's limit alone is this. */
static void limit_put(const struct path *p, uint32_t level, uint32_t limit) {
	struct entry *entry = map_entry(f.map, p->level[level].account);
	uint64_t said = load_relaxed(&entry->word);

	store_relaxed(&entry->word, entry_pack(limit, entry_flags(said), entry_generation(said)));
}

START_TEST(an_acquire_charges_every_level_and_a_release_gives_each_back) {
	uint32_t seq = take(R1, &tree, 3);

	ck_assert_uint_eq(tree.depth, 3);
	check_counts(&tree, 3, 3, 3);
	ck_assert(record_is_held(word_of(R1)));
	ck_assert_uint_eq(record_seq(word_of(R1)), seq);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	check_counts(&tree, 0, 0, 0);
	check_rests(R1, &tree);
}
END_TEST

/* The same as layout.h says, by walking. */
START_TEST(a_seq_tells_the_step_and_what_is_charged_after_it) {
	for (uint32_t depth = 1; depth <= BERTH_LEVELS_MAX; depth++) {
		uint32_t cycle = record_cycle(record_pack(RECORD_PLACED, depth - 1, 1, 1, 0));

		ck_assert_uint_ge(cycle, 2 * depth);
		ck_assert_uint_lt(cycle / 2, 2 * depth);
		ck_assert_uint_eq(cycle & (cycle - 1), 0);
		for (uint32_t seq = 0; seq < 3 * cycle; seq++) {
			uint64_t rec = record_pack(RECORD_PLACED, depth - 1, 1, 1, seq);
			uint32_t step = seq % cycle, charged = 0;

			for (uint32_t n = 1; n <= step; n++)
				charged += n <= depth ? 1 : n <= 2 * depth ? -1u : 0;
			ck_assert_uint_eq(record_step(rec), step);
			ck_assert_uint_eq(record_charged(rec), charged);
			ck_assert(record_is_held(rec) == (step == depth));
		}
	}
}
END_TEST

START_TEST(a_record_that_is_placed_is_not_written_again) {
	uint32_t first = take(R1, &tree, 2), seq;
	uint64_t word = raw_of(R1);

	ck_assert_int_eq(counter_release(f.map, R1, first), 0);
	ck_assert(raw_of(R1) == word);
	seq = take(R1, &tree, 2);
	ck_assert(raw_of(R1) == word);
	/* One cycle of 8 steps on. */
	ck_assert_uint_eq(seq, first + 8);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	for (uint32_t k = 0; k < 3; k++)
		ck_assert(cell_of(&tree, k) == cell_pack(0, R1, seq + 3 - k));
}
END_TEST

START_TEST(a_record_is_placed_anew_for_another_path_or_weight_above_all_it_has_used) {
	uint32_t seq = take(R1, &leaf, 2), last;

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	last = record_seq(word_of(R1));
	seq = take(R1, &leaf, 1);
	ck_assert_uint_eq(record_weight(raw_of(R1)), 1);
	ck_assert_uint_gt(record_seq(raw_of(R1)), last);
	ck_assert_uint_eq(record_charged(raw_of(R1)), 0);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	last = record_seq(word_of(R1));
	seq = take(R1, &tree, 1);
	ck_assert(record_place(raw_of(R1)) == placed(&tree, 1, 0));
	ck_assert_uint_gt(record_seq(raw_of(R1)), last);
	ck_assert_uint_eq(record_step(raw_of(R1)), 0);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	last = record_seq(word_of(R1));
	seq = take(R1, &leaf, 1);
	ck_assert_uint_gt(record_seq(raw_of(R1)), last);
	ck_assert_uint_eq(count(&leaf, 0), 1);
	check_counts(&tree, 0, 0, 0);
}
END_TEST

START_TEST(who_is_refused_at_the_lowest_level_has_written_nothing) {
	uint64_t before = word_of(R1), cell;
	uint32_t seq, level;

	seq = take(R2, &leaf, 5);
	cell = cell_of(&leaf, 0);
	ck_assert_int_eq(counter_acquire(f.map, R1, &leaf, 1, &stamp, &seq, &level), -EDQUOT);
	ck_assert_uint_eq(level, 0);
	ck_assert(word_of(R1) == before);
	ck_assert(cell_of(&leaf, 0) == cell);
}
END_TEST

/* By that a process tells it from a release of its own. */
START_TEST(a_revoke_goes_on_to_the_next_cycle) {
	uint32_t seq = take(R1, &leaf, 1);

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	ck_assert_uint_eq(record_seq(word_of(R1)), seq + 1);
	seq = take(R1, &leaf, 1);
	ck_assert_int_eq(counter_revoke(f.map, R1, word_of(R1)), 0);
	ck_assert_uint_eq(record_seq(word_of(R1)), seq + 1 + 2);
	check_rests(R1, &leaf);
	ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
	ck_assert_uint_eq(count(&leaf, 0), 0);
	/* The record is as good as before. */
	seq = take(R1, &leaf, 1);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);

	seq = take(R1, &tree, 1);
	ck_assert_int_eq(counter_revoke(f.map, R1, word_of(R1)), 0);
	ck_assert(word_of(R1) == record_pack(RECORD_FREE, 0, 0, 0, seq + 3 + 8));
	ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
	check_counts(&tree, 0, 0, 0);
	/* At the top by R1, on which V2 came; below by V3. */
	ck_assert_uint_eq(cell_record(cell_of(&tree, 2)), 0);
	for (uint32_t k = 0; k < 2; k++)
		ck_assert(cell_of(&tree, k) == cell_pack(0, R1, seq + 8 + 3 - k));
	seq = take(R1, &tree, 1);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
}
END_TEST

/* Without counter_check(), as when the level fills up after it. */
START_TEST(a_refusal_at_any_level_leaves_every_level_as_it_was) {
	for (uint32_t k = 0; k < deep.depth; k++) {
		uint64_t before = raw_of(R1);
		uint32_t seq, level = 9;

		limit_put(&deep, k, 1);
		ck_assert_int_eq(
			counter_acquire(f.map, R1, &deep, 2, &stamp, &seq, &level), -EDQUOT);
		ck_assert_uint_eq(level, k);
		ck_assert_uint_eq(load_relaxed(&deep.level[k].cell->denied), 1);
		for (uint32_t j = 0; j < deep.depth; j++) {
			ck_assert_uint_eq(count(&deep, j), 0);
			ck_assert_uint_eq(cell_record(cell_of(&deep, j)), j < k ? R1 : 0);
		}
		/* Above the level the tags are as old as they were: the record leaves its path. */
		ck_assert_int_eq(record_state(raw_of(R1)), RECORD_FREE);
		if (k == 0)
			ck_assert(raw_of(R1) == before);
		else
			ck_assert_uint_eq(record_seq(raw_of(R1)), cell_seq(cell_of(&deep, 0)));
		limit_put(&deep, k, 9);
	}
}
END_TEST

START_TEST(a_refusal_leaves_a_record_on_its_path_only_if_it_wrote_nothing) {
	uint32_t seq = take(R1, &tree, 2);
	uint64_t rec;

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	rec = raw_of(R1);
	limit_put(&tree, 0, 1);
	ck_assert_int_eq(take_try(R1, &tree, 2), -EDQUOT);
	ck_assert(raw_of(R1) == rec);
	limit_put(&tree, 0, 4);
	limit_put(&tree, 1, 1);
	ck_assert_int_eq(take_try(R1, &tree, 2), -EDQUOT);
	/* Of the next cycle: charged one level, and went down from there. */
	ck_assert(raw_of(R1) == record_pack(RECORD_FREE, 0, 0, 0, seq + 3 + 2 + 6));
	check_counts(&tree, 0, 0, 0);
}
END_TEST

START_TEST(the_check_before_writes_nothing_but_the_denial) {
	uint64_t before, word[BERTH_LEVELS_MAX];
	uint32_t level;

	(void)take(R1, &leaf, 5);
	before = cell_of(&leaf, 0);
	ck_assert_int_eq(counter_check(f.map, &leaf, 1, word, &level), -EDQUOT);
	ck_assert_uint_eq(level, 0);
	ck_assert(before == cell_of(&leaf, 0));
	ck_assert_uint_eq(load_relaxed(&leaf.level[0].cell->denied), 1);
	ck_assert_int_eq(counter_check(f.map, &tree, 1, word, &level), 0);
	for (uint32_t k = 0; k < tree.depth; k++)
		ck_assert(word[k] == cell_of(&tree, k));
}
END_TEST

/* Whoever has looked charges what he has seen; another's change in between, and he looks again. */
START_TEST(an_acquire_by_a_word_that_is_gone_counts_right) {
	const struct record_at at = {map_record(f.map, R1), R1};
	struct slot_request request = {.path = &leaf, .weight = 2, .stamp = stamp};
	uint32_t seq, level;

	for (int placed_before = 0; placed_before < 2; placed_before++) {
		ck_assert_int_eq(counter_check(f.map, &leaf, 2, request.word, &level), 0);
		(void)take(R2, &leaf, 1);
		ck_assert_int_eq(counter_acquire_at(f.map, at, &request, &seq, &level), 0);
		ck_assert_uint_eq(count(&leaf, 0), 3);
		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		ck_assert_int_eq(counter_check(f.map, &leaf, 2, request.word, &level), 0);
		limit_put(&leaf, 0, 2);
		ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
		ck_assert_int_eq(counter_acquire_at(f.map, at, &request, &seq, &level), -EDQUOT);
		ck_assert_uint_eq(level, 0);
		limit_put(&leaf, 0, 5);
		ck_assert_int_eq(counter_release(f.map, R2, record_seq(word_of(R2))), 0);
		ck_assert_uint_eq(count(&leaf, 0), 0);
	}
}
END_TEST

START_TEST(a_slot_is_released_once) {
	const struct path *const paths[] = {&leaf, &tree};

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		uint32_t cycle = record_cycle(placed(paths[i], 1, 0));
		uint32_t seq = take(R1, paths[i], 1), later;

		ck_assert_int_eq(counter_release(f.map, R1, (seq + 1) & BERTH_SEQ_MASK), -ENOENT);
		ck_assert_int_eq(counter_release(f.map, R1, (seq - 1) & BERTH_SEQ_MASK), -ENOENT);
		ck_assert_int_eq(counter_release(f.map, R1, seq + cycle), -ENOENT);
		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		/* Nor is what it has come to by that, nor anything up to the next slot, a slot. */
		(void)take(R2, paths[i], 1);
		for (uint32_t n = 0; n < 2 * cycle; n++)
			ck_assert_int_eq(counter_release(f.map, R1, seq + n), -ENOENT);
		ck_assert_uint_eq(count(paths[i], 0), 1);
		ck_assert_int_eq(counter_release(f.map, R2, record_seq(word_of(R2))), 0);
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
	uint64_t word[BERTH_LEVELS_MAX];
	uint32_t seq, level;

	cell_put(&p, 0, cell_pack(BERTH_COUNT_MAX - 1, 0, 0));
	ck_assert_int_eq(counter_check(f.map, &p, 2, word, &level), -EOVERFLOW);
	ck_assert_int_eq(counter_acquire(f.map, R1, &p, 2, &stamp, &seq, &level), -EOVERFLOW);
	(void)take(R1, &p, 1);
	ck_assert_uint_eq(count(&p, 0), BERTH_COUNT_MAX);
	ck_assert_int_eq(counter_acquire(f.map, R2, &p, 1, &stamp, &seq, &level), -EOVERFLOW);
}
END_TEST

START_TEST(a_release_of_more_than_there_is_is_damage_and_no_wrap) {
	uint32_t seq = take(R1, &leaf, 3);

	cell_put(&leaf, 0, cell_pack(2, R1, seq));
	ck_assert_int_eq(counter_release(f.map, R1, seq), -EUCLEAN);
	ck_assert_uint_eq(count(&leaf, 0), 2);
	check_rests(R1, &leaf);
}
END_TEST

/* Whatever takes back: the level that is damaged stays as it is, the others are right. */
START_TEST(damage_at_one_level_keeps_nobody_from_the_others) {
	for (uint32_t k = 0; k < 3; k++)
		for (int how = 0; how < 4; how++) {
			uint32_t seq = take(R1, &tree, 3);
			uint64_t seen;
			int r;

			cell_put(&tree, k, cell_pack(1, R1, cell_seq(cell_of(&tree, k))));
			seen = word_of(R1);
			if (how == 3)
				counter_abandon(f.map, R1);
			r = how == 0   ? counter_release(f.map, R1, seq)
			    : how == 1 ? counter_revoke(f.map, R1, seen)
			    : how == 2 ? counter_close(f.map, R1)
				       : counter_settle(f.map, R1);
			ck_assert_int_eq(r, -EUCLEAN);
			check_counts(&tree, k == 0, k == 1, k == 2);
			ck_assert_uint_eq(record_charged(word_of(R1)), 0);
			cell_put(&tree, k, cell_tag(cell_of(&tree, k)));
			if (how == 2)
				ck_assert_int_eq(counter_open(f.map, R1), 0);
		}
}
END_TEST

START_TEST(an_account_that_is_not_what_it_was_admits_nobody) {
	for (uint32_t k = 0; k < 3; k++) {
		struct path old = tree;

		ck_assert_int_eq(directory_renew(f.accounts->directory, tree.level[k].account, 5,
					 ENTRY_USABLE | ENTRY_CONFIGURED),
			0);
		ck_assert_int_eq(take_try(R1, &old, 1), -ESTALE);
		check_counts(&tree, 0, 0, 0);
		ck_assert_int_eq(record_state(word_of(R1)), RECORD_FREE);
		tree.level[k].generation = entry_generation(
			directory_word(f.accounts->directory, tree.level[k].account));
		ck_assert_int_eq(counter_release(f.map, R1, take(R1, &tree, 1)), 0);
		ck_assert_int_eq(counter_close(f.map, R1), 0);
		ck_assert_int_eq(counter_open(f.map, R1), 0);
	}
}
END_TEST

/* A tag that names a record out of reach can't be noted, at whichever level it stands. */
START_TEST(an_acquire_that_lacks_memory_leaves_to_the_daemon_what_it_has_charged) {
	uint32_t seq = take(R1, &deep, 2);

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	store_relaxed(&f.segment->names->slots, R_UNMAPPED + BERTH_RANGE);
	map_close_files(f.map);
	for (uint32_t k = 0; k < deep.depth; k++) {
		uint64_t before;

		/* Which notes the record's own tag. */
		ck_assert_int_eq(counter_bump(f.map, deep.level[k].account), 0);
		before = cell_of(&deep, k);
		cell_put(&deep, k, cell_pack(1, R_UNMAPPED, 5));
		ck_assert_int_eq(take_try(R1, &deep, 2), -ENOMEM);
		ck_assert(cell_of(&deep, k) == cell_pack(1, R_UNMAPPED, 5));
		for (uint32_t j = 0; j < deep.depth; j++)
			ck_assert_uint_eq(count(&deep, j), j < k ? 2 : j == k);
		if (k > 0)
			ck_assert_int_eq(record_state(raw_of(R1)), RECORD_SEIZED);
		/* The daemon has the memory. */
		cell_put(&deep, k, before);
		ck_assert_int_eq(counter_settle(f.map, R1), 0);
		for (uint32_t j = 0; j < deep.depth; j++)
			ck_assert_uint_eq(count(&deep, j), 0);
		ck_assert_int_eq(counter_release(f.map, R1, take(R1, &deep, 2)), 0);
	}
}
END_TEST

/* -- old tags ------------------------------------------------------------------------------------ */

/* Takes and gives back with a revocation and a refusal among it, and judges after each. */
static void go_round(uint32_t record, const struct path *p, uint32_t others) {
	uint32_t seq = take(record, p, 1);

	for (uint32_t k = 0; k < p->depth; k++) {
		ck_assert_uint_eq(count(p, k), others + 1);
		ck_assert(counter_has_charged(raw_of(record), record, k, cell_of(p, k)));
	}
	ck_assert(record_is_held(word_of(record)));
	ck_assert_uint_eq(record_seq(word_of(record)), seq);
	ck_assert_int_eq(counter_release(f.map, record, seq), 0);
	for (uint32_t k = 0; k < p->depth; k++) {
		ck_assert_uint_eq(count(p, k), others);
		ck_assert(!counter_has_charged(raw_of(record), record, k, cell_of(p, k)));
	}
	check_rests(record, p);
}

static void go_on(uint32_t record, const struct path *p, uint32_t others) {
	uint64_t held;

	go_round(record, p, others);
	(void)take(record, p, 1);
	held = word_of(record);
	ck_assert_int_eq(counter_revoke(f.map, record, held), 0);
	for (uint32_t k = 0; k < p->depth; k++)
		ck_assert_uint_eq(count(p, k), others);
	go_round(record, p, others);
}

/* Cells rest with tags of the record's own, from any distance: just behind it, or so old that they
 * look newer than what it says. */
START_TEST(no_old_tag_of_a_record_s_own_is_taken_for_its_newest_step) {
	static const uint32_t around[] = {0, HALF, HALF / 2, HALF + HALF / 2};
	const struct path *const paths[] = {&leaf, &tree};

	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (size_t a = 0; a < ELEMENTS(around); a++)
			for (uint32_t ahead = 0; ahead < 100; ahead++)
				for (uint32_t which = 1; which < 1u << paths[i]->depth; which++) {
					const struct path *p = paths[i];
					uint32_t seq = 8 * which;

					record_put(R1, record_pack(RECORD_FREE, 0, 0, 0, seq));
					for (uint32_t k = 0; k < p->depth; k++)
						cell_put(p, k,
							cell_pack(2, which >> k & 1 ? R1 : 0,
								(seq + around[a] + ahead - 50 +
									3 * k) &
									BERTH_SEQ_MASK));
					go_on(R1, p, 2);
				}
}
END_TEST

/* The same at a refusal, which renews some of them. */
START_TEST(an_old_tag_above_a_refusal_does_no_harm) {
	for (uint32_t ahead = 0; ahead < 200; ahead++)
		for (uint32_t k = 1; k < 3; k++) {
			record_put(R1, record_pack(RECORD_FREE, 0, 0, 0, 77));
			for (uint32_t j = 0; j < 3; j++)
				cell_put(&tree, j,
					cell_pack(
						2, R1, (77 + HALF + ahead - 100) & BERTH_SEQ_MASK));
			limit_put(&tree, k, 2);
			ck_assert_int_eq(take_try(R1, &tree, 1), -EDQUOT);
			check_counts(&tree, 2, 2, 2);
			ck_assert_int_eq(counter_bump(f.map, tree.level[2].account), 0);
			check_counts(&tree, 2, 2, 2);
			limit_put(&tree, k, 4 + k);
			go_on(R1, &tree, 2);
		}
}
END_TEST

/* It rests as far ahead of what it says as it may, or farther than that by a round of its path. */
START_TEST(a_record_whose_steps_have_gone_far_is_told) {
	const struct path *const paths[] = {&leaf, &tree};

	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (uint32_t ahead = HALF - 128; ahead < HALF; ahead += 8) {
			const struct path *p = paths[i];
			uint64_t last = 3 * HALF / 2;

			record_put(R1, placed(p, 1, (uint32_t)last - ahead));
			for (uint32_t k = 0; k < p->depth; k++)
				cell_put(p, k,
					cell_pack(2, R1,
						((uint32_t)last - 8 + 2 * p->depth - k) &
							BERTH_SEQ_MASK));
			go_on(R1, p, 2);
			ck_assert_uint_lt(
				(record_seq(word_of(R1)) - record_seq(raw_of(R1))) & BERTH_SEQ_MASK,
				HALF);
		}
}
END_TEST

/* By real steps, more than two rounds of seqs; with another's cell that rests meanwhile, and to which
 * the record comes back. */
START_TEST(seqs_come_round_and_nothing_changes) {
	const struct path *const paths[] = {&leaf, &tree};
	struct path aside = fixture_path(&f, "acme/aside", 5);

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		uint32_t cycle = record_cycle(placed(paths[i], 1, 0));
		uint32_t rounds = 0, seq = take(R1, &aside, 1), before = seq;

		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		for (uint32_t n = 1; rounds < 3; n++) {
			uint32_t level;

			must(counter_acquire(f.map, R1, paths[i], 1, &stamp, &seq, &level) == 0,
				"%u: no slot", n);
			must(counter_release(f.map, R1, seq) == 0, "%u: not held", n);
			rounds += seq < before;
			before = seq;
			if (n % (HALF / cycle - 7) == 0)
				go_on(R1, paths[i], 0);
			if (n % (3 * HALF / cycle / 2) == 0)
				go_on(R1, &aside, 0);
		}
		for (uint32_t k = 0; k < paths[i]->depth; k++)
			ck_assert_uint_eq(count(paths[i], k), 0);
	}
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

/* Somebody else changes the cell of a level. */
static void change(enum changer who, const struct path *p, uint32_t level) {
	uint32_t account = p->level[level].account;
	uint64_t word = cell_of(p, level);
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
			store_total(&up.level[k].cell->word, cell_of(&up, k) + cell_pack(1, 0, 0));
		if (who == REVOKE)
			ck_assert_int_eq(counter_revoke(f.map, other, word_of(other)), 0);
		else
			ck_assert_int_eq(counter_release(f.map, other, up.depth), 0);
		break;
	case BUMP:
		ck_assert_int_eq(counter_bump(f.map, account), 0);
		break;
	default:
		ck_assert_int_eq(counter_repair(f.map, account, word, cell_count(word)), 0);
		break;
	}
	ck_assert_uint_ne(cell_record(cell_of(p, level)), R1);
}

START_TEST(whoever_overwrites_a_tag_notes_it_in_the_record_that_it_names) {
	static const enum record_state states[] = {RECORD_PLACED, RECORD_SEIZED};

	for (size_t i = 0; i < ELEMENTS(states); i++)
		for (int who = 0; who < CHANGERS; who++)
			for (uint32_t step = 1; step <= 6; step++) {
				uint32_t level = step <= 3 ? step - 1 : 6 - step, base = 40;
				uint64_t rec =
					record_pack(states[i], 2, 1, tree.level[0].account, base);

				record_put(R1, rec);
				for (uint32_t k = 0; k < 3; k++)
					cell_put(&tree, k, cell_pack(1, 0, k));
				cell_put(&tree, level, cell_pack(1, R1, base + step));
				change((enum changer)who, &tree, level);
				ck_assert_msg(raw_of(R1) == rec + step,
					"changer %d, step %u: the record says %u", who, step,
					record_seq(raw_of(R1)));
				for (uint32_t n = R2; n <= R_FAR; n += R_FAR - R2) {
					for (uint32_t k = 0; k < 3; k++)
						cell_put(&tree, k, cell_pack(1, 0, k));
					record_put(n, record_pack(RECORD_FREE, 0, 0, 0, 0));
				}
			}
}
END_TEST

/* Not newer, or not of this record's path, or of one that is on none: the record stays. */
static void check_not_noted(uint64_t rec, uint32_t level, uint32_t tag) {
	for (int who = 0; who < CHANGERS; who++) {
		record_put(R1, rec);
		for (uint32_t k = 0; k < 3; k++)
			cell_put(&tree, k, cell_pack(1, 0, k));
		cell_put(&tree, level, cell_pack(1, R1, tag & BERTH_SEQ_MASK));
		change((enum changer)who, &tree, level);
		ck_assert_msg(raw_of(R1) == rec, "changer %d, tag %u: %016llx became %016llx", who,
			tag, (unsigned long long)rec, (unsigned long long)raw_of(R1));
		record_put(R2, record_pack(RECORD_FREE, 0, 0, 0, 0));
		record_put(R_FAR, record_pack(RECORD_FREE, 0, 0, 0, 0));
	}
}

START_TEST(a_tag_that_tells_nothing_new_is_not_noted) {
	struct path other = fixture_path(&f, "other", 5);

	for (uint32_t k = 0; k < 3; k++) {
		/* The same; older; so old that it is half a round ahead. */
		check_not_noted(placed(&tree, 1, 41 + k), k, 41 + k);
		check_not_noted(placed(&tree, 1, 43), k, 41 - 8 + k);
		check_not_noted(placed(&tree, 1, 40), k, 41 + k + HALF);
		/* R1 has moved on; by chance a step of its new path would be newer. */
		check_not_noted(placed(&other, 1, 40), k, 41 + k);
		check_not_noted(placed(&leaf, 1, 40), k, 42);
		check_not_noted(record_pack(RECORD_FREE, 0, 0, 0, 40), k, 41 + k);
		check_not_noted(record_pack(RECORD_CLOSED, 0, 0, 0, 40), k, 41 + k);
		check_not_noted(UINT64_MAX, k, 41 + k);
		/* A step that was made on another level's cell. */
		check_not_noted(placed(&tree, 1, 40), k, 41 + (k + 1) % 3);
		check_not_noted(placed(&tree, 1, 40), k, 46 - (k + 2) % 3);
	}
}
END_TEST

/* A count that somebody has charged and not noted is his, whoever comes after. */
START_TEST(a_note_keeps_what_was_charged) {
	for (int who = 0; who < CHANGERS; who++) {
		(void)take(R1, &leaf, 2);
		change((enum changer)who, &leaf, 0);
		ck_assert(record_is_held(raw_of(R1)));
		ck_assert(counter_has_charged(raw_of(R1), R1, 0, cell_of(&leaf, 0)));
		ck_assert_int_eq(counter_release(f.map, R1, record_seq(raw_of(R1))), 0);
		for (uint32_t n = R1; n <= R_FAR; n++) {
			ck_assert_int_eq(counter_close(f.map, n), 0);
			ck_assert_int_eq(counter_open(f.map, n), 0);
		}
		ck_assert_uint_eq(count(&leaf, 0), 0);
	}
}
END_TEST

START_TEST(a_bump_changes_the_word_and_not_the_count) {
	uint64_t first, second;

	(void)take(R1, &leaf, 2);
	first = cell_of(&leaf, 0);
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	second = cell_of(&leaf, 0);
	ck_assert(first != second);
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	ck_assert(cell_of(&leaf, 0) != second);
	ck_assert_uint_eq(count(&leaf, 0), 2);
}
END_TEST

/* -- deaths -------------------------------------------------------------------------------------- */

#define OTHERS 1
#define WEIGHT 2

/* Who goes round the path, and how far he has come when he dies. */
struct death {
	const struct path *path;
	enum record_state state;
	uint32_t base;
	uint32_t turn;    /* the level that refused him; the path's depth: none, he held the slot */
	bool revoked;     /* from the slot down it is the daemon, a cycle on */
	uint32_t made;    /* steps, of 2 * turn */
	uint32_t noted;   /* the one that the record knows of */
	uint32_t covered; /* levels whose tags another's change has overwritten, as bits */
};

/* The seq of his n-th step. */
static uint32_t death_seq(const struct death *d, uint32_t n) {
	uint32_t seq = d->base + n;

	if (n > d->turn)
		seq += 2 * (d->path->depth - d->turn) +
		       (d->revoked ? record_cycle(placed(d->path, 1, 0)) : 0);
	return seq & BERTH_SEQ_MASK;
}

static uint32_t death_level(const struct death *d, uint32_t n) {
	return n <= d->turn ? n - 1 : 2 * d->turn - n;
}

static uint32_t death_charged(const struct death *d) {
	return d->made <= d->turn ? d->made : 2 * d->turn - d->made;
}

/* His newest step at the level; 0: none. */
static uint32_t death_newest(const struct death *d, uint32_t level) {
	uint32_t newest = 0;

	for (uint32_t n = 1; n <= d->made; n++)
		if (death_level(d, n) == level)
			newest = n;
	return newest;
}

/* False if that can't be: nobody overwrites what he hasn't noted. */
static bool death_put(const struct death *d) {
	for (uint32_t k = 0; k < d->path->depth; k++) {
		uint32_t n = death_newest(d, k);
		uint32_t now = OTHERS + (k < death_charged(d) ? WEIGHT : 0);
		bool covered = d->covered >> k & 1;

		if (covered && n > d->noted)
			return false;
		if (covered || n == 0)
			cell_put(d->path, k, cell_pack(now, 0, k));
		else
			cell_put(d->path, k, cell_pack(now, R1, death_seq(d, n)));
	}
	record_put(R1, record_pack(d->state, d->path->depth - 1, WEIGHT, d->path->level[0].account,
			       death_seq(d, d->noted)));
	return true;
}

static const char *death_text(const struct death *d) {
	static char text[200];

	(void)snprintf(text, sizeof(text),
		"depth %u, %s from %u, turned at %u%s, %u steps made, %u noted, covered %#x",
		d->path->depth, d->state == RECORD_SEIZED ? "SEIZED" : "PLACED", d->base, d->turn,
		d->revoked ? " (revoked)" : "", d->made, d->noted, d->covered);
	return text;
}

static void check_given_back(const struct death *d, const char *how) {
	uint64_t rec = word_of(R1);

	for (uint32_t k = 0; k < d->path->depth; k++)
		must(count(d->path, k) == OTHERS, "%s, %s: level %u counts %u, not %u",
			death_text(d), how, k, count(d->path, k), OTHERS);
	must(record_state(rec) != RECORD_SEIZED && record_charged(rec) == 0,
		"%s, %s: the record is %016llx", death_text(d), how, (unsigned long long)rec);
	/* Whatever it does next is newer than what it did. */
	must(((record_seq(rec) - death_seq(d, d->made)) & BERTH_SEQ_MASK) <= 64, "%s",
		death_text(d));
	must(counter_close(f.map, R1) == 0, "%s", death_text(d));
	must(counter_open(f.map, R1) == 0, "%s", death_text(d));
}

/* Any instant can be read: each level alone, and all by the newest of them. */
static void check_told(const struct death *d) {
	uint64_t raw = raw_of(R1), newest = word_of(R1);

	must(record_charged(newest) == death_charged(d), "%s: %u levels are charged", death_text(d),
		record_charged(newest));
	for (uint32_t k = 0; k < d->path->depth; k++) {
		bool charged = k < death_charged(d);

		must(counter_has_charged(raw, R1, k, cell_of(d->path, k)) == charged,
			"%s: level %u is told wrong", death_text(d), k);
		must(counter_has_charged(newest, R1, k, cell_of(d->path, k)) == charged,
			"%s: level %u is told wrong by the newest", death_text(d), k);
	}
}

/* An operation that a dead daemon had begun, or a dead owner's way down, is finished. */
static bool is_for_resume(const struct death *d) {
	bool down = d->path->depth > 1 && d->made > d->turn && d->made < 2 * d->turn;

	return d->state == RECORD_SEIZED || down;
}

static void check_resumed(const struct death *d) {
	uint64_t before = raw_of(R1);

	must(counter_resume(f.map, R1) == 0, "%s", death_text(d));
	if (is_for_resume(d)) {
		must(record_state(raw_of(R1)) ==
				(d->state == RECORD_SEIZED ? RECORD_FREE : RECORD_PLACED),
			"%s", death_text(d));
		check_given_back(d, "resumed");
		return;
	}
	must(raw_of(R1) == before, "%s: was resumed", death_text(d));
	check_told(d);
}

/* As a recount does, or a revoke by account. */
static void check_revoked(const struct death *d) {
	must(counter_revoke(f.map, R1, word_of(R1)) == 0, "%s", death_text(d));
	check_given_back(d, "revoked");
}

static void check_settled(const struct death *d) {
	counter_abandon(f.map, R1);
	must(record_state(raw_of(R1)) == RECORD_SEIZED, "%s", death_text(d));
	check_told(d);
	must(counter_settle(f.map, R1) == 0, "%s", death_text(d));
	must(record_state(raw_of(R1)) == RECORD_FREE, "%s", death_text(d));
	check_given_back(d, "settled");
}

static void check_closed(const struct death *d) {
	must(counter_close(f.map, R1) == 0, "%s", death_text(d));
	must(record_state(raw_of(R1)) == RECORD_CLOSED, "%s", death_text(d));
	check_given_back(d, "closed");
}

static unsigned long check_death(const struct death *d) {
	static void (*const check[])(const struct death *) = {
		check_told, check_closed, check_resumed, check_revoked, check_settled};

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
	const uint32_t bases[] = {48, (0u - 16) & BERTH_SEQ_MASK};
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
	uint64_t seq = 40;

	record_put(R1, record_pack(RECORD_FREE, 0, 0, 0, (uint32_t)seq));
	cell_put(&leaf, 0, cell_pack(3, R1, 41));
	ck_assert_int_eq(counter_resume(f.map, R1), 0);
	ck_assert_int_eq(counter_settle(f.map, R1), 0);
	counter_abandon(f.map, R1);
	ck_assert_int_eq(counter_revoke(f.map, R1, word_of(R1)), 0);
	ck_assert(raw_of(R1) == record_pack(RECORD_FREE, 0, 0, 0, (uint32_t)seq));
	ck_assert_int_eq(counter_close(f.map, R1), 0);
	ck_assert(raw_of(R1) == record_pack(RECORD_CLOSED, 0, 0, 0, (uint32_t)seq));
	counter_abandon(f.map, R1);
	ck_assert_int_eq(counter_resume(f.map, R1), 0);
	ck_assert(raw_of(R1) == record_pack(RECORD_CLOSED, 0, 0, 0, (uint32_t)seq));
	ck_assert_uint_eq(count(&leaf, 0), 3);
}
END_TEST

START_TEST(a_revoke_takes_what_was_seen_and_nothing_later) {
	const struct path *const paths[] = {&leaf, &tree};

	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		uint32_t seq = take(R1, paths[i], 1);
		uint64_t seen = word_of(R1);

		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
		(void)take(R1, paths[i], 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
		ck_assert_uint_eq(count(paths[i], 0), 1);
		ck_assert_int_eq(counter_revoke(f.map, R1, word_of(R1)), 0);
		ck_assert_uint_eq(count(paths[i], 0), 0);
		ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
	}
	/* On its way up when it was seen, and at the next step now. */
	record_put(R1, placed(&tree, 1, 41));
	for (uint32_t k = 0; k < 3; k++)
		cell_put(&tree, k, cell_pack(k < 2, R1, 41 + k - 8 * (k == 2)));
	ck_assert_int_eq(counter_revoke(f.map, R1, placed(&tree, 1, 41)), -EAGAIN);
	check_counts(&tree, 1, 1, 0);
	ck_assert_int_eq(counter_revoke(f.map, R1, placed(&tree, 1, 42)), 0);
	check_counts(&tree, 0, 0, 0);
}
END_TEST

START_TEST(a_record_that_is_in_use_is_not_used_again) {
	uint64_t before;

	(void)take(R1, &leaf, 1);
	before = word_of(R1);
	/* For the same, another weight, another path. */
	ck_assert_int_eq(take_try(R1, &leaf, 1), -EAGAIN);
	ck_assert_int_eq(take_try(R1, &leaf, 2), -EAGAIN);
	ck_assert_int_eq(take_try(R1, &tree, 1), -EAGAIN);
	ck_assert(word_of(R1) == before);
	/* Before and after the slot, whichever tags are left. */
	for (uint32_t step = 1; step < 6; step++) {
		cell_put(&tree, 0, cell_pack(step < 6, R2, 0));
		cell_put(&tree, 1, cell_pack(1, R2, 0));
		record_put(R2, placed(&tree, 1, 40 + step));
		ck_assert_int_eq(take_try(R2, &tree, 1), -EAGAIN);
		ck_assert_int_eq(take_try(R2, &leaf, 1), -EAGAIN);
		ck_assert(raw_of(R2) == placed(&tree, 1, 40 + step));
		record_put(R2, seized(&tree, 1, 40 + step));
		ck_assert_int_eq(take_try(R2, &tree, 1), -EAGAIN);
		ck_assert_int_eq(counter_release(f.map, R2, 40 + step), -ENOENT);
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

START_TEST(what_a_dead_daemon_began_is_finished_and_nothing_else) {
	uint32_t seq = take(R1, &tree, 1);
	uint64_t held = word_of(R1);

	ck_assert_int_eq(counter_resume(f.map, R1), 0);
	ck_assert(word_of(R1) == held);
	/* It rests, it is on its way up, it is refused and on its way down. */
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	held = word_of(R1);
	ck_assert_int_eq(counter_resume(f.map, R1), 0);
	ck_assert(word_of(R1) == held);
	record_put(R2, placed(&leaf, 1, 3));
	cell_put(&leaf, 0, cell_pack(1, 0, 0));
	ck_assert_int_eq(counter_resume(f.map, R2), 0);
	ck_assert(raw_of(R2) == placed(&leaf, 1, 3));
	record_put(R2, seized(&leaf, 1, 3));
	ck_assert_int_eq(counter_resume(f.map, R2), 0);
	ck_assert_int_eq(record_state(word_of(R2)), RECORD_FREE);
	ck_assert_uint_eq(count(&leaf, 0), 0);
}
END_TEST

/* Whoever was on his way down, and wherever he was stopped. */
START_TEST(a_step_down_is_made_once) {
	const struct path *const paths[] = {&tree, &deep};

	for (size_t i = 0; i < ELEMENTS(paths); i++)
		for (uint32_t k = 0; k + 1 < paths[i]->depth; k++) {
			const struct path *p = paths[i];
			uint32_t seq = take(R1, p, 1), base = seq - p->depth;

			/* Down to level k, which is still charged. */
			for (uint32_t j = k + 1; j < p->depth; j++)
				cell_put(p, j, cell_pack(0, R1, base + 2 * p->depth - j));
			ck_assert_uint_eq(record_charged(word_of(R1)), k + 1);
			ck_assert_int_eq(counter_resume(f.map, R1), 0);
			for (uint32_t j = 0; j < p->depth; j++)
				ck_assert_uint_eq(count(p, j), 0);
			ck_assert_int_eq(counter_resume(f.map, R1), 0);
			ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
			ck_assert_int_eq(counter_release(f.map, R1, take(R1, p, 1)), 0);
			for (uint32_t j = 0; j < p->depth; j++)
				ck_assert_uint_eq(count(p, j), 0);
		}
}
END_TEST

START_TEST(noise_in_a_record_counts_for_nothing_and_crashes_nobody) {
	const uint64_t noise[] = {UINT64_MAX, (uint64_t)7 << 61, (uint64_t)4 << 61 | 1,
		record_pack(RECORD_PLACED, 7, 4095, 0xFFFFFF, 1),
		record_pack(RECORD_SEIZED, 7, 4095, 0xFFFFFF, 8),
		record_pack(RECORD_PLACED, 7, 1, leaf.level[0].account, 1),
		record_pack(RECORD_PLACED, 2, 1, leaf.level[0].account, 3),
		record_pack(RECORD_SEIZED, 7, 1, leaf.level[0].account, 8),
		record_pack(RECORD_SEIZED, 5, 1, 60, 1), record_pack(RECORD_PLACED, 7, 9, 0, 1)};

	for (size_t i = 0; i < ELEMENTS(noise); i++) {
		for (int how = 0; how < 4; how++) {
			record_put(R1, noise[i]);
			if (how == 0)
				(void)counter_resume(f.map, R1);
			else if (how == 1)
				(void)counter_revoke(f.map, R1, word_of(R1));
			else if (how == 2)
				(void)counter_release(f.map, R1, record_seq(noise[i]));
			else
				(void)take_try(R1, &tree, 1);
			(void)counter_close(f.map, R1);
			ck_assert_msg(record_state(raw_of(R1)) == RECORD_CLOSED,
				"noise %zu is not closed: %016llx", i,
				(unsigned long long)raw_of(R1));
			ck_assert_uint_eq(count(&leaf, 0), 0);
			check_counts(&tree, 0, 0, 0);
		}
		record_put(R1, noise[i]);
		ck_assert_int_eq(counter_discard(f.map, R1, noise[i]), 0);
		ck_assert_int_eq(record_state(raw_of(R1)), RECORD_FREE);
		go_round(R1, &leaf, 0);
	}
	/* A tag that names a record which isn't there, or noise, keeps nobody out. */
	cell_put(&leaf, 0, cell_pack(0, 0x3FFFFF, 5));
	record_put(R1, UINT64_MAX);
	(void)take(R2, &leaf, 1);
	cell_put(&leaf, 0, cell_pack(1, R1, BERTH_SEQ_MASK));
	ck_assert_int_eq(counter_release(f.map, R2, record_seq(word_of(R2))), -ENOENT);
	cell_put(&leaf, 0, cell_pack(1, R2, 3));
	record_put(R2, placed(&leaf, 1, 3));
	ck_assert_int_eq(counter_release(f.map, R2, 3), 0);
}
END_TEST

START_TEST(what_was_repaired_is_not_what_was_seen_any_more) {
	uint64_t seen = cell_of(&leaf, 0);
	uint64_t rec = record_pack(RECORD_SEIZED, 7, 1, 60, 1);

	(void)take(R1, &leaf, 1);
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, seen, 4), -EAGAIN);
	ck_assert_uint_eq(count(&leaf, 0), 1);
	ck_assert_int_eq(counter_repair(f.map, leaf.level[0].account, cell_of(&leaf, 0), 4), 0);
	ck_assert_uint_eq(count(&leaf, 0), 4);
	ck_assert(record_is_held(raw_of(R1)));
	ck_assert_int_eq(counter_discard(f.map, R1, rec), -EAGAIN);
	ck_assert(record_is_held(raw_of(R1)));
}
END_TEST

START_TEST(the_peak_is_the_highest_count) {
	uint32_t seq = take(R1, &leaf, 4);

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	(void)take(R2, &leaf, 1);
	ck_assert_uint_eq(load_relaxed(&map_cell(f.map, leaf.level[0].account)->peak), 4);
}
END_TEST

START_TEST(a_label_is_cut_and_forgotten_with_its_slot) {
	const struct stamp labelled = {
		.since = 5, .label = "0123456789012345678901234567890123456789 too long"};
	const struct stamp bare = {.since = 6};
	uint32_t seq, level;
	char shown[BERTH_LABEL_SIZE];

	ck_assert_int_eq(counter_acquire(f.map, R1, &leaf, 1, &labelled, &seq, &level), 0);
	memcpy(shown, (const void *)map_record(f.map, R1)->label, sizeof(shown));
	ck_assert_str_eq(shown, "012345678901234567890123456789012345678");
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	ck_assert_int_eq(counter_acquire(f.map, R1, &leaf, 1, &bare, &seq, &level), 0);
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
	tcase_add_test(tc, who_is_refused_at_the_lowest_level_has_written_nothing);
	tcase_add_test(tc, a_revoke_goes_on_to_the_next_cycle);
	tcase_add_test(tc, a_refusal_at_any_level_leaves_every_level_as_it_was);
	tcase_add_test(tc, a_refusal_leaves_a_record_on_its_path_only_if_it_wrote_nothing);
	tcase_add_test(tc, the_check_before_writes_nothing_but_the_denial);
	tcase_add_test(tc, an_acquire_by_a_word_that_is_gone_counts_right);
	tcase_add_test(tc, a_slot_is_released_once);
	tcase_add_test(tc, a_count_never_passes_its_field);
	tcase_add_test(tc, a_release_of_more_than_there_is_is_damage_and_no_wrap);
	tcase_add_test(tc, damage_at_one_level_keeps_nobody_from_the_others);
	tcase_add_test(tc, an_account_that_is_not_what_it_was_admits_nobody);
	tcase_add_test(tc, an_acquire_that_lacks_memory_leaves_to_the_daemon_what_it_has_charged);
	tcase_add_test(tc, no_old_tag_of_a_record_s_own_is_taken_for_its_newest_step);
	tcase_add_test(tc, an_old_tag_above_a_refusal_does_no_harm);
	tcase_add_test(tc, a_record_whose_steps_have_gone_far_is_told);
	tcase_add_test(tc, seqs_come_round_and_nothing_changes);
	tcase_add_test(tc, whoever_overwrites_a_tag_notes_it_in_the_record_that_it_names);
	tcase_add_test(tc, a_tag_that_tells_nothing_new_is_not_noted);
	tcase_add_test(tc, a_note_keeps_what_was_charged);
	tcase_add_test(tc, a_bump_changes_the_word_and_not_the_count);
	tcase_add_loop_test(tc, every_death_in_the_middle_is_told_apart_and_undone, 0, 6);
	tcase_add_test(tc, a_record_on_no_path_is_closed_and_nothing_else);
	tcase_add_test(tc, a_revoke_takes_what_was_seen_and_nothing_later);
	tcase_add_test(tc, a_record_that_is_in_use_is_not_used_again);
	tcase_add_test(tc, a_record_of_a_session_that_has_ended_is_closed_until_it_is_opened);
	tcase_add_test(tc, what_a_dead_daemon_began_is_finished_and_nothing_else);
	tcase_add_test(tc, a_step_down_is_made_once);
	tcase_add_test(tc, noise_in_a_record_counts_for_nothing_and_crashes_nobody);
	tcase_add_test(tc, what_was_repaired_is_not_what_was_seen_any_more);
	tcase_add_test(tc, the_peak_is_the_highest_count);
	tcase_add_test(tc, a_label_is_cut_and_forgotten_with_its_slot);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
