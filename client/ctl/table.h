/* SPDX-License-Identifier: MIT */
#pragma once

/* Prints lists: as tables, or as JSON with --json. */

#include <stdbool.h>
#include <stddef.h>

#include "show.h"

struct json;

struct table_column {
	const char *title;
	bool right; /* aligned right, as numbers are */
	bool cut;   /* may be cut where a terminal is too narrow */
};

#define TABLE_COLUMNS_MAX 8

struct table {
	const char *key; /* of the array in JSON */
	const struct table_column *columns;
	size_t column_count;
	const void *rows; /* an array */
	size_t row_size, row_count;
	/* Writes the texts of a row's cells, one for each column. */
	void (*cells)(const void *row, struct shown *to);
	/* Whether a row is to be red and bold on a terminal; may be NULL. */
	bool (*alarming)(const void *row);
	/* Writes a row as an object. */
	void (*print_json)(struct json *j, const void *row);
};

/* Prints on standard output. Only a terminal gets colours, and columns that are fitted to its
 * width. Returns an exit status, after reporting any error. */
int table_print(const struct table *t);
