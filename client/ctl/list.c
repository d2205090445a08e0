/* SPDX-License-Identifier: MIT */

/* The verb list. */

#include "json.h"
#include "protocol.h"
#include "report.h"
#include "rows.h"
#include "show.h"
#include "table.h"
#include "util.h"
#include "verbs.h"

enum column { ACCOUNT, LIMIT, CURRENT, PEAK, DENIED, SOURCE };

static const struct table_column columns[] = {
	[ACCOUNT] = {"ACCOUNT", .cut = true},
	[LIMIT] = {"LIMIT", .right = true},
	[CURRENT] = {"CURRENT", .right = true},
	[PEAK] = {"PEAK", .right = true},
	[DENIED] = {"DENIED", .right = true},
	[SOURCE] = {.title = "SOURCE"},
};

static void cell(const void *rows, size_t i, size_t column, struct shown *to) {
	const struct row *row = &((const struct row *)rows)[i];

	switch ((enum column)column) {
	case ACCOUNT:
		(void)show_text(to, row->name);
		break;
	case LIMIT:
		(void)show_limit(to, row->limit);
		break;
	case CURRENT:
		(void)show_number(to, row->current);
		break;
	case PEAK:
		(void)show_number(to, row->peak);
		break;
	case DENIED:
		(void)show_number(to, row->denied);
		break;
	case SOURCE:
		(void)show_text(to, row_source(row));
		break;
	}
}

/* An account at its limit. With limit 0 an account is closed on purpose, unless a slot of it is
 * held. */
static bool is_alarming(const void *rows, size_t i) {
	const struct row *row = &((const struct row *)rows)[i];

	return row->current > 0 && row->current >= row->limit && !(row->flags & ROW_IS_TEMPLATE);
}

static void list_print_json(const struct rows *rows) {
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_open(&j, "accounts", '[');
	for (size_t i = 0; i < rows->count; i++)
		row_print_json(&j, &rows->row[i]);
	json_close(&j, ']');
	json_close(&j, '}');
}

static int list_print(const struct rows *rows) {
	const struct table table = {
		.columns = columns,
		.column_count = ELEMENTS(columns),
		.rows = rows->row,
		.row_count = rows->count,
		.cell = cell,
		.alarming = is_alarming,
	};

	if (rows->count == 0 && show_is_terminal())
		report_error("there are no such accounts or templates");
	return table_print(&table);
}

static int list_accounts(char **operands) {
	const char *pattern = operands[0] ? operands[0] : "";
	struct rows rows;
	int r;

	r = rows_fetch(pattern, 0, &rows);
	if (r != CTL_OK)
		return r;
	if (globals.json)
		list_print_json(&rows);
	else
		r = list_print(&rows);
	rows_deinit(&rows);
	return r;
}

const struct verb verb_list = {
	.name = "list",
	.operands = "[PATTERN]",
	.operands_max = 1,
	.first = OPERAND_ACCOUNT_OR_TEMPLATE,
	.takes_json = true,
	.line = "List accounts and templates",
	.text = "Lists accounts, then templates, with the columns ACCOUNT, LIMIT, CURRENT\n"
		"(slots held now), PEAK (the most that were ever held at once), DENIED and\n"
		"SOURCE (where the limit comes from: account, template or none). On a terminal,\n"
		"accounts at their limit are red.\n"
		"\n"
		"PATTERN matches names as a template does: '*' matches any number of characters,\n"
		"and '?' one; neither matches '/'.\n",
	.examples = "  berthctl list\n"
		    "  berthctl list 'acme/*'\n"
		    "  berthctl list --json | jq -r '.accounts[] | select(.denied > 0).account'\n",
	.call = list_accounts,
};
