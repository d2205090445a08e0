/* SPDX-License-Identifier: MIT */

/* The counter, step by step: what each operation does, and what every death in its middle leaves. */

#include "fixture.h"

#define R1 16u
#define R2 17u

static struct fixture f;
static struct path leaf, tree; /* one level; three levels */
static const struct stamp stamp = {.since = 1, .label = "test"};

static void setup(void) {
	const struct capacities want = {64, 64, 4};

	fixture_new(&f, &want);
	leaf = fixture_path(&f, "alice", 5);
	(void)fixture_path(&f, "acme", 6);
	(void)fixture_path(&f, "acme/bob", 5);
	tree = fixture_path(&f, "acme/bob/web", 4);
	fixture_open_records(&f, 16, 16);
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

static void record_put(uint32_t record, uint64_t word) {
	store_total(&map_record(f.map, record)->word, word);
}

static void cell_put(const struct path *p, uint32_t level, uint64_t word) {
	store_total(&map_cell(f.map, p->level[level].account)->word, word);
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

START_TEST(an_acquire_charges_every_level_and_a_release_gives_each_back) {
	uint32_t seq = take(R1, &tree, 3);

	ck_assert_uint_eq(tree.depth, 3);
	check_counts(&tree, 3, 3, 3);
	ck_assert_int_eq(record_state(word_of(R1)), RECORD_HELD);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	check_counts(&tree, 0, 0, 0);
	ck_assert_int_eq(record_state(word_of(R1)), RECORD_FREE);
}
END_TEST

START_TEST(who_is_refused_at_the_first_look_has_published_nothing) {
	uint64_t before = word_of(R1);
	uint32_t seq, level;

	(void)take(R2, &leaf, 5);
	ck_assert_int_eq(counter_acquire(f.map, R1, &leaf, 1, &stamp, &seq, &level), -EDQUOT);
	ck_assert_uint_eq(level, 0);
	ck_assert(word_of(R1) == before);
}
END_TEST

START_TEST(a_revoke_takes_two_sequence_numbers_where_a_release_takes_one) {
	uint32_t seq = take(R1, &leaf, 1);

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	ck_assert_uint_eq(record_seq(word_of(R1)), seq + 1);
	seq = take(R1, &leaf, 1);
	ck_assert_int_eq(counter_revoke(f.map, R1, word_of(R1)), 0);
	ck_assert_uint_eq(record_seq(word_of(R1)), seq + 2);
}
END_TEST

START_TEST(a_refusal_at_any_level_leaves_every_level_as_it_was) {
	for (uint32_t k = 0; k < 3; k++) {
		struct cell *cell = map_cell(f.map, tree.level[k].account);
		struct entry *entry = map_entry(f.map, tree.level[k].account);
		uint64_t said = load_relaxed(&entry->word);
		uint32_t seq, level = 9;

		/* Without counter_check(), as when the level fills up after it. */
		store_relaxed(
			&entry->word, entry_pack(1, entry_flags(said), entry_generation(said)));
		ck_assert_int_eq(
			counter_acquire(f.map, R1, &tree, 2, &stamp, &seq, &level), -EDQUOT);
		ck_assert_uint_eq(level, k);
		ck_assert_uint_eq(load_relaxed(&cell->denied), 1);
		check_counts(&tree, 0, 0, 0);
		ck_assert_int_eq(record_state(word_of(R1)), RECORD_FREE);
		store_relaxed(&entry->word, said);
	}
}
END_TEST

START_TEST(the_check_before_writes_nothing_but_the_denial) {
	uint64_t before;
	uint32_t level;

	(void)take(R1, &leaf, 5);
	before = load_relaxed(&map_cell(f.map, leaf.level[0].account)->word);
	ck_assert_int_eq(counter_check(f.map, &leaf, 1, &level), -EDQUOT);
	ck_assert_uint_eq(level, 0);
	ck_assert(before == load_relaxed(&map_cell(f.map, leaf.level[0].account)->word));
	ck_assert_uint_eq(load_relaxed(&map_cell(f.map, leaf.level[0].account)->denied), 1);
}
END_TEST

START_TEST(a_slot_is_released_once) {
	uint32_t seq = take(R1, &leaf, 1);

	ck_assert_int_eq(counter_release(f.map, R1, (seq + 1) & BERTH_SEQ_MASK), -ENOENT);
	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	ck_assert_int_eq(counter_release(f.map, R1, seq), -ENOENT);
	ck_assert_uint_eq(count(&leaf, 0), 0);
}
END_TEST

START_TEST(a_count_never_passes_its_field) {
	struct path p = fixture_path(&f, "free", BERTH_LIMIT_NONE);
	uint32_t seq, level;

	cell_put(&p, 0, cell_pack(BERTH_COUNT_MAX - 1, 0, 0));
	ck_assert_int_eq(counter_check(f.map, &p, 2, &level), -EOVERFLOW);
	ck_assert_int_eq(counter_acquire(f.map, R1, &p, 2, &stamp, &seq, &level), -EOVERFLOW);
	(void)take(R1, &p, 1);
	ck_assert_uint_eq(count(&p, 0), BERTH_COUNT_MAX);
	ck_assert_int_eq(counter_acquire(f.map, R2, &p, 1, &stamp, &seq, &level), -EOVERFLOW);
}
END_TEST

START_TEST(a_release_of_more_than_there_is_is_damage_and_no_wrap) {
	uint32_t seq = take(R1, &leaf, 3);

	cell_put(&leaf, 0, cell_pack(2, 0, 1));
	ck_assert_int_eq(counter_release(f.map, R1, seq), -EUCLEAN);
	ck_assert_uint_eq(count(&leaf, 0), 2);
	ck_assert_int_eq(record_state(word_of(R1)), RECORD_FREE);
}
END_TEST

START_TEST(an_account_that_is_not_what_it_was_admits_nobody) {
	uint32_t seq, level;

	ck_assert_int_eq(directory_renew(f.accounts->directory, tree.level[1].account, 5,
				 ENTRY_USABLE | ENTRY_CONFIGURED),
		0);
	ck_assert_int_eq(counter_acquire(f.map, R1, &tree, 1, &stamp, &seq, &level), -ESTALE);
	check_counts(&tree, 0, 0, 0);
}
END_TEST

START_TEST(a_seq_moves_past_a_cold_tag_of_its_own_record) {
	/* The next operation would take seq 1; the cells rest with tags of this record's that the
	 * acquire or its release would come upon. */
	for (uint32_t tag = 0; tag < 6; tag++) {
		uint32_t seq;

		record_put(R1, record_pack(RECORD_FREE, 0, 0, 0, 100));
		cell_put(&tree, 0, cell_pack(0, R1, 101 + tag));
		cell_put(&tree, 1, cell_pack(0, R1, 101 + (tag + 3) % 6));
		cell_put(&tree, 2, cell_pack(0, 0, 1));
		seq = take(R1, &tree, 1);
		check_counts(&tree, 1, 1, 1);
		ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
		check_counts(&tree, 0, 0, 0);
	}
}
END_TEST

START_TEST(whoever_changes_a_cell_finishes_what_its_tag_names) {
	/* R1's owner died or sleeps between A2 and A3. */
	record_put(R1, record_pack(RECORD_CHARGE, 0, 2, leaf.level[0].account, 7));
	cell_put(&leaf, 0, cell_pack(2, R1, 7));

	(void)take(R2, &leaf, 1);

	ck_assert_uint_eq(count(&leaf, 0), 3);
	ck_assert(word_of(R1) == record_pack(RECORD_HELD, 0, 2, leaf.level[0].account, 7));
}
END_TEST

START_TEST(a_tag_of_a_record_that_stands_elsewhere_is_nobodys) {
	/* R1 has moved on; by chance its new operation, on another cell, has the cold tag's seq. */
	struct path other = fixture_path(&f, "other", 5);
	uint64_t elsewhere = record_pack(RECORD_CHARGE, 0, 1, other.level[0].account, 7);

	record_put(R1, elsewhere);
	cell_put(&leaf, 0, cell_pack(0, R1, 7));
	(void)take(R2, &leaf, 1);
	ck_assert(word_of(R1) == elsewhere);
}
END_TEST

START_TEST(a_bump_changes_the_word_and_not_the_count) {
	struct cell *cell = map_cell(f.map, leaf.level[0].account);
	uint64_t first, second;

	(void)take(R1, &leaf, 2);
	first = load_relaxed(&cell->word);
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	second = load_relaxed(&cell->word);
	ck_assert(first != second);
	ck_assert_int_eq(counter_bump(f.map, leaf.level[0].account), 0);
	ck_assert(load_relaxed(&cell->word) != second);
	ck_assert_uint_eq(count(&leaf, 0), 2);
}
END_TEST

/*
 * Every state that a death can leave, at every level, with the cell's tag (the operation took
 * effect) and without. `charged`: how many levels the record has charged, that one included.
 */
static void check_death(enum record_state state, uint32_t level, bool tagged, uint32_t charged) {
	const uint32_t weight = 2, others = 1, seq = 40;

	for (uint32_t k = 0; k < tree.depth; k++)
		cell_put(&tree, k, cell_pack(others + (k < charged ? weight : 0), 0, k));
	if (tagged)
		cell_put(&tree, level, cell_pack(count(&tree, level), R1, seq));
	record_put(R1, record_pack(state, level, weight, tree.level[0].account, seq));

	ck_assert_int_eq(counter_close(f.map, R1), 0);

	ck_assert_int_eq(record_state(word_of(R1)), RECORD_CLOSED);
	for (uint32_t k = 0; k < tree.depth; k++)
		ck_assert_msg(count(&tree, k) == others,
			"state %d, level %u, %s: level %u counts %u, not %u", state, level,
			tagged ? "tagged" : "not tagged", k, count(&tree, k), others);
}

START_TEST(every_death_in_the_middle_is_told_apart_and_undone) {
	for (uint32_t k = 0; k < 3; k++) {
		check_death(RECORD_CHARGE, k, false, k);
		check_death(RECORD_CHARGE, k, true, k + 1);
		check_death(RECORD_CANCEL, k, false, k);
		check_death(RECORD_CANCEL, k, true, k + 1);
		check_death(RECORD_EFFECT, k, false, k + 1);
		check_death(RECORD_UNCHARGE, k, false, k + 1);
		check_death(RECORD_UNCHARGE, k, true, k);
	}
	check_death(RECORD_HELD, 2, true, 3);
	check_death(RECORD_HELD, 2, false, 3);
	check_death(RECORD_FREE, 0, false, 0);
}
END_TEST

START_TEST(a_release_goes_on_where_another_left_it) {
	for (uint32_t k = 0; k < 3; k++) {
		record_put(R1, record_pack(RECORD_UNCHARGE, k, 1, tree.level[0].account, 9));
		for (uint32_t j = 0; j < 3; j++)
			cell_put(&tree, j, cell_pack(j <= k, 0, 3));
		ck_assert_int_eq(counter_settle(f.map, R1), 0);
		check_counts(&tree, 0, 0, 0);
		ck_assert_int_eq(record_state(word_of(R1)), RECORD_FREE);
	}
}
END_TEST

START_TEST(a_revoke_takes_what_was_seen_and_nothing_later) {
	uint32_t seq = take(R1, &leaf, 1);
	uint64_t seen = word_of(R1);

	ck_assert_int_eq(counter_release(f.map, R1, seq), 0);
	(void)take(R1, &leaf, 1);
	ck_assert_int_eq(counter_revoke(f.map, R1, seen), -EAGAIN);
	ck_assert_uint_eq(count(&leaf, 0), 1);
	ck_assert_int_eq(counter_revoke(f.map, R1, word_of(R1)), 0);
	ck_assert_uint_eq(count(&leaf, 0), 0);
}
END_TEST

START_TEST(a_record_is_published_only_while_it_is_free) {
	uint32_t seq, level;

	(void)take(R1, &leaf, 1);
	ck_assert_int_eq(counter_acquire(f.map, R1, &leaf, 1, &stamp, &seq, &level), -EAGAIN);
	ck_assert_int_eq(counter_close(f.map, R2), 0);
	ck_assert_int_eq(counter_acquire(f.map, R2, &leaf, 1, &stamp, &seq, &level), -ESHUTDOWN);
	ck_assert_int_eq(counter_open(f.map, R1), -EBUSY);
	ck_assert_int_eq(counter_open(f.map, R2), 0);
	(void)take(R2, &leaf, 1);
}
END_TEST

START_TEST(what_a_dead_daemon_began_is_finished_and_nothing_else) {
	uint64_t held, charging = record_pack(RECORD_CHARGE, 0, 1, leaf.level[0].account, 3);

	(void)take(R1, &leaf, 1);
	held = word_of(R1);
	ck_assert_int_eq(counter_resume(f.map, R1), 0);
	ck_assert(word_of(R1) == held);
	record_put(R2, charging);
	ck_assert_int_eq(counter_resume(f.map, R2), 0);
	ck_assert(word_of(R2) == charging);
	record_put(R2, record_pack(RECORD_CANCEL, 0, 1, leaf.level[0].account, 3));
	ck_assert_int_eq(counter_resume(f.map, R2), 0);
	ck_assert_int_eq(record_state(word_of(R2)), RECORD_FREE);
	ck_assert_uint_eq(count(&leaf, 0), 1);
}
END_TEST

START_TEST(noise_in_a_record_counts_for_nothing_and_crashes_nobody) {
	uint64_t noise[] = {UINT64_MAX, (uint64_t)7 << 61,
		record_pack(RECORD_HELD, 7, 4095, 0xFFFFFF, 1),
		record_pack(RECORD_CHARGE, 7, 1, leaf.level[0].account, 1),
		record_pack(RECORD_EFFECT, 5, 1, 60, 1), record_pack(RECORD_UNCHARGE, 7, 9, 0, 1)};

	for (size_t i = 0; i < ELEMENTS(noise); i++) {
		record_put(R1, noise[i]);
		(void)counter_close(f.map, R1);
		ck_assert_msg(record_state(word_of(R1)) == RECORD_CLOSED,
			"noise %zu is not closed: %016llx", i, (unsigned long long)word_of(R1));
		ck_assert_uint_eq(count(&leaf, 0), 0);
	}
	/* A tag that names a record which isn't there, or noise, keeps nobody out. */
	cell_put(&leaf, 0, cell_pack(0, 0x3FFFFF, 5));
	record_put(R1, UINT64_MAX);
	(void)take(R2, &leaf, 1);
	cell_put(&leaf, 0, cell_pack(1, R1, BERTH_SEQ_MASK));
	ck_assert_int_eq(counter_release(f.map, R2, record_seq(word_of(R2))), 0);
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
}
END_TEST

int main(void) {
	Suite *suite = suite_create("counter");
	TCase *tc = tcase_create("counter");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, an_acquire_charges_every_level_and_a_release_gives_each_back);
	tcase_add_test(tc, who_is_refused_at_the_first_look_has_published_nothing);
	tcase_add_test(tc, a_revoke_takes_two_sequence_numbers_where_a_release_takes_one);
	tcase_add_test(tc, a_refusal_at_any_level_leaves_every_level_as_it_was);
	tcase_add_test(tc, the_check_before_writes_nothing_but_the_denial);
	tcase_add_test(tc, a_slot_is_released_once);
	tcase_add_test(tc, a_count_never_passes_its_field);
	tcase_add_test(tc, a_release_of_more_than_there_is_is_damage_and_no_wrap);
	tcase_add_test(tc, an_account_that_is_not_what_it_was_admits_nobody);
	tcase_add_test(tc, a_seq_moves_past_a_cold_tag_of_its_own_record);
	tcase_add_test(tc, whoever_changes_a_cell_finishes_what_its_tag_names);
	tcase_add_test(tc, a_tag_of_a_record_that_stands_elsewhere_is_nobodys);
	tcase_add_test(tc, a_bump_changes_the_word_and_not_the_count);
	tcase_add_test(tc, every_death_in_the_middle_is_told_apart_and_undone);
	tcase_add_test(tc, a_release_goes_on_where_another_left_it);
	tcase_add_test(tc, a_revoke_takes_what_was_seen_and_nothing_later);
	tcase_add_test(tc, a_record_is_published_only_while_it_is_free);
	tcase_add_test(tc, what_a_dead_daemon_began_is_finished_and_nothing_else);
	tcase_add_test(tc, noise_in_a_record_counts_for_nothing_and_crashes_nobody);
	tcase_add_test(tc, the_peak_is_the_highest_count);
	tcase_add_test(tc, a_label_is_cut_and_forgotten_with_its_slot);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
