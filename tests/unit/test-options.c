/* SPDX-License-Identifier: MIT */

/* Tests berthctl's parser of options: what it stores and refuses, and which operands it leaves. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exit-status.h"
#include "options.h"
#include "run.h"
#include "util.h"
#include "verbs.h"

static struct {
	bool flag;
	uint32_t number;
	const char *text;
	const char *parsed;
} options;

static int parse(const char *argument) {
	options.parsed = argument;
	return strcmp(argument, "wrong") == 0 ? CTL_USAGE : CTL_OK;
}

static const struct option_row table[] = {
	{.name = "--flag", .help = "", .flag = &options.flag},
	{.name = "--number",
		.argument = "N",
		.help = "",
		.number = &options.number,
		.min = 2,
		.max = 9},
	{.name = "--text", .argument = "T", .help = "", .text = &options.text},
	{.name = "-x", .argument = "X", .help = "", .parse = parse},
	{0},
};

static const struct verb mixed = {.name = "mixed", .operands = "", .options = table};
static const struct verb command = {
	.name = "command", .operands = "", .options = table, .runs_command = true};

/* What the parser reported, and the operands that it left, separated by blanks. */
static char said[1024], left[256];

/* Reads the command line "berthctl LINE". If v is NULL, reads only up to the first operand. `first`
 * is the index of the verb. Returns what the parser returned. */
static int read_words(const struct verb *v, int first, const char *line) {
	static char program[] = "berthctl", words[256];
	char *argv[32] = {program}, **operands = NULL;
	FILE *old = stderr;
	int argc = 1, r;

	memset(&options, 0, sizeof(options));
	globals = (struct globals){0};
	left[0] = '\0';
	(void)snprintf(words, sizeof(words), "%s", line);
	for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	stderr = fmemopen(said, sizeof(said), "w");
	ck_assert_ptr_nonnull(stderr);
	r = v ? options_read(v, argc, argv, first, &operands)
	      : options_read_globals(argc, argv, &first);
	(void)fclose(stderr);
	stderr = old;
	if (!v)
		operands = argv + first;
	for (; r == CTL_OK && *operands; operands++) {
		strcat(left, *operands);
		strcat(left, operands[1] ? " " : "");
	}
	return r;
}

#define expect_left(v, first, line, operands)                        \
	do {                                                         \
		int r_ = read_words((v), (first), (line));           \
		ck_assert_msg(r_ == CTL_OK, "%s: %s", (line), said); \
		ck_assert_str_eq(left, (operands));                  \
	} while (0)

#define expect_refused(v, line, words)                                                \
	do {                                                                          \
		ck_assert_int_eq(read_words((v), 1, (line)), CTL_USAGE);              \
		ck_assert_msg(strstr(said, (words)), "%s: it said %s", (line), said); \
	} while (0)

START_TEST(each_kind_of_option_is_stored) {
	expect_left(&mixed, 1, "mixed --flag --number 9 --text=a -xb", "");
	ck_assert(options.flag);
	ck_assert_uint_eq(options.number, 9);
	ck_assert_str_eq(options.text, "a");
	ck_assert_str_eq(options.parsed, "b");
	expect_left(&mixed, 1, "mixed --fl --num 2 -x c", "");
	ck_assert(options.flag);
	ck_assert_uint_eq(options.number, 2);
	ck_assert_str_eq(options.parsed, "c");
}
END_TEST

START_TEST(options_may_stand_before_the_verb_and_between_operands) {
	expect_left(&mixed, 3, "--number 3 mixed a --flag b --json", "a b");
	ck_assert(options.flag && globals.json);
	ck_assert_uint_eq(options.number, 3);
	expect_left(&mixed, 1, "mixed a -- --flag b", "a --flag b");
	ck_assert(!options.flag);
	expect_left(&mixed, 2, "-- mixed --flag a", "a");
	ck_assert(options.flag);
}
END_TEST

START_TEST(a_command_keeps_its_own_options) {
	expect_left(&command, 1, "command --flag acme -x 1 -- ls --number 1 -- -x",
		"acme ls --number 1 -- -x");
	ck_assert(options.flag);
	ck_assert_str_eq(options.parsed, "1");
	ck_assert_uint_eq(options.number, 0);
	expect_left(&command, 1, "command acme ls --flag", "acme ls --flag");
	ck_assert(!options.flag);
	expect_left(&command, 1, "command -- acme -- ls", "acme ls");
	expect_left(&command, 1, "command acme", "acme");
	expect_left(&command, 1, "command", "");
}
END_TEST

START_TEST(the_first_operand_is_found_behind_the_options_of_all_verbs) {
	expect_left(
		NULL, 0, "--json --label run --force delete alice --help", "delete alice --help");
	ck_assert(globals.json && !globals.help);
	expect_left(NULL, 0, "-h", "");
	ck_assert(globals.help);
	expect_left(NULL, 0, "--runtime-dir /somewhere", "");
	ck_assert_str_eq(globals.runtime_dir, "/somewhere");
}
END_TEST

START_TEST(what_cant_be_used_is_refused_and_named) {
	expect_refused(&mixed, "mixed --nonsense", "there is no option '--nonsense'");
	expect_refused(&mixed, "mixed -hz", "there is no option '-z'");
	expect_refused(&mixed, "mixed --flag -\xFF", "there is no option '-\\xff'");
	expect_refused(&mixed, "mixed --force", "mixed has no option --force");
	expect_refused(&mixed, "mixed -E 3", "mixed has no option -E");
	expect_refused(&mixed, "mixed --text", "'--text' needs an argument");
	expect_refused(&mixed, "mixed -x", "'-x' needs an argument");
	expect_refused(&mixed, "mixed --flag=1", "'--flag=1' takes no argument");
	expect_refused(&mixed, "mixed --help=1", "'--help=1' takes no argument");
	expect_refused(
		&mixed, "mixed --number 1", "--number '1': it must be a whole number from 2 to 9");
	expect_refused(&mixed, "mixed --number 10", "--number '10'");
	expect_refused(&mixed, "mixed --number x", "--number 'x'");
	expect_refused(&mixed, "mixed -x wrong", "");
	expect_refused(&mixed, "mixed --runtime-dir=", "--runtime-dir is empty");
	expect_refused(NULL, "--nonsense mixed", "there is no option '--nonsense'");
}
END_TEST

/* Checks that the tables of options keep the rules on which the parser relies (options.c). */
START_TEST(the_tables_of_all_verbs_agree) {
	for (size_t i = 0; verbs[i]; i++) {
		ck_assert_ptr_eq(verb_find(verbs[i]->name), verbs[i]);
		for (const struct option_row *a = verbs[i]->options; a && a->name; a++) {
			ck_assert_msg(!!a->flag + !!a->number + !!a->text + !!a->parse == 1, "%s",
				a->name);
			ck_assert_msg(!a->flag == !!a->argument, "%s", a->name);
			for (const struct option_row *b = global_options; b->name; b++)
				ck_assert_str_ne(a->name, b->name);
			for (size_t k = 0; verbs[k]; k++)
				for (const struct option_row *b = verbs[k]->options; b && b->name;
					b++)
					ck_assert_msg(strcmp(a->name, b->name) != 0 ||
							      !a->argument == !b->argument,
						"%s takes an argument in %s or in %s, but not in "
						"both",
						a->name, verbs[i]->name, verbs[k]->name);
		}
	}
	ck_assert_ptr_null(verb_find("mixed"));
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{each_kind_of_option_is_stored},
		{options_may_stand_before_the_verb_and_between_operands},
		{a_command_keeps_its_own_options},
		{the_first_operand_is_found_behind_the_options_of_all_verbs},
		{what_cant_be_used_is_refused_and_named},
		{the_tables_of_all_verbs_agree},
		{NULL},
	};

	return run_suites({"options", tests});
}
