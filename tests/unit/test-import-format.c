/* SPDX-License-Identifier: MIT */

/* Tests the text format of import and export: which lines import reads, which it refuses, and with
 * which message. Import must read every line that export writes. */

#include <stdlib.h>
#include <string.h>

#include "import-format.h"
#include "protocol.h"
#include "run.h"
#include "util.h"

#define BOM "\xEF\xBB\xBF" /* a byte order mark */

static struct lines lines;

static void parse_bytes(const char *text, size_t length) {
	lines_deinit(&lines);
	ck_assert_int_eq(lines_parse(&lines, text, length), 0);
}

static void parse(const char *text) {
	parse_bytes(text, strlen(text));
}

static void teardown(void) {
	lines_deinit(&lines);
}

static void assert_entry(size_t i, uint32_t line, const char *name, uint32_t limit) {
	const struct lines_entry *e = &lines.entry[i];

	ck_assert_uint_lt(i, lines.count);
	ck_assert_msg(e->length == strlen(name) && memcmp(e->name, name, e->length) == 0,
		"entry %zu is '%.*s', not '%s'", i, (int)e->length, e->name, name);
	ck_assert_uint_eq(e->limit, limit);
	ck_assert_uint_eq(e->line, line);
}

/* Checks that the text has this number of accounts and no error. */
static void check_parse(const char *text, size_t count) {
	parse(text);
	ck_assert_uint_eq(lines.error_count, 0);
	ck_assert_uint_eq(lines.count, count);
}

/* Checks that the text has one account, with this limit. */
static void assert_reads(const char *text, const char *name, uint32_t limit) {
	parse(text);
	ck_assert_msg(lines.error_count == 0, "'%s': %s", text, lines.error[0].text);
	ck_assert_msg(lines.count == 1, "'%s': %zu entries", text, lines.count);
	assert_entry(0, 1, name, limit);
}

/* Checks that only this line is refused, and that the message contains these words. */
static void assert_refuses(const char *text, uint32_t line, const char *words) {
	parse(text);
	ck_assert_msg(lines.error_count == 1, "'%s': %zu errors", text, lines.error_count);
	ck_assert_uint_eq(lines.error[0].line, line);
	ck_assert_msg(strstr(lines.error[0].text, words), "'%s': '%s' doesn't say '%s'", text,
		lines.error[0].text, words);
}

/* Returns the line that export writes for a name. The caller frees the line. */
static char *export_line(const char *name, uint32_t limit) {
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	ck_assert_ptr_nonnull(f);
	line_write(f, name, limit);
	ck_assert_int_eq(fclose(f), 0);
	return text;
}

START_TEST(test_a_line_is_an_account_and_a_limit) {
	assert_reads("alice 5\n", "alice", 5);
	assert_reads("alice 0\n", "alice", 0);
	assert_reads("alice 1048575\n", "alice", 1048575);
	assert_reads("alice unlimited\n", "alice", MESSAGE_UNLIMITED);
	assert_reads("acme/alice/10.0.0.1 7\n", "acme/alice/10.0.0.1", 7);
	assert_reads("*@example.com 100\n", "*@example.com", 100);
	assert_reads("J\xC3\xB6rg 3\n", "J\xC3\xB6rg", 3);
}
END_TEST

START_TEST(test_the_last_line_may_end_without_a_newline) {
	assert_reads("alice 5", "alice", 5);
	assert_reads("alice 5\r", "alice", 5);
}
END_TEST

START_TEST(test_the_last_word_is_the_limit_and_names_may_contain_spaces) {
	assert_reads("mary ann smith 5\n", "mary ann smith", 5);
	assert_reads("a  b 5\n", "a  b", 5);
	assert_reads("room 101 5\n", "room 101", 5);
}
END_TEST

START_TEST(test_blanks_around_account_and_limit_are_ignored) {
	assert_reads("  alice     5  \n", "alice", 5);
	assert_reads("alice\t\t5\t\n", "alice", 5);
	assert_reads(" \talice \t5\n", "alice", 5);
	assert_reads("\talice 5\n", "alice", 5);
}
END_TEST

START_TEST(test_a_name_between_two_tabs_keeps_its_blanks) {
	assert_reads("\t alice \t5\n", " alice ", 5);
	assert_reads("\talice\t5\n", "alice", 5);
	assert_reads("\t#alice\t5\n", "#alice", 5);
	assert_reads("\t \t5\n", " ", 5);
}
END_TEST

START_TEST(test_comments_and_blank_lines_are_ignored) {
	check_parse("# alice 5\n#\n\n   \n\t\n\r\n#alice 6\nbob 7\n", 1);
	assert_entry(0, 8, "bob", 7);
}
END_TEST

START_TEST(test_a_hash_inside_a_name_starts_no_comment) {
	assert_reads("alice#1 5\n", "alice#1", 5);
	assert_reads("alice # 5\n", "alice #", 5);
}
END_TEST

START_TEST(test_an_empty_text_has_no_lines) {
	check_parse("", 0);
	check_parse("\n", 0);
}
END_TEST

START_TEST(test_lines_may_end_in_cr_lf) {
	check_parse("alice 5\r\n# x\r\n\r\nbob unlimited\r\n", 2);
	assert_entry(0, 1, "alice", 5);
	assert_entry(1, 4, "bob", MESSAGE_UNLIMITED);
}
END_TEST

START_TEST(test_a_byte_order_mark_is_skipped) {
	assert_reads(BOM "alice 5\n", "alice", 5);
	parse(BOM "# comment\n");
	ck_assert_uint_eq(lines.error_count, 0);
}
END_TEST

START_TEST(test_a_word_alone_is_refused) {
	assert_refuses("alice\n", 1, "'alice' stands alone; a line is ACCOUNT LIMIT");
	assert_refuses("bob 1\n  5\n", 2, "'5' stands alone");
	assert_refuses("\t\t5\n", 1, "'5' stands alone");
}
END_TEST

START_TEST(test_a_bad_limit_is_refused) {
	static const char *const bad[] = {"-1", "+1", "1048576", "99999999999999999999999", "5x",
		"0x5", "1.5", "1,000", "Unlimited", "none",
		"000000000000000000000000000000000000000000000005"};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		char text[100];

		(void)snprintf(text, sizeof(text), "bob 1\nalice %s\n", bad[i]);
		assert_refuses(text, 2, "a whole number from 0 to 1048575, or 'unlimited'");
		ck_assert_ptr_nonnull(strstr(lines.error[0].text, bad[i]));
	}
}
END_TEST

START_TEST(test_a_bad_name_is_refused_with_the_rule_it_breaks) {
	char longest[300];

	assert_refuses("/alice 5\n", 1, "'/alice': the name begins with '/'");
	assert_refuses("alice/ 5\n", 1, "ends with '/'");
	assert_refuses("a//b 5\n", 1, "'//'");
	assert_refuses("a/b/c/d/e/f/g/h/i 5\n", 1, "levels");
	assert_refuses("al\xFF"
		       "ice 5\n",
		1, "'al\\xffice': the name is not valid UTF-8");
	assert_refuses("al\x1B[1mice 5\n", 1, "control character");
	assert_refuses("a\tb 5\n", 1, "control character");
	assert_refuses("*/ 5\n", 1, "ends with '/'");
	memset(longest, 'x', sizeof(longest));
	memcpy(longest + 256, " 5\n", 4);
	assert_refuses(longest, 1, "255 bytes");
}
END_TEST

START_TEST(test_a_name_of_255_bytes_is_read) {
	char longest[300];

	memset(longest, 'x', sizeof(longest));
	memcpy(longest + 255, " 5\n", 4);
	parse(longest);
	ck_assert_uint_eq(lines.error_count, 0);
	ck_assert_uint_eq(lines.entry[0].length, 255);
}
END_TEST

START_TEST(test_a_nul_is_refused_wherever_it_is) {
	static const char in_name[] = "al\0ice 5\n", in_limit[] = "alice 5\0x\n";

	parse_bytes(in_name, sizeof(in_name) - 1);
	ck_assert_uint_eq(lines.error_count, 1);
	parse_bytes(in_limit, sizeof(in_limit) - 1);
	ck_assert_uint_eq(lines.error_count, 1);
}
END_TEST

START_TEST(test_an_indented_comment_is_refused_and_not_taken_for_an_account) {
	assert_refuses("bob 1\n  # alice 5\n", 2, "first character");
	assert_refuses("\t# raise alice to 5\n", 1, "first character");
}
END_TEST

START_TEST(test_a_repeated_account_is_refused_with_both_line_numbers) {
	assert_refuses("alice 5\nbob 1\n\n  alice  7\n", 4, "'alice' is on line 1 already");
	assert_refuses("* 5\n* 5\n", 2, "'*' is on line 1 already");
	parse("a 1\na 2\na 3\n");
	ck_assert_uint_eq(lines.error_count, 2);
	ck_assert_ptr_nonnull(strstr(lines.error[1].text, "line 1"));
}
END_TEST

START_TEST(test_names_that_differ_in_a_byte_are_two_accounts) {
	check_parse("alice 5\nAlice 5\nalice/x 5\nali 5\n\talice \t5\n", 5);
}
END_TEST

START_TEST(test_every_error_is_counted_and_the_first_20_are_kept) {
	char text[4096] = "";

	for (int i = 0; i < 50; i++)
		strcat(text, i % 2 ? "fine 1\n" : "alice -5\n");
	parse(text);
	/* 25 lines have a bad limit. 24 other lines repeat an account. */
	ck_assert_uint_eq(lines.error_count, 49);
	ck_assert_uint_eq(lines.error[0].line, 1);
	ck_assert_uint_eq(lines.error[LINES_ERRORS_SHOWN - 1].line, 21);
}
END_TEST

START_TEST(test_a_hundred_thousand_lines_keep_their_order_and_a_repetition_is_found) {
	enum { COUNT = 100000 };
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	for (int i = 0; i < COUNT; i++)
		fprintf(f, "user%d %d\n", i, i);
	fputs("user777 1\n", f);
	ck_assert_int_eq(fclose(f), 0);
	parse_bytes(text, size);
	ck_assert_uint_eq(lines.count, COUNT);
	assert_entry(COUNT - 1, COUNT, "user99999", COUNT - 1);
	ck_assert_uint_eq(lines.error_count, 1);
	ck_assert_uint_eq(lines.error[0].line, COUNT + 1);
	ck_assert_ptr_nonnull(strstr(lines.error[0].text, "line 778 "));
	lines_deinit(&lines);
	free(text);
}
END_TEST

START_TEST(test_import_reads_what_export_writes) {
	static const char *const names[] = {"alice", "mary ann", " lead", "trail ", " both ", " ",
		"   ", "#", "#alice", " #x", "# a b ", "a#b", "*", "* ?", " *", "room 101",
		"J\xC3\xB6rg", "DOM\\user", "100%", "a%2Fb", "a/b c/ d", "unlimited", "5", "\"q\"",
		"\xC2\xA0nbsp\xC2\xA0", (BOM "bom")};
	static const uint32_t limits[] = {0, 5, 1048575, MESSAGE_UNLIMITED};

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		char *text = export_line(names[i], limits[i % 4]);
		/* An export begins with a comment. */
		char *file = NULL;

		ck_assert_int_gt(asprintf(&file, "# berth limits\n%s", text), 0);
		parse(file);
		ck_assert_msg(lines.error_count == 0, "'%s': %s", file, lines.error[0].text);
		ck_assert_uint_eq(lines.count, 1);
		assert_entry(0, 2, names[i], limits[i % 4]);
		lines_deinit(&lines);
		free(file);
		free(text);
	}
}
END_TEST

START_TEST(test_plain_names_are_exported_without_tabs) {
	char *text = export_line("mary ann", 5);

	ck_assert_str_eq(text, "mary ann 5\n");
	free(text);
	text = export_line("*", MESSAGE_UNLIMITED);
	ck_assert_str_eq(text, "* unlimited\n");
	free(text);
}
END_TEST

/* tests/fuzz/fuzz-import.c found that berth once failed in this case. */
START_TEST(test_the_first_name_may_begin_with_a_byte_order_mark) {
	char *text = export_line(BOM "alice", 5);

	assert_reads(text, BOM "alice", 5);
	free(text);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{test_a_line_is_an_account_and_a_limit},
		{test_the_last_line_may_end_without_a_newline},
		{test_the_last_word_is_the_limit_and_names_may_contain_spaces},
		{test_blanks_around_account_and_limit_are_ignored},
		{test_a_name_between_two_tabs_keeps_its_blanks},
		{test_comments_and_blank_lines_are_ignored},
		{test_a_hash_inside_a_name_starts_no_comment},
		{test_an_empty_text_has_no_lines},
		{test_lines_may_end_in_cr_lf},
		{test_a_byte_order_mark_is_skipped},
		{test_a_word_alone_is_refused},
		{test_a_bad_limit_is_refused},
		{test_a_bad_name_is_refused_with_the_rule_it_breaks},
		{test_a_name_of_255_bytes_is_read},
		{test_a_nul_is_refused_wherever_it_is},
		{test_an_indented_comment_is_refused_and_not_taken_for_an_account},
		{test_a_repeated_account_is_refused_with_both_line_numbers},
		{test_names_that_differ_in_a_byte_are_two_accounts},
		{test_every_error_is_counted_and_the_first_20_are_kept},
		{test_a_hundred_thousand_lines_keep_their_order_and_a_repetition_is_found},
		{test_import_reads_what_export_writes},
		{test_plain_names_are_exported_without_tabs},
		{test_the_first_name_may_begin_with_a_byte_order_mark},
		{NULL},
	};

	return run_suites({"lines", tests, .teardown = teardown});
}
