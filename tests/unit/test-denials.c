/* SPDX-License-Identifier: MIT */

/* Denials: none is lost, none counted twice, none given to another account. */

#include <pthread.h>

#include "denials.h"
#include "fixture.h"

#define THREADS 4
#define TURNS   200000

static struct fixture f;
static struct path alice, bob; /* whose indices meet in one word, but in two groups of cells */
static uint32_t alices, bobs;

static void setup(void) {
	const struct capacities want = {256, 64, 4};
	char name[16];

	fixture_new(&f, &want);
	ck_assert_int_eq(segment_grow_sessions(f.segment), 0);
	alice = fixture_path(&f, "alice", 0);
	alices = alice.level[0].account;
	for (int i = 0;
		i < (int)BERTH_DIRTY_GROUP || bobs % BERTH_DENIALS != alices % BERTH_DENIALS; i++) {
		(void)snprintf(name, sizeof(name), "bob-%d", i);
		bob = fixture_path(&f, name, 0);
		bobs = bob.level[0].account;
	}
	f.map->denials = map_session(f.map, 2)->denials;
}

static void teardown(void) {
	fixture_free(&f);
}

static uint64_t in_cell(const struct path *path) {
	return load_relaxed(&path->level[0].cell->denied);
}

static uint64_t known(const struct path *path) {
	return in_cell(path) + denials_pending(f.map, path->level[0].account);
}

static void deny(const struct path *path, int times) {
	struct pair seen[BERTH_LEVELS_MAX];
	uint32_t level;

	for (int i = 0; i < times; i++)
		ck_assert_int_eq(counter_check(f.map, path, 1, seen, &level), -EDQUOT);
}

START_TEST(a_denial_writes_to_the_session_and_is_known_at_once) {
	deny(&alice, 3);
	ck_assert_uint_eq(in_cell(&alice), 0);
	ck_assert_uint_eq(known(&alice), 3);
	ck_assert_uint_eq(known(&bob), 0);
}
END_TEST

START_TEST(a_process_without_a_session_counts_in_the_cell) {
	f.map->denials = NULL;
	deny(&alice, 3);
	ck_assert_uint_eq(in_cell(&alice), 3);
}
END_TEST

START_TEST(accounts_that_take_a_word_from_each_other_keep_their_own) {
	for (int i = 0; i < 100; i++) {
		deny(&alice, 1);
		deny(&bob, 2);
	}
	ck_assert_uint_eq(known(&alice), 100);
	ck_assert_uint_eq(known(&bob), 200);
}
END_TEST

/* A checkpoint may have taken alice's mark while her denials were in the word. */
START_TEST(who_loses_the_word_is_marked_for_the_checkpoint) {
	deny(&alice, 3);
	store_total(alice.level[0].dirty, 0);
	deny(&bob, 1);
	ck_assert_uint_eq(in_cell(&alice), 3);
	ck_assert_uint_eq(load_total(alice.level[0].dirty), 1);
}
END_TEST

START_TEST(what_was_collected_is_in_the_cell_once_and_marked_for_the_checkpoint) {
	deny(&alice, 3);
	f.map->denials = map_session(f.map, 3)->denials;
	deny(&alice, 4);
	store_total(alice.level[0].dirty, 0);
	denials_collect(f.map);
	ck_assert_uint_eq(in_cell(&alice), 7);
	ck_assert_uint_eq(known(&alice), 7);
	ck_assert_uint_eq(load_total(alice.level[0].dirty), 1);
	denials_collect(f.map);
	ck_assert_uint_eq(in_cell(&alice), 7);
}
END_TEST

START_TEST(the_next_account_of_an_index_begins_with_none) {
	struct path next;

	deny(&alice, 3);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "alice"), 0);
	next = fixture_path(&f, "mallory", 0);
	ck_assert_uint_eq(next.level[0].account, alices);
	ck_assert_uint_eq(known(&next), 0);
	denials_collect(f.map);
	ck_assert_uint_eq(known(&next), 0);
}
END_TEST

START_TEST(words_are_collected_once_for_all_the_indices_that_were_freed) {
	ck_assert_int_eq(fixture_configure(f.accounts, "carol", 0), 0);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "alice"), 0);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "carol"), 0);
	deny(&bob, 3);
	(void)fixture_path(&f, "mallory", 0);
	ck_assert_uint_eq(in_cell(&bob), 3);
	deny(&bob, 4);
	(void)fixture_path(&f, "trent", 0);
	ck_assert_uint_eq(in_cell(&bob), 3);
	ck_assert_uint_eq(known(&bob), 7);
}
END_TEST

START_TEST(noise_in_the_words_is_no_account_s) {
	_Atomic uint64_t *word = map_session(f.map, 1)->denials;

	for (uint32_t i = 0; i < BERTH_DENIALS; i++)
		store_relaxed(&word[i], UINT64_MAX - i);
	denials_collect(f.map);
	for (uint32_t i = 0; i < BERTH_DENIALS; i++)
		ck_assert_uint_eq(load_relaxed(&word[i]), 0);
	ck_assert_uint_eq(known(&alice), 0);
}
END_TEST

static _Atomic int running;

static void *deny_in_turn(void *arg) {
	struct pair seen[BERTH_LEVELS_MAX];
	uint32_t level, wrong = 0;

	for (int i = 0; i < TURNS; i++)
		wrong += counter_check(f.map, (i + *(int *)arg) % 3 ? &alice : &bob, 1, seen,
				 &level) != -EDQUOT;
	(void)atomic_fetch_sub(&running, 1);
	return (void *)(uintptr_t)wrong; /* NOLINT(performance-no-int-to-ptr) */
}

START_TEST(threads_and_a_daemon_that_collects_lose_none) {
	pthread_t thread[THREADS];
	int begin[THREADS];

	running = THREADS;
	for (int i = 0; i < THREADS; i++) {
		begin[i] = i;
		ck_assert_int_eq(pthread_create(&thread[i], NULL, deny_in_turn, &begin[i]), 0);
	}
	while (running > 0)
		denials_collect(f.map);
	for (int i = 0; i < THREADS; i++) {
		void *wrong;

		ck_assert_int_eq(pthread_join(thread[i], &wrong), 0);
		ck_assert_ptr_null(wrong);
	}
	denials_collect(f.map);
	ck_assert_uint_eq(in_cell(&alice) + in_cell(&bob), (uint64_t)THREADS * TURNS);
}
END_TEST

int main(void) {
	Suite *suite = suite_create("denials");
	TCase *tc = tcase_create("denials");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_denial_writes_to_the_session_and_is_known_at_once);
	tcase_add_test(tc, a_process_without_a_session_counts_in_the_cell);
	tcase_add_test(tc, accounts_that_take_a_word_from_each_other_keep_their_own);
	tcase_add_test(tc, who_loses_the_word_is_marked_for_the_checkpoint);
	tcase_add_test(tc, what_was_collected_is_in_the_cell_once_and_marked_for_the_checkpoint);
	tcase_add_test(tc, the_next_account_of_an_index_begins_with_none);
	tcase_add_test(tc, words_are_collected_once_for_all_the_indices_that_were_freed);
	tcase_add_test(tc, noise_in_the_words_is_no_account_s);
	tcase_add_test(tc, threads_and_a_daemon_that_collects_lose_none);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
