/* SPDX-License-Identifier: MIT */

/* Tests that no denial is lost, counted twice, or counted for another account. One thread of each
 * session counts its denials in words of the session, which only grow (denials.h). All other
 * threads count theirs in the cells. berthd collects the words: it adds their denials to the
 * cells. */

#include "denials.h"
#include "fixture.h"
#include "run.h"
#include "threads.h"

#define THREADS 4
#define ROUNDS  200000

/* Two accounts that share a word of denials, but are in different groups of cells. */
static struct path alice, bob;
static uint32_t alices, bobs;

static void setup(void) {
	const struct capacities want = {256, 64, 4};
	char name[16];

	fixture_new(&want);
	ck_assert_int_eq(segment_grow_sessions(f.segment), 0);
	alice = path_with("alice", 0);
	alices = alice.level[0].account;
	for (int i = 0;
		i < (int)BERTH_DIRTY_GROUP || bobs % BERTH_DENIALS != alices % BERTH_DENIALS; i++) {
		(void)snprintf(name, sizeof(name), "bob-%d", i);
		bob = path_with(name, 0);
		bobs = bob.level[0].account;
	}
	f.map->session = map_session(f.map, 2);
}

static uint64_t in_cell(const struct path *path) {
	return load_relaxed(&path->level[0].cell->denied);
}

/* Returns how many denials berthd knows of: those in the cell, and those in the sessions' words. */
static uint64_t known(const struct path *path) {
	return in_cell(path) + denials_pending(f.map, path->level[0].account);
}

static void check_known(uint64_t of_alice, uint64_t of_bob) {
	ck_assert_uint_eq(known(&alice), of_alice);
	ck_assert_uint_eq(known(&bob), of_bob);
}

/* Collects the words as berthd does, and checks that the cell then has this number of denials. */
static void check_collected(const struct path *path, uint64_t count) {
	denials_collect(f.map);
	ck_assert_uint_eq(in_cell(path), count);
}

/* Denies as the thread does that counts in the session's words. */
static void deny_in_session(const struct path *path, int times) {
	const struct level *l = &path->level[0];

	for (int i = 0; i < times; i++)
		denials_add_to_session(f.map, l->account, l->cell, l->dirty);
}

/* Denies as any other thread does. */
static void deny_in_cell(const struct path *path, int times) {
	struct pair seen[BERTH_LEVELS_MAX];

	for (int i = 0; i < times; i++)
		ck_assert_int_eq(counter_check(f.map, path, 1, seen), -EDQUOT);
}

/* Returns the session's word that alice and bob share. */
static uint64_t word_of(uint32_t session) {
	return load_relaxed(&map_session(f.map, session)->denials[alices % BERTH_DENIALS]);
}

static uint64_t collected_of(uint32_t session) {
	return load_relaxed(&map_session(f.map, session)->collected[alices % BERTH_DENIALS]);
}

static uint64_t word_pack(uint32_t account, uint64_t count) {
	return (uint64_t)account << DENIALS_BITS | count;
}

START_TEST(a_denial_is_written_to_the_session_and_known_at_once) {
	deny_in_session(&alice, 3);
	ck_assert_uint_eq(in_cell(&alice), 0);
	ck_assert_uint_eq(word_of(2), word_pack(alices, 3));
	check_known(3, 0);
}
END_TEST

START_TEST(a_denial_of_any_other_thread_is_counted_in_the_cell) {
	deny_in_session(&alice, 2);
	deny_in_cell(&alice, 3);
	ck_assert_uint_eq(in_cell(&alice), 3);
	ck_assert_uint_eq(word_of(2), word_pack(alices, 2));
	ck_assert_uint_eq(known(&alice), 5);
	check_collected(&alice, 5);
}
END_TEST

START_TEST(a_process_without_a_session_counts_in_the_cell) {
	f.map->session = NULL;
	deny_in_cell(&alice, 3);
	ck_assert_uint_eq(in_cell(&alice), 3);
}
END_TEST

/* Even if an account has no slots, its denials must be stored. The mark (`dirty`) makes berthd's
 * checkpoint store them. */
START_TEST(every_denial_marks_its_account_for_the_checkpoint) {
	for (int i = 0; i < 4; i++) {
		const struct path *path = i % 2 ? &bob : &alice;

		store_total(path->level[0].dirty, 0);
		if (i < 2)
			deny_in_session(path, 1);
		else
			deny_in_cell(path, 1);
		ck_assert_uint_eq(load_total(path->level[0].dirty), 1);
	}
}
END_TEST

START_TEST(accounts_that_share_a_word_keep_their_own_denials) {
	for (int i = 0; i < 100; i++) {
		deny_in_session(&alice, 1);
		deny_in_session(&bob, 2);
	}
	check_known(100, 200);
	denials_collect(f.map);
	ck_assert_uint_eq(in_cell(&alice), 100);
	ck_assert_uint_eq(in_cell(&bob), 200);
}
END_TEST

/* alice and bob share a word. If the word became bob's before berthd has collected alice's denials,
 * they would be counted for bob. */
START_TEST(a_word_goes_to_another_account_only_after_it_was_collected) {
	uint64_t count = 0, bobs_own = 0;

	for (int i = 1; i <= 20; i++) {
		const struct path *has = i % 2 ? &alice : &bob, *wants = i % 2 ? &bob : &alice;
		uint64_t before = known(wants), own = known(has);

		deny_in_session(has, i);
		count += (uint64_t)i;
		ck_assert_uint_eq(word_of(2), word_pack(has->level[0].account, count));
		deny_in_session(wants, 1);
		ck_assert_uint_eq(word_of(2), word_pack(has->level[0].account, count));
		ck_assert_uint_eq(known(wants), before + 1);
		ck_assert_uint_eq(known(has), own + (uint64_t)i);
		denials_collect(f.map);
		deny_in_session(has, 1);
		count++;
		deny_in_session(wants, 1);
		ck_assert_uint_eq(word_of(2), word_pack(has->level[0].account, count));
		ck_assert_uint_eq(known(wants), before + 2);
		ck_assert_uint_eq(known(has), own + (uint64_t)i + 1);
		denials_collect(f.map);
		bobs_own += i % 2 ? 2 : (uint64_t)i + 1;
	}
	ck_assert_uint_eq(in_cell(&bob), bobs_own);
	ck_assert_uint_eq(in_cell(&alice) + in_cell(&bob), count + 40);
}
END_TEST

START_TEST(berthd_writes_what_it_has_collected_and_never_the_words) {
	uint64_t word;

	for (int i = 0; i < 3; i++) {
		deny_in_session(i == 1 ? &bob : &alice, 5);
		word = word_of(2);
		denials_collect(f.map);
		ck_assert_uint_eq(word_of(2), word);
		ck_assert_uint_eq(collected_of(2), word);
		denials_collect(f.map);
		ck_assert_uint_eq(word_of(2), word);
		ck_assert_uint_eq(collected_of(2), word);
	}
	ck_assert_uint_eq(in_cell(&alice), 10);
	ck_assert_uint_eq(in_cell(&bob), 5);
}
END_TEST

/* A checkpoint may clear alice's mark before her denials are collected. So the collection must mark
 * alice again. */
START_TEST(collected_denials_are_added_to_the_cell_once_and_marked) {
	deny_in_session(&alice, 3);
	f.map->session = map_session(f.map, 3);
	deny_in_session(&alice, 4);
	store_total(alice.level[0].dirty, 0);
	check_collected(&alice, 7);
	ck_assert_uint_eq(known(&alice), 7);
	ck_assert_uint_eq(load_total(alice.level[0].dirty), 1);
	store_total(alice.level[0].dirty, 0);
	check_collected(&alice, 7);
	ck_assert_uint_eq(load_total(alice.level[0].dirty), 0);
}
END_TEST

START_TEST(a_session_goes_on_from_the_words_of_the_previous_session) {
	deny_in_session(&alice, 3);
	denials_collect(f.map);
	/* A new session gets the session entry, and its first denial is of another account. */
	deny_in_session(&bob, 2);
	ck_assert_uint_eq(word_of(2), word_pack(bobs, 5));
	check_known(3, 2);
}
END_TEST

START_TEST(a_count_that_wraps_loses_no_denial_and_changes_no_account) {
	struct session_entry *e = map_session(f.map, 2);
	const uint32_t i = alices % BERTH_DENIALS;

	for (int collects = 0; collects < 2; collects++) {
		uint64_t before = known(&alice);

		store_relaxed(&e->denials[i], word_pack(alices, DENIALS_MASK - 1));
		store_relaxed(&e->collected[i], word_pack(alices, DENIALS_MASK - 1));
		for (uint64_t n = 1; n <= 4; n++) {
			deny_in_session(&alice, 1);
			ck_assert_uint_eq(word_of(2),
				word_pack(alices, (DENIALS_MASK - 1 + n) & DENIALS_MASK));
			ck_assert_uint_eq(known(&alice), before + n);
			if (collects)
				denials_collect(f.map);
		}
		check_collected(&alice, before + 4);
	}
	/* The count also wraps when the word goes to another account. */
	store_relaxed(&e->denials[i], word_pack(alices, DENIALS_MASK));
	store_relaxed(&e->collected[i], word_pack(alices, DENIALS_MASK));
	deny_in_session(&bob, 1);
	ck_assert_uint_eq(word_of(2), word_pack(bobs, 0));
	check_known(8, 1);
}
END_TEST

START_TEST(the_next_account_of_an_index_starts_without_denials) {
	struct path next;

	deny_in_session(&alice, 3);
	account_delete("alice");
	next = path_with("mallory", 0);
	ck_assert_uint_eq(next.level[0].account, alices);
	ck_assert_uint_eq(known(&next), 0);
	denials_collect(f.map);
	ck_assert_uint_eq(known(&next), 0);
	/* The word already has the new account's index, which was the old account's. */
	deny_in_session(&next, 2);
	ck_assert_uint_eq(known(&next), 2);
	check_collected(&next, 2);
}
END_TEST

START_TEST(words_are_collected_once_for_all_freed_indices) {
	limit_set("carol", 0);
	account_delete("alice");
	account_delete("carol");
	deny_in_session(&bob, 3);
	limit_set("mallory", 0);
	ck_assert_uint_eq(in_cell(&bob), 3);
	deny_in_session(&bob, 4);
	limit_set("trent", 0);
	ck_assert_uint_eq(in_cell(&bob), 3);
	ck_assert_uint_eq(known(&bob), 7);
}
END_TEST

START_TEST(noise_in_the_words_is_counted_for_no_account) {
	struct session_entry *e = map_session(f.map, 1);

	for (uint32_t i = 0; i < BERTH_DENIALS; i++)
		store_relaxed(&e->denials[i], UINT64_MAX - i);
	ck_assert_uint_eq(known(&alice), 0);
	denials_collect(f.map);
	for (uint32_t i = 0; i < BERTH_DENIALS; i++)
		ck_assert_uint_eq(load_relaxed(&e->collected[i]), UINT64_MAX - i);
	ck_assert_uint_eq(known(&alice), 0);
	/* The next session with this entry still counts right. */
	f.map->session = e;
	deny_in_session(&alice, 3);
	ck_assert_uint_eq(known(&alice), 3);
	check_collected(&alice, 3);
}
END_TEST

static _Atomic int running;
static _Atomic bool is_counting; /* a thread counts in the session's words */

/* Denies three times, as a thread with a path cache does: if no other thread counts in the
 * session's words, counts there, and else in the cell. */
static void deny_three_times(const struct path *path, uint32_t *failures) {
	struct pair seen[BERTH_LEVELS_MAX];
	const struct level *l = &path->level[0];
	bool no = false;

	if (atomic_compare_exchange_strong(&is_counting, &no, true)) {
		for (int i = 0; i < 3; i++)
			denials_add_to_session(f.map, l->account, l->cell, l->dirty);
		store_release(&is_counting, false);
		return;
	}
	for (int i = 0; i < 3; i++)
		*failures += counter_check(f.map, path, 1, seen) != -EDQUOT;
}

static void *deny_main(void *arg) {
	uint32_t failures = 0;

	for (int i = 0; i < ROUNDS; i++) {
		deny_three_times((i / 16 + *(int *)arg) % 3 ? &alice : &bob, &failures);
		if (i % 64 == 0)
			(void)sched_yield();
	}
	(void)atomic_fetch_sub(&running, 1);
	return (void *)(uintptr_t)failures; /* NOLINT(performance-no-int-to-ptr) */
}

START_TEST(concurrent_denials_and_collections_lose_none_and_the_words_only_grow) {
	pthread_t thread[THREADS];
	int begin[THREADS], switches = 0;
	uint64_t word = 0, bobs_all = 0;

	running = THREADS;
	for (int i = 0; i < THREADS; i++) {
		begin[i] = i;
		for (int n = 0; n < ROUNDS; n++)
			bobs_all += (n / 16 + i) % 3 == 0 ? 3 : 0;
		thread_start(&thread[i], deny_main, &begin[i]);
	}
	while (running > 0) {
		uint64_t next = word_of(2);

		ck_assert_uint_ge(next & DENIALS_MASK, word & DENIALS_MASK);
		switches += next >> DENIALS_BITS != word >> DENIALS_BITS;
		word = next;
		denials_collect(f.map);
	}
	for (int i = 0; i < THREADS; i++) {
		void *failures;

		ck_assert_int_eq(pthread_join(thread[i], &failures), 0);
		ck_assert_ptr_null(failures);
	}
	check_collected(&bob, bobs_all);
	ck_assert_uint_eq(in_cell(&alice), UINT64_C(3) * THREADS * ROUNDS - bobs_all);
	ck_assert_uint_gt(word_of(2) & DENIALS_MASK, 0);
	printf("the word went to the other account %d times, and counted %llu of %llu denials\n",
		switches, (unsigned long long)(word_of(2) & DENIALS_MASK),
		(unsigned long long)THREADS * ROUNDS * 3);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_denial_is_written_to_the_session_and_known_at_once},
		{a_denial_of_any_other_thread_is_counted_in_the_cell},
		{a_process_without_a_session_counts_in_the_cell},
		{every_denial_marks_its_account_for_the_checkpoint},
		{accounts_that_share_a_word_keep_their_own_denials},
		{a_word_goes_to_another_account_only_after_it_was_collected},
		{berthd_writes_what_it_has_collected_and_never_the_words},
		{collected_denials_are_added_to_the_cell_once_and_marked},
		{a_session_goes_on_from_the_words_of_the_previous_session},
		{a_count_that_wraps_loses_no_denial_and_changes_no_account},
		{the_next_account_of_an_index_starts_without_denials},
		{words_are_collected_once_for_all_freed_indices},
		{noise_in_the_words_is_counted_for_no_account},
		{concurrent_denials_and_collections_lose_none_and_the_words_only_grow},
		{NULL},
	};

	return run_suites({"denials", tests, .setup = setup, .teardown = fixture_free});
}
