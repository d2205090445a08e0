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

/* Zeroed before use. */
struct lines {
	struct lines_entry *entry;
	size_t count, capacity;
	struct lines_error error[LINES_ERRORS_SHOWN]; /* the first ones */
	size_t error_count;                           /* all */
	uint32_t *table;                              /* of entries by name: index + 1 */
	size_t table_size;
	uint64_t seed;
};

/* Reads a file of `ACCOUNT LIMIT` lines. 0, with what is wrong with it in error[]; -ENOMEM. */
int lines_parse(struct lines *l, const char *text, size_t length);
void lines_deinit(struct lines *l);

/* One line, newline included, that lines_parse reads back to the same name and limit. */
void line_write(FILE *out, const char *name, uint32_t limit);
