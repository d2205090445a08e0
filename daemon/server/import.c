/* SPDX-License-Identifier: MIT */

/*
 * Imports many limits as one: all of them or none.
 *
 * 1 lines are gathered and checked   2 room is made for every account   3 one synced transaction
 * 4 the limits are applied   5 the answer. Death before 3: nothing has changed (accounts that room
 * was made for go again). After 3: the next start applies what is stored.
 */

#include <string.h>

#include "array.h"
#include "admin.h"
#include "berth.h"
#include "import.h"
#include "name.h"
#include "number.h"
#include "loop.h"

/* Names that room is made for in one turn of the event loop: a few milliseconds. */
#define TURN 8192u

struct import {
	struct store_limit *limits;
	uint32_t *account; /* by limit, once room was made: reserved, or 0 for a template */
	size_t count, size;
	char *names; /* one after another; limits[].name holds offsets until the commit */
	size_t names_length, names_size;
	size_t prepared;               /* so many have been made room for */
	sd_event_source *turn;         /* while that goes on */
	struct connection *connection; /* from the commit on */
	struct context *context;
};

static void import_unreserve(struct import *i) {
	for (size_t n = 0; n < i->prepared; n++)
		if (i->account[n] != 0)
			accounts_unreserve(i->context->accounts, i->account[n]);
	i->prepared = 0;
}

void import_free(struct import *i) {
	if (!i)
		return;
	import_unreserve(i);
	(void)sd_event_source_disable_unref(i->turn);
	free(i->limits);
	free(i->account);
	free(i->names);
	free(i);
}

bool import_is_preparing(const struct import *i) {
	return i && i->turn;
}

static int import_reserve(struct import *i) {
	int r = array_reserve(&i->limits, &i->size, i->count + 1);

	return r < 0 ? r
		     : array_reserve(
			       &i->names, &i->names_size, i->names_length + BERTH_NAME_MAX + 1);
}

static int import_add(struct import *i, const char *name, size_t length, uint32_t limit) {
	int r = import_reserve(i);

	if (r < 0)
		return r;
	i->limits[i->count++] = (struct store_limit){
		.name = (const char *)i->names_length,
		.limit = limit == MESSAGE_UNLIMITED ? BERTH_LIMIT_NONE : limit,
	};
	memcpy(i->names + i->names_length, name, length);
	i->names[i->names_length + length] = 0;
	i->names_length += length + 1;
	return 0;
}

int handle_import_begin(struct connection *c, const void *message, size_t length, int *fds) {
	(void)message, (void)length, (void)fds;
	import_free(c->import);
	c->import = calloc(1, sizeof(*c->import));
	if (!c->import)
		return connection_refuse(c, MESSAGE_IMPORT_BEGIN, BERTH_NO_SYSTEM_RESOURCES,
			"no memory for an import");
	c->import->context = c->context;
	return connection_done(c, MESSAGE_IMPORT_BEGIN, 0);
}

/* What is wrong with a line, or NULL. */
static const char *line_objection(const char *name, size_t length, uint32_t limit) {
	const char *wrong = name_is_template(name, length) ? name_check_template(name, length)
							   : name_check(name, length);

	if (wrong)
		return wrong;
	return limit > BERTH_COUNT_MAX && limit != MESSAGE_UNLIMITED ? LIMIT_FORMS : NULL;
}

static int lines_refuse(struct connection *c, uint32_t code, const char *why) {
	size_t line = c->import->count + 1;

	import_free(c->import);
	c->import = NULL;
	return connection_refuse(c, MESSAGE_IMPORT_LINES, code,
		"line %zu of the import: %s; nothing was imported", line, why);
}

int handle_import_lines(struct connection *c, const void *message, size_t length, int *fds) {
	const struct message_import_lines *lines = message;
	const char *p = (const char *)(lines + 1), *end = (const char *)message + length;

	(void)fds;
	if (!c->import)
		return connection_refuse(
			c, MESSAGE_IMPORT_LINES, BERTH_INVALID_PARAMETER, "no import was begun");
	if (lines->bytes != (size_t)(end - p))
		return -EBADMSG;
	for (uint32_t n = 0; n < lines->count; n++) {
		const char *wrong;
		uint32_t limit;
		size_t name_length;

		if (end - p < 5)
			return -EBADMSG;
		memcpy(&limit, p, 4);
		name_length = (uint8_t)p[4];
		p += 5;
		if ((size_t)(end - p) < name_length)
			return -EBADMSG;
		wrong = line_objection(p, name_length, limit);
		if (wrong)
			return lines_refuse(c, BERTH_INVALID_PARAMETER, wrong);
		if (import_add(c->import, p, name_length, limit) < 0)
			return lines_refuse(c, BERTH_NO_SYSTEM_RESOURCES, "no memory");
		p += name_length;
	}
	return p == end ? connection_done(c, MESSAGE_IMPORT_LINES, c->import->count) : -EBADMSG;
}

static int import_apply(struct import *i) {
	struct accounts *a = i->context->accounts;
	bool templates = false;
	int r = 0, failed = 0;

	for (size_t n = 0; n < i->count; n++) {
		const struct store_limit *l = &i->limits[n];

		if (i->account[n] == 0) {
			r = accounts_load_template(a, l->name, l->limit);
			templates = true;
		} else {
			r = accounts_configure(a, i->account[n], l->limit);
		}
		if (r < 0)
			failed = r;
	}
	if (templates)
		accounts_cover_all(a);
	return failed;
}

static void on_imported(void *data, int error) {
	struct import *i = data;
	struct connection *c = i->connection;
	int applied = error < 0 ? 0 : import_apply(i);
	int r;

	import_unreserve(i);
	if (connection_resume(c)) {
		if (error < 0)
			r = connection_refuse(c, MESSAGE_IMPORT_COMMIT, code_of_store(error),
				"can't store the limits (%s); %s", strerror(-error),
				store_is_open(error) ? STORE_OPEN : "nothing was imported");
		else if (applied < 0)
			r = connection_refuse(c, MESSAGE_IMPORT_COMMIT, code_of(applied),
				"the limits are stored, but not all could be applied "
				"(%s); restart berthd",
				strerror(-applied));
		else
			r = connection_done(c, MESSAGE_IMPORT_COMMIT, i->count);
		connection_answered(c, r);
	}
	import_free(i);
}

/* Makes room for as many as one turn of the event loop has time for, but for templates, which stand
 * for account 0. */
static int prepare_some(struct import *i) {
	struct accounts *a = i->context->accounts;
	size_t end = MIN_OF(i->prepared + TURN, i->count);

	for (size_t n = i->prepared; n < end; n++) {
		const char *name = i->limits[n].name;
		int r = 0;

		if (n + DIRECTORY_AHEAD < i->count)
			accounts_expect(a, i->limits[n + DIRECTORY_AHEAD].name);
		if (!name_is_template(name, strlen(name)))
			r = accounts_reserve(a, name, &i->account[n]);
		if (r < 0)
			return r;
		i->prepared = n + 1;
	}
	return 0;
}

static int refuse_room(struct connection *c, int error) {
	return connection_refuse(c, MESSAGE_IMPORT_COMMIT, code_of(error),
		"no room for so many accounts (%s); nothing was imported. Raise --max-accounts",
		error == -ENOSPC ? "the table is full" : strerror(-error));
}

/* The import is the connection's until the store has it, and ends with it. */
static int on_prepare(sd_event_source *source, uint64_t usec, void *data) {
	struct import *i = data;
	struct connection *c = i->connection;
	int r = prepare_some(i);

	(void)usec;
	if (r >= 0 && i->prepared < i->count)
		return slice_request(source);
	c->import = NULL;
	if (r >= 0)
		r = store_put_limits(c->context->store, i->limits, i->count, on_imported, i);
	if (r < 0) {
		import_free(i);
		if (connection_resume(c))
			connection_answered(c, refuse_room(c, r));
	}
	return 0;
}

/* Offsets become pointers now that the names move no more. */
static int prepare_begin(struct import *i) {
	int r;

	i->account = calloc(i->count, sizeof(*i->account));
	if (!i->account)
		return -ENOMEM;
	for (size_t n = 0; n < i->count; n++)
		i->limits[n].name = i->names + (size_t)i->limits[n].name;
	directory_expect_many(i->context->accounts->directory,
		(uint32_t)MIN_OF(i->count, (size_t)BERTH_ACCOUNTS_MAX));
	r = slice_new(i->context->event, on_prepare, i, &i->turn);
	return r < 0 ? r : slice_request(i->turn);
}

int handle_import_commit(struct connection *c, const void *message, size_t length, int *fds) {
	struct import *i = c->import;
	size_t count = i ? i->count : 0;
	int r;

	(void)message, (void)length, (void)fds;
	if (!i)
		return connection_refuse(
			c, MESSAGE_IMPORT_COMMIT, BERTH_INVALID_PARAMETER, "no import was begun");
	i->connection = c;
	r = count > 0 ? prepare_begin(i) : 0;
	if (r < 0 || count == 0) {
		c->import = NULL;
		import_free(i);
		return r < 0 ? refuse_room(c, r) : connection_done(c, MESSAGE_IMPORT_COMMIT, 0);
	}
	connection_wait(c);
	return 0;
}
