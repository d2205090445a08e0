/* SPDX-License-Identifier: MIT */

/* Accounts and templates: fetches them from berthd, page by page, and sorts them. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "call.h"
#include "exit-status.h"
#include "json.h"
#include "message.h"
#include "rows.h"

const char *row_source(const struct row *row) {
	if (row->flags & (ROW_CONFIGURED | ROW_IS_TEMPLATE))
		return "account";
	return row->flags & ROW_BY_TEMPLATE ? "template" : "none";
}

void row_print_json(struct json *j, const void *data) {
	const struct row *row = data;

	json_open(j, NULL, '{');
	json_string(j, "account", row->name);
	json_limit(j, "limit", row->limit);
	json_number(j, "current", row->current);
	json_number(j, "peak", row->peak);
	json_number(j, "denied", row->denied);
	json_string(j, "source", row_source(row));
	if (row->flags & ROW_IS_TEMPLATE)
		json_true(j, "template");
	json_close(j, '}');
}

int row_read(struct message_row *m, struct row *ret) {
	if (message_name_length(&m->name) < 0)
		return -EBADMSG;
	*ret = (struct row){
		.name = m->name.text,
		.limit = m->limit,
		.current = m->current,
		.peak = m->peak,
		.flags = m->flags,
		.denied = m->denied,
	};
	return 0;
}

static int rows_add_page(struct rows *rows, struct message_listed *page) {
	int r = -EBADMSG;

	if (page->count <= MESSAGE_ROWS_MAX)
		r = array_reserve(&rows->row, &rows->capacity, rows->count + page->count);
	for (uint32_t i = 0; r == 0 && i < page->count; i++) {
		struct row *row = &rows->row[rows->count];

		r = row_read(&page->row[i], row);
		if (r < 0)
			return r;
		row->name = strdup(row->name);
		if (!row->name)
			return -ENOMEM;
		rows->count++;
	}
	return r;
}

static int row_compare(const void *left, const void *right) {
	const struct row *a = left, *b = right;
	int a_last = !!(a->flags & ROW_IS_TEMPLATE), b_last = !!(b->flags & ROW_IS_TEMPLATE);

	return a_last != b_last ? a_last - b_last : strcmp(a->name, b->name);
}

int rows_fetch(const char *pattern, uint32_t flags, struct rows *ret) {
	struct message_list request = {
		.header = MESSAGE_HEADER(MESSAGE_LIST, request),
		.flags = flags,
	};
	struct message_listed page;
	struct rows rows = {0};
	size_t kept = 0;
	int r;

	message_name_set(&request.pattern, pattern);
	do {
		r = call_berthd(NULL, &request, &page, sizeof(page));
		if (r == CTL_OK)
			r = call_report_contents(rows_add_page(&rows, &page));
		if (r != CTL_OK) {
			rows_deinit(&rows);
			return r;
		}
		request.cursor = page.next;
	} while (page.next != 0);
	if (rows.count > 1)
		qsort(rows.row, rows.count, sizeof(rows.row[0]), row_compare);
	/* An account that is deleted and made anew between two pages may be on both. One row of it
	 * is kept, because import refuses a file that has a name twice. */
	for (size_t i = 0; i < rows.count; i++) {
		if (kept > 0 && strcmp(rows.row[kept - 1].name, rows.row[i].name) == 0)
			free(rows.row[--kept].name);
		rows.row[kept++] = rows.row[i];
	}
	rows.count = kept;
	*ret = rows;
	return CTL_OK;
}

void rows_deinit(struct rows *rows) {
	for (size_t i = 0; i < rows->count; i++)
		free(rows->row[i].name);
	free(rows->row);
	*rows = (struct rows){0};
}
