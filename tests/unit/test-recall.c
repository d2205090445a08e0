/* SPDX-License-Identifier: MIT */

/* Paths that are recalled by name: only while they are what the name means, and whole, however many
 * threads remember others in the same place. */

#include <pthread.h>

#include "fixture.h"
#include "recall.h"

#define THREADS 4
#define TURNS   100000
#define NAMES   600 /* more than there are places, so that they take each other's */

static struct fixture f;
static const struct capacities want = {2000, 64, 4};
static struct recall recall;
static _Atomic(struct recall_slot *) last;

static void setup(void) {
	fixture_new(&f, &want);
	memset(&recall, 0, sizeof(recall));
	store_relaxed(&last, NULL);
}

static void teardown(void) {
	fixture_free(&f);
}

static struct name name_of(const char *text) {
	struct name name;

	ck_assert_int_eq(name_load(text, &name), 0);
	return name;
}

/* As the library goes. */
static bool recalled(_Atomic(struct recall_slot *) *from, const char *text, struct path *ret,
	uint64_t *ret_word) {
	struct recall_slot *slot;
	uint32_t turn, depth = recall_find(&recall, text, from, &slot, &turn);

	if (depth == 0 || !recall_levels(slot, turn, depth, ret))
		return false;
	*ret_word = load_acquire(&ret->level[0].entry->word);
	return true;
}

static struct path remembered(const char *text, uint32_t limit) {
	const struct name name = name_of(text);
	const struct path path = fixture_path(&f, text, limit);

	(void)recall_remember(&recall, &name, &path);
	return path;
}

static void check_same(const struct path *a, const struct path *b) {
	ck_assert_uint_eq(a->depth, b->depth);
	for (uint32_t k = 0; k < a->depth; k++) {
		ck_assert_uint_eq(a->level[k].account, b->level[k].account);
		ck_assert_uint_eq(a->level[k].generation, b->level[k].generation);
		ck_assert_ptr_eq(a->level[k].entry, b->level[k].entry);
		ck_assert_ptr_eq(a->level[k].cell, b->level[k].cell);
		ck_assert_ptr_eq(a->level[k].dirty, b->level[k].dirty);
	}
}

START_TEST(a_name_is_recalled_once_it_was_remembered) {
	static const char *const names[] = {"a", "alice", "alice@example.com", "acme/alice",
		"acme/alice/10.0.0.1", "acme/a-name-of-thirty-two-bytes."};

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		struct path path, found;
		uint64_t word;

		ck_assert_msg(!recalled(&last, names[i], &found, &word), "%s", names[i]);
		path = remembered(names[i], 7);
		ck_assert_msg(recalled(&last, names[i], &found, &word), "%s", names[i]);
		check_same(&path, &found);
		ck_assert_uint_eq(entry_limit(word), 7);
	}
}
END_TEST

START_TEST(what_is_too_long_to_be_kept_is_not_recalled) {
	struct path found;
	uint64_t word;

	(void)remembered("a/b/c/d", 7);
	ck_assert(!recalled(&last, "a/b/c/d", &found, &word));
	(void)remembered("acme/a-name-of-thirty-three-bytes", 7);
	ck_assert(!recalled(&last, "acme/a-name-of-thirty-three-bytes", &found, &word));
}
END_TEST

/* Whichever came last. */
START_TEST(names_are_recalled_in_any_order) {
	static const char *const names[] = {"alice", "bob", "alice@example.com", "acme/alice"};
	struct path path[ELEMENTS(names)], found;
	uint64_t word;

	for (size_t i = 0; i < ELEMENTS(names); i++)
		path[i] = remembered(names[i], 7);
	for (size_t i = 0; i < ELEMENTS(names) * ELEMENTS(names); i++) {
		size_t n = i % 2 ? i / 2 % ELEMENTS(names) : i / ELEMENTS(names);

		ck_assert(recalled(&last, names[n], &found, &word));
		check_same(&path[n], &found);
	}
}
END_TEST

START_TEST(a_limit_that_was_changed_is_the_one_recalled) {
	struct path found;
	uint64_t word;

	(void)remembered("alice", 7);
	ck_assert_int_eq(fixture_configure(f.accounts, "alice", 3), 0);
	ck_assert(recalled(&last, "alice", &found, &word));
	ck_assert_uint_eq(entry_limit(word), 3);
}
END_TEST

START_TEST(an_account_that_ceased_to_be_usable_is_not_recalled_as_usable) {
	struct path found;
	uint64_t word;

	(void)remembered("acme", 7);
	ck_assert_int_eq(fixture_configure(f.accounts, "acme/alice", 7), 0);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "acme"), 0);
	ck_assert(!recalled(&last, "acme", &found, &word) || !(entry_flags(word) & ENTRY_USABLE));
}
END_TEST

START_TEST(a_deleted_account_is_not_recalled_nor_is_its_successor) {
	struct path found;
	uint64_t word;

	(void)remembered("alice", 7);
	ck_assert_int_eq(accounts_unconfigure(f.accounts, "alice"), 0);
	ck_assert(!recalled(&last, "alice", &found, &word));
	ck_assert_int_eq(fixture_configure(f.accounts, "alice", 7), 0);
	ck_assert(!recalled(&last, "alice", &found, &word));
}
END_TEST

START_TEST(an_index_used_again_for_another_name_is_not_recalled) {
	struct path found, old = remembered("alice", 7);
	uint64_t word;

	ck_assert_int_eq(accounts_unconfigure(f.accounts, "alice"), 0);
	ck_assert_int_eq(fixture_configure(f.accounts, "mallory", 7), 0);
	ck_assert_uint_eq(accounts_find(f.accounts, "mallory"), old.level[0].account);
	ck_assert(!recalled(&last, "alice", &found, &word));
	ck_assert(!recalled(&last, "mallory", &found, &word));
}
END_TEST

/* At the end of the string's memory, as below. */
START_TEST(a_name_of_any_length_is_told_from_one_that_differs_in_a_byte) {
	for (size_t length = 1; length <= TEXT_MAX; length++) {
		char *text = malloc(length + 1);
		struct path path, found;
		uint64_t word;

		memset(text, 'a', length);
		text[length] = 0;
		path = remembered(text, 7);
		ck_assert_msg(recalled(&last, text, &found, &word), "%zu bytes", length);
		check_same(&path, &found);
		for (size_t i = 0; i < length; i++) {
			text[i] = 'b';
			ck_assert_msg(
				!recalled(&last, text, &found, &word), "%zu of %zu", i, length);
			text[i] = 'a';
		}
		free(text);
	}
}
END_TEST

START_TEST(a_name_that_is_none_is_not_recalled) {
	char text[BERTH_NAME_MAX + 2] = "";
	struct path found;
	uint64_t word;

	ck_assert(!recalled(&last, text, &found, &word));
	memset(text, 'a', BERTH_NAME_MAX + 1);
	ck_assert(!recalled(&last, text, &found, &word));
}
END_TEST

START_TEST(names_of_every_length_are_loaded_byte_for_byte) {
	/* At the end of the string's memory, so that a tool that watches it sees reads beyond. */
	for (size_t length = 1; length <= BERTH_NAME_MAX; length++) {
		char *text = malloc(length + 1);
		uint64_t expected[256 / 8] = {0};
		struct name name;

		for (size_t i = 0; i < length; i++)
			text[i] = (char)(1 + (i * 37 + length) % 255);
		text[length] = 0;
		memcpy(expected, text, length);
		ck_assert_int_eq(name_load(text, &name), 0);
		ck_assert_uint_eq(name.length, length);
		ck_assert_mem_eq(name.word, expected, (length + 7) / 8 * 8);
		free(text);
	}
}
END_TEST

static char texts[NAMES][32];
static struct name names[NAMES];
static struct path paths[NAMES];

static void *remember_and_recall(void *arg) {
	_Atomic(struct recall_slot *) mine = NULL;
	uint32_t random = (uint32_t)(uintptr_t)arg;
	uintptr_t wrong = 0;

	for (int i = 0; i < TURNS; i++) {
		struct path found;
		uint64_t word;
		uint32_t n;

		random = random * 1664525 + 1013904223;
		n = (random >> 8) % NAMES;
		if (!recalled(&mine, texts[n], &found, &word))
			(void)recall_remember(&recall, &names[n], &paths[n]);
		else if (found.depth != paths[n].depth ||
			 memcmp(found.level, paths[n].level,
				 found.depth * sizeof(found.level[0])) != 0)
			wrong++;
	}
	return (void *)wrong; /* NOLINT(performance-no-int-to-ptr) */
}

START_TEST(threads_recall_whole_paths_while_others_take_their_place) {
	pthread_t thread[THREADS];

	for (size_t n = 0; n < NAMES; n++) {
		(void)snprintf(texts[n], sizeof(texts[n]), n % 2 ? "acme/a-%zu" : "b-%zu", n);
		names[n] = name_of(texts[n]);
		paths[n] = fixture_path(&f, texts[n], 7);
	}
	for (uintptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(
			pthread_create(&thread[i], NULL, remember_and_recall, (void *)(i + 1)), 0);
	for (size_t i = 0; i < THREADS; i++) {
		void *wrong;

		ck_assert_int_eq(pthread_join(thread[i], &wrong), 0);
		ck_assert_ptr_null(wrong);
	}
}
END_TEST

int main(void) {
	Suite *suite = suite_create("recall");
	TCase *tc = tcase_create("recall");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_name_is_recalled_once_it_was_remembered);
	tcase_add_test(tc, what_is_too_long_to_be_kept_is_not_recalled);
	tcase_add_test(tc, names_are_recalled_in_any_order);
	tcase_add_test(tc, a_limit_that_was_changed_is_the_one_recalled);
	tcase_add_test(tc, an_account_that_ceased_to_be_usable_is_not_recalled_as_usable);
	tcase_add_test(tc, a_deleted_account_is_not_recalled_nor_is_its_successor);
	tcase_add_test(tc, an_index_used_again_for_another_name_is_not_recalled);
	tcase_add_test(tc, a_name_of_any_length_is_told_from_one_that_differs_in_a_byte);
	tcase_add_test(tc, a_name_that_is_none_is_not_recalled);
	tcase_add_test(tc, names_of_every_length_are_loaded_byte_for_byte);
	tcase_add_test(tc, threads_recall_whole_paths_while_others_take_their_place);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
