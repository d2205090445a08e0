/* SPDX-License-Identifier: MIT */

/*
 * Prints a list, as JSON or as a table by libsmartcols.
 *
 * libsmartcols needs half a kilobyte of memory for each line. So a long table is printed in
 * batches, and its columns are measured beforehand, so that all batches have the same widths.
 */

#include <errno.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include <libsmartcols/libsmartcols.h>

#include "exit-status.h"
#include "json.h"
#include "table.h"
#include "util.h"
#include "verbs.h"

#define BATCH        4096
#define ALARM_COLOUR "\033[1;31m"

static const void *row_at(const struct table *t, size_t row) {
	return (const char *)t->rows + row * t->row_size;
}

static size_t text_width(const char *text) {
	wchar_t wide[SHOWN_SIZE];
	size_t n = mbstowcs(wide, text, ELEMENTS(wide));
	int width;

	if (n == (size_t)-1 || n == ELEMENTS(wide))
		return strlen(text);
	width = wcswidth(wide, n);
	return width < 0 ? n : (size_t)width;
}

/* Prints the batch that begins at row `from`, as a table of libsmartcols. Only the first batch has
 * the heading. A column of width 0 is as wide as its cells need. */
static int batch_print(const struct table *t, const size_t widths[TABLE_COLUMNS_MAX], size_t from) {
	struct libscols_table *s = scols_new_table();
	size_t to = MIN_OF(from + BATCH, t->row_count);
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	bool terminal = show_is_terminal();
	bool colours = terminal && !(no && *no) && term && strcmp(term, "dumb") != 0;
	struct shown cells[TABLE_COLUMNS_MAX];
	int r = 0;

	if (!s)
		return -ENOMEM;
	(void)scols_table_enable_colors(s, colours);
	(void)scols_table_enable_noheadings(s, from > 0);
	/* Cells are escaped already, and libsmartcols would escape their backslashes again. In a
	 * locale that isn't UTF-8 it must do so: otherwise it loops forever over a character that
	 * the locale doesn't have. */
	(void)scols_table_enable_noencoding(s, strcmp(nl_langinfo(CODESET), "UTF-8") == 0);
	for (size_t i = 0; r == 0 && i < t->column_count; i++) {
		const struct table_column *column = &t->columns[i];
		int flags = (column->right ? SCOLS_FL_RIGHT : 0) |
			    (column->cut && terminal ? SCOLS_FL_TRUNC : 0);

		if (!scols_table_new_column(s, column->title, (double)widths[i], flags))
			r = -ENOMEM;
	}
	for (size_t row = from; r == 0 && row < to; row++) {
		struct libscols_line *line = scols_table_new_line(s, NULL);

		r = line ? 0 : -ENOMEM;
		t->cells(row_at(t, row), cells);
		for (size_t i = 0; r == 0 && i < t->column_count; i++)
			r = scols_line_set_data(line, i, cells[i].text);
		if (r == 0 && t->alarming && t->alarming(row_at(t, row)))
			r = scols_line_set_color(line, ALARM_COLOUR);
	}
	if (r == 0)
		r = scols_print_table(s);
	scols_unref_table(s);
	return r;
}

int table_print(const struct table *t) {
	struct json j = {.out = stdout};
	struct shown cells[TABLE_COLUMNS_MAX];
	size_t widths[TABLE_COLUMNS_MAX] = {0};
	int r = 0;

	if (globals.json) {
		json_open(&j, NULL, '{');
		json_open(&j, t->key, '[');
		for (size_t row = 0; row < t->row_count; row++)
			t->print_json(&j, row_at(t, row));
		json_close(&j, ']');
		json_close(&j, '}');
		return CTL_OK;
	}
	/* libsmartcols measures the columns of a single batch itself. */
	if (t->row_count > BATCH) {
		for (size_t i = 0; i < t->column_count; i++)
			widths[i] = strlen(t->columns[i].title);
		for (size_t row = 0; row < t->row_count; row++) {
			t->cells(row_at(t, row), cells);
			for (size_t i = 0; i < t->column_count; i++)
				widths[i] = MAX_OF(widths[i], text_width(cells[i].text));
		}
	}
	for (size_t row = 0; r == 0 && row < t->row_count; row += BATCH)
		r = batch_print(t, widths, row);
	if (r != 0)
		return report_error("the table can't be printed: %s", strerror(r < 0 ? -r : r));
	return CTL_OK;
}
