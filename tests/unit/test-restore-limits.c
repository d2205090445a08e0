/* SPDX-License-Identifier: MIT */

/* Tests that berthd, when it starts and adopts a segment, puts the store's limits in force there.
 * The segment's accounts stand in any order. Accounts may be missing, have other limits, or no
 * longer have a limit in the store. */

#include "disk.h"
#include "fixture.h"
#include "restore.h"
#include "run.h"
#include "store-jobs.h"

#define COUNT 3000

static const struct capacities want = {10000, 64, 4};
static char names[COUNT][40];
static struct store_limit limits[COUNT];

static void setup(void) {
	fixture_new(&want);
	strcpy(state, dir_path("state").text);
}

static void teardown(void) {
	fixture_close();
	dir_remove();
}

/* Stores COUNT limits. Name i has the limit i. Some of the names have ancestors. */
static void store_fill(void) {
	struct store *s = store_open();

	for (uint32_t i = 0; i < COUNT; i++) {
		(void)snprintf(names[i], sizeof(names[i]),
			i % 100 < 30 ? "acme-%03u/account-%05u" : "plain-%03u-account-%05u",
			i / 100, i);
		limits[i] = (struct store_limit){names[i], i};
	}
	ck_assert_int_eq(put(s, limits, COUNT), 0);
	store_free(s);
}

static void adopt_and_load(void) {
	struct store *s;

	fixture_close();
	fixture_open(&want);
	s = store_open();
	ck_assert_int_eq(restore_limits(f.accounts, s), 0);
	store_free(s);
}

static void check_all(void) {
	struct directory *d = accounts_directory(f.accounts);

	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t account = account_of(names[i]);
		uint64_t word = directory_word(d, account);

		ck_assert_msg(account != 0, "the account '%s' doesn't exist", names[i]);
		ck_assert_uint_eq(entry_limit(word), i);
		ck_assert_uint_eq(entry_flags(word), ENTRY_LIVE | ENTRY_USABLE | ENTRY_CONFIGURED);
	}
	ck_assert_uint_eq(accounts_totals(f.accounts).configured, COUNT);
	ck_assert_uint_eq(directory_live(d), COUNT + COUNT / 100);
}

/* Adopts a segment whose accounts were made in the order of the names 0, `step`, 2 * `step` and so
 * on, modulo COUNT. If `changed`, the limits in the segment differ from the store's limits. */
static void check_adopted_in_order(uint32_t step, bool changed) {
	store_fill();
	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t n = (uint32_t)((uint64_t)i * step % COUNT);

		limit_set(names[n], changed ? 7 : n);
	}
	adopt_and_load();
	check_all();
}

START_TEST(accounts_in_the_order_of_their_names_have_their_limits) {
	check_adopted_in_order(1, false);
}
END_TEST

START_TEST(limits_that_have_changed_are_put_in_force) {
	check_adopted_in_order(1, true);
}
END_TEST

/* The test has three cases: the accounts are in the reverse order; their order is scattered, and
 * the limits differ; or the segment has only every second account. */
START_TEST(accounts_in_any_order_have_their_limits) {
	static const uint32_t steps[] = {COUNT - 1, 1009, 2};

	check_adopted_in_order(steps[_i], _i == 1);
}
END_TEST

START_TEST(missing_accounts_are_made_and_accounts_without_limits_are_removed) {
	char name[40];

	store_fill();
	for (uint32_t i = 0; i < COUNT; i++) {
		if (i % 7 != 3 && i % 100 != 40 && i / 500 != 3)
			limit_set(names[i], i);
		(void)snprintf(name, sizeof(name), "%.30s-more", names[i]);
		if (i % 11 == 0)
			limit_set(name, 5);
	}
	for (uint32_t i = 0; i < COUNT; i++)
		if (i % 13 == 0)
			(void)accounts_unconfigure(f.accounts, names[i]);
	adopt_and_load();
	check_all();
	ck_assert_uint_eq(account_of(name), 0);
	adopt_and_load();
	check_all();
}
END_TEST

START_TEST(a_new_segment_gets_all_limits) {
	store_fill();
	adopt_and_load();
	check_all();
}
END_TEST

/* berthd never makes two accounts with one name. If a segment has two anyway, the account that a
 * look-up finds gets the limit, even if the other one is where berthd expects the store's next
 * name. */
START_TEST(of_two_accounts_with_one_name_the_one_that_is_found_gets_the_limit) {
	const uint32_t which = 1041;
	uint32_t found, other;
	struct name name;

	store_fill();
	ck_assert_int_eq(name_load(names[which], &name), 0);
	ck_assert_int_eq(
		directory_create(accounts_directory(f.accounts), &name, 0, 1, 0, &found), 0);
	for (uint32_t i = 0; i < COUNT; i++)
		ck_assert_int_eq(i == which ? directory_create(accounts_directory(f.accounts),
						      &name, 0, 1, ENTRY_USABLE, &other)
					    : fixture_configure(names[i], i),
			0);
	adopt_and_load();
	ck_assert_uint_eq(account_of(names[which]), found);
	ck_assert_uint_eq(entry_limit(account_word(found)), which);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{accounts_in_the_order_of_their_names_have_their_limits},
		{limits_that_have_changed_are_put_in_force},
		{accounts_in_any_order_have_their_limits, 0, 3},
		{missing_accounts_are_made_and_accounts_without_limits_are_removed},
		{a_new_segment_gets_all_limits},
		{of_two_accounts_with_one_name_the_one_that_is_found_gets_the_limit},
		{NULL},
	};

	return run_suites({"restore", tests, .setup = setup, .teardown = teardown});
}
