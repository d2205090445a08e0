/* SPDX-License-Identifier: MIT */

/* Tests which names of accounts and which limits the library and berthctl accept. */

#include "steps.h"

#define NAME_255                                                                 \
	"0123456789012345678901234567890123456789012345678901234567890123456789" \
	"0123456789012345678901234567890123456789012345678901234567890123456789" \
	"0123456789012345678901234567890123456789012345678901234567890123456789" \
	"012345678901234567890123456789012345678901234"

_Static_assert(sizeof(NAME_255) == 256, "255 bytes and a NUL");

/* Wrong names, and words of berthctl's error message for each. */
static const struct {
	const char *name, *why;
} bad[] = {
	{"", "empty"},
	{NAME_255 "x", "longer than 255"},
	{"caf\xE9", "UTF-8"},
	{"\xFF", "UTF-8"},
	{"\xC0\xAF", "UTF-8"},         /* an overlong '/' */
	{"\xED\xA0\x80", "UTF-8"},     /* a surrogate */
	{"\xF4\x90\x80\x80", "UTF-8"}, /* beyond U+10FFFF */
	{"cut\xE2\x82", "UTF-8"},
	{"a\nb", "control character"},
	{"tab\there", "control character"},
	{"\x7F", "control character"},
	{"\xC2\x9B", "control character"},
	{"/alice", "begins with '/'"},
	{"alice/", "ends with '/'"},
	{"/", "begins with '/'"},
	{"acme//alice", "'//'"},
	{"1/2/3/4/5/6/7/8/9", "more than 8 levels"},
};

START_TEST(a_wrong_name_gets_87_from_the_library) {
	struct berth *b = open_session();
	struct berth_usage usage = {.size = sizeof(usage)};
	berth_slot slot;

	/* A template that matches every name doesn't admit wrong names. */
	set_limit("*", "5");
	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		expect_code_for(
			bad[i].name, BERTH_INVALID_PARAMETER, berth_acquire(b, bad[i].name, &slot));
		expect_code_for(
			bad[i].name, BERTH_INVALID_PARAMETER, berth_query(b, bad[i].name, &usage));
	}
	berth_close(b);
}
END_TEST

START_TEST(a_template_is_not_an_account) {
	struct berth *b = open_session();
	berth_slot slot;

	set_limit("a*", "5");
	expect_code(BERTH_INVALID_PARAMETER, berth_acquire(b, "a*", &slot));
	expect_code(BERTH_INVALID_PARAMETER, berth_acquire(b, "a?", &slot));
	expect_ctl(2, "templates", "run", "a*", "--", "true");
	expect_ctl(2, "templates", "holders", "*");
	berth_close(b);
}
END_TEST

START_TEST(berthctl_reports_the_error_in_a_name) {
	static const char *const verbs[] = {"get", "delete", "holders"};

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		expect_ctl(2, bad[i].why, "set", bad[i].name, "5");
		for (size_t v = 0; v < COUNT_OF(verbs); v++)
			expect_ctl(2, bad[i].why, verbs[v], bad[i].name);
		expect_ctl(2, bad[i].why, "run", bad[i].name, "--", "true");
		expect_ctl(2, bad[i].why, "revoke", bad[i].name, "--all");
	}
	expect_ctl(0, "{\"accounts\":[]}", "list", "--json");
}
END_TEST

START_TEST(berthctl_escapes_control_characters_of_a_wrong_name) {
	const char *output = expect_ctl(2, "\\x1b", "set", "\x1B[2Jevil", "5");

	ck_assert_msg(!strchr(output, '\x1B'), "an escape character reached the terminal");
}
END_TEST

/* A shell runs the command that berthctl shows after an acquire for an unknown account. */
START_TEST(the_command_that_berthctl_suggests_works_for_every_name) {
	static const char *const names[] = {"alice", "-", "-x", "--json", " a  b ",
		"quote'\"\\`$(x)", "#comment", "~root", "a;b&c|d", "{a,b}", "[a]!"};
	static const char start[] = "To give it a limit: berthctl";

	for (size_t i = 0; i < COUNT_OF(names); i++) {
		const char *output = expect_ctl(1, start, "run", "--", names[i], "true");
		char command[800];

		(void)snprintf(command, sizeof(command), "%s %s",
			program_path("BERTHCTL", "berthctl"),
			strstr(output, start) + strlen(start));
		strcpy(strstr(command, " LIMIT\n"), " 7");
		ck_assert_msg(system(command) == 0, "%s", command);
		expect_ctl(0, "\"limit\":7", "get", "--json", "--", names[i]);
	}
}
END_TEST

START_TEST(unusual_names_work_from_end_to_end) {
	static const char *const names[] = {
		"a",
		"J\xC3\xBCrgen M\xC3\xBCller",
		"\xE6\x97\xA5\xE6\x9C\xAC/\xF0\x9F\x9A\xA2",
		" leading and trailing ",
		"#comment",
		"quote'\"\\`$(x)",
		"-",
		"unlimited",
		"a/../b",
		"1/2/3/4/5/6/7/8",
		"0123456789012345678901234567890",   /* 31 */
		"01234567890123456789012345678901",  /* 32, the capacity of an entry */
		"012345678901234567890123456789012", /* 33 */
		NAME_255,
	};
	struct berth *b = open_session();

	for (size_t i = 0; i < COUNT_OF(names); i++)
		expect_ctl(0, "", "set", "--", names[i], text_of("%zu", i + 1));
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		berth_slot slot = acquire_slot(b, names[i]);

		ck_assert_msg(usage_of(b, names[i]).limit == i + 1, "%s", names[i]);
		ck_assert_msg(usage_of(b, names[i]).current == 1, "%s", names[i]);
		expect_ctl(0, "\"weight\":1", "holders", "--json", "--", names[i]);
		expect_code_for(names[i], BERTH_SUCCESS, berth_release(b, slot));
		expect_ctl(0, "", "delete", "--", names[i]);
		expect_code_for(names[i], BERTH_NO_SUCH_USER, berth_acquire(b, names[i], &slot));
	}
	berth_close(b);
	expect_ctl(0, "{\"accounts\":[]}", "list", "--json");
}
END_TEST

/* The name has 8 levels, which fill 255 bytes with characters of 1 to 4 bytes. */
START_TEST(the_longest_and_deepest_name_survives_a_restart) {
	char name[256] = "";
	struct berth *b;

	for (int level = 0; level < 8; level++)
		strcat(strcat(name, level > 0 ? "/" : ""),
			"\xF0\x9F\x9A\xA2\xE2\x82\xAC\xC3\xA4o "
			"\xF0\x9F\x9A\xA2\xE2\x82\xAC\xC3\xA4o--xyz");
	while (strlen(name) < 255)
		strcat(name, "z");
	ck_assert_uint_eq(strlen(name), 255);
	set_limit(name, "2");
	b = open_session();
	(void)acquire_slot(b, name);
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	instance_restart(&here);
	(void)acquire_slot(b, name);
	ck_assert_int_eq(current_of(name), 2);
	*strchr(name, '/') = '\0';
	ck_assert_int_eq(current_of(name), 2);
	berth_close(b);
}
END_TEST

START_TEST(names_that_differ_in_a_byte_are_different_accounts) {
	struct berth *b = open_session();
	char name[256] = NAME_255;

	for (int i = 0; i < 200; i++) {
		name[i] = 'x';
		set_limit(name, "1");
		(void)acquire_slot(b, name);
	}
	ck_assert_int_eq(status_number("slots_held"), 200);
	berth_close(b);
}
END_TEST

START_TEST(a_limit_is_0_to_1048575_or_unlimited) {
	static const char *const good[] = {"0", "1", "1048575", "unlimited", "007"};
	static const char *const refused[] = {"1048576", "4294967295", "4294967296",
		"99999999999999999999999", "1e3", "0x10", "", " 5", "5 ", "5x", "+5", "1.5",
		"5,000", "Unlimited", "infinity", "\xD9\xA5"};
	struct berth *b = open_session();

	for (size_t i = 0; i < COUNT_OF(good); i++)
		expect_ctl(0, "", "set", "alice", good[i]);
	ck_assert_uint_eq(usage_of(b, "alice").limit, 7);
	for (size_t i = 0; i < COUNT_OF(refused); i++)
		expect_ctl(2, "1048575", "set", "alice", refused[i]);
	expect_ctl(2, "", "set", "alice", "-1");
	expect_ctl(2, "1048575", "set", "alice", "--", "-1");
	ck_assert_uint_eq(usage_of(b, "alice").limit, 7);
	set_limit("alice", "1048575");
	ck_assert_uint_eq(usage_of(b, "alice").limit, 1048575);
	set_limit("alice", "unlimited");
	ck_assert_uint_eq(usage_of(b, "alice").limit, UINT32_MAX);
	expect_ctl(0, "\"limit\":null", "get", "alice", "--json");
	berth_close(b);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_wrong_name_gets_87_from_the_library},
		{a_template_is_not_an_account},
		{berthctl_reports_the_error_in_a_name},
		{berthctl_escapes_control_characters_of_a_wrong_name},
		{the_command_that_berthctl_suggests_works_for_every_name},
		{unusual_names_work_from_end_to_end},
		{the_longest_and_deepest_name_survives_a_restart},
		{names_that_differ_in_a_byte_are_different_accounts},
		{a_limit_is_0_to_1048575_or_unlimited},
		{NULL},
	};

	return run_berthd_suites({"names", tests, .setup = here_start, .teardown = here_end});
}
