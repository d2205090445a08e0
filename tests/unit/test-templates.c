/* SPDX-License-Identifier: MIT */

/* Tests which names a template matches, and which template wins if several match. */

#include <stdio.h>
#include <string.h>

#include "random.h"
#include "run.h"
#include "templates.h"
#include "util.h"

struct example {
	const char *pattern, *name;
	bool matches;
};

START_TEST(stars_and_question_marks_match_within_a_level) {
	static const struct example examples[] = {
		{"*", "alice", true},
		{"*", "a/b", false},
		{"*", "", true},
		{"*/*", "a/b", true},
		{"*/*", "a/b/c", false},
		{"*/*", "a", false},
		{"?", "a", true},
		{"?", "ab", false},
		{"?", "", false},
		{"?", "\xC3\xBC", true},
		{"??", "\xC3\xBC", false},
		{"?", "\xF0\x9F\x98\x80", true},
		{"a?b", "a/b", false},
		{"*?", "a", true},
		{"?*?", "a", false},
		{"?*?", "\xC3\xBC\xC3\xB6", true},
		{"*@example.com", "bob@example.com", true},
		{"*@example.com", "@example.com", true},
		{"*@example.com", "bob@example.org", false},
		{"*@example.com", "bob@example.com.example.com", false},
		{"*@example.com", "a@example.com@example.com", true},
		{"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXbYc/", false},
		{"a*b/c*d", "aXXb/cYYd", true},
		{"a*b/c*d", "aXXb/cYY", false},
		{"a*b/c*d", "aXb/Xb/cd", false},
		{"*a/b", "xa/b", true},
		{"*a/b", "xa/ya/b", false},
		{"**", "x", true},
		{"***", "", true},
		{"a**/**b", "ax/xb", true},
		{"*b/x", "abb/x", true},
		{"*\xC3\xBCz", "\xC3\xBC\xC3\xBCz", true},
	};

	for (size_t i = 0; i < ELEMENTS(examples); i++)
		ck_assert_msg(template_matches(examples[i].pattern, examples[i].name) ==
				      examples[i].matches,
			"'%s' and '%s' should%s match", examples[i].pattern, examples[i].name,
			examples[i].matches ? "" : "n't");
}
END_TEST

/* Matches by the definition, which takes exponential time. */
static bool matches_by_definition(const char *pattern, const char *name) {
	if (*pattern == '*')
		return matches_by_definition(pattern + 1, name) ||
		       (*name && *name != '/' && matches_by_definition(pattern, name + 1));
	if (!*pattern || !*name)
		return *pattern == *name;
	if (*pattern == '?' ? *name == '/' : *pattern != *name)
		return false;
	return matches_by_definition(pattern + 1, name + 1);
}

static void text_random(char *to, uint32_t longest, const char *letters) {
	uint32_t length = random_below(longest + 1);

	for (uint32_t i = 0; i < length; i++)
		to[i] = letters[random_below((uint32_t)strlen(letters))];
	to[length] = '\0';
}

START_TEST(matching_agrees_with_its_definition_on_random_texts) {
	char pattern[16], name[16];
	unsigned matched = 0;

	random_init();
	for (int i = 0; i < 300000; i++) {
		bool expected;

		text_random(pattern, 8, "ab/**?");
		text_random(name, 10, "aabb/");
		expected = matches_by_definition(pattern, name);
		matched += expected;
		ck_assert_msg(template_matches(pattern, name) == expected,
			"'%s' and '%s' should%s match", pattern, name, expected ? "" : "n't");
	}
	ck_assert_uint_gt(matched, 1000);
}
END_TEST

/* If the matcher needed exponential time, Check would end the test. */
START_TEST(a_pattern_with_many_stars_is_matched_fast) {
	char pattern[256], name[256];

	for (size_t i = 0; i < 254; i++) {
		pattern[i] = i % 2 ? 'a' : '*';
		name[i] = 'a';
	}
	pattern[254] = 'b';
	pattern[255] = name[254] = '\0';
	for (int i = 0; i < 1000; i++)
		ck_assert(!template_matches(pattern, name));
}
END_TEST

/* Sets the templates in the given order, or in the reverse order if `reversed`. */
static struct templates *templates_of(const char *const *patterns, size_t count, bool reversed) {
	struct templates *t;

	ck_assert_int_eq(templates_new(&t), 0);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(
			templates_set(t, patterns[reversed ? count - 1 - i : i], (uint32_t)i), 0);
	return t;
}

static void check_winner(const struct templates *t, const char *name, const char *expected) {
	const char *pattern = NULL;
	uint32_t limit, own;
	bool found = templates_match(t, name, &limit);

	ck_assert_msg(found == (expected != NULL), "'%s' is covered: %d", name, found);
	/* Find the template by its limit, since templates_of() gave each template a limit of its
	 * own. */
	for (size_t i = 0; i < templates_count(t) && found && !pattern; i++) {
		pattern = templates_at(t, i, &own);
		if (own != limit)
			pattern = NULL;
	}
	if (expected)
		ck_assert_str_eq(pattern, expected);
}

START_TEST(the_most_specific_template_wins_whatever_the_order_of_setting) {
	static const char *const patterns[] = {"*", "*@example.com", "b*@example.com", "?", "a*c*",
		"a*?c", "?bc", "ab?", "\xC3\xBC*", "xy*"};
	struct templates *sets[] = {templates_of(patterns, ELEMENTS(patterns), false),
		templates_of(patterns, ELEMENTS(patterns), true)};

	for (size_t i = 0; i < ELEMENTS(sets); i++) {
		check_winner(sets[i], "bob@example.com", "b*@example.com");
		check_winner(sets[i], "carol@example.com", "*@example.com");
		check_winner(sets[i], "z", "?");       /* no literals; "?" has no star */
		check_winner(sets[i], "abc", "?bc");   /* "?bc" sorts before "ab?" */
		check_winner(sets[i], "axxc", "a*?c"); /* "a*c*" has two stars */
		check_winner(sets[i], "\xC3\xBCx", "\xC3\xBC*");
		check_winner(sets[i], "zz", "*");
		check_winner(sets[i], "a/b", NULL);
		templates_free(sets[i]);
	}
}
END_TEST

START_TEST(literal_characters_are_counted_and_not_bytes) {
	/* The first pattern has one literal of two bytes; the second has two of one byte each. */
	static const char *const patterns[] = {"\xC3\xBC??", "?ab"};
	struct templates *t = templates_of(patterns, ELEMENTS(patterns), false);

	check_winner(t,
		"\xC3\xBC"
		"ab",
		"?ab");
	templates_free(t);
}
END_TEST

START_TEST(setting_again_changes_the_limit_and_deleting_uncovers_the_name) {
	static const char *const patterns[] = {"*", "a*"};
	struct templates *t = templates_of(patterns, ELEMENTS(patterns), false);
	uint32_t limit;

	ck_assert_int_eq(templates_set(t, "a*", 99), 0);
	ck_assert_uint_eq(templates_count(t), 2);
	ck_assert_str_eq(templates_at(t, 0, &limit), "a*");
	ck_assert_uint_eq(limit, 99);
	ck_assert_int_eq(templates_delete(t, "a*"), 0);
	ck_assert_int_eq(templates_delete(t, "a*"), -ENOENT);
	check_winner(t, "ab", "*");
	ck_assert_int_eq(templates_delete(t, "*"), 0);
	check_winner(t, "ab", NULL);
	ck_assert_uint_eq(templates_count(t), 0);
	templates_free(t);
	templates_free(NULL);
}
END_TEST

START_TEST(thousands_of_templates_stay_in_order) {
	struct templates *t = templates_of(NULL, 0, false);
	uint32_t limit;
	size_t before = SIZE_MAX;
	char pattern[32];

	for (unsigned i = 0; i < 3000; i++) {
		(void)snprintf(pattern, sizeof(pattern), "%u*", i * 7919 % 3000);
		ck_assert_int_eq(templates_set(t, pattern, i), 0);
	}
	ck_assert_uint_eq(templates_count(t), 3000);
	for (size_t i = 0; i < templates_count(t); i++) {
		size_t length = strlen(templates_at(t, i, &limit));

		ck_assert_uint_le(length, before);
		before = length;
	}
	templates_free(t);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{stars_and_question_marks_match_within_a_level},
		{matching_agrees_with_its_definition_on_random_texts},
		{a_pattern_with_many_stars_is_matched_fast},
		{the_most_specific_template_wins_whatever_the_order_of_setting},
		{literal_characters_are_counted_and_not_bytes},
		{setting_again_changes_the_limit_and_deleting_uncovers_the_name},
		{thousands_of_templates_stay_in_order},
		{NULL},
	};

	return run_suites({"template", tests});
}
