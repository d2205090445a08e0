/* SPDX-License-Identifier: MIT */

/* Tests the rules for names of accounts and templates, and the parsers of numbers and limits. */

#include <string.h>

#include "layout.h"
#include "name.h"
#include "number.h"
#include "protocol.h"
#include "run.h"
#include "util.h"

struct name_case {
	const char *name;
	const char *refusal; /* words of the sentence that refuses the name; NULL if it is valid */
};

static void check_name(const struct name_case *c, const char *refusal) {
	char shown[1024];

	(void)name_escape(c->name, strlen(c->name), shown, sizeof(shown));
	if (!c->refusal)
		ck_assert_msg(!refusal, "'%s' was refused: %s", shown, refusal);
	else
		ck_assert_msg(refusal && strstr(refusal, c->refusal),
			"'%s': expected '%s', got '%s'", shown, c->refusal,
			refusal ? refusal : "(accepted)");
}

START_TEST(a_name_is_refused_with_a_sentence_that_names_the_rule) {
	static const struct name_case cases[] = {
		{"alice", NULL},
		{"a", NULL},
		{" with blanks ", NULL},
		{"acme/alice/10.0.0.1", NULL},
		{"1/2/3/4/5/6/7/8", NULL},
		{"\xC3\xBC", NULL},     /* U+00FC */
		{"\xC2\xA0", NULL},     /* the first after the C1 control characters */
		{"\xEF\xBF\xBF", NULL}, /* U+FFFF */
		{"\xED\x9F\xBF", NULL}, /* the last before the surrogates */
		{"\xEE\x80\x80", NULL}, /* the first after the surrogates */
		{"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", NULL}, /* U+10000, U+10FFFF */
		{"", "empty"},
		{"1/2/3/4/5/6/7/8/9", "more than 8 levels"},
		{"/a", "begins with '/'"},
		{"/", "begins with '/'"},
		{"a/", "ends with '/'"},
		{"a//b", "'//'"},
		{"a*", "belong to templates"},
		{"?", "belong to templates"},
		{"a\tb", "control character"},
		{"a\x1F", "control character"},
		{"a\x7F", "control character"},
		{"a\xC2\x80", "control character"},
		{"a\xC2\x9F", "control character"},
		{"\x80", "UTF-8"},
		{"\xC0\x80", "UTF-8"},         /* overlong NUL */
		{"\xC1\xBF", "UTF-8"},         /* overlong DEL */
		{"\xE0\x9F\xBF", "UTF-8"},     /* overlong U+07FF */
		{"\xF0\x8F\xBF\xBF", "UTF-8"}, /* overlong U+FFFF */
		{"\xED\xA0\x80", "UTF-8"},     /* the first surrogate */
		{"\xED\xBF\xBF", "UTF-8"},     /* the last surrogate */
		{"\xF4\x90\x80\x80", "UTF-8"}, /* U+110000 */
		{"\xF5\x80\x80\x80", "UTF-8"},
		{"\xFF", "UTF-8"},
		{"\xC3", "UTF-8"}, /* incomplete */
		{"\xE2\x82", "UTF-8"},
		{"\xF0\x9F\x98", "UTF-8"},
		{"\xC3z", "UTF-8"},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++)
		check_name(&cases[i], name_check(cases[i].name, strlen(cases[i].name)));
}
END_TEST

START_TEST(a_name_has_up_to_255_bytes) {
	char name[257];

	memset(name, 'x', sizeof(name));
	ck_assert_ptr_null(name_check(name, 255));
	ck_assert_ptr_nonnull(strstr(name_check(name, 256), "longer than 255 bytes"));
	ck_assert_ptr_nonnull(name_check(name, 0));
	ck_assert_ptr_nonnull(name_check(NULL, 0));
}
END_TEST

START_TEST(a_name_ends_at_its_length_and_not_at_a_nul) {
	ck_assert_ptr_nonnull(strstr(name_check("a\0b", 3), "control character"));
	ck_assert_ptr_null(name_check("ab/", 2));
	/* The length ends within a character. */
	ck_assert_ptr_nonnull(strstr(name_check("a\xC3\xBC", 2), "UTF-8"));
}
END_TEST

START_TEST(a_template_has_a_star_or_a_question_mark) {
	static const struct name_case cases[] = {
		{"*", NULL},
		{"a?/b", NULL},
		{"*@example.com", NULL},
		{"*/", "ends with '/'"},
		{"*\n", "control character"},
		{"*\xFF", "UTF-8"},
		{"", "empty"},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		check_name(&cases[i], name_check_any(cases[i].name, strlen(cases[i].name)));
		ck_assert(
			cases[i].refusal || name_is_template(cases[i].name, strlen(cases[i].name)));
	}
	ck_assert(!name_is_template("alice", 5));
	ck_assert_ptr_null(name_check_any("alice", 5));
	ck_assert_ptr_null(name_check_any("al*", 3));
	ck_assert_ptr_nonnull(strstr(name_check_any("*//a", 4), "//"));
	ck_assert_ptr_nonnull(strstr(name_check_any("", 0), "empty"));
}
END_TEST

START_TEST(levels_and_parents_follow_the_slashes) {
	ck_assert_uint_eq(name_depth("a", 1), 1);
	ck_assert_uint_eq(name_depth("a/b/c", 5), 3);
	ck_assert_uint_eq(name_parent("a/bc/d", 6), 4);
	ck_assert_uint_eq(name_parent("a/bc/d", 4), 1);
	ck_assert_uint_eq(name_parent("a", 1), 0);
	ck_assert_uint_eq(name_parent("", 0), 0);
}
END_TEST

START_TEST(only_decimal_digits_are_a_number) {
	static const char *const invalid[] = {
		"", " 1", "1 ", "+1", "-1", "0x1", "1.0", "1e3", "99999999999999999999x"};
	uint64_t n = 7;

	for (size_t i = 0; i < ELEMENTS(invalid); i++)
		ck_assert_msg(number_parse(invalid[i], UINT64_MAX, &n) == -EINVAL,
			"'%s' isn't refused", invalid[i]);
	ck_assert_int_eq(number_parse("11", 10, &n), -ERANGE);
	ck_assert_int_eq(number_parse("18446744073709551616", UINT64_MAX, &n), -ERANGE);
	ck_assert_int_eq(number_parse("99999999999999999999999", 10, &n), -ERANGE);
	ck_assert_uint_eq(n, 7);

	ck_assert_int_eq(number_parse("18446744073709551615", UINT64_MAX, &n), 0);
	ck_assert_uint_eq(n, UINT64_MAX);
	ck_assert_int_eq(number_parse("010", 10, &n), 0);
	ck_assert_uint_eq(n, 10);
	ck_assert_int_eq(number_parse("0", 0, &n), 0);
	ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(a_limit_is_a_number_or_unlimited) {
	uint32_t limit = 7;

	ck_assert_int_eq(limit_parse("1048576", &limit), -ERANGE);
	ck_assert_int_eq(limit_parse("Unlimited", &limit), -EINVAL);
	ck_assert_int_eq(limit_parse("unlimited ", &limit), -EINVAL);
	ck_assert_uint_eq(limit, 7);
	ck_assert_int_eq(limit_parse("1048575", &limit), 0);
	ck_assert_uint_eq(limit, BERTH_COUNT_MAX);
	ck_assert_int_eq(limit_parse("unlimited", &limit), 0);
	ck_assert_uint_eq(limit, BERTH_LIMIT_NONE);
}
END_TEST

START_TEST(a_limit_is_written_as_it_is_read) {
	static const char *const limits[] = {"0", "5", "1048575", "unlimited"};
	char text[LIMIT_TEXT_SIZE];
	uint32_t limit;

	for (size_t i = 0; i < ELEMENTS(limits); i++) {
		ck_assert_int_eq(limit_parse(limits[i], &limit), 0);
		ck_assert_str_eq(limit_format(limit, text), limits[i]);
		ck_assert_uint_eq(limit_of_message(message_limit(limit)), limit);
	}
	ck_assert_uint_eq(message_limit(BERTH_LIMIT_NONE), MESSAGE_UNLIMITED);
	ck_assert_uint_eq(message_limit(5), 5);
}
END_TEST

START_TEST(escaping_keeps_text_and_shows_other_bytes_as_hex) {
	static const struct {
		const char *text, *shown;
	} cases[] = {
		{"alice", "alice"},
		{"\xC3\xBC", "\xC3\xBC"},
		{"a\nb\x1B[2J", "a\\x0ab\\x1b[2J"},
		{"\\", "\\x5c"},
		{"\xC2\x9B", "\\xc2\\x9b"}, /* CSI in one character */
		{"\xFFz\xC3", "\\xffz\\xc3"},
		{"", ""},
	};
	char to[64];

	for (size_t i = 0; i < ELEMENTS(cases); i++)
		ck_assert_str_eq(name_escape(cases[i].text, strlen(cases[i].text), to, sizeof(to)),
			cases[i].shown);
}
END_TEST

START_TEST(escaping_cuts_between_characters) {
	char to[8];

	memset(to, 'Z', sizeof(to));
	ck_assert_str_eq(name_escape("abc", 3, to, 3), "ab");
	ck_assert_str_eq(name_escape("a\xC3\xBC", 3, to, 3), "a");
	ck_assert_str_eq(name_escape("a\n", 2, to, 5), "a");
	ck_assert_str_eq(name_escape("a\n", 2, to, 6), "a\\x0a");
	ck_assert_str_eq(name_escape("a", 1, to, 1), "");
	ck_assert_int_eq(to[7], 'Z');
	to[0] = 'Z';
	ck_assert_ptr_eq(name_escape("a", 1, to, 0), to);
	ck_assert_int_eq(to[0], 'Z');
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_name_is_refused_with_a_sentence_that_names_the_rule},
		{a_name_has_up_to_255_bytes},
		{a_name_ends_at_its_length_and_not_at_a_nul},
		{a_template_has_a_star_or_a_question_mark},
		{levels_and_parents_follow_the_slashes},
		{only_decimal_digits_are_a_number},
		{a_limit_is_a_number_or_unlimited},
		{a_limit_is_written_as_it_is_read},
		{escaping_keeps_text_and_shows_other_bytes_as_hex},
		{escaping_cuts_between_characters},
		{NULL},
	};

	return run_suites({"name", tests});
}
