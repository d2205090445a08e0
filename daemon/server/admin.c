/* SPDX-License-Identifier: MIT */

/*
 * Answers what berthctl asks on admin.sock.
 *
 * To set or delete a limit: 1 room is made   2 the store commits and syncs   3 the directory is
 * written and the cell bumped   4 the answer. Death between 2 and 3: the next start applies what is
 * stored. Whoever has an answer has a limit that is stored and in force.
 */

#include <string.h>

#include "admin.h"
#include "berth.h"
#include "counter.h"
#include "denials.h"
#include "import.h"
#include "log.h"
#include "name.h"
#include "number.h"

/* -- names in requests ----------------------------------------------------------------------------- */

/* NULL: the name is one of an account (or of a template, where that is allowed). */
static const char *name_objection(const struct message_name *n, bool template_allowed) {
	int length = message_name_length(n);

	if (length < 0)
		return "the name doesn't end";
	if (template_allowed && name_is_template(n->text, (size_t)length))
		return name_check_template(n->text, (size_t)length);
	return name_check(n->text, (size_t)length);
}

static int refuse_name(struct connection *c, uint16_t opcode, const char *objection) {
	return connection_refuse(c, opcode, BERTH_INVALID_PARAMETER, "%s", objection);
}

static int refuse_unknown(struct connection *c, uint16_t opcode, const char *name) {
	char shown[1024];

	return connection_refuse(c, opcode, BERTH_NO_SUCH_USER, "there is no account '%s'",
		name_escape(name, strlen(name), shown, 300));
}

/* -- set and delete --------------------------------------------------------------------------------- */

/* One change on its way through the store. */
struct change {
	struct connection *connection;
	struct context *context;
	uint16_t opcode;
	bool force;
	char name[MESSAGE_NAME_SIZE];
	struct store_limit limit;
	uint32_t account; /* reserved, if it is one's own limit that is set, else 0 */
};

static bool change_is_template(const struct change *ch) {
	return name_is_template(ch->name, strlen(ch->name));
}

struct revoked {
	uint32_t slots;    /* that were held, or being taken */
	uint32_t releases; /* that their owners had begun, and are finished */
	uint32_t failed;   /* records that may hold one still */
	int error;         /* of the last of these */
};

static struct revoked revoke_matching(struct context *m, const struct message_revoke *what);

static int apply_delete(struct change *ch, uint64_t *ret_revoked) {
	struct message_revoke all = {.flags = MESSAGE_REVOKE_ALL};
	struct revoked done = {0};
	int r;

	if (change_is_template(ch))
		return accounts_delete_template(ch->context->accounts, ch->name);
	/* First nobody can charge it any more, then what is held goes. */
	memcpy(all.name.text, ch->name, sizeof(all.name.text));
	r = accounts_unconfigure(ch->context->accounts, ch->name);
	if (ch->force)
		done = revoke_matching(ch->context, &all);
	*ret_revoked = done.slots;
	accounts_tidy(ch->context->accounts);
	return done.failed > 0 ? done.error : r;
}

static int apply_set(struct change *ch) {
	struct accounts *a = ch->context->accounts;

	return change_is_template(ch) ? accounts_set_template(a, ch->name, ch->limit.limit)
				      : accounts_configure(a, ch->account, ch->limit.limit);
}

static int change_answer(const struct change *ch, int error, int applied, uint64_t affected) {
	struct connection *c = ch->connection;

	if (error < 0)
		return connection_refuse(c, ch->opcode, code_of_store(error),
			"can't store it: %s; %s", strerror(-error),
			store_is_open(error) ? STORE_OPEN : "nothing has changed");
	if (applied == -EOVERFLOW)
		return connection_refuse(c, ch->opcode, BERTH_NO_SYSTEM_RESOURCES,
			"stored, but not in force: this account was changed as often as one "
			"segment "
			"can tell apart. Stop the servers and berthd, remove %s/segment and "
			"%s/directory, and start them again",
			ch->context->runtime_dir, ch->context->runtime_dir);
	if (applied < 0 && applied != -ENOENT)
		return connection_refuse(c, ch->opcode, code_of(applied),
			"stored, but not in force yet (%s); try again", strerror(-applied));
	return connection_done(c, ch->opcode, affected);
}

static void on_changed(void *data, int error) {
	struct change *ch = data;
	struct connection *c = ch->connection;
	uint64_t affected = 0;
	int applied = 0;

	if (error >= 0)
		applied = ch->opcode == MESSAGE_SET ? apply_set(ch) : apply_delete(ch, &affected);
	if (ch->account != 0)
		accounts_unreserve(ch->context->accounts, ch->account);
	if (connection_resume(c))
		connection_answered(c, change_answer(ch, error, applied, affected));
	free(ch);
}

static int change_begin(struct connection *c, uint16_t opcode, const struct message_name *name,
	uint32_t account, uint32_t limit, bool force) {
	struct change *ch = calloc(1, sizeof(*ch));
	int r = -ENOMEM;

	if (ch) {
		ch->connection = c;
		ch->context = c->context;
		ch->opcode = opcode;
		ch->force = force;
		memcpy(ch->name, name->text, sizeof(ch->name));
		ch->account = account;
		ch->limit = (struct store_limit){.name = ch->name, .limit = limit};
		r = store_put_limits(c->context->store, &ch->limit, 1, on_changed, ch);
	}
	if (r < 0) {
		free(ch);
		if (account != 0)
			accounts_unreserve(c->context->accounts, account);
		return connection_refuse(
			c, opcode, BERTH_NO_SYSTEM_RESOURCES, "no memory; nothing has changed");
	}
	connection_wait(c);
	return 0;
}

static int handle_set(struct connection *c, const void *message, size_t length, int *fds) {
	const struct message_set *set = message;
	const char *wrong = name_objection(&set->name, true);
	const char *name = set->name.text;
	uint32_t account = 0;
	int r = 0;

	(void)length, (void)fds;
	if (!wrong && set->limit > BERTH_COUNT_MAX && set->limit != MESSAGE_UNLIMITED)
		wrong = LIMIT_FORMS;
	if (wrong)
		return refuse_name(c, MESSAGE_SET, wrong);
	if (!name_is_template(name, strlen(name)))
		r = accounts_reserve(c->context->accounts, name, &account);
	if (r < 0)
		return connection_refuse(c, MESSAGE_SET, code_of(r),
			"no room for another account (%s); raise --max-accounts",
			r == -ENOSPC ? "the table is full" : strerror(-r));
	return change_begin(c, MESSAGE_SET, &set->name, account,
		set->limit == MESSAGE_UNLIMITED ? BERTH_LIMIT_NONE : set->limit, false);
}

static bool template_exists(const struct context *m, const char *pattern) {
	for (size_t i = 0; i < templates_count(m->accounts->templates); i++) {
		uint32_t limit;

		if (strcmp(templates_at(m->accounts->templates, i, &limit), pattern) == 0)
			return true;
	}
	return false;
}

/* Nothing under this name was ever set: says what there is instead. */
static int refuse_unconfigured(struct connection *c, const char *name) {
	uint32_t account = accounts_find(c->context->accounts, name);
	uint32_t flags = entry_flags(directory_word(c->context->accounts->directory, account));

	if (account == 0)
		return refuse_unknown(c, MESSAGE_DELETE, name);
	if (flags & ENTRY_TEMPLATE)
		return connection_refuse(c, MESSAGE_DELETE, BERTH_NO_SUCH_USER,
			"this account has its limit from a template: delete that, or "
			"take its slots back with 'berthctl revoke'");
	if (c->context->accounts->directory->account[account].children > 0)
		return connection_refuse(c, MESSAGE_DELETE, BERTH_NO_SUCH_USER,
			"this account has no limit of its own; it is there because "
			"accounts below it are");
	return connection_refuse(c, MESSAGE_DELETE, BERTH_NO_SUCH_USER,
		"this account is deleted already, and goes when its last slot is "
		"released");
}

static bool is_configured(const struct context *m, const char *name) {
	uint32_t account = accounts_find(m->accounts, name);

	return account != 0 &&
	       (entry_flags(directory_word(m->accounts->directory, account)) & ENTRY_CONFIGURED);
}

static int handle_delete(struct connection *c, const void *message, size_t length, int *fds) {
	const struct message_delete *delete = message;
	const char *wrong = name_objection(&delete->name, true), *name = delete->name.text;
	bool force = delete->flags & MESSAGE_DELETE_FORCE;
	uint32_t held;

	(void)length, (void)fds;
	if (delete->flags & ~MESSAGE_DELETE_FORCE)
		wrong = "unknown flags";
	if (wrong)
		return refuse_name(c, MESSAGE_DELETE, wrong);
	if (name_is_template(name, strlen(name)) ? !template_exists(c->context, name)
						 : !is_configured(c->context, name))
		return refuse_unconfigured(c, name);
	held = counter_count(c->context->segment->map, accounts_find(c->context->accounts, name));
	if (held > 0 && !force)
		return connection_refuse(c, MESSAGE_DELETE, BERTH_INVALID_PARAMETER,
			"%u slots are held; wait until they are released, or revoke "
			"them with --force",
			held);
	return change_begin(c, MESSAGE_DELETE, &delete->name, 0, STORE_DELETE, force);
}

/* -- get and list ------------------------------------------------------------------------------------- */

/* Peaks and denials: those from before the start, and those that are still with the sessions. */
static void numbers_complete(struct context *m) {
	checkpoint_load_rest(m->checkpoint);
	denials_collect(m->segment->map);
}

static uint32_t row_flags(uint32_t flags) {
	if (flags & ENTRY_CONFIGURED)
		return ROW_CONFIGURED;
	return flags & ENTRY_TEMPLATE ? ROW_BY_TEMPLATE : ROW_ANCESTOR;
}

static uint32_t limit_shown(uint32_t limit) {
	return limit == BERTH_LIMIT_NONE ? MESSAGE_UNLIMITED : limit;
}

static int row_fill(struct context *m, uint32_t account, struct message_row *row) {
	uint64_t word = directory_word(m->accounts->directory, account);
	const struct cell *cell = map_cell(m->segment->map, account);

	if (!cell || directory_name(m->segment->map, account, row->name.text) < 0)
		return -ENOENT;
	row->limit = limit_shown(entry_limit(word));
	row->current = count_of(load_acquire(&cell->count));
	row->peak = MAX_OF(load_relaxed(&cell->peak), row->current);
	row->waiting = 0;
	row->denied = load_relaxed(&cell->denied);
	row->flags = row_flags(entry_flags(word));
	return 0;
}

static void row_fill_template(const struct context *m, size_t i, struct message_row *row) {
	uint32_t limit;

	*row = (struct message_row){.flags = ROW_CONFIGURED | ROW_IS_TEMPLATE};
	message_name_set(&row->name, templates_at(m->accounts->templates, i, &limit));
	row->limit = limit_shown(limit);
}

static int handle_get(struct connection *c, const void *message, size_t length, int *fds) {
	const struct message_get *get = message;
	const char *wrong = name_objection(&get->name, true), *name = get->name.text;
	struct message_got got = {.header = MESSAGE_HEADER(MESSAGE_GET, got)};
	uint32_t account;

	(void)length, (void)fds;
	if (wrong)
		return refuse_name(c, MESSAGE_GET, wrong);
	numbers_complete(c->context);
	for (size_t i = 0; i < templates_count(c->context->accounts->templates); i++) {
		row_fill_template(c->context, i, &got.row);
		if (strcmp(got.row.name.text, name) == 0)
			return connection_reply(c, &got, sizeof(got), NULL, 0);
	}
	got.row = (struct message_row){0};
	account = accounts_find(c->context->accounts, name);
	if (account == 0 || row_fill(c->context, account, &got.row) < 0)
		return refuse_unknown(c, MESSAGE_GET, name);
	return connection_reply(c, &got, sizeof(got), NULL, 0);
}

static bool list_wants(const struct message_list *list, const struct message_row *row) {
	if ((list->flags & MESSAGE_LIST_CONFIGURED) && !(row->flags & ROW_CONFIGURED))
		return false;
	return list->pattern.text[0] == 0 || strcmp(list->pattern.text, row->name.text) == 0 ||
	       template_matches(list->pattern.text, row->name.text);
}

/* Cursors: the account to go on at, then, beyond all accounts, the template. */
#define CURSOR_TEMPLATES (1u << 24)
#define LIST_LOOKS       65536u /* entries looked at for one page */

static uint32_t list_templates(struct context *m, const struct message_list *list, uint32_t at,
	struct message_listed *page) {
	for (size_t i = at - CURSOR_TEMPLATES; i < templates_count(m->accounts->templates); i++) {
		if (page->count == MESSAGE_ROWS_MAX)
			return CURSOR_TEMPLATES + (uint32_t)i;
		row_fill_template(m, i, &page->row[page->count]);
		page->count += list_wants(list, &page->row[page->count]);
	}
	return 0;
}

static uint32_t list_page(
	struct context *m, const struct message_list *list, struct message_listed *page) {
	uint32_t at = MAX_OF(list->cursor, 1u), end = directory_end(m->accounts->directory);

	if (at >= CURSOR_TEMPLATES)
		return list_templates(m, list, at, page);
	for (uint32_t looks = 0; at < end; at++, looks++) {
		struct message_row *row = &page->row[page->count];

		if (page->count == MESSAGE_ROWS_MAX || looks == LIST_LOOKS)
			return at;
		if (row_fill(m, at, row) == 0 && list_wants(list, row))
			page->count++;
		else
			*row = (struct message_row){0};
	}
	return CURSOR_TEMPLATES;
}

static int handle_list(struct connection *c, const void *message, size_t length, int *fds) {
	static struct message_listed page;
	const struct message_list *list = message;

	(void)length, (void)fds;
	if (message_name_length(&list->pattern) < 0 || (list->flags & ~MESSAGE_LIST_CONFIGURED))
		return refuse_name(c, MESSAGE_LIST, "the pattern doesn't end, or unknown flags");
	numbers_complete(c->context);
	page = (struct message_listed){.header = MESSAGE_HEADER(MESSAGE_LIST, page)};
	page.next = list_page(c->context, list, &page);
	return connection_reply(c, &page, sizeof(page), NULL, 0);
}

/* -- holders and revoke ---------------------------------------------------------------------------------- */

/* What a holder's line says; false if the slot went meanwhile. */
static bool holder_fill(
	struct context *m, uint32_t number, struct snapshot seen, struct message_holder *h) {
	struct record *record = map_record(m->segment->map, number);
	struct session *s = sessions_owner(m->sessions, number);
	struct snapshot now;

	*h = (struct message_holder){
		.slot = tag_pack(number, seen.seq),
		.since = load_relaxed(&record->since),
		.weight = place_weight(seen.place),
	};
	for (size_t i = 0; i < ELEMENTS(record->label); i++) {
		uint64_t word = load_relaxed(&record->label[i]);

		memcpy(h->label + 8 * i, &word, 8);
	}
	h->label[sizeof(h->label) - 1] = 0;
	if (s) {
		h->pid = (uint32_t)s->who.pid;
		h->uid = s->who.uid;
		memcpy(h->comm, s->who.comm, sizeof(h->comm));
		h->comm[sizeof(h->comm) - 1] = 0;
	}
	return directory_name(m->segment->map, place_account(seen.place), h->account.text) == 0 &&
	       counter_record(m->segment->map, number, &now) == 0 && now.place == seen.place &&
	       now.seq == seen.seq;
}

static uint32_t holders_page(
	struct context *m, uint32_t account, uint32_t at, struct message_held *page) {
	uint32_t end = load_relaxed(&m->segment->names->slots);

	for (uint32_t looks = 0; at < end; at++, looks++) {
		struct snapshot seen;

		if (page->count == MESSAGE_HOLDERS_MAX || looks == LIST_LOOKS)
			return at;
		if (counter_record(m->segment->map, at, &seen) == 0 && snapshot_is_held(seen) &&
			accounts_is_below(m->accounts, place_account(seen.place), account) &&
			holder_fill(m, at, seen, &page->holder[page->count]))
			page->count++;
	}
	return 0;
}

static int handle_holders(struct connection *c, const void *message, size_t length, int *fds) {
	static struct message_held page;
	const struct message_holders *ask = message;
	const char *wrong = name_objection(&ask->name, false);
	uint32_t account;

	(void)length, (void)fds;
	if (wrong)
		return refuse_name(c, MESSAGE_HOLDERS, wrong);
	account = accounts_find(c->context->accounts, ask->name.text);
	if (account == 0)
		return refuse_unknown(c, MESSAGE_HOLDERS, ask->name.text);
	page = (struct message_held){.header = MESSAGE_HEADER(MESSAGE_HOLDERS, page)};
	page.next = holders_page(c->context, account, MAX_OF(ask->cursor, 1u), &page);
	if (page.count < MESSAGE_HOLDERS_MAX)
		memset(&page.holder[page.count], 0, sizeof(page.holder[0]));
	return connection_reply(c, &page, sizeof(page), NULL, 0);
}

static bool revoke_wants(struct context *m, const struct message_revoke *what, uint32_t account,
	uint32_t number, struct snapshot seen) {
	const struct session *s;

	/* At rest it has nothing. */
	if (place_state(seen.place) != RECORD_PLACED || seq_step(seen.seq) == 0)
		return false;
	if (what->slot != 0 && what->slot != tag_pack(number, seen.seq))
		return false;
	if (account != 0 && !accounts_is_below(m->accounts, place_account(seen.place), account))
		return false;
	s = what->pid != 0 ? sessions_owner(m->sessions, number) : NULL;
	return what->pid == 0 || (s && (uint32_t)s->who.pid == what->pid);
}

/* One record, again while its slot moves from level to level meanwhile. */
static int revoke_record(struct context *m, const struct message_revoke *what, uint32_t account,
	uint32_t number, struct revoked *done) {
	for (int i = 0; i < 4 * BERTH_LEVELS_MAX; i++) {
		struct snapshot seen;
		int r = counter_record(m->segment->map, number, &seen);

		if (r == -EAGAIN)
			continue;
		if (r < 0 || !revoke_wants(m, what, account, number, seen))
			return r;
		if (seq_goes_down(seen.seq)) {
			r = counter_finish(m->segment->map, number);
			done->releases += r >= 0;
		} else {
			r = counter_revoke(m->segment->map, number, seen);
			done->slots += r >= 0;
		}
		if (r != -EAGAIN)
			return r;
	}
	/* It had moved on each time: its owner has given back whatever was seen. */
	return 0;
}

static struct revoked revoke_matching(struct context *m, const struct message_revoke *what) {
	uint32_t account = what->name.text[0] ? accounts_find(m->accounts, what->name.text) : 0;
	uint32_t first = 1, end = load_relaxed(&m->segment->names->slots);
	struct revoked done = {0};

	if (what->name.text[0] && account == 0)
		return done;
	if (what->slot != 0) {
		first = tag_record(what->slot);
		end = MIN_OF(end, first + 1);
	}
	for (uint32_t number = first; number < end; number++) {
		int r = revoke_record(m, what, account, number, &done);

		if (r < 0) {
			done.failed++;
			done.error = r;
		}
	}
	return done;
}

static int handle_revoke(struct connection *c, const void *message, size_t length, int *fds) {
	struct message_revoked reply = {.header = MESSAGE_HEADER(MESSAGE_REVOKE, reply)};
	const struct message_revoke *what = message;
	const char *wrong = NULL;
	struct revoked done;

	(void)length, (void)fds;
	if (message_name_length(&what->name) < 0 || what->name.text[0])
		wrong = name_objection(&what->name, false);
	if (!wrong && (what->flags & ~MESSAGE_REVOKE_ALL))
		wrong = "unknown flags";
	if (!wrong && !what->slot && !what->pid && !(what->flags & MESSAGE_REVOKE_ALL))
		wrong = "say which slots to revoke: a slot, a process, or all";
	if (wrong)
		return refuse_name(c, MESSAGE_REVOKE, wrong);
	if (what->name.text[0] && accounts_find(c->context->accounts, what->name.text) == 0)
		return refuse_unknown(c, MESSAGE_REVOKE, what->name.text);
	done = revoke_matching(c->context, what);
	if (done.failed > 0)
		return connection_refuse(c, MESSAGE_REVOKE, BERTH_NO_SYSTEM_RESOURCES,
			"slots revoked: %u; records that could not be looked at or changed: %u "
			"(%s); "
			"run it again, or stop the processes that hold the slots",
			done.slots, done.failed,
			done.error == -EOVERFLOW ? "an account was changed as often as one "
						   "segment can tell apart"
						 : strerror(-done.error));
	reply.revoked = done.slots;
	reply.finished = done.releases;
	return connection_reply(c, &reply, sizeof(reply), NULL, 0);
}

/* -- status ------------------------------------------------------------------------------------------------- */

static void status_count(struct context *m, struct message_status_reply *s) {
	numbers_complete(m);
	for (uint32_t a = 1; a < directory_end(m->accounts->directory); a++) {
		const struct cell *cell = map_cell(m->segment->map, a);

		if (cell && (entry_flags(directory_word(m->accounts->directory, a)) & ENTRY_LIVE))
			s->denied += load_relaxed(&cell->denied);
	}
	for (uint32_t n = 1; n < load_relaxed(&m->segment->names->slots); n++) {
		struct snapshot seen;

		s->slots_held +=
			counter_record(m->segment->map, n, &seen) == 0 && snapshot_is_held(seen);
		s->slots_retired += counter_is_spent(m->segment->map, n);
	}
}

static int handle_status(struct connection *c, const void *message, size_t length, int *fds) {
	struct context *m = c->context;
	const struct layout *l = &m->segment->map->layout;
	struct message_status_reply s = {
		.header = MESSAGE_HEADER(MESSAGE_STATUS, s),
		.version = BERTH_VERSION,
		.pid = (uint32_t)getpid(),
		.started = m->started,
		.accounts = m->accounts->directory->live,
		.accounts_by_template = m->accounts->by_template,
		.accounts_max = l->max_accounts,
		.slots_granted = m->sessions->ranges->granted * BERTH_RANGE,
		.slots_max = l->max_slots,
		.sessions = m->sessions->count,
		.sessions_max = l->max_sessions,
		.templates = (uint32_t)templates_count(m->accounts->templates),
		.configured = m->accounts->configured,
		.checkpointed = checkpoint_last(m->checkpoint),
	};

	(void)message, (void)length, (void)fds;
	status_count(m, &s);
	memcpy(s.runtime_dir, m->runtime_dir, strnlen(m->runtime_dir, sizeof(s.runtime_dir) - 1));
	memcpy(s.state_dir, m->state_dir, strnlen(m->state_dir, sizeof(s.state_dir) - 1));
	return connection_reply(c, &s, sizeof(s), NULL, 0);
}

const struct message_type admin_types[] = {
	{MESSAGE_SET, sizeof(struct message_set), false, handle_set},
	{MESSAGE_GET, sizeof(struct message_get), false, handle_get},
	{MESSAGE_LIST, sizeof(struct message_list), false, handle_list},
	{MESSAGE_DELETE, sizeof(struct message_delete), false, handle_delete},
	{MESSAGE_HOLDERS, sizeof(struct message_holders), false, handle_holders},
	{MESSAGE_REVOKE, sizeof(struct message_revoke), false, handle_revoke},
	{MESSAGE_STATUS, sizeof(struct message_status), false, handle_status},
	{MESSAGE_IMPORT_BEGIN, sizeof(struct message_import), false, handle_import_begin},
	{MESSAGE_IMPORT_LINES, sizeof(struct message_import_lines), true, handle_import_lines},
	{MESSAGE_IMPORT_COMMIT, sizeof(struct message_import), false, handle_import_commit},
	{0, 0, false, NULL},
};
