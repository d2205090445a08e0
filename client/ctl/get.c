/* SPDX-License-Identifier: MIT */

/* The verb get. */

#include <inttypes.h>

#include "call.h"
#include "exit-status.h"
#include "json.h"
#include "message.h"
#include "rows.h"
#include "show.h"
#include "verbs.h"

static int get_account(char **operands) {
	struct message_get request = {.header = MESSAGE_HEADER(MESSAGE_GET, request)};
	const char *explanation = "the account exists because accounts below it do";
	struct json j = {.out = stdout};
	struct message_got got;
	struct shown shown;
	struct row row;
	int r;

	message_name_set(&request.name, operands[0]);
	r = call_berthd(operands[0], &request, &got, sizeof(got));
	if (r != CTL_OK)
		return r;
	r = row_read(&got.row, &row);
	if (r < 0)
		return call_report_contents(r);
	if (globals.json) {
		row_print_json(&j, &row);
		return CTL_OK;
	}
	printf("account  %s\n", show_text(&shown, row.name));
	printf("limit    %s\n", show_limit(&shown, row.limit));
	if (!(row.flags & ROW_IS_TEMPLATE)) {
		printf("current  %" PRIu32 "\n", row.current);
		printf("peak     %" PRIu32 "\n", row.peak);
		printf("denied   %" PRIu64 "\n", row.denied);
	}
	if (row.flags & ROW_IS_TEMPLATE)
		explanation = "the template's own, for each account that it matches";
	else if (row.flags & ROW_CONFIGURED)
		explanation = "the account's own";
	else if (row.flags & ROW_BY_TEMPLATE)
		explanation = "a template's";
	printf("source   %s (%s)\n", row_source(&row), explanation);
	return CTL_OK;
}

const struct verb verb_get = {
	.name = "get",
	.operands = "ACCOUNT",
	.operands_min = 1,
	.operands_max = 1,
	.first = OPERAND_ACCOUNT_OR_TEMPLATE,
	.takes_json = true,
	.line = "Show an account's limit and counts",
	.text = "Shows an account's limit, how many slots are held now, the most that were ever\n"
		"held at once, how many acquires were denied, and where the limit comes from:\n"
		"'account' (its own), 'template', or 'none' (it has accounts below it and no\n"
		"limit). A template has only a limit.\n",
	.examples = "  berthctl get alice\n"
		    "  berthctl get alice --json | jq .current\n",
	.call = get_account,
};
