/* SPDX-License-Identifier: MIT */

/*
 * Sets and deletes limits of accounts and templates.
 *
 *   1 berthd makes room for the account;
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
#include "code.h"
#include "counter.h"
#include "name.h"
#include "number.h"
#include "admin-revoke.h"
#include "segment.h"
#include "store.h"

/* A change that berthd has handed over to the store. */
struct change {
	struct connection *connection;
	struct context *context;
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

static int apply_set(const struct change *ch) {
	struct accounts *a = ch->context->accounts;

	return is_template(ch->name) ? accounts_set_template(a, ch->name, ch->limit.limit)
				     : accounts_configure(a, ch->account, ch->limit.limit);
}

/* *ret: how many slots were revoked. */
static int apply_delete(const struct change *ch, uint64_t *ret) {
	struct accounts *a = ch->context->accounts;
	struct revoke_filter filter = {0};
	struct revoked revoked = {0};
	int r;

	if (is_template(ch->name))
		return accounts_delete_template(a, ch->name);
	/* The limit is removed first, so that no process can acquire a slot any more. Then the held
	 * slots are revoked. */
	r = accounts_unconfigure(a, ch->name);
	filter.account = accounts_find(a, ch->name);
	/* An account without slots is gone now; a filter without an account would match all
	 * slots. */
	if (ch->force && filter.account != 0)
		revoked = revoke_slots(ch->context, &filter);
	*ret = revoked.slots;
	accounts_tidy(a);
	return revoked.failed > 0 ? revoked.error : r;
}

/* error: the store's error; applied: the value that apply_set() or apply_delete() returned. */
static int change_reply(const struct change *ch, int error, int applied, uint64_t affected) {
	struct connection *c = ch->connection;
	const char *dir = ch->context->runtime_dir;
	char why[256];

	if (error < 0)
		return connection_refuse(c, ch->opcode, code_of_store(error),
			"can't store it: %s; %s",
			store_explain(ch->context->store, error, why, sizeof(why)),
			store_is_unsure(error) ? STORE_UNSURE : "nothing has changed");
	if (applied == -EOVERFLOW)
		return connection_refuse(c, ch->opcode, BERTH_NO_SYSTEM_RESOURCES,
			"stored, but not in force: this account was changed as often as one "
			"segment can tell apart. Stop the servers and berthd, remove %s/segment "
			"and "
			"%s/directory, and start them again",
			dir, dir);
	if (applied < 0 && applied != -ENOENT)
		return connection_refuse(c, ch->opcode, code_of(applied),
			"stored, but not in force yet (%s); try again", strerror(-applied));
	return connection_done(c, ch->opcode, affected);
}

static void on_stored(void *data, int error) {
	struct change *ch = data;
	uint64_t affected = 0;
	int applied = 0;

	if (error >= 0)
		applied = ch->opcode == MESSAGE_SET ? apply_set(ch) : apply_delete(ch, &affected);
	if (ch->account != 0)
		accounts_unreserve(ch->context->accounts, ch->account);
	if (connection_resume(ch->connection))
		connection_answered(ch->connection, change_reply(ch, error, applied, affected));
	free(ch);
}

/* -- requests ---------------------------------------------------------------------------------- */

/* Hands the change over to the store. `what`: its opcode, name, limit, account and force. */
static int change_begin(struct connection *c, const struct change *what) {
	struct context *context = connection_context(c);
	struct change *ch = malloc(sizeof(*ch));
	int r = -ENOMEM;

	if (ch) {
		*ch = *what;
		ch->connection = c;
		ch->context = context;
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

static bool template_exists(const struct templates *templates, const char *pattern) {
	uint32_t limit;

	for (size_t i = 0; i < templates_count(templates); i++)
		if (strcmp(templates_at(templates, i, &limit), pattern) == 0)
			return true;
	return false;
}

/* The administrator has set no limit under this name: says what there is instead. */
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
	uint32_t account, held;
	bool is_there;

	if (delete->flags & ~MESSAGE_DELETE_FORCE)
		wrong = "unknown flags";
	if (wrong)
		return admin_refuse_parameter(c, MESSAGE_DELETE, wrong);
	account = accounts_find(context->accounts, name);
	if (is_template(name))
		is_there = template_exists(accounts_templates(context->accounts), name);
	else
		is_there =
			entry_flags(accounts_word(context->accounts, account)) & ENTRY_CONFIGURED;
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
