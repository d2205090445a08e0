/* SPDX-License-Identifier: MIT */
#pragma once

/* The text format of import and export: a line `ACCOUNT LIMIT` for each account and template. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define LINES_ERRORS_SHOWN 20

struct lines_entry {
	const char *name; /* borrowed from the text; not NUL-terminated */
	uint32_t limit;   /* MESSAGE_UNLIMITED: unlimited */
	uint32_t line;
	uint32_t hash;
	uint32_t length;
};

struct lines_error {
	uint32_t line;
	char *text;
};

/* The caller zeroes this struct before lines_parse(), and frees what it holds by lines_deinit(). */
struct lines {
	struct lines_entry *entry;
	size_t count, capacity;
	struct lines_error error[LINES_ERRORS_SHOWN]; /* the first ones */
	size_t error_count;                           /* all */
	uint32_t *table;                              /* of entries by name: index + 1 */
	size_t table_size;
	uint64_t seed;
};

/* Parses a text of `ACCOUNT LIMIT` lines, which must stay in memory as long as the entries are
 * used. Returns 0 also if lines are wrong; error[] tells which. -ENOMEM. */
int lines_parse(struct lines *l, const char *text, size_t length);
void lines_deinit(struct lines *l);

/* Writes a line, with its newline. lines_parse() reads it back as the same name and limit. */
void line_write(FILE *out, const char *name, uint32_t limit);
