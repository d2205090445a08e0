/* SPDX-License-Identifier: MIT */

/* The verb help, and the printing of help: the tables of verbs and options have the texts. */

#include <stdio.h>
#include <string.h>

#include "exit-status.h"
#include "help.h"
#include "show.h"
#include "util.h"
#include "verbs.h"

/* Enough for an option with its letter and its argument. */
#define SPELLING_SIZE 40

/* -- a synopsis -------------------------------------------------------------------------------- */

/* Spells an option as the help shows it: "-h, --help", "--weight N". */
static const char *spelling(const struct option_row *row, char to[SPELLING_SIZE]) {
	char letter[] = {'-', row->letter, ',', ' ', '\0'};

	(void)snprintf(to, SPELLING_SIZE, "%s%s%s%s", row->letter ? letter : "", row->name,
		row->argument ? " " : "", row->argument ? row->argument : "");
	return to;
}

/* The options are " [--a] [--b N]", or " (--a | --b N)" where the verb takes one of them. If the
 * operands are a command, the options stand before them. */
const char *help_synopsis(const struct verb *v, struct synopsis *to) {
	const char *before = v->takes_one ? " (" : " [", *after = v->takes_one ? "" : "]";
	char options[200] = "", text[SPELLING_SIZE];
	size_t used = 0;

	for (const struct option_row *row = v->options; row && row->name; row++) {
		(void)snprintf(options + used, sizeof(options) - used, "%s%s%s", before,
			spelling(row, text), after);
		used = strlen(options);
		if (v->takes_one)
			before = " | ";
	}
	if (v->takes_one)
		(void)snprintf(options + used, sizeof(options) - used, ")");
	/* cppcheck-suppress ctuuninitvar; only the address of to->text is used */
	(void)snprintf(to->text, sizeof(to->text), "berthctl %s%s%s%s%s", v->name,
		v->runs_command ? options : "", *v->operands ? " " : "", v->operands,
		v->runs_command ? "" : options);
	return to->text;
}

/* -- a list of options ------------------------------------------------------------------------- */

/* v is the verb that the help is about; NULL: berthctl itself. */
static void options_print(const struct option_row *table, const struct verb *v) {
	char text[SPELLING_SIZE];
	size_t width = 0;

	for (const struct option_row *row = table; row->name; row++)
		width = MAX_OF(width, strlen(spelling(row, text)));
	for (const struct option_row *row = table; row->name; row++) {
		if (row->flag == &globals.json && v && !v->takes_json)
			continue;
		printf("  %-*s   ", (int)width, spelling(row, text));
		for (const char *p = row->help; *p; p++) {
			putchar(*p);
			if (*p == '\n')
				printf("%*s", (int)width + 5, "");
		}
		puts(row->flag == &globals.json && !v ? " (not export, help and run)" : "");
	}
}

/* -- whole texts ------------------------------------------------------------------------------- */

int help_print(void) {
	puts("Usage: berthctl [OPTION]... VERB [ARGUMENT]...\n"
	     "\n"
	     "Sets how many slots each account may hold at once, and shows which processes hold "
	     "them.\n"
	     "\n"
	     "Verbs:");
	for (size_t i = 0; verbs[i]; i++)
		printf("  %-8s  %s\n", verbs[i]->name, verbs[i]->line);
	puts("\nOptions of all verbs, before or after the verb:");
	options_print(global_options, NULL);
	printf("\n%s\n", exit_status_help);
	puts("'berthctl help VERB' explains a verb.\n"
	     "\n"
	     "Examples:\n"
	     "  berthctl set alice 5\n"
	     "  berthctl list\n"
	     "  berthctl run alice -- sleep 60");
	return CTL_OK;
}

int help_print_verb(const struct verb *v) {
	struct synopsis synopsis;

	printf("Usage: %s\n\n%s.\n\n%s\n", help_synopsis(v, &synopsis), v->line, v->text);
	if (v->options) {
		puts(v->takes_one ? "Options, one of:" : "Options:");
		options_print(v->options, v);
		putchar('\n');
	}
	printf("Examples:\n%s\n", v->examples);
	puts("Options of all verbs, before or after the verb:");
	options_print(global_options, v);
	printf("\n%s", exit_status_help);
	return CTL_OK;
}

/* -- the verb ---------------------------------------------------------------------------------- */

static int explain(char **operands) {
	const struct verb *v = operands[0] ? verb_find(operands[0]) : NULL;
	struct shown shown;

	if (!operands[0])
		return help_print();
	if (!v)
		return report_usage("there is no verb '%s'", show_text(&shown, operands[0]));
	return help_print_verb(v);
}

const struct verb verb_help = {
	.name = "help",
	.operands = "[VERB]",
	.operands_max = 1,
	.line = "Explain berthctl, or one verb of it",
	.text = "Explains berthctl, or one verb of it. 'berthctl VERB --help' does the same.\n",
	.examples = "  berthctl help import\n",
	.call = explain,
};
