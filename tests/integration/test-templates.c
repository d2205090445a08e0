/* SPDX-License-Identifier: MIT */

/* Tests that accounts without a limit of their own get their limits from templates, and tests a
 * table that is full of such accounts. */

#include "steps.h"

/* -- the choice of the template ---------------------------------------------------------------- */

START_TEST(the_most_specific_template_wins_and_an_exact_name_beats_all) {
	static const struct {
		const char *name;
		uint32_t limit;
	} cases[] = {
		{"alice", 10},              /* '*' */
		{"alice@example.com", 100}, /* the most literals */
		{"bob@example.org", 20},    /* '*@*' */
		{"root@example.com", 7},    /* a limit of its own */
		{"r@x", 20}, {"ab", 30},    /* '??': as many literals as '*', fewer stars */
		{"\xC3\xA4\xC3\xB6", 30},   /* '?' is a character, not a byte */
		{"acme/alice", 40},         /* '*' doesn't cross '/' */
		{"acme/alice@example.com", 40}, {"other/alice", 50},
		{"x.a", 61}, /* 'x*' and '*a' are equally specific: '*a' sorts first */
	};
	struct berth *b = open_session();

	set_limits("* 10", "*@* 20", "?? 30", "*@example.com 100", "root@example.com 7",
		"acme/* 40", "*/* 50", "x* 62", "*a 61");
	for (size_t i = 0; i < COUNT_OF(cases); i++) {
		berth_slot slot = acquire_slot(b, cases[i].name);
		uint32_t limit = usage_of(b, cases[i].name).limit;

		ck_assert_msg(limit == cases[i].limit, "%s has %u, not %u", cases[i].name, limit,
			cases[i].limit);
		expect_code(BERTH_SUCCESS, berth_release(b, slot));
	}
	berth_close(b);
}
END_TEST

START_TEST(a_name_that_no_template_matches_gets_1317) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limits("* 10", "acme/? 10");
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "a/b", &slot));
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "acme/alice", &slot));
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "acme/a/b", &slot));
	(void)acquire_slot(b, "acme/a");
	berth_close(b);
}
END_TEST

START_TEST(the_limit_of_a_template_is_for_each_account_and_not_for_all_together) {
	struct berth *b = open_session();

	set_limit("*", "1");
	(void)acquire_slot(b, "alice");
	(void)acquire_slot(b, "bob");
	expect_denied(b, "alice");
	expect_denied(b, "bob");
	berth_close(b);
}
END_TEST

START_TEST(an_ancestor_without_a_limit_has_the_limit_of_its_template) {
	struct berth *b = open_session();

	set_limits("*/* 10", "acme unlimited");
	for (int i = 0; i < 3; i++) {
		(void)acquire_slot(b, "acme/x");
		(void)acquire_slot(b, "free/x");
	}
	set_limit("*", "3");
	(void)acquire_slot(b, "acme/x");
	expect_denied(b, "free/x");
	expect_denied(b, "free/y");
	berth_close(b);
}
END_TEST

START_TEST(a_changed_template_changes_the_accounts_that_it_matches) {
	struct berth *b = open_session();

	set_limits("* 1", "own 1");
	(void)acquire_slot(b, "alice");
	(void)acquire_slot(b, "own");
	expect_denied(b, "alice");
	set_limit("*", "2");
	(void)acquire_slot(b, "alice");
	expect_denied(b, "alice");
	expect_denied(b, "own");
	/* A more specific template applies until it is deleted. */
	set_limit("al*", "3");
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "", "delete", "al*");
	expect_denied(b, "alice");
	ck_assert_uint_eq(usage_of(b, "alice").limit, 2);
	ck_assert_uint_eq(usage_of(b, "alice").current, 3);
	berth_close(b);
}
END_TEST

START_TEST(a_deleted_limit_is_replaced_by_the_template_until_that_is_deleted) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limits("* 2", "alice 5");
	slot = acquire_slot(b, "alice");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	expect_ctl(0, "", "delete", "alice");
	slot = acquire_slot(b, "alice");
	ck_assert_uint_eq(usage_of(b, "alice").limit, 2);
	expect_ctl(0, "\"source\":\"template\"", "get", "alice", "--json");
	expect_ctl(0, "", "delete", "*");
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "alice", &(berth_slot){0}));
	/* The slot stays held until it is released. */
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_ctl(1, "no account", "delete", "*");
	expect_ctl(1, "alice", "delete", "alice");
}
END_TEST

START_TEST(templates_survive_a_kill_of_berthd) {
	struct berth *b = open_session();

	set_limit("*@example.com", "3");
	(void)acquire_slot(b, "alice@example.com");
	restart_after(SIGKILL);
	(void)acquire_slot(b, "bob@example.com");
	(void)acquire_slot(b, "alice@example.com");
	ck_assert_uint_eq(usage_of(b, "alice@example.com").current, 2);
	ck_assert_int_eq(status_number("templates"), 1);
	berth_close(b);
}
END_TEST

/* -- a full table ------------------------------------------------------------------------------ */

#define CAPACITY 40 /* 30 of them are for accounts without a limit of their own */

static void start_with_small_table(void) {
	static const char *const args[] = {"--max-accounts", "40", NULL};

	instance_start(&here, args);
}

static const char *stranger(int n) {
	return text_of("stranger%d", n);
}

/* Acquires a slot of one stranger after another, from the n-th on, until an acquire fails. Returns
 * the code of the failed acquire. `ret_held` counts the slots. */
static int strangers_hold(struct berth *b, int *ret_held) {
	berth_slot slot;
	int code;

	while ((code = berth_acquire(b, stranger(*ret_held), &slot)) == BERTH_SUCCESS)
		++*ret_held;
	return code;
}

START_TEST(with_a_full_table_acquires_get_8_and_berthd_logs_it_once) {
	struct berth *b = open_session();
	berth_slot slot;
	int held = 0;

	set_limit("*", "5");
	ck_assert_int_eq(strangers_hold(b, &held), BERTH_NO_SYSTEM_RESOURCES);
	ck_assert_msg(held >= CAPACITY / 2 && held <= CAPACITY, "%d were admitted", held);
	for (int i = 0; i < 10; i++)
		expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, stranger(held + i), &slot));
	expect_logged("table of accounts is full");
	expect_logged("--max-accounts");
	ck_assert_int_eq(logged_times("table of accounts is full"), 1);
	/* Accounts in the table are served. */
	(void)acquire_slot(b, stranger(0));
	berth_close(b);
}
END_TEST

START_TEST(idle_accounts_of_templates_are_removed_for_new_ones) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limits("* 5", "kept 5");
	(void)acquire_slot(b, "busy");
	for (int i = 0; i < 20 * CAPACITY; i++) {
		slot = acquire_slot(b, stranger(i));
		expect_code(BERTH_SUCCESS, berth_release(b, slot));
	}
	ck_assert_uint_eq(usage_of(b, "busy").current, 1);
	(void)acquire_slot(b, "busy");
	(void)acquire_slot(b, "kept");
	ck_assert_uint_eq(usage_of(b, "kept").limit, 5);
	ck_assert_int_le(status_number("accounts"), CAPACITY);
	berth_close(b);
}
END_TEST

START_TEST(after_a_release_in_a_full_table_a_new_account_fits) {
	struct berth *b = open_session();
	berth_slot slot, first;
	int held = 1;

	set_limit("*", "5");
	first = acquire_slot(b, stranger(0));
	(void)strangers_hold(b, &held);
	expect_code(BERTH_SUCCESS, berth_release(b, first));
	/* berthd finds the idle account at its next checkpoint. */
	for (int i = 0; i < 1000 && berth_acquire(b, "late", &slot) != BERTH_SUCCESS; i++)
		(void)usleep(10000);
	ck_assert_uint_eq(usage_of(b, "late").current, 1);
	berth_close(b);
}
END_TEST

START_TEST(accounts_of_templates_leave_places_for_configured_accounts) {
	struct berth *b = open_session();
	int held = 0;

	set_limit("*", "5");
	(void)strangers_hold(b, &held);
	for (int i = 0; i < CAPACITY / 4; i++) {
		const char *name = text_of("customer%d", i);

		set_limit(name, "1");
		(void)acquire_slot(b, name);
	}
	expect_ctl(1, "--max-accounts", "set", "one-too-many", "1");
	expect_ctl(1, "no account", "get", "one-too-many");
	/* An account that is in the table already needs no further entry. */
	set_limit(stranger(0), "9");
	ck_assert_uint_eq(usage_of(b, stranger(0)).limit, 9);
	berth_close(b);
}
END_TEST

START_TEST(a_refused_set_in_a_full_table_is_not_stored) {
	struct berth *b = open_session();

	for (int i = 0; i < CAPACITY; i++)
		set_limit(text_of("customer%d", i), "1");
	expect_ctl(1, "--max-accounts", "set", "one-too-many", "1");
	restart_after(SIGKILL);
	expect_ctl(1, "no account", "get", "one-too-many");
	ck_assert_int_eq(status_number("configured"), CAPACITY);
	/* Limits of accounts in the table can be changed. */
	set_limit("customer0", "2");
	ck_assert_uint_eq(usage_of(b, "customer0").limit, 2);
	berth_close(b);
}
END_TEST

START_TEST(an_import_that_does_not_fit_is_refused_as_a_whole) {
	const char *path = text_of("%s/limits", here.dir);
	FILE *f = fopen(path, "we");

	for (int i = 0; i < 2 * CAPACITY; i++)
		fprintf(f, "customer%d 1\n", i);
	(void)fclose(f);
	expect_ctl(1, "nothing was imported", "import", path);
	ck_assert_int_eq(status_number("configured"), 0);
	restart_after(SIGKILL);
	ck_assert_int_eq(status_number("configured"), 0);
	set_limit("alice", "1");
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const struct test matching[] = {
		{the_most_specific_template_wins_and_an_exact_name_beats_all},
		{a_name_that_no_template_matches_gets_1317},
		{the_limit_of_a_template_is_for_each_account_and_not_for_all_together},
		{an_ancestor_without_a_limit_has_the_limit_of_its_template},
		{a_changed_template_changes_the_accounts_that_it_matches},
		{a_deleted_limit_is_replaced_by_the_template_until_that_is_deleted},
		{templates_survive_a_kill_of_berthd},
		{NULL},
	};
	const struct test full[] = {
		{with_a_full_table_acquires_get_8_and_berthd_logs_it_once},
		{idle_accounts_of_templates_are_removed_for_new_ones},
		{after_a_release_in_a_full_table_a_new_account_fits},
		{accounts_of_templates_leave_places_for_configured_accounts},
		{a_refused_set_in_a_full_table_is_not_stored},
		{an_import_that_does_not_fit_is_refused_as_a_whole},
		{NULL},
	};

	return run_berthd_suites({"templates", matching, .setup = here_start, .teardown = here_end},
		{"a full table", full, .setup = start_with_small_table, .teardown = here_end});
}
