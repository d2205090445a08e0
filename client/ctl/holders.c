/* SPDX-License-Identifier: MIT */

/* The verb holders. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "call.h"
#include "exit-status.h"
#include "json.h"
#include "message.h"
#include "table.h"
#include "util.h"
#include "verbs.h"

struct holders {
	struct message_holder *holder;
	size_t count, capacity;
};

static int holder_compare(const void *left, const void *right) {
	const struct message_holder *a = left, *b = right;
	int by_name = strcmp(a->account.text, b->account.text);

	if (by_name != 0)
		return by_name;
	if (a->since != b->since)
		return a->since < b->since ? -1 : 1;
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static int holders_fetch(const char *account, struct holders *h) {
	struct message_holders request = {.header = MESSAGE_HEADER(MESSAGE_HOLDERS, request)};
	struct message_held page;
	int r, error;

	message_name_set(&request.name, account);
	do {
		r = call_berthd(account, &request, &page, sizeof(page));
		if (r != CTL_OK)
			return r;
		if (page.count > MESSAGE_HOLDERS_MAX)
			return call_report_contents(-EBADMSG);
		error = array_reserve(&h->holder, &h->capacity, h->count + page.count);
		for (uint32_t i = 0; error == 0 && i < page.count; i++) {
			struct message_holder *to = &h->holder[h->count++];

			*to = page.holder[i];
			/* comm and label come from shared memory and may lack a NUL. */
			to->comm[sizeof(to->comm) - 1] = '\0';
			to->label[sizeof(to->label) - 1] = '\0';
			if (message_name_length(&to->account) < 0)
				error = -EBADMSG;
		}
		if (error < 0)
			return call_report_contents(error);
		request.cursor = page.next;
	} while (page.next != 0);
	if (h->count > 1)
		qsort(h->holder, h->count, sizeof(h->holder[0]), holder_compare);
	return CTL_OK;
}

static void print_json(struct json *j, const void *row) {
	const struct message_holder *h = row;
	struct shown slot;

	json_open(j, NULL, '{');
	json_string(j, "slot", show_slot(&slot, h->slot));
	json_string(j, "account", h->account.text);
	json_number(j, "weight", h->weight);
	json_number(j, "pid", h->pid);
	json_number(j, "uid", h->uid);
	json_string(j, "comm", h->comm);
	json_time(j, "since", h->since);
	json_string(j, "label", *h->label ? h->label : NULL);
	json_close(j, '}');
}

enum column { SLOT, ACCOUNT, WEIGHT, PID, UID, COMM, SINCE, LABEL };

static const struct table_column columns[] = {
	[SLOT] = {.title = "SLOT"},
	[ACCOUNT] = {"ACCOUNT", .cut = true},
	[WEIGHT] = {"WEIGHT", .right = true},
	[PID] = {"PID", .right = true},
	[UID] = {"UID", .right = true},
	[COMM] = {.title = "COMM"},
	[SINCE] = {.title = "SINCE"},
	[LABEL] = {"LABEL", .cut = true},
};

static void cells(const void *row, struct shown *to) {
	const struct message_holder *h = row;

	(void)show_slot(&to[SLOT], h->slot);
	(void)show_text(&to[ACCOUNT], h->account.text);
	(void)show_number(&to[WEIGHT], h->weight);
	(void)show_number(&to[PID], h->pid);
	(void)show_number(&to[UID], h->uid);
	(void)show_text(&to[COMM], h->comm);
	(void)show_time(&to[SINCE], h->since);
	(void)show_text(&to[LABEL], h->label);
}

static int list_holders(char **operands) {
	struct table table = {
		.key = "holders",
		.columns = columns,
		.column_count = ELEMENTS(columns),
		.row_size = sizeof(struct message_holder),
		.cells = cells,
		.print_json = print_json,
	};
	struct holders holders = {0};
	struct shown shown;
	int r;

	r = holders_fetch(operands[0], &holders);
	if (r == CTL_OK && holders.count == 0 && !globals.json && show_is_terminal())
		report_error("no process holds a slot of %s", show_text(&shown, operands[0]));
	table.rows = holders.holder;
	table.row_count = holders.count;
	if (r == CTL_OK)
		r = table_print(&table);
	free(holders.holder);
	return r;
}

const struct verb verb_holders = {
	.name = "holders",
	.operands = "ACCOUNT",
	.operands_min = 1,
	.operands_max = 1,
	.first = OPERAND_ACCOUNT,
	.takes_json = true,
	.line = "Show which processes hold an account's slots",
	.text = "Shows each slot of an account, and of the accounts below it, with its holder:\n"
		"SLOT (for revoke), ACCOUNT, WEIGHT (how many slots it counts for), PID, UID,\n"
		"COMM, SINCE (UTC) and the LABEL that the holder gave it.\n",
	.examples = "  berthctl holders acme\n"
		    "  berthctl holders alice --json | jq -r '.holders[].pid' | sort | uniq -c\n",
	.call = list_holders,
};
