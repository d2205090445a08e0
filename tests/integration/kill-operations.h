/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The operations during which test-kill-daemon.c kills berthd. For each operation this file has
 * functions that prepare it, that begin it without waiting for its end, and that tell whether it
 * has ended. The holder is the test's process, whose slots no operation affects. The client is a
 * child, which the operation may affect. A visitor is a client that opens its session in the
 * operation.
 */

#include "layout.h"
#include "steps.h"

#include "audit.h"
#include "kill.h"
#include "ptrace.h"

#define CHANGES_MAX 4
#define HELD_SLOTS  3

/* What an operation does to one limit. */
struct change {
	const char *name;
	int64_t old, new; /* KILL_ABSENT (kill.h) if the account has no limit */
};

struct state {
	struct map *map;
	struct berth *holder;
	berth_slot slot[HELD_SLOTS];
	struct child client;
	bool client_lives;
	int admin; /* the connection of the request; -1 if there is none */
	uint32_t replies_wanted;
	uint32_t replies; /* received so far */
	uint32_t code;    /* the first code in the replies that isn't 0; 0 if all were 0 */
	uint32_t run;     /* the number of the run */
	uint32_t count;   /* the count of carol that a checkpoint must store */
	int notify;       /* the notify socket of a berthd that is traced from its start */
	char notify_path[128];
	struct trace trace;
};

static struct state state;

static const struct kill_line base_limits[] = {
	{"acme", 50}, {"acme/alice", 20}, {"acme/bob", 20}, {"carol", 10}, {"visitor/*", 4}};

/* The functions that write shared memory. berthd is also killed in the functions that these
 * call. */
static const char *const writers[] = {"counter_bump", "counter_close", "counter_open",
	"counter_finish", "counter_note_cell", "counter_revoke", "counter_finish_seized", "descend",
	"directory_create", "directory_remove", "directory_set", "directory_renew", "table_insert",
	"table_remove", "word_store", "entry_write", "segment_grow_accounts", "segment_grow_slots",
	"segment_grow_sessions", "ranges_grant", "ranges_reclaim", "ranges_take_back",
	"owner_write", "state_write", "session_end", "sessions_open", "load_one", "wake_arm",
	"wake_disarm", "wake_cancel", "wake_clear_dirty", "wake_daemon", NULL};

/* -- the operations ---------------------------------------------------------------------------- */

/* When the test begins to trace berthd. */
enum start { RUNNING, RESTARTED, STARTED_WITHOUT_SEGMENT /* so there is no holder */ };

/* What may happen to the client's slots. */
enum fate { NO_CLIENT, KEPT, REVOKED_IF_ACKNOWLEDGED, DIED };

struct operation {
	const char *name;
	enum start start;
	enum fate fate;
	enum kill_halfway halfway; /* the state of one more record of the client */
	/* Called before berthd is traced. If `start` isn't RUNNING, this is also before berthd
	 * starts. May be NULL. */
	void (*prepare)(const struct operation *o);
	/* Begins the operation without waiting for its end. NULL if berthd's start begins it. */
	void (*begin)(const struct operation *o);
	bool (*finished)(void *data);
	struct change change[CHANGES_MAX];
};

static void client_kill(const struct operation *o) {
	(void)o;
	child_kill(&state.client);
	state.client_lives = false;
}

static void connect_admin(void) {
	state.admin = kill_connect(here.runtime_dir);
	ck_assert_int_ge(state.admin, 0);
	state.replies_wanted = 1;
}

/* Sends the request that makes the operation's changes. */
static void begin_changes(const struct operation *o) {
	const struct change *c = o->change;
	struct kill_line lines[CHANGES_MAX];
	uint32_t count = 0;

	for (; count < CHANGES_MAX && c[count].name; count++)
		lines[count] = (struct kill_line){c[count].name, (uint32_t)c[count].new};
	connect_admin();
	if (count > 1)
		kill_send_import(state.admin, lines, count);
	else if (c->new == KILL_ABSENT)
		kill_send_delete(state.admin, c->name);
	else
		kill_send_set(state.admin, c->name, (uint32_t)c->new);
	state.replies_wanted = count > 1 ? 3 : 1;
}

static void begin_revoke(const struct operation *o) {
	(void)o;
	connect_admin();
	kill_send_revoke(state.admin, "acme", state.client.pid);
}

static void prepare_old_limit(const struct operation *o) {
	int fd = kill_connect(here.runtime_dir);

	kill_send_set(fd, o->change[0].name, (uint32_t)o->change[0].old);
	ck_assert_uint_eq(kill_replies_wait(fd, 1), 0);
	(void)close(fd);
}

static bool reply_is_there(void *data) {
	uint32_t code;

	(void)data;
	state.replies += kill_replies(state.admin, &code);
	state.code = state.code ? state.code : code;
	return state.replies >= state.replies_wanted;
}

static bool client_session_has_ended(void *data) {
	(void)data;
	return kill_sessions(state.map, state.client.pid) == 0;
}

/* Gives carol a count that the store doesn't have yet. */
static void begin_checkpoint(const struct operation *o) {
	(void)o;
	state.count = kill_stored(here.state_dir, "counts", "carol") == 3 ? 4 : 3;
	ck_assert_int_eq(berth_release(state.holder, state.slot[2]), 0);
	ck_assert_int_eq(acquire_weight(state.holder, "carol", state.count, &state.slot[2]), 0);
}

static bool checkpoint_is_stored(void *data) {
	(void)data;
	return kill_stored(here.state_dir, "counts", "carol") == (int64_t)state.count;
}

static void begin_stop(const struct operation *o) {
	(void)o;
	ck_assert_int_eq(kill(here.berthd, SIGTERM), 0);
}

static bool never(void *data) {
	(void)data;
	return false;
}

/* In the child: opens a session and acquires more slots than a range has, of accounts that a
 * template makes. */
static void visitor_main(struct child *c, void *data) {
	struct berth_options options = {.size = sizeof(options), .timeout_ms = 60000};
	struct berth *b = NULL;
	berth_slot slot[20];
	int code = berth_open_options(&options, &b);

	for (size_t i = 0; code == BERTH_SUCCESS && i < COUNT_OF(slot); i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "visitor/%u-%zu", *(uint32_t *)data, i / 4);
		code = berth_acquire(b, name, &slot[i]);
	}
	child_send(c, code);
	(void)child_receive(c);
	for (size_t i = 0; code == BERTH_SUCCESS && i < COUNT_OF(slot); i++)
		code = berth_release(b, slot[i]);
	child_send(c, code);
	(void)child_receive(c);
	_exit(0);
}

static void begin_new_session(const struct operation *o) {
	(void)o;
	state.client = child_start(visitor_main, &state.run);
	state.client_lives = true;
}

static bool client_has_reported(void *data) {
	struct pollfd p = {.fd = state.client.hear, .events = POLLIN};

	(void)data;
	return poll(&p, 1, 0) > 0;
}

static bool berthd_is_ready(void *data) {
	char text[4096];
	ssize_t n = recv(state.notify, text, sizeof(text) - 1, MSG_DONTWAIT);

	(void)data;
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "READY=1");
}

static const struct operation operations[] = {
	{"first start", STARTED_WITHOUT_SEGMENT, NO_CLIENT, KILL_NOTHING, NULL, NULL,
		berthd_is_ready},
	{"start, the client alive and seized", RESTARTED, KEPT, KILL_SEIZED, NULL, NULL,
		berthd_is_ready},
	{"start, the client alive and half discharged", RESTARTED, KEPT, KILL_AMID_V2, NULL, NULL,
		berthd_is_ready},
	{"start, the client alive and in a release", RESTARTED, KEPT, KILL_RELEASE, NULL, NULL,
		berthd_is_ready},
	{"start, the client alive and in a revocation", RESTARTED, KEPT, KILL_REVOKE, NULL, NULL,
		berthd_is_ready},
	{"start, the client dead in a release", RESTARTED, DIED, KILL_RELEASE, client_kill, NULL,
		berthd_is_ready},
	{"start, the client dead in a charge", RESTARTED, DIED, KILL_CHARGE, client_kill, NULL,
		berthd_is_ready},
	{"death of the client", RUNNING, DIED, KILL_NOTHING, NULL, client_kill,
		client_session_has_ended},
	{"death of the client in a charge", RUNNING, DIED, KILL_CHARGE, NULL, client_kill,
		client_session_has_ended},
	{"death of the client in a release", RUNNING, DIED, KILL_RELEASE, NULL, client_kill,
		client_session_has_ended},
	{"death of the client, seized", RUNNING, DIED, KILL_SEIZED, NULL, client_kill,
		client_session_has_ended},
	{"revoke of the client's slots", RUNNING, REVOKED_IF_ACKNOWLEDGED, KILL_CHARGE, NULL,
		begin_revoke, reply_is_there},
	{"revoke of the client's slots and of a release", RUNNING, REVOKED_IF_ACKNOWLEDGED,
		KILL_RELEASE, NULL, begin_revoke, reply_is_there},
	{"set", RUNNING, KEPT, KILL_NOTHING, NULL, begin_changes, reply_is_there,
		{{"acme/alice", 20, 21}}},
	{"set of a new account with ancestors", RUNNING, NO_CLIENT, KILL_NOTHING, NULL,
		begin_changes, reply_is_there, {{"new/branch/leaf", KILL_ABSENT, 7}}},
	{"set of a template", RUNNING, KEPT, KILL_NOTHING, NULL, begin_changes, reply_is_there,
		{{"visitor/*", 4, 9}}},
	{"delete of an account with slots", RUNNING, REVOKED_IF_ACKNOWLEDGED, KILL_CHARGE, NULL,
		begin_changes, reply_is_there, {{"acme/alice", 20, KILL_ABSENT}}},
	{"delete of an account with slots and a release", RUNNING, REVOKED_IF_ACKNOWLEDGED,
		KILL_RELEASE, NULL, begin_changes, reply_is_there,
		{{"acme/alice", 20, KILL_ABSENT}}},
	{"delete of an account and its ancestors", RUNNING, NO_CLIENT, KILL_NOTHING,
		prepare_old_limit, begin_changes, reply_is_there,
		{{"new/branch/leaf", 7, KILL_ABSENT}}},
	{"import", RUNNING, KEPT, KILL_NOTHING, NULL, begin_changes, reply_is_there,
		{{"acme/alice", 20, 22}, {"carol", 10, 11}, {"imported/one", KILL_ABSENT, 1},
			{"imported/*", KILL_ABSENT, 2}}},
	{"session, ranges and accounts by a template", RUNNING, NO_CLIENT, KILL_NOTHING, NULL,
		begin_new_session, client_has_reported},
	{"checkpoint", RUNNING, NO_CLIENT, KILL_NOTHING, NULL, begin_checkpoint,
		checkpoint_is_stored},
	{"stop", RUNNING, KEPT, KILL_NOTHING, NULL, begin_stop, never},
};

/* Empties berthd's log, since each run judges its own messages. */
static void log_clear(void) {
	(void)!truncate(text_of("%s/log", here.dir), 0);
}
