/* SPDX-License-Identifier: MIT */

/*
 * Sets and deletes limits of accounts and templates.
 *
 *   1 berthd reserves the account;
 *   2 the store commits and syncs the change;
 *   3 berthd writes the directory and bumps the cell;
 *   4 it replies.
 * If berthd dies between 2 and 3, the next start puts the stored limit in force. So once berthctl
 * has the reply, the limit is stored and in force.
 */

#include <string.h>

#include "accounts.h"
#include "admin.h"
#include "berth.h"
#include "counter.h"
#include "name.h"
#include "number.h"
#include "segment.h"
#include "store.h"

/* A change that berthd has handed over to the store. */
struct change {
	struct connection *connection;
	uint16_t opcode;
	bool force;
	char name[MESSAGE_NAME_SIZE];
	struct store_limit limit;
	uint32_t account; /* reserved until the store has answered; 0: a template, or a deletion */
};

static bool is_template(const char *name) {
	return name_is_template(name, strlen(name));
}

/* -- once the store has answered --------------------------------------------------------------- */

/* *ret: how many slots were revoked. */
static int apply_delete(const struct change *ch, uint64_t *ret) {
	struct context *context = connection_context(ch->connection);
	struct accounts *a = context->accounts;
	struct revoke_filter filter = {0};
	struct revoked revoked = {0};
	int r;

	if (is_template(ch->name))
		return accounts_delete_template(a, ch->name);
	/* The limit is removed first, so that no process can acquire a slot any more. Then the held
	 * slots are revoked. */
	r = accounts_unconfigure(a, ch->name);
	filter.account = accounts_find(a, ch->name);
	/* If no slot of the account was held, the account is gone now. The filter would then have
	 * no account, and match all slots. */
	if (ch->force && filter.account != 0)
		revoked = revoke_slots(context, &filter);
	*ret = revoked.slots;
	accounts_tidy(a);
	return revoked.failed > 0 ? revoked.error : r;
}

static void on_stored(void *data, int error) {
	struct change *ch = data;
	struct connection *c = ch->connection;
	struct accounts *a = connection_context(c)->accounts;
	const char *dir = connection_context(c)->runtime_dir;
	uint64_t affected = 0;
	int applied = 0, r;

	if (error >= 0 && ch->opcode == MESSAGE_DELETE)
		applied = apply_delete(ch, &affected);
	else if (error >= 0 && is_template(ch->name))
		applied = accounts_set_template(a, ch->name, ch->limit.limit);
	else if (error >= 0)
		applied = accounts_configure(a, ch->account, ch->limit.limit);
	if (ch->account != 0)
		accounts_unreserve(a, ch->account);
	if (!connection_resume(c)) {
		free(ch);
		return;
	}
	if (error < 0)
		r = admin_refuse_unstored(c, ch->opcode, error, "it", "nothing has changed");
	else if (applied == -EOVERFLOW)
		r = connection_refuse(c, ch->opcode, BERTH_NO_SYSTEM_RESOURCES,
			"stored, but not in force: an account was changed as often as one "
			"segment can tell apart. Stop the servers and berthd, remove %s/segment "
			"and %s/directory, and start them again",
			dir, dir);
	else if (applied < 0 && applied != -ENOENT)
		r = connection_refuse(c, ch->opcode, code_of(applied),
			"stored, but not in force yet (%s); try again", strerror(-applied));
	else
		r = connection_done(c, ch->opcode, affected);
	free(ch);
	connection_answered(c, r);
}

/* -- requests ---------------------------------------------------------------------------------- */

/* Hands the change over to the store. `what` has opcode, name, limit, account and force. */
static int change_begin(struct connection *c, const struct change *what) {
	struct context *context = connection_context(c);
	struct change *ch = malloc(sizeof(*ch));
	int r = -ENOMEM;

	if (ch) {
		*ch = *what;
		ch->connection = c;
		ch->limit.name = ch->name;
		r = store_put_limits(context->store, &ch->limit, 1, on_stored, ch);
	}
	if (r < 0) {
		free(ch);
		if (what->account != 0)
			accounts_unreserve(context->accounts, what->account);
		return connection_refuse(c, what->opcode, BERTH_NO_SYSTEM_RESOURCES,
			"no memory; nothing has changed");
	}
	connection_wait(c);
	return 0;
}

int handle_set(struct connection *c, const struct packet *p) {
	const struct message_set *set = p->message;
	const char *wrong = admin_check_name(&set->name, true);
	struct change what = {.opcode = MESSAGE_SET};
	int r = 0;

	if (!wrong && set->limit > BERTH_COUNT_MAX && set->limit != MESSAGE_UNLIMITED)
		wrong = LIMIT_FORMS;
	if (wrong)
		return admin_refuse_parameter(c, MESSAGE_SET, wrong);
	memcpy(what.name, set->name.text, sizeof(what.name));
	what.limit.limit = limit_of_message(set->limit);
	if (!is_template(what.name))
		r = accounts_reserve(connection_context(c)->accounts, what.name, &what.account);
	if (r < 0)
		return connection_refuse(c, MESSAGE_SET, code_of(r),
			"no room for another account (%s); raise --max-accounts",
			r == -ENOSPC ? "the table is full" : strerror(-r));
	return change_begin(c, &what);
}

/* Refuses to delete a name for which no limit is set, and says what there is instead. */
static int refuse_unconfigured(struct connection *c, const char *name) {
	struct accounts *a = connection_context(c)->accounts;
	uint32_t account = accounts_find(a, name);
	const char *why;

	if (account == 0)
		return admin_refuse_unknown(c, MESSAGE_DELETE, name);
	if (entry_flags(accounts_word(a, account)) & ENTRY_TEMPLATE)
		why = "this account has its limit from a template: delete that, or revoke its "
		      "slots with 'berthctl revoke'";
	else if (accounts_has_children(a, account))
		why = "this account has no limit of its own; it is there because accounts below "
		      "it are";
	else
		why = "this account is deleted already, and goes when its last slot is released";
	return connection_refuse(c, MESSAGE_DELETE, BERTH_NO_SUCH_USER, "%s", why);
}

int handle_delete(struct connection *c, const struct packet *p) {
	const struct message_delete *delete = p->message;
	const char *wrong = admin_check_name(&delete->name, true), *name = delete->name.text;
	struct context *context = connection_context(c);
	struct change what = {
		.opcode = MESSAGE_DELETE,
		.force = delete->flags & MESSAGE_DELETE_FORCE,
		.limit.limit = STORE_DELETE,
	};
	const struct templates *templates = accounts_templates(context->accounts);
	uint32_t account, limit, held;
	bool is_there;

	if (delete->flags & ~MESSAGE_DELETE_FORCE)
		wrong = "unknown flags";
	if (wrong)
		return admin_refuse_parameter(c, MESSAGE_DELETE, wrong);
	account = accounts_find(context->accounts, name);
	is_there = entry_flags(accounts_word(context->accounts, account)) & ENTRY_CONFIGURED;
	for (size_t i = 0; !is_there && i < templates_count(templates); i++)
		is_there = strcmp(templates_at(templates, i, &limit), name) == 0;
	if (!is_there)
		return refuse_unconfigured(c, name);
	held = counter_count(context->segment->map, account);
	if (held > 0 && !what.force)
		return connection_refuse(c, MESSAGE_DELETE, BERTH_INVALID_PARAMETER,
			"%u slots are held; wait until they are released, or revoke them with "
			"--force",
			held);
	memcpy(what.name, name, sizeof(what.name));
	return change_begin(c, &what);
}
