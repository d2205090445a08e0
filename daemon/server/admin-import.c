/* SPDX-License-Identifier: MIT */

/*
 * Imports many limits as one change: all of them or none.
 *
 *   1 berthd gathers the lines and checks each of them;
 *   2 it reserves every account;
 *   3 the store commits all limits in one synced transaction;
 *   4 berthd puts the limits in force;
 *   5 it replies.
 * If berthd dies before 3, no limit has changed, and the next start removes the accounts that were
 * created. If it dies after 3, the next start puts the stored limits in force.
 */

#include <malloc.h>
#include <string.h>

#include "accounts.h"
#include "admin.h"
#include "array.h"
#include "berth.h"
#include "loop.h"
#include "name.h"
#include "number.h"
#include "store.h"
#include "util.h"

/* How many accounts one time slice reserves. This takes a few milliseconds. */
#define SLICE 8192u

struct import {
	struct store_limit *limits;
	size_t count, limits_capacity;
	uint32_t *account; /* reserved for each prepared limit; 0: a template */
	/* The names, one after another. They may move until handle_import_commit(), so until then
	 * each limits[].name is an offset. */
	char *names;
	size_t names_length, names_capacity;
	size_t prepared;               /* how many limits are prepared */
	sd_event_source *slice;        /* set while berthd reserves accounts */
	struct connection *connection; /* set at the commit */
	struct context *context;
};

void import_free(struct import *i) {
	if (!i)
		return;
	for (size_t n = 0; n < i->prepared; n++)
		if (i->account[n] != 0)
			accounts_unreserve(i->context->accounts, i->account[n]);
	(void)sd_event_source_disable_unref(i->slice);
	free(i->limits);
	free(i->account);
	free(i->names);
	free(i);
}

bool import_is_preparing(const struct import *i) {
	return i && i->slice;
}

static struct import **import_of(struct connection *c) {
	struct admin *admin = connection_state(c);

	return &admin->import;
}

/* -- lines ------------------------------------------------------------------------------------- */

int handle_import_begin(struct connection *c, const struct packet *p) {
	struct import **i = import_of(c);

	(void)p;
	import_free(*i);
	*i = calloc(1, sizeof(**i));
	if (!*i)
		return connection_refuse(c, MESSAGE_IMPORT_BEGIN, BERTH_NO_SYSTEM_RESOURCES,
			"no memory for an import");
	(*i)->context = connection_context(c);
	return connection_done(c, MESSAGE_IMPORT_BEGIN, 0);
}

static int refuse_line(struct connection *c, uint32_t code, const char *why) {
	struct import **i = import_of(c);
	size_t line = (*i)->count + 1;

	import_free(*i);
	*i = NULL;
	return connection_refuse(c, MESSAGE_IMPORT_LINES, code,
		"line %zu of the import: %s; nothing was imported", line, why);
}

int handle_import_lines(struct connection *c, const struct packet *packet) {
	const struct message_import_lines *lines = packet->message;
	const char *p = (const char *)(lines + 1);
	const char *end = (const char *)packet->message + packet->length;
	struct import *i = *import_of(c);

	if (!i)
		return connection_refuse(
			c, MESSAGE_IMPORT_LINES, BERTH_INVALID_PARAMETER, "no import was begun");
	if (lines->bytes != (size_t)(end - p))
		return -EBADMSG;
	for (uint32_t n = 0; n < lines->count; n++) {
		const char *wrong;
		size_t length;
		uint32_t limit;

		if (end - p < 5)
			return -EBADMSG;
		memcpy(&limit, p, 4);
		length = (uint8_t)p[4];
		p += 5;
		if ((size_t)(end - p) < length)
			return -EBADMSG;
		wrong = name_check_any(p, length);
		if (!wrong && limit > BERTH_COUNT_MAX && limit != MESSAGE_UNLIMITED)
			wrong = LIMIT_FORMS;
		if (wrong)
			return refuse_line(c, BERTH_INVALID_PARAMETER, wrong);
		if (array_reserve(&i->limits, &i->limits_capacity, i->count + 1) < 0 ||
			array_reserve(&i->names, &i->names_capacity,
				i->names_length + BERTH_NAME_MAX + 1) < 0)
			return refuse_line(c, BERTH_NO_SYSTEM_RESOURCES, "no memory");
		i->limits[i->count++] = (struct store_limit){
			.name = (const char *)i->names_length,
			.limit = limit_of_message(limit),
		};
		memcpy(i->names + i->names_length, p, length);
		i->names[i->names_length + length] = '\0';
		i->names_length += length + 1;
		p += length;
	}
	return p == end ? connection_done(c, MESSAGE_IMPORT_LINES, i->count) : -EBADMSG;
}

/* -- once the store has answered --------------------------------------------------------------- */

static int import_apply(struct import *i) {
	struct accounts *a = i->context->accounts;
	bool templates = false;
	int failed = 0, r;

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
	r = templates ? accounts_apply_templates(a) : 0;
	return r < 0 ? r : failed;
}

static void on_imported(void *data, int error) {
	struct import *i = data;
	struct connection *c = i->connection;
	int applied = error < 0 ? 0 : import_apply(i), r;

	if (connection_resume(c)) {
		if (error < 0)
			r = admin_refuse_unstored(c, MESSAGE_IMPORT_COMMIT, error, "the limits",
				"nothing was imported");
		else if (applied < 0)
			r = connection_refuse(c, MESSAGE_IMPORT_COMMIT, code_of(applied),
				"the limits are stored, but not all could be applied (%s); restart "
				"berthd",
				strerror(-applied));
		else
			r = connection_done(c, MESSAGE_IMPORT_COMMIT, i->count);
		connection_answered(c, r);
	}
	import_free(i);
	(void)malloc_trim(0);
}

/* -- reserving the accounts -------------------------------------------------------------------- */

static int refuse_for_room(struct connection *c, int error) {
	return connection_refuse(c, MESSAGE_IMPORT_COMMIT, code_of(error),
		"no room for so many accounts (%s); nothing was imported. Raise --max-accounts",
		error == -ENOSPC ? "the table is full" : strerror(-error));
}

/* Announces the next names to the directory, so that their look-ups don't wait for memory. */
static void names_announce(const struct import *i) {
	struct name names[DIRECTORY_PREFETCH];
	uint32_t count = 0;

	for (size_t n = i->prepared; n < i->count && count < DIRECTORY_PREFETCH; n++)
		count += name_load(i->limits[n].name, &names[count]) == 0;
	directory_prefetch(accounts_directory(i->context->accounts), names, count);
}

/* Prepares the limits of one slice: reserves their accounts. After the last slice, hands the import
 * over to the store. Until then, the import belongs to the connection, and ends with it. */
static int on_prepare(sd_event_source *source, uint64_t usec, void *data) {
	struct import *i = data;
	struct connection *c = i->connection;
	size_t end = MIN_OF(i->prepared + SLICE, i->count);
	int r = 0;

	(void)usec;
	while (r >= 0 && i->prepared < end) {
		const char *name = i->limits[i->prepared].name;

		if (i->prepared % DIRECTORY_PREFETCH == 0)
			names_announce(i);
		if (!name_is_template(name, strlen(name)))
			r = accounts_reserve(i->context->accounts, name, &i->account[i->prepared]);
		i->prepared += r >= 0;
	}
	if (r >= 0 && i->prepared < i->count)
		return slice_request(source);
	*import_of(c) = NULL;
	if (r >= 0)
		r = store_put_limits(i->context->store, i->limits, i->count, on_imported, i);
	if (r < 0) {
		import_free(i);
		if (connection_resume(c))
			connection_answered(c, refuse_for_room(c, r));
	}
	return 0;
}

int handle_import_commit(struct connection *c, const struct packet *p) {
	struct import *i = *import_of(c);
	int r = 0;

	(void)p;
	if (!i)
		return connection_refuse(
			c, MESSAGE_IMPORT_COMMIT, BERTH_INVALID_PARAMETER, "no import was begun");
	if (i->count > 0) {
		i->connection = c;
		i->account = calloc(i->count, sizeof(*i->account));
		r = i->account ? slice_new(i->context->event, on_prepare, i, &i->slice) : -ENOMEM;
		if (r >= 0)
			r = slice_request(i->slice);
	}
	if (r < 0 || i->count == 0) {
		*import_of(c) = NULL;
		import_free(i);
		return r < 0 ? refuse_for_room(c, r) : connection_done(c, MESSAGE_IMPORT_COMMIT, 0);
	}
	for (size_t n = 0; n < i->count; n++)
		i->limits[n].name = i->names + (size_t)i->limits[n].name;
	accounts_expect(i->context->accounts, i->count);
	connection_wait(c);
	return 0;
}
