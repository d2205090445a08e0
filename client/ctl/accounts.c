/* SPDX-License-Identifier: MIT */

/* The verbs set, get, list and delete: accounts, templates and their limits. */

#include <inttypes.h>
#include <string.h>

#include "ctl.h"
#include "message.h"
#include "name.h"
#include "number.h"
#include "util.h"

/* -- set, delete ------------------------------------------------------------------------------- */

static void set_report(const struct ctl *c, const char *name, uint32_t limit) {
	struct json j = {.out = stdout};
	char text[CTL_LIMIT_SIZE];
	struct ctl_shown shown;

	if (c->json) {
		json_open(&j, NULL, '{');
		json_string(&j, "account", name);
		json_limit(&j, "limit", limit);
		json_close(&j, '}');
	} else if (c->terminal) {
		printf("%s: limit %s\n", ctl_show(&shown, name), ctl_limit_text(limit, text));
	}
}

int verb_set(struct ctl *c, int argc, char **argv) {
	struct message_set request = {.header = MESSAGE_HEADER(MESSAGE_SET, request)};
	struct message_done done;
	struct ctl_shown shown;
	uint32_t limit;
	int r;

	(void)argc;
	r = ctl_check_account_or_template(c, argv[0]);
	if (r != CTL_OK)
		return r;
	if (limit_parse(argv[1], &limit) < 0)
		return ctl_usage(c, "the limit '%s': " LIMIT_FORMS, ctl_show(&shown, argv[1]));
	message_name_set(&request.name, argv[0]);
	request.limit = limit == BERTH_LIMIT_NONE ? MESSAGE_UNLIMITED : limit;
	r = admin_call(c, argv[0], &request, &done, sizeof(done));
	if (r == CTL_OK)
		set_report(c, argv[0], request.limit);
	return r;
}

static void delete_report(const struct ctl *c, const char *name) {
	struct json j = {.out = stdout};
	struct ctl_shown shown;

	if (c->json) {
		json_open(&j, NULL, '{');
		json_string(&j, "account", name);
		json_close(&j, '}');
	} else if (c->terminal) {
		printf("%s: deleted\n", ctl_show(&shown, name));
	}
}

int verb_delete(struct ctl *c, int argc, char **argv) {
	struct message_delete request = {
		.header = MESSAGE_HEADER(MESSAGE_DELETE, request),
		.flags = c->force ? MESSAGE_DELETE_FORCE : 0,
	};
	struct message_done done;
	int r;

	(void)argc;
	r = ctl_check_account_or_template(c, argv[0]);
	if (r != CTL_OK)
		return r;
	message_name_set(&request.name, argv[0]);
	r = admin_call(c, argv[0], &request, &done, sizeof(done));
	if (r == CTL_OK)
		delete_report(c, argv[0]);
	return r;
}

/* -- get --------------------------------------------------------------------------------------- */

static const char *source_sentence(uint32_t flags) {
	if (flags & ROW_IS_TEMPLATE)
		return "this template's, for each account it covers";
	if (flags & ROW_CONFIGURED)
		return "the account's own";
	if (flags & ROW_BY_TEMPLATE)
		return "a template's";
	return "it is there because accounts below it are";
}

static void get_print(const struct row *row) {
	struct ctl_shown shown;
	char limit[CTL_LIMIT_SIZE];

	printf("account  %s\n", ctl_show(&shown, row->name));
	printf("limit    %s\n", ctl_limit_text(row->limit, limit));
	if (!(row->flags & ROW_IS_TEMPLATE)) {
		printf("current  %" PRIu32 "\n", row->current);
		printf("peak     %" PRIu32 "\n", row->peak);
		printf("denied   %" PRIu64 "\n", row->denied);
	}
	printf("source   %s (%s)\n", row_source(row->flags), source_sentence(row->flags));
}

int verb_get(struct ctl *c, int argc, char **argv) {
	struct message_get request = {.header = MESSAGE_HEADER(MESSAGE_GET, request)};
	struct json j = {.out = stdout};
	struct message_got got;
	struct row row;
	int r;

	(void)argc;
	r = ctl_check_account_or_template(c, argv[0]);
	if (r != CTL_OK)
		return r;
	message_name_set(&request.name, argv[0]);
	r = admin_call(c, argv[0], &request, &got, sizeof(got));
	if (r != CTL_OK)
		return r;
	if (message_name_length(&got.row.name) < 0)
		return admin_nonsense();
	row = (struct row){
		.name = got.row.name.text,
		.limit = got.row.limit,
		.current = got.row.current,
		.peak = got.row.peak,
		.flags = got.row.flags,
		.denied = got.row.denied,
	};
	if (c->json)
		row_json(&j, &row);
	else
		get_print(&row);
	return CTL_OK;
}

/* -- list -------------------------------------------------------------------------------------- */

enum list_column { LIST_ACCOUNT, LIST_LIMIT, LIST_CURRENT, LIST_PEAK, LIST_DENIED, LIST_SOURCE };

static const struct table_column list_columns[] = {
	[LIST_ACCOUNT] = {"ACCOUNT", .cut = true},
	[LIST_LIMIT] = {"LIMIT", .right = true},
	[LIST_CURRENT] = {"CURRENT", .right = true},
	[LIST_PEAK] = {"PEAK", .right = true},
	[LIST_DENIED] = {"DENIED", .right = true},
	[LIST_SOURCE] = {.title = "SOURCE"},
};

static void list_cell(const void *rows, size_t i, size_t column, char to[TABLE_CELL_SIZE]) {
	const struct row *row = &((const struct row *)rows)[i];

	switch ((enum list_column)column) {
	case LIST_ACCOUNT:
		(void)name_escape(row->name, strlen(row->name), to, TABLE_CELL_SIZE);
		break;
	case LIST_LIMIT:
		(void)ctl_limit_text(row->limit, to);
		break;
	case LIST_CURRENT:
		(void)snprintf(to, TABLE_CELL_SIZE, "%" PRIu32, row->current);
		break;
	case LIST_PEAK:
		(void)snprintf(to, TABLE_CELL_SIZE, "%" PRIu32, row->peak);
		break;
	case LIST_DENIED:
		(void)snprintf(to, TABLE_CELL_SIZE, "%" PRIu64, row->denied);
		break;
	case LIST_SOURCE:
		(void)snprintf(to, TABLE_CELL_SIZE, "%s", row_source(row->flags));
		break;
	}
}

/* An account at its limit; one with limit 0 is closed on purpose unless somebody holds a slot. */
static bool list_alarming(const void *rows, size_t i) {
	const struct row *row = &((const struct row *)rows)[i];

	return row->current > 0 && row->current >= row->limit && !(row->flags & ROW_IS_TEMPLATE);
}

static void list_json(const struct rows *rows) {
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_open(&j, "accounts", '[');
	for (size_t i = 0; i < rows->count; i++)
		row_json(&j, &rows->row[i]);
	json_close(&j, ']');
	json_close(&j, '}');
}

static int list_print(const struct ctl *c, const struct rows *rows) {
	const struct table table = {
		.columns = list_columns,
		.column_count = ELEMENTS(list_columns),
		.rows = rows->row,
		.row_count = rows->count,
		.cell = list_cell,
		.alarming = list_alarming,
	};

	if (rows->count == 0 && c->terminal)
		ctl_error("there are no such accounts");
	return table_print(c, &table);
}

int verb_list(struct ctl *c, int argc, char **argv) {
	const char *pattern = argc > 0 ? argv[0] : "";
	struct rows rows;
	int r = CTL_OK;

	if (argc > 0)
		r = ctl_check_account_or_template(c, pattern);
	if (r == CTL_OK)
		r = rows_fetch(c, pattern, 0, &rows);
	if (r != CTL_OK)
		return r;
	if (c->json)
		list_json(&rows);
	else
		r = list_print(c, &rows);
	rows_deinit(&rows);
	return r;
}
