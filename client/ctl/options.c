/* SPDX-License-Identifier: MIT */

/*
 * Reads options by getopt_long.
 *
 * Options may stand before the verb. To find the verb, the parser must know of every option whether
 * it takes an argument, so getopt_long is given the options of all verbs. An option that several
 * verbs take has to take an argument in all of them or in none. If getopt_long returns an option
 * that the verb doesn't take, the parser refuses that option.
 */

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#include "exit-status.h"
#include "number.h"
#include "options.h"
#include "show.h"
#include "verbs.h"

#define ROWS_MAX 64

/* KEY_LONG + i is the key that getopt_long returns for the option of row i if it has no letter. */
#define KEY_LONG 256

/* The options of all verbs. The caller of known_init() has zeroed it. */
struct known {
	const struct option_row *row[ROWS_MAX];
	size_t count;
	size_t taken; /* the values of the first `taken` options are stored */
	char letters[2 * ROWS_MAX + 3];
	struct option names[ROWS_MAX + 1];
};

static bool is_long(const struct option_row *row) {
	return row->name[1] == '-';
}

static char letter_of(const struct option_row *row) {
	return is_long(row) ? row->letter : row->name[1];
}

/* -- the tables of getopt_long ----------------------------------------------------------------- */

/* Adds the options of a table, without those whose names are there already. */
static void known_add(struct known *k, const struct option_row *table) {
	for (; table && table->name; table++) {
		size_t i = 0;

		while (i < k->count && strcmp(k->row[i]->name, table->name) != 0)
			i++;
		if (i < k->count)
			continue;
		assert(k->count < ROWS_MAX);
		k->row[k->count++] = table;
	}
}

static void known_init(struct known *k, const struct verb *v) {
	struct option *name = k->names;
	char *letter = k->letters;

	known_add(k, global_options);
	if (v)
		known_add(k, v->options);
	k->taken = k->count;
	for (size_t i = 0; verbs[i]; i++)
		known_add(k, verbs[i]->options);

	/* '+' makes getopt_long stop at the first operand. Otherwise it passes over operands. */
	if (!v || v->runs_command)
		*letter++ = '+';
	*letter++ = ':'; /* getopt_long returns ':' when an argument is missing */
	for (size_t i = 0; i < k->count; i++) {
		const struct option_row *row = k->row[i];
		int key = letter_of(row) ? letter_of(row) : KEY_LONG + (int)i;

		if (is_long(row))
			*name++ = (struct option){row->name + 2,
				row->argument ? required_argument : no_argument, NULL, key};
		if (letter_of(row))
			*letter++ = letter_of(row);
		if (letter_of(row) && row->argument)
			*letter++ = ':';
	}
}

/* The index of the row for which getopt_long returns the key; count: there is none. */
static size_t known_find(const struct known *k, int key) {
	size_t i = 0;

	if (key >= KEY_LONG)
		return (size_t)(key - KEY_LONG);
	while (i < k->count && letter_of(k->row[i]) != key)
		i++;
	return i;
}

/* -- one option -------------------------------------------------------------------------------- */

static int value_store(const struct option_row *row, const char *text) {
	struct shown shown;
	uint64_t n;

	if (row->parse)
		return row->parse(text);
	if (row->flag)
		*row->flag = true;
	if (row->text)
		*row->text = text;
	if (!row->number)
		return CTL_OK;
	if (number_parse(text, row->max, &n) < 0 || n < row->min)
		return report_usage("%s '%s': it must be a whole number from %" PRIu32
				    " to %" PRIu32,
			row->name, show_text(&shown, text), row->min, row->max);
	*row->number = (uint32_t)n;
	return CTL_OK;
}

/* Reports why getopt_long has returned '?' or ':'. optopt is an unknown letter, the key of an
 * option that was given an argument but takes none, or 0 for an unknown long name. */
static int option_refuse(const struct known *k, int key, char **argv) {
	struct shown shown;
	const char letter[] = {(char)optopt, '\0'};
	const char *given = show_text(&shown, argv[optind - 1]);

	if (key == ':')
		return report_usage("the option '%s' needs an argument", given);
	if (optopt != 0 && known_find(k, optopt) == k->count)
		return report_usage("there is no option '-%s'", show_text(&shown, letter));
	if (optopt != 0)
		return report_usage("the option '%s' takes no argument", given);
	return report_usage("there is no option '%s', or it is short for several", given);
}

/* -- a command line ---------------------------------------------------------------------------- */

/* v is NULL if the verb isn't known yet. *ret_first is the index of the first operand. */
static int argv_read(const struct verb *v, int argc, char **argv, int *ret_first) {
	struct known known = {0};
	int key, r;

	known_init(&known, v);
	opterr = 0; /* getopt_long prints nothing */
	optind = 0; /* 0 makes glibc start anew */
	while ((key = getopt_long(argc, argv, known.letters, known.names, NULL)) != -1) {
		size_t i = known_find(&known, key);

		if (key == '?' || key == ':')
			return option_refuse(&known, key, argv);
		if (i >= known.taken && v)
			return report_usage("%s has no option %s", v->name, known.row[i]->name);
		r = i < known.taken ? value_store(known.row[i], optarg) : CTL_OK;
		if (r != CTL_OK)
			return r;
	}
	*ret_first = optind;
	return CTL_OK;
}

int options_read_globals(int argc, char **argv, int *ret_first) {
	return argv_read(NULL, argc, argv, ret_first);
}

int options_read(const struct verb *v, int argc, char **argv, int first, char ***ret_operands) {
	int operands, account, r;

	r = argv_read(v, first, argv, &operands);
	if (r != CTL_OK)
		return r;
	argc -= first;
	argv += first;
	r = argv_read(v, argc, argv, &operands);
	if (r != CTL_OK)
		return r;
	if (v->runs_command && operands < argc) {
		/* This reads the options between the account and the command, which begins at the
		 * second operand or after `--`. The reading starts anew at the account: otherwise
		 * getopt_long would move a second `--` to before the account. */
		account = operands;
		r = argv_read(v, argc - account, argv + account, &operands);
		if (r != CTL_OK)
			return r;
		/* The account moves to just before the command. */
		operands += account - 1;
		argv[operands] = argv[account];
	}
	*ret_operands = argv + operands;
	return CTL_OK;
}
