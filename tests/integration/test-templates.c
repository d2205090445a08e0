/* SPDX-License-Identifier: MIT */

/* Templates: whose limit an account has that nobody configured, and what a table full of them does
 * to the others. */

#include "suite.h"

/* -- which limit ------------------------------------------------------------------------------- */

START_TEST(the_most_specific_template_wins_and_an_exact_name_beats_all) {
	static const struct {
		const char *name;
		uint32_t limit;
	} cases[] = {
		{"alice", 10},              /* '*' */
		{"alice@example.com", 100}, /* the most literals */
		{"bob@example.org", 20},    /* '*@*' */
		{"root@example.com", 7},    /* its own */
		{"r@x", 20}, {"ab", 30},    /* '??': as many literals as '*', fewer stars */
		{"\xC3\xA4\xC3\xB6", 30},   /* '?' is a character, not a byte */
		{"acme/alice", 40},         /* '*' doesn't cross '/' */
		{"acme/alice@example.com", 40}, {"other/alice", 50},
		{"x.a", 61}, /* 'x*' and '*a' tie: the bytes decide */
	};
	struct berth *b = open_session();

	set_limit("*", "10");
	set_limit("*@*", "20");
	set_limit("??", "30");
	set_limit("*@example.com", "100");
	set_limit("root@example.com", "7");
	set_limit("acme/*", "40");
	set_limit("*/*", "50");
	set_limit("x*", "62");
	set_limit("*a", "61");
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

START_TEST(what_no_template_covers_is_1317) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("*", "10");
	set_limit("acme/?", "10");
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "a/b", &slot));
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "acme/alice", &slot));
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "acme/a/b", &slot));
	(void)acquire_slot(b, "acme/a");
	berth_close(b);
}
END_TEST

START_TEST(the_limit_of_a_template_is_for_each_account_and_not_for_all_together) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("*", "1");
	(void)acquire_slot(b, "alice");
	(void)acquire_slot(b, "bob");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "bob", &slot));
	berth_close(b);
}
END_TEST

START_TEST(an_ancestor_that_nobody_configured_has_its_templates_limit) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("*/*", "10");
	set_limit("acme", "unlimited");
	for (int i = 0; i < 3; i++) {
		(void)acquire_slot(b, "acme/x");
		(void)acquire_slot(b, "free/x");
	}
	set_limit("*", "3");
	(void)acquire_slot(b, "acme/x");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "free/x", &slot));
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "free/y", &slot));
	berth_close(b);
}
END_TEST

START_TEST(a_changed_template_changes_the_accounts_that_it_covers) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("*", "1");
	set_limit("own", "1");
	(void)acquire_slot(b, "alice");
	(void)acquire_slot(b, "own");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	set_limit("*", "2");
	(void)acquire_slot(b, "alice");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "own", &slot));
	/* A more specific one takes over, and gives back. */
	set_limit("al*", "3");
	(void)acquire_slot(b, "alice");
	expect_ctl(0, "", "delete", "al*");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	ck_assert_uint_eq(usage_of(b, "alice").limit, 2);
	ck_assert_uint_eq(usage_of(b, "alice").current, 3);
	berth_close(b);
}
END_TEST

START_TEST(a_deleted_account_falls_back_to_its_template_and_then_to_nothing) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("*", "2");
	set_limit("alice", "5");
	slot = acquire_slot(b, "alice");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	expect_ctl(0, "", "delete", "alice");
	slot = acquire_slot(b, "alice");
	ck_assert_uint_eq(usage_of(b, "alice").limit, 2);
	expect_ctl(0, "\"source\":\"template\"", "get", "alice", "--json");
	expect_ctl(0, "", "delete", "*");
	expect_code(BERTH_NO_SUCH_USER, berth_acquire(b, "alice", &(berth_slot){0}));
	/* What is held stays held until it is released. */
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_ctl(1, "no account", "delete", "*");
	expect_ctl(1, "alice", "delete", "alice");
}
END_TEST

START_TEST(templates_outlive_berthd) {
	struct berth *b = open_session();

	set_limit("*@example.com", "3");
	(void)acquire_slot(b, "alice@example.com");
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	(void)acquire_slot(b, "bob@example.com");
	(void)acquire_slot(b, "alice@example.com");
	ck_assert_uint_eq(usage_of(b, "alice@example.com").current, 2);
	ck_assert_int_eq(status_number("templates"), 1);
	berth_close(b);
}
END_TEST

/* -- a full table ------------------------------------------------------------------------------ */

#define SMALL 40 /* accounts; 30 of them for those that nobody configured */

static void small_start(void) {
	static const char *const args[] = {"--max-accounts", "40", NULL};

	instance_start(&here, args);
}

static const char *stranger(int n) {
	static char name[32];

	(void)snprintf(name, sizeof(name), "stranger%d", n);
	return name;
}

START_TEST(a_full_table_is_8_and_never_1238_and_the_log_says_so_once) {
	struct berth *b = open_session();
	berth_slot slot;
	int held = 0, code;

	set_limit("*", "5");
	while ((code = berth_acquire(b, stranger(held), &slot)) == BERTH_SUCCESS)
		held++;
	ck_assert_int_eq(code, BERTH_NO_SYSTEM_RESOURCES);
	ck_assert_msg(held >= SMALL / 2 && held <= SMALL, "%d were let in", held);
	for (int i = 0; i < 10; i++)
		expect_code(BERTH_NO_SYSTEM_RESOURCES, berth_acquire(b, stranger(held + i), &slot));
	expect_logged("table of accounts is full");
	expect_logged("--max-accounts");
	ck_assert_int_eq(logged_times("table of accounts is full"), 1);
	/* Those that are in are served. */
	(void)acquire_slot(b, stranger(0));
	berth_close(b);
}
END_TEST

START_TEST(idle_accounts_of_templates_make_room) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("*", "5");
	set_limit("kept", "5");
	(void)acquire_slot(b, "busy");
	for (int i = 0; i < 20 * SMALL; i++) {
		slot = acquire_slot(b, stranger(i));
		expect_code(BERTH_SUCCESS, berth_release(b, slot));
	}
	ck_assert_uint_eq(usage_of(b, "busy").current, 1);
	(void)acquire_slot(b, "busy");
	(void)acquire_slot(b, "kept");
	ck_assert_uint_eq(usage_of(b, "kept").limit, 5);
	ck_assert_int_le(status_number("accounts"), SMALL);
	berth_close(b);
}
END_TEST

START_TEST(room_is_found_again_once_a_slot_in_a_full_table_is_released) {
	struct berth *b = open_session();
	berth_slot slot, first;
	int held = 1;

	set_limit("*", "5");
	first = acquire_slot(b, stranger(0));
	while (berth_acquire(b, stranger(held), &slot) == BERTH_SUCCESS)
		held++;
	expect_code(BERTH_SUCCESS, berth_release(b, first));
	/* berthd notices at its next checkpoint. */
	for (int i = 0; i < 1000 && berth_acquire(b, "late", &slot) != BERTH_SUCCESS; i++)
		(void)usleep(10000);
	ck_assert_uint_eq(usage_of(b, "late").current, 1);
	berth_close(b);
}
END_TEST

START_TEST(strangers_cant_crowd_out_those_who_are_configured) {
	struct berth *b = open_session();
	berth_slot slot;
	char name[32];
	int held = 0;

	set_limit("*", "5");
	while (berth_acquire(b, stranger(held), &slot) == BERTH_SUCCESS)
		held++;
	for (int i = 0; i < SMALL / 4; i++) {
		(void)snprintf(name, sizeof(name), "customer%d", i);
		set_limit(name, "1");
		(void)acquire_slot(b, name);
	}
	expect_ctl(1, "--max-accounts", "set", "one-too-many", "1");
	expect_ctl(1, "no account", "get", "one-too-many");
	/* A stranger that becomes a customer takes no further place. */
	set_limit(stranger(0), "9");
	ck_assert_uint_eq(usage_of(b, stranger(0)).limit, 9);
	berth_close(b);
}
END_TEST

START_TEST(a_refused_set_in_a_full_table_is_not_stored) {
	struct berth *b = open_session();
	char name[32];

	for (int i = 0; i < SMALL; i++) {
		(void)snprintf(name, sizeof(name), "customer%d", i);
		set_limit(name, "1");
	}
	expect_ctl(1, "--max-accounts", "set", "one-too-many", "1");
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	expect_ctl(1, "no account", "get", "one-too-many");
	ck_assert_int_eq(status_number("configured"), SMALL);
	/* Of those that are there the limit can be changed. */
	set_limit("customer0", "2");
	ck_assert_uint_eq(usage_of(b, "customer0").limit, 2);
	berth_close(b);
}
END_TEST

START_TEST(an_import_that_doesnt_fit_is_refused_whole_and_berthd_starts_again) {
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/limits", here.dir);
	f = fopen(path, "we");
	for (int i = 0; i < 2 * SMALL; i++)
		fprintf(f, "customer%d 1\n", i);
	(void)fclose(f);
	expect_ctl(1, "nothing was imported", "import", path);
	ck_assert_int_eq(status_number("configured"), 0);
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	ck_assert_int_eq(status_number("configured"), 0);
	set_limit("alice", "1");
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const TTest *const covering[] = {
		the_most_specific_template_wins_and_an_exact_name_beats_all,
		what_no_template_covers_is_1317,
		the_limit_of_a_template_is_for_each_account_and_not_for_all_together,
		an_ancestor_that_nobody_configured_has_its_templates_limit,
		a_changed_template_changes_the_accounts_that_it_covers,
		a_deleted_account_falls_back_to_its_template_and_then_to_nothing,
		templates_outlive_berthd,
		NULL,
	};
	const TTest *const full[] = {
		a_full_table_is_8_and_never_1238_and_the_log_says_so_once,
		idle_accounts_of_templates_make_room,
		room_is_found_again_once_a_slot_in_a_full_table_is_released,
		strangers_cant_crowd_out_those_who_are_configured,
		a_refused_set_in_a_full_table_is_not_stored,
		an_import_that_doesnt_fit_is_refused_whole_and_berthd_starts_again,
		NULL,
	};
	int first = suite_run("templates", here_start, covering);
	int second = suite_run("a full table", small_start, full);

	return first != EXIT_SUCCESS ? first : second;
}
