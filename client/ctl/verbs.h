/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a verb is. Each verb has a file of its name. The file contains the verb's function, its
 * table of options, and its row `verb_NAME` with all other facts about the verb.
 *
 * A new option is a row in the table of its verb: the parser, the help and the usage errors read
 * that table. A new verb is a file, a declaration below, and a line in verbs.c.
 *
 * This file also declares the options that every verb takes, and their values on this command line.
 */

#include <stdbool.h>
#include <stdint.h>

/* An option, in a table that ends with a row without a name. Exactly one of flag, number, text and
 * parse says where the value goes. */
struct option_row {
	const char *name;     /* as it is given: "--weight" or "-E" */
	char letter;          /* the short form of a long name, as the h of "-h, --help"; 0: none */
	const char *argument; /* what the help calls the argument; NULL: the option takes none */
	const char *help;     /* what it does; may have several lines */
	bool *flag;           /* becomes true */
	const char **text;    /* borrowed from argv */
	uint32_t *number;     /* from min to max */
	uint32_t min, max;
	/* Reads the argument, and stores the value. Returns CTL_OK, or reports what is wrong and
	 * returns CTL_USAGE. */
	int (*parse)(const char *argument);
};

/* What the first operand must be. */
enum operand {
	OPERAND_ANY,
	OPERAND_ACCOUNT,
	OPERAND_ACCOUNT_OR_TEMPLATE,
};

struct verb {
	const char *name;
	const char *operands; /* as the help shows them; "": none */
	int operands_min, operands_max;
	enum operand first;
	bool takes_json;   /* it shows something, so it takes --json */
	bool takes_one;    /* it needs exactly one of its options, and checks that itself */
	bool runs_command; /* the operands from the second on are a command, with its own options */
	const struct option_row *options; /* NULL: none of its own */
	const char *line;                 /* what it does, in one line */
	const char *text;                 /* the same at length; ends with a newline */
	const char *examples;             /* a line each */
	/* Executes the verb. The operands end with NULL. Returns an exit status. */
	int (*call)(char **operands);
};

#define OPERANDS_UNLIMITED INT32_MAX

extern const struct verb verb_set, verb_get, verb_list, verb_delete, verb_holders, verb_revoke,
	verb_import, verb_export, verb_status, verb_run, verb_help;

/* All verbs, in the order of the help; NULL ends them. */
extern const struct verb *const verbs[];

/* NULL: there is no such verb. */
const struct verb *verb_find(const char *name);

struct globals {
	const char *runtime_dir; /* never NULL: main() sets the default */
	bool json;               /* only with a verb that takes it */
	bool help;
	bool version;
};

extern struct globals globals;
extern const struct option_row global_options[];
