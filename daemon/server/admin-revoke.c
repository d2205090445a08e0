/* SPDX-License-Identifier: MIT */

/* Revokes one slot, or the slots of a process or an account. */

#include <string.h>

#include "accounts.h"
#include "admin.h"
#include "berth.h"
#include "counter.h"
#include "segment.h"
#include "sessions.h"
#include "util.h"

/* How often berthd reads a record at most. Each time the owner charges or discharges a level, the
 * record changes, and berthd reads it again. */
#define LOOKS (4 * BERTH_LEVELS_MAX)

static bool filter_matches(const struct context *context, const struct revoke_filter *filter,
	uint32_t record, struct snapshot seen) {
	const struct session *s;

	/* At step 0 the record has charged nothing. */
	if (place_state(seen.place) != RECORD_PLACED || seq_step(seen.seq) == 0)
		return false;
	if (filter->slot != 0 && filter->slot != tag_pack(record, seen.seq))
		return false;
	if (filter->account != 0 &&
		!accounts_is_below(context->accounts, place_account(seen.place), filter->account))
		return false;
	if (filter->pid == 0)
		return true;
	s = sessions_owner(context->sessions, record);
	return s && (uint32_t)session_identity(s)->pid == filter->pid;
}

static int record_revoke(struct context *context, const struct revoke_filter *filter,
	uint32_t record, struct revoked *done) {
	struct map *m = context->segment->map;

	for (int i = 0; i < LOOKS; i++) {
		struct snapshot seen;
		int r = counter_record(m, record, &seen);

		if (r == -EAGAIN)
			continue;
		if (r < 0 || !filter_matches(context, filter, record, seen))
			return r;
		if (seq_goes_down(seen.seq)) {
			r = counter_finish(m, record);
			done->releases += r >= 0;
		} else {
			r = counter_revoke(m, record, seen);
			done->slots += r >= 0;
		}
		if (r != -EAGAIN)
			return r;
	}
	/* The owner has changed the record after each look, so it has released the slot that berthd
	 * saw first. */
	return 0;
}

struct revoked revoke_slots(struct context *context, const struct revoke_filter *filter) {
	uint32_t first = 1, end = load_relaxed(&context->segment->names->slots);
	struct revoked done = {0};

	if (filter->slot != 0) {
		first = tag_record(filter->slot);
		end = MIN_OF(end, first + 1);
	}
	for (uint32_t record = first; record < end; record++) {
		int r = record_revoke(context, filter, record, &done);

		if (r < 0) {
			done.failed++;
			done.error = r;
		}
	}
	return done;
}

int handle_revoke(struct connection *c, const struct packet *p) {
	struct context *context = connection_context(c);
	const struct message_revoke *request = p->message;
	struct message_revoked reply = {.header = MESSAGE_HEADER(MESSAGE_REVOKE, reply)};
	struct revoke_filter filter = {.slot = request->slot, .pid = request->pid};
	const char *wrong = NULL;
	struct revoked done;

	if (message_name_length(&request->name) < 0 || request->name.text[0])
		wrong = admin_check_name(&request->name, false);
	if (!wrong && (request->flags & ~MESSAGE_REVOKE_ALL))
		wrong = "unknown flags";
	if (!wrong && !request->slot && !request->pid && !(request->flags & MESSAGE_REVOKE_ALL))
		wrong = "say which slots to revoke: a slot, a process, or all";
	if (wrong)
		return admin_refuse_parameter(c, MESSAGE_REVOKE, wrong);
	if (request->name.text[0]) {
		filter.account = accounts_find(context->accounts, request->name.text);
		if (filter.account == 0)
			return admin_refuse_unknown(c, MESSAGE_REVOKE, request->name.text);
	}
	done = revoke_slots(context, &filter);
	if (done.failed > 0)
		return connection_refuse(c, MESSAGE_REVOKE, BERTH_NO_SYSTEM_RESOURCES,
			"slots revoked: %u; records that could not be looked at or changed: %u "
			"(%s); run it again, or stop the processes that hold the slots",
			done.slots, done.failed,
			done.error == -EOVERFLOW ? "an account was changed as often as one "
						   "segment can tell apart"
						 : strerror(-done.error));
	reply.revoked = done.slots;
	reply.finished = done.releases;
	return connection_reply(c, &reply, sizeof(reply), NULL, 0);
}
