/* SPDX-License-Identifier: MIT */
#pragma once

/* Prints tables. */

#include <stdbool.h>
#include <stddef.h>

#include "show.h"

struct table_column {
	const char *title;
	bool right; /* aligned right, as numbers are */
	bool cut;   /* may be cut where a terminal is too narrow */
};

struct table {
	const struct table_column *columns; /* at most 8 */
	size_t column_count;
	const void *rows;
	size_t row_count;
	/* Writes the text of one cell. */
	void (*cell)(const void *rows, size_t row, size_t column, struct shown *to);
	/* Whether a row is to be red and bold on a terminal; may be NULL. */
	bool (*alarming)(const void *rows, size_t row);
};

/* Prints on standard output. Only a terminal gets colours, and columns that are fitted to its
 * width. Returns an exit status, after reporting any error. */
int table_print(const struct table *t);
