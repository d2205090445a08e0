/* SPDX-License-Identifier: MIT */

/* The verbs holders and revoke: who has which slot, and taking it away. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "ctl.h"
#include "message.h"
#include "name.h"
#include "util.h"

/* -- holders ----------------------------------------------------------------------------------- */

struct holders {
	struct message_holder *holder;
	size_t count, capacity;
};

/* What revoke --slot takes. */
#define SLOT_TEXT_SIZE 32
static const char *slot_text(uint64_t slot, char to[SLOT_TEXT_SIZE]) {
	(void)snprintf(to, SLOT_TEXT_SIZE, "%" PRIu64 ":%" PRIu64, message_slot_record(slot),
		message_slot_seq(slot));
	return to;
}

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
	/* The other texts are fixed arrays, which shared memory may have filled to the brim. */
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

static int holders_fetch(struct ctl *c, const char *account, struct holders *h) {
	struct message_holders request = {.header = MESSAGE_HEADER(MESSAGE_HOLDERS, request)};
	struct message_held page;
	int r;

	message_name_set(&request.name, account);
	do {
		r = admin_call(c, account, &request, &page, sizeof(page));
		if (r != CTL_OK)
			return r;
		r = holders_add(h, &page);
		if (r == -EBADMSG)
			return admin_nonsense();
		if (r < 0) {
			ctl_error("%s", strerror(-r));
			return CTL_FAILED;
		}
		request.cursor = page.next;
	} while (page.next != 0);
	if (h->count > 1)
		qsort(h->holder, h->count, sizeof(h->holder[0]), holder_compare);
	return CTL_OK;
}

static void holder_json(struct json *j, const struct message_holder *h) {
	char slot[SLOT_TEXT_SIZE];

	json_open(j, NULL, '{');
	json_string(j, "slot", slot_text(h->slot, slot));
	json_string(j, "account", h->account.text);
	json_number(j, "weight", h->weight);
	json_number(j, "pid", h->pid);
	json_number(j, "uid", h->uid);
	json_string(j, "comm", h->comm);
	json_time(j, "since", h->since);
	json_string_or_null(j, "label", h->label);
	json_close(j, '}');
}

static void holders_json(const struct holders *h) {
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_open(&j, "holders", '[');
	for (size_t i = 0; i < h->count; i++)
		holder_json(&j, &h->holder[i]);
	json_close(&j, ']');
	json_close(&j, '}');
}

enum holder_column {
	HOLDER_SLOT,
	HOLDER_ACCOUNT,
	HOLDER_WEIGHT,
	HOLDER_PID,
	HOLDER_UID,
	HOLDER_COMM,
	HOLDER_SINCE,
	HOLDER_LABEL,
};

static const struct table_column holder_columns[] = {
	[HOLDER_SLOT] = {.title = "SLOT"},
	[HOLDER_ACCOUNT] = {"ACCOUNT", .cut = true},
	[HOLDER_WEIGHT] = {"WEIGHT", .right = true},
	[HOLDER_PID] = {"PID", .right = true},
	[HOLDER_UID] = {"UID", .right = true},
	[HOLDER_COMM] = {.title = "COMM"},
	[HOLDER_SINCE] = {.title = "SINCE"},
	[HOLDER_LABEL] = {"LABEL", .cut = true},
};

static void holder_cell(const void *rows, size_t i, size_t column, char to[TABLE_CELL_SIZE]) {
	const struct message_holder *h = &((const struct message_holder *)rows)[i];

	switch ((enum holder_column)column) {
	case HOLDER_SLOT:
		(void)slot_text(h->slot, to);
		break;
	case HOLDER_ACCOUNT:
		(void)name_escape(h->account.text, strlen(h->account.text), to, TABLE_CELL_SIZE);
		break;
	case HOLDER_WEIGHT:
		(void)snprintf(to, TABLE_CELL_SIZE, "%" PRIu32, h->weight);
		break;
	case HOLDER_PID:
		(void)snprintf(to, TABLE_CELL_SIZE, "%" PRIu32, h->pid);
		break;
	case HOLDER_UID:
		(void)snprintf(to, TABLE_CELL_SIZE, "%" PRIu32, h->uid);
		break;
	case HOLDER_COMM:
		(void)name_escape(h->comm, strlen(h->comm), to, TABLE_CELL_SIZE);
		break;
	case HOLDER_SINCE:
		(void)time_text(h->since, to);
		break;
	case HOLDER_LABEL:
		(void)name_escape(h->label, strlen(h->label), to, TABLE_CELL_SIZE);
		break;
	}
}

static int holders_print(const struct ctl *c, const char *account, const struct holders *h) {
	const struct table table = {
		.columns = holder_columns,
		.column_count = ELEMENTS(holder_columns),
		.rows = h->holder,
		.row_count = h->count,
		.cell = holder_cell,
	};
	struct ctl_shown shown;

	if (h->count == 0 && c->terminal)
		ctl_error("nobody holds a slot of %s", ctl_show(&shown, account));
	return table_print(c, &table);
}

int verb_holders(struct ctl *c, int argc, char **argv) {
	struct holders holders = {0};
	int r;

	(void)argc;
	r = ctl_check_account(c, argv[0]);
	if (r != CTL_OK)
		return r;
	r = holders_fetch(c, argv[0], &holders);
	if (r == CTL_OK && c->json)
		holders_json(&holders);
	else if (r == CTL_OK)
		r = holders_print(c, argv[0], &holders);
	free(holders.holder);
	return r;
}

/* -- revoke ------------------------------------------------------------------------------------ */

static int revoke_check(const struct ctl *c, const char *account) {
	int given = (c->slot != 0) + (c->pid != 0) + c->all;
	struct ctl_shown shown;

	if (given > 1)
		return ctl_usage(c, "give only one of --slot, --pid and --all");
	if (given == 0 && account)
		return ctl_usage(c,
			"which slots of %s? Add --slot S or --pid P, or --all for all of them",
			ctl_show(&shown, account));
	if (given == 0)
		return ctl_usage(c, "which slots? Give --slot S, --pid P or ACCOUNT --all");
	return account ? ctl_check_account(c, account) : CTL_OK;
}

/* Nothing matched: what was asked for isn't there. */
static int revoke_none(const struct ctl *c, const char *account) {
	char slot[SLOT_TEXT_SIZE];
	struct ctl_shown shown;
	const char *of = account ? " of " : "";
	const char *name = account ? ctl_show(&shown, account) : "";

	if (c->slot)
		ctl_error("slot %s%s%s isn't held any more; see: berthctl holders ACCOUNT",
			slot_text(c->slot, slot), of, name);
	else
		ctl_error("process %" PRIu32 " holds no slot%s%s", c->pid, of, name);
	return CTL_FAILED;
}

/* Releases that their owners had begun: berthd has brought them to their end. */
static void revoke_print(const struct ctl *c, const struct message_revoked *done) {
	struct json j = {.out = stdout};

	if (!c->json) {
		if (done->revoked > 0 || done->finished == 0)
			printf("revoked %" PRIu64 " %s\n", done->revoked,
				done->revoked == 1 ? "slot" : "slots");
		if (done->finished > 0)
			printf("finished %" PRIu64 " %s\n", done->finished,
				done->finished == 1 ? "release that its server had begun"
						    : "releases that their servers had begun");
		return;
	}
	json_open(&j, NULL, '{');
	json_number(&j, "revoked", done->revoked);
	json_number(&j, "finished", done->finished);
	json_close(&j, '}');
}

int verb_revoke(struct ctl *c, int argc, char **argv) {
	struct message_revoke request = {
		.header = MESSAGE_HEADER(MESSAGE_REVOKE, request),
		.slot = c->slot,
		.pid = c->pid,
		.flags = c->all ? MESSAGE_REVOKE_ALL : 0,
	};
	const char *account = argc > 0 ? argv[0] : NULL;
	struct message_revoked done;
	bool any;
	int r;

	r = revoke_check(c, account);
	if (r != CTL_OK)
		return r;
	message_name_set(&request.name, account ? account : "");
	r = admin_call(c, account, &request, &done, sizeof(done));
	if (r != CTL_OK)
		return r;
	any = done.revoked > 0 || done.finished > 0;
	if (any || c->all || c->json)
		revoke_print(c, &done);
	return any || c->all ? CTL_OK : revoke_none(c, account);
}
