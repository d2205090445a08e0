/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The operations during which test-kill-daemon.c kills berthd: how each is prepared, how it is
 * begun without waiting for its end, and how the test knows that it has ended.
 */

#include <sys/socket.h>

#include "layout.h"
#include "suite.h"

#include "audit.h"
#include "kill.h"
#include "ptrace.h"

#define CHANGES_MAX 4
#define HELD_SLOTS  3

/* What an operation does to one limit. */
struct change {
	const char *name;
	int64_t old, new; /* or KILL_ABSENT */
};

struct state {
	struct map *map;
	struct berth *holder;
	berth_slot slot[HELD_SLOTS];
	struct child client;
	bool client_lives;
	int admin; /* the connection of the request; -1: none */
	uint32_t replies_wanted;
	uint32_t replies; /* received so far */
	uint32_t code;    /* the first code in the replies that isn't 0 */
	uint32_t run;     /* the number of the run */
	uint32_t count;   /* the count of carol that a checkpoint must store */
	int notify;       /* the notify socket of a berthd that is traced from its start */
	char notify_path[128];
	struct trace trace;
};

static struct state state;

static const struct kill_line base_limits[] = {
	{"acme", 50},
	{"acme/alice", 20},
	{"acme/bob", 20},
	{"carol", 10},
	{"visitor/*", 4},
};

/* The functions that write shared memory. Points include the instructions of the functions they
 * call. */
static const char *const writers[] = {"counter_bump", "counter_close", "counter_open",
	"counter_finish", "counter_note_cell", "counter_revoke", "counter_finish_seized", "descend",
	"directory_create", "directory_remove", "directory_set", "directory_renew", "table_insert",
	"table_remove", "word_store", "entry_write", "segment_grow_accounts", "segment_grow_slots",
	"segment_grow_sessions", "ranges_grant", "ranges_reclaim", "ranges_take_back",
	"owner_write", "state_write", "session_end", "sessions_open", "load_one", "wake_arm",
	"wake_disarm", "wake_cancel", "wake_clear_dirty", "wake_daemon", NULL};

/* -- the operations ---------------------------------------------------------------------------- */

enum fate { KEPT, REVOKED_IF_ACKNOWLEDGED, DIED };

struct operation {
	const char *name;
	bool starts;      /* berthd is traced from its start */
	bool first_start; /* it starts without a segment, and there is no holder */
	bool has_client;
	enum fate fate;            /* of the client's slots */
	enum kill_halfway halfway; /* the state of one more record of the client */
	/* NULL, or called before berthd is traced; if it starts, before the start. */
	void (*prepare)(void);
	/* NULL, or begins the operation without waiting for its end. */
	void (*begin)(void);
	bool (*finished)(void *data);
	struct change change[CHANGES_MAX];
};

static void client_kill(void) {
	child_kill(&state.client);
	state.client_lives = false;
}

static void connect_admin(void) {
	state.admin = kill_connect(here.runtime_dir);
	ck_assert_int_ge(state.admin, 0);
	state.replies_wanted = 1;
}

static void begin_set(void) {
	connect_admin();
	kill_send_set(state.admin, "acme/alice", 21);
}

static void begin_set_new(void) {
	connect_admin();
	kill_send_set(state.admin, "new/branch/leaf", 7);
}

static void begin_set_template(void) {
	connect_admin();
	kill_send_set(state.admin, "visitor/*", 9);
}

static void begin_delete(void) {
	connect_admin();
	kill_send_delete(state.admin, "acme/alice");
}

static void prepare_delete_tree(void) {
	int fd = kill_connect(here.runtime_dir);

	kill_send_set(fd, "new/branch/leaf", 7);
	ck_assert_uint_eq(kill_replies_wait(fd, 1), 0);
	(void)close(fd);
}

static void begin_delete_tree(void) {
	connect_admin();
	kill_send_delete(state.admin, "new/branch/leaf");
}

static void begin_revoke(void) {
	connect_admin();
	kill_send_revoke(state.admin, "acme", state.client.pid);
}

static void begin_import(void) {
	static const struct kill_line lines[] = {
		{"acme/alice", 22}, {"carol", 11}, {"imported/one", 1}, {"imported/*", 2}};

	connect_admin();
	kill_send_import(state.admin, lines, COUNT_OF(lines));
	state.replies_wanted = 3;
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
static void begin_checkpoint(void) {
	state.count = kill_stored(here.state_dir, "counts", "carol") == 3 ? 4 : 3;
	ck_assert_int_eq(berth_release(state.holder, state.slot[2]), 0);
	ck_assert_int_eq(acquire_weight(state.holder, "carol", state.count, &state.slot[2]), 0);
}

static bool checkpoint_is_stored(void *data) {
	(void)data;
	return kill_stored(here.state_dir, "counts", "carol") == (int64_t)state.count;
}

static void begin_stop(void) {
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

static void begin_new_session(void) {
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
	{
		.name = "first start",
		.starts = true,
		.first_start = true,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the client alive and seized",
		.starts = true,
		.has_client = true,
		.halfway = KILL_SEIZED,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the client alive and half discharged",
		.starts = true,
		.has_client = true,
		.halfway = KILL_AMID_V2,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the client alive and in a release",
		.starts = true,
		.has_client = true,
		.halfway = KILL_RELEASE,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the client alive and in a revocation",
		.starts = true,
		.has_client = true,
		.halfway = KILL_REVOKE,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the client dead in a release",
		.starts = true,
		.has_client = true,
		.fate = DIED,
		.halfway = KILL_RELEASE,
		.prepare = client_kill,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the client dead in a charge",
		.starts = true,
		.has_client = true,
		.fate = DIED,
		.halfway = KILL_CHARGE,
		.prepare = client_kill,
		.finished = berthd_is_ready,
	},
	{
		.name = "death of the client",
		.has_client = true,
		.fate = DIED,
		.begin = client_kill,
		.finished = client_session_has_ended,
	},
	{
		.name = "death of the client in a charge",
		.has_client = true,
		.fate = DIED,
		.halfway = KILL_CHARGE,
		.begin = client_kill,
		.finished = client_session_has_ended,
	},
	{
		.name = "death of the client in a release",
		.has_client = true,
		.fate = DIED,
		.halfway = KILL_RELEASE,
		.begin = client_kill,
		.finished = client_session_has_ended,
	},
	{
		.name = "death of the client, seized",
		.has_client = true,
		.fate = DIED,
		.halfway = KILL_SEIZED,
		.begin = client_kill,
		.finished = client_session_has_ended,
	},
	{
		.name = "revoke of the client's slots",
		.has_client = true,
		.fate = REVOKED_IF_ACKNOWLEDGED,
		.halfway = KILL_CHARGE,
		.begin = begin_revoke,
		.finished = reply_is_there,
	},
	{
		.name = "revoke of the client's slots and of a release",
		.has_client = true,
		.fate = REVOKED_IF_ACKNOWLEDGED,
		.halfway = KILL_RELEASE,
		.begin = begin_revoke,
		.finished = reply_is_there,
	},
	{
		.name = "set",
		.has_client = true,
		.begin = begin_set,
		.finished = reply_is_there,
		.change = {{"acme/alice", 20, 21}},
	},
	{
		.name = "set of a new account with ancestors",
		.begin = begin_set_new,
		.finished = reply_is_there,
		.change = {{"new/branch/leaf", KILL_ABSENT, 7}},
	},
	{
		.name = "set of a template",
		.has_client = true,
		.begin = begin_set_template,
		.finished = reply_is_there,
		.change = {{"visitor/*", 4, 9}},
	},
	{
		.name = "delete of an account with slots",
		.has_client = true,
		.fate = REVOKED_IF_ACKNOWLEDGED,
		.halfway = KILL_CHARGE,
		.begin = begin_delete,
		.finished = reply_is_there,
		.change = {{"acme/alice", 20, KILL_ABSENT}},
	},
	{
		.name = "delete of an account with slots and a release",
		.has_client = true,
		.fate = REVOKED_IF_ACKNOWLEDGED,
		.halfway = KILL_RELEASE,
		.begin = begin_delete,
		.finished = reply_is_there,
		.change = {{"acme/alice", 20, KILL_ABSENT}},
	},
	{
		.name = "delete of an account and its ancestors",
		.prepare = prepare_delete_tree,
		.begin = begin_delete_tree,
		.finished = reply_is_there,
		.change = {{"new/branch/leaf", 7, KILL_ABSENT}},
	},
	{
		.name = "import",
		.has_client = true,
		.begin = begin_import,
		.finished = reply_is_there,
		.change = {{"acme/alice", 20, 22}, {"carol", 10, 11},
			{"imported/one", KILL_ABSENT, 1}, {"imported/*", KILL_ABSENT, 2}},
	},
	{
		.name = "session, ranges and accounts by a template",
		.begin = begin_new_session,
		.finished = client_has_reported,
	},
	{
		.name = "checkpoint",
		.begin = begin_checkpoint,
		.finished = checkpoint_is_stored,
	},
	{
		.name = "stop",
		.has_client = true,
		.begin = begin_stop,
		.finished = never,
	},
};

/* -- files ------------------------------------------------------------------------------------- */

static void files_remove(void) {
	static const char *const name[] = {"segment", "directory"};

	for (size_t i = 0; i < COUNT_OF(name); i++) {
		char path[128];

		(void)snprintf(path, sizeof(path), "%s/%s", here.runtime_dir, name[i]);
		(void)unlink(path);
	}
}

static void log_clear(void) {
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/log", here.dir);
	(void)!truncate(path, 0);
}
