/* SPDX-License-Identifier: MIT */

/* Shows berthd as a whole: what it serves, how full its tables are, when counts were last
 * stored. */

#include <string.h>

#include "accounts.h"
#include "admin.h"
#include "checkpoint.h"
#include "counter.h"
#include "segment.h"
#include "sessions.h"

static void path_copy(char to[MESSAGE_NAME_SIZE], const char *path) {
	memcpy(to, path, strnlen(path, MESSAGE_NAME_SIZE - 1));
}

int handle_status(struct connection *c, const struct packet *p) {
	struct context *context = connection_context(c);
	struct map *m = context->segment->map;
	struct accounts_totals totals = accounts_totals(context->accounts);
	struct message_status_reply s = {
		.header = MESSAGE_HEADER(MESSAGE_STATUS, s),
		.version = BERTH_VERSION,
		.pid = (uint32_t)getpid(),
		.started = context->started,
		.accounts = totals.accounts,
		.accounts_by_template = totals.by_template,
		.accounts_max = m->layout.max_accounts,
		.slots_granted = sessions_granted(context->sessions),
		.slots_max = m->layout.max_slots,
		.sessions = sessions_count(context->sessions),
		.sessions_max = m->layout.max_sessions,
		.templates = (uint32_t)templates_count(accounts_templates(context->accounts)),
		.configured = totals.configured,
		.checkpointed = checkpoint_last(context->checkpoint),
	};

	(void)p;
	admin_complete_numbers(context);
	for (uint32_t account = 1; account < accounts_end(context->accounts); account++) {
		const struct cell *cell = map_cell(m, account);

		if (cell && (entry_flags(accounts_word(context->accounts, account)) & ENTRY_LIVE))
			s.denied += load_relaxed(&cell->denied);
	}
	for (uint32_t n = 1; n < load_relaxed(&m->names->slots); n++) {
		struct snapshot seen;

		s.slots_held += counter_record(m, n, &seen) == 0 && snapshot_is_held(seen);
		s.slots_retired += counter_is_retired(m, n);
	}
	path_copy(s.runtime_dir, context->runtime_dir);
	path_copy(s.state_dir, context->state_dir);
	return connection_reply(c, &s, sizeof(s), NULL, 0);
}
