/* SPDX-License-Identifier: MIT */

/* Shows accounts and templates with their limits and counts: one of them, or all, in pages. */

#include <string.h>

#include "accounts.h"
#include "admin.h"
#include "segment.h"
#include "util.h"

static int row_fill(const struct context *context, uint32_t account, struct message_row *row) {
	uint64_t word = accounts_word(context->accounts, account);
	const struct cell *cell = map_cell(context->segment->map, account);

	if (!cell || directory_name(context->segment->map, account, row->name.text) < 0)
		return -ENOENT;
	row->limit = message_limit(entry_limit(word));
	row->current = count_of(load_acquire(&cell->count));
	row->peak = MAX_OF(load_relaxed(&cell->peak), row->current);
	row->waiting = 0;
	row->denied = load_relaxed(&cell->denied);
	if (entry_flags(word) & ENTRY_CONFIGURED)
		row->flags = ROW_CONFIGURED;
	else
		row->flags = entry_flags(word) & ENTRY_TEMPLATE ? ROW_BY_TEMPLATE : ROW_ANCESTOR;
	return 0;
}

static void row_fill_template(const struct templates *all, size_t i, struct message_row *row) {
	uint32_t limit;

	*row = (struct message_row){.flags = ROW_CONFIGURED | ROW_IS_TEMPLATE};
	message_name_set(&row->name, templates_at(all, i, &limit));
	row->limit = message_limit(limit);
}

int handle_get(struct connection *c, const struct packet *p) {
	struct context *context = connection_context(c);
	const struct templates *templates = accounts_templates(context->accounts);
	const struct message_get *get = p->message;
	const char *wrong = admin_check_name(&get->name, true), *name = get->name.text;
	struct message_got got = {.header = MESSAGE_HEADER(MESSAGE_GET, got)};
	uint32_t account;

	if (wrong)
		return admin_refuse_parameter(c, MESSAGE_GET, wrong);
	admin_complete_numbers(context);
	for (size_t i = 0; i < templates_count(templates); i++) {
		row_fill_template(templates, i, &got.row);
		if (strcmp(got.row.name.text, name) == 0)
			return connection_reply(c, &got, sizeof(got), NULL, 0);
	}
	got.row = (struct message_row){0};
	account = accounts_find(context->accounts, name);
	if (account == 0 || row_fill(context, account, &got.row) < 0)
		return admin_refuse_unknown(c, MESSAGE_GET, name);
	return connection_reply(c, &got, sizeof(got), NULL, 0);
}

/* -- pages ------------------------------------------------------------------------------------- */

/* A cursor below this is the number of the next account. Any other cursor is this value plus the
 * index of the next template. */
#define CURSOR_TEMPLATES (1u << 24)

static bool is_wanted(const struct message_list *list, const struct message_row *row) {
	if ((list->flags & MESSAGE_LIST_CONFIGURED) && !(row->flags & ROW_CONFIGURED))
		return false;
	return list->pattern.text[0] == 0 || strcmp(list->pattern.text, row->name.text) == 0 ||
	       template_matches(list->pattern.text, row->name.text);
}

int handle_list(struct connection *c, const struct packet *p) {
	static struct message_listed page;
	struct context *context = connection_context(c);
	const struct templates *templates = accounts_templates(context->accounts);
	const struct message_list *list = p->message;
	uint32_t end = accounts_end(context->accounts), cursor = MAX_OF(list->cursor, 1u);

	if (message_name_length(&list->pattern) < 0 || (list->flags & ~MESSAGE_LIST_CONFIGURED))
		return admin_refuse_parameter(
			c, MESSAGE_LIST, "the pattern doesn't end, or unknown flags");
	admin_complete_numbers(context);
	page = (struct message_listed){.header = MESSAGE_HEADER(MESSAGE_LIST, page)};
	if (cursor >= CURSOR_TEMPLATES) {
		size_t i = cursor - CURSOR_TEMPLATES;

		for (; i < templates_count(templates) && page.count < MESSAGE_ROWS_MAX; i++) {
			row_fill_template(templates, i, &page.row[page.count]);
			page.count += is_wanted(list, &page.row[page.count]);
		}
		if (i < templates_count(templates))
			page.next = CURSOR_TEMPLATES + (uint32_t)i;
		return connection_reply(c, &page, sizeof(page), NULL, 0);
	}
	for (uint32_t looks = 0;
		cursor < end && page.count < MESSAGE_ROWS_MAX && looks < ADMIN_PAGE_LOOKS;
		cursor++, looks++) {
		struct message_row *row = &page.row[page.count];

		if (row_fill(context, cursor, row) == 0 && is_wanted(list, row))
			page.count++;
		else
			*row = (struct message_row){0};
	}
	page.next = cursor < end ? cursor : CURSOR_TEMPLATES;
	return connection_reply(c, &page, sizeof(page), NULL, 0);
}
