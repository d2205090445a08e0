/* SPDX-License-Identifier: MIT */

/* Shows which slots of an account, and of the accounts below it, are held, and by which
 * processes. */

#include <string.h>

#include "accounts.h"
#include "admin.h"
#include "counter.h"
#include "segment.h"
#include "sessions.h"
#include "util.h"

/* False: the slot was released meanwhile, so the values that were read may be those of another
 * slot. */
static bool holder_fill(const struct context *context, uint32_t record, struct snapshot seen,
	struct message_holder *h) {
	struct map *m = context->segment->map;
	const struct record *at = map_record(m, record);
	const struct session *s = sessions_owner(context->sessions, record);
	struct snapshot now;

	*h = (struct message_holder){
		.slot = tag_pack(record, seen.seq),
		.since = load_relaxed(&at->since),
		.weight = place_weight(seen.place),
	};
	for (size_t i = 0; i < ELEMENTS(at->label); i++) {
		uint64_t word = load_relaxed(&at->label[i]);

		memcpy(h->label + 8 * i, &word, 8);
	}
	h->label[sizeof(h->label) - 1] = '\0';
	if (s) {
		const struct session_identity *identity = session_identity(s);

		h->pid = (uint32_t)identity->pid;
		h->uid = identity->uid;
		memcpy(h->comm, identity->comm, sizeof(h->comm));
		h->comm[sizeof(h->comm) - 1] = '\0';
	}
	return directory_name(m, place_account(seen.place), h->account.text) == 0 &&
	       counter_record(m, record, &now) == 0 && now.place == seen.place &&
	       now.seq == seen.seq;
}

int handle_holders(struct connection *c, const struct packet *p) {
	static struct message_held page;
	struct context *context = connection_context(c);
	const struct message_holders *request = p->message;
	const char *wrong = admin_check_name(&request->name, false);
	uint32_t end = load_relaxed(&context->segment->names->slots);
	uint32_t account, record = MAX_OF(request->cursor, 1u);

	if (wrong)
		return admin_refuse_parameter(c, MESSAGE_HOLDERS, wrong);
	account = accounts_find(context->accounts, request->name.text);
	if (account == 0)
		return admin_refuse_unknown(c, MESSAGE_HOLDERS, request->name.text);
	page = (struct message_held){.header = MESSAGE_HEADER(MESSAGE_HOLDERS, page)};
	for (uint32_t looks = 0;
		record < end && page.count < MESSAGE_HOLDERS_MAX && looks < ADMIN_PAGE_LOOKS;
		record++, looks++) {
		struct snapshot seen;

		if (counter_record(context->segment->map, record, &seen) == 0 &&
			snapshot_is_held(seen) &&
			accounts_is_below(context->accounts, place_account(seen.place), account) &&
			holder_fill(context, record, seen, &page.holder[page.count]))
			page.count++;
	}
	page.next = record < end ? record : 0;
	/* The last holder_fill() may have left a slot here that was released meanwhile. */
	if (page.count < MESSAGE_HOLDERS_MAX)
		memset(&page.holder[page.count], 0, sizeof(page.holder[0]));
	return connection_reply(c, &page, sizeof(page), NULL, 0);
}
