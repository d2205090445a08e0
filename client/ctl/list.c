/* SPDX-License-Identifier: MIT */

/* The verb list. */

#include "exit-status.h"
#include "protocol.h"
#include "rows.h"
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

static void cells(const void *data, struct shown *to) {
	const struct row *row = data;

	(void)show_text(&to[ACCOUNT], row->name);
	(void)show_limit(&to[LIMIT], row->limit);
	(void)show_number(&to[CURRENT], row->current);
	(void)show_number(&to[PEAK], row->peak);
	(void)show_number(&to[DENIED], row->denied);
	(void)show_text(&to[SOURCE], row_source(row));
}

/* True for an account at its limit. An account with limit 0 is closed on purpose, so it is alarming
 * only while one of its slots is held. */
static bool is_alarming(const void *data) {
	const struct row *row = data;

	return row->current > 0 && row->current >= row->limit && !(row->flags & ROW_IS_TEMPLATE);
}

static int list_accounts(char **operands) {
	struct table table = {
		.key = "accounts",
		.columns = columns,
		.column_count = ELEMENTS(columns),
		.row_size = sizeof(struct row),
		.cells = cells,
		.alarming = is_alarming,
		.print_json = row_print_json,
	};
	struct rows rows;
	int r;

	r = rows_fetch(operands[0] ? operands[0] : "", 0, &rows);
	if (r != CTL_OK)
		return r;
	if (rows.count == 0 && !globals.json && show_is_terminal())
		report_error("there are no such accounts or templates");
	table.rows = rows.row;
	table.row_count = rows.count;
	r = table_print(&table);
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
