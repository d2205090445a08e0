/* SPDX-License-Identifier: MIT */

/* The verb holders. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "call.h"
#include "json.h"
#include "message.h"
#include "report.h"
#include "show.h"
#include "table.h"
#include "util.h"
#include "verbs.h"

struct holders {
	struct message_holder *holder;
	size_t count, capacity;
};

/* -- fetching ---------------------------------------------------------------------------------- */

static int holders_add(struct holders *h, const struct message_held *page) {
	int r;

	if (page->count == 0)
		return 0;
	if (page->count > MESSAGE_HOLDERS_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < page->count; i++)
		if (message_name_length(&page->holder[i].account) < 0)
			return -EBADMSG;
	r = array_reserve(&h->holder, &h->capacity, h->count + page->count);
	if (r < 0)
		return r;
	memcpy(h->holder + h->count, page->holder, page->count * sizeof(page->holder[0]));
	/* comm and label come from shared memory and may lack a NUL. */
	for (size_t i = h->count; i < h->count + page->count; i++) {
		h->holder[i].comm[sizeof(h->holder[i].comm) - 1] = '\0';
		h->holder[i].label[sizeof(h->holder[i].label) - 1] = '\0';
	}
	h->count += page->count;
	return 0;
}

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
	int r;

	message_name_set(&request.name, account);
	do {
		r = call_berthd(account, &request, &page, sizeof(page));
		if (r != CTL_OK)
			return r;
		r = holders_add(h, &page);
		if (r == -EBADMSG)
			return call_malformed();
		if (r < 0) {
			report_error("%s", strerror(-r));
			return CTL_FAILED;
		}
		request.cursor = page.next;
	} while (page.next != 0);
	if (h->count > 1)
		qsort(h->holder, h->count, sizeof(h->holder[0]), holder_compare);
	return CTL_OK;
}

/* -- printing ---------------------------------------------------------------------------------- */

static void holder_print_json(struct json *j, const struct message_holder *h) {
	struct shown slot;

	json_open(j, NULL, '{');
	json_string(j, "slot", show_slot(&slot, h->slot));
	json_string(j, "account", h->account.text);
	json_number(j, "weight", h->weight);
	json_number(j, "pid", h->pid);
	json_number(j, "uid", h->uid);
	json_string(j, "comm", h->comm);
	json_time(j, "since", h->since);
	json_string_or_null(j, "label", h->label);
	json_close(j, '}');
}

static void holders_print_json(const struct holders *h) {
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_open(&j, "holders", '[');
	for (size_t i = 0; i < h->count; i++)
		holder_print_json(&j, &h->holder[i]);
	json_close(&j, ']');
	json_close(&j, '}');
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

static void cell(const void *rows, size_t i, size_t column, struct shown *to) {
	const struct message_holder *h = &((const struct message_holder *)rows)[i];

	switch ((enum column)column) {
	case SLOT:
		(void)show_slot(to, h->slot);
		break;
	case ACCOUNT:
		(void)show_text(to, h->account.text);
		break;
	case WEIGHT:
		(void)show_number(to, h->weight);
		break;
	case PID:
		(void)show_number(to, h->pid);
		break;
	case UID:
		(void)show_number(to, h->uid);
		break;
	case COMM:
		(void)show_text(to, h->comm);
		break;
	case SINCE:
		(void)show_time(to, h->since);
		break;
	case LABEL:
		(void)show_text(to, h->label);
		break;
	}
}

static int holders_print(const char *account, const struct holders *h) {
	const struct table table = {
		.columns = columns,
		.column_count = ELEMENTS(columns),
		.rows = h->holder,
		.row_count = h->count,
		.cell = cell,
	};
	struct shown shown;

	if (h->count == 0 && show_is_terminal())
		report_error("no process holds a slot of %s", show_text(&shown, account));
	return table_print(&table);
}

/* -- the verb ---------------------------------------------------------------------------------- */

static int list_holders(char **operands) {
	struct holders holders = {0};
	int r;

	r = holders_fetch(operands[0], &holders);
	if (r == CTL_OK && globals.json)
		holders_print_json(&holders);
	else if (r == CTL_OK)
		r = holders_print(operands[0], &holders);
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
