/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What berthd is doing when test-kill-daemon.c kills it: each operation, how it is prepared, begun
 * without waiting for its end, and known to be over; and the world that it happens in.
 */

#include <sys/socket.h>

#include "layout.h"
#include "suite.h"

#include "audit.h"
#include "kill.h"
#include "ptrace.h"

#define CHANGES_MAX 4
#define LODGED      3

/* What an operation does to one limit. */
struct change {
	const char *name;
	int64_t old, new; /* or KILL_ABSENT */
};

struct world {
	struct map *map;
	struct berth *lodger;
	berth_slot slot[LODGED];
	struct child guest;
	bool guest_lives;
	int admin;        /* the connection on which the request was made; -1: none */
	uint32_t awaited; /* replies */
	uint32_t replies; /* that came */
	uint32_t code;    /* the first that isn't 0 */
	uint32_t turn;    /* differs from run to run */
	uint32_t count;   /* of carol's slots, which the store is to have */
	int notify;       /* where a berthd that starts reports */
	char notify_path[128];
	struct trace trace;
};

static struct world w;

static const struct kill_line base_limits[] = {
	{"acme", 50},
	{"acme/alice", 20},
	{"acme/bob", 20},
	{"carol", 10},
	{"visitor/*", 4},
};

/* The functions that write shared memory, where they begin; what they call is looked at with them. */
static const char *const writers[] = {"counter_bump", "counter_close", "counter_open",
	"counter_finish", "counter_note_cell", "counter_revoke", "counter_finish_seized", "descend",
	"directory_create", "directory_remove", "directory_set", "directory_renew", "table_insert",
	"table_remove", "word_store", "cell_forget", "entry_write", "segment_grow_accounts",
	"segment_grow_slots", "segment_grow_sessions", "ranges_grant", "ranges_reclaim",
	"ranges_take_back", "owner_write", "state_write", "session_end", "sessions_open",
	"load_one", "wake_arm", "wake_disarm", "wake_cancel", "wake_clear_dirty", "wake_daemon",
	NULL};

/* -- the operations ---------------------------------------------------------------------------- */

enum fate { KEPT, REVOKED_IF_ACKNOWLEDGED, DIED };

struct operation {
	const char *name;
	bool starts; /* the berthd that is traced is one that starts */
	bool anew;   /* … without a segment, and there is no lodger */
	bool has_guest;
	enum fate fate;            /* of the guest's slots */
	enum kill_halfway halfway; /* how another record of the guest's is left */
	/* Just before berthd is traced; of one that starts, while none runs. Or NULL. */
	void (*prepare)(void);
	/* Asks for it, without waiting; NULL: there is nothing to ask for. */
	void (*begin)(void);
	bool (*finished)(void *data);
	struct change change[CHANGES_MAX];
};

static void guest_kill(void) {
	child_kill(&w.guest);
	w.guest_lives = false;
}

static void ask(void) {
	w.admin = kill_connect(here.runtime_dir);
	ck_assert_int_ge(w.admin, 0);
	w.awaited = 1;
}

static void begin_set(void) {
	ask();
	kill_send_set(w.admin, "acme/alice", 21);
}

static void begin_set_new(void) {
	ask();
	kill_send_set(w.admin, "new/branch/leaf", 7);
}

static void begin_set_template(void) {
	ask();
	kill_send_set(w.admin, "visitor/*", 9);
}

static void begin_delete(void) {
	ask();
	kill_send_delete(w.admin, "acme/alice");
}

static void prepare_delete_tree(void) {
	int fd = kill_connect(here.runtime_dir);

	kill_send_set(fd, "new/branch/leaf", 7);
	ck_assert_uint_eq(kill_replies_wait(fd, 1), 0);
	(void)close(fd);
}

static void begin_delete_tree(void) {
	ask();
	kill_send_delete(w.admin, "new/branch/leaf");
}

static void begin_revoke(void) {
	ask();
	kill_send_revoke(w.admin, "acme", w.guest.pid);
}

static void begin_import(void) {
	static const struct kill_line lines[] = {
		{"acme/alice", 22}, {"carol", 11}, {"imported/one", 1}, {"imported/*", 2}};

	ask();
	kill_send_import(w.admin, lines, COUNT_OF(lines));
	w.awaited = 3;
}

static bool reply_is_there(void *data) {
	uint32_t code;

	(void)data;
	w.replies += kill_replies(w.admin, &code);
	w.code = w.code ? w.code : code;
	return w.replies >= w.awaited;
}

static bool guest_is_reaped(void *data) {
	(void)data;
	return kill_sessions(w.map, w.guest.pid) == 0;
}

/* A count that the store doesn't have yet. */
static void begin_checkpoint(void) {
	w.count = kill_stored(here.state_dir, "counts", "carol") == 3 ? 4 : 3;
	ck_assert_int_eq(berth_release(w.lodger, w.slot[2]), 0);
	ck_assert_int_eq(acquire_weight(w.lodger, "carol", w.count, &w.slot[2]), 0);
}

static bool checkpoint_is_stored(void *data) {
	(void)data;
	return kill_stored(here.state_dir, "counts", "carol") == (int64_t)w.count;
}

static void begin_stop(void) {
	ck_assert_int_eq(kill(here.berthd, SIGTERM), 0);
}

static bool never(void *data) {
	(void)data;
	return false;
}

/* In a child: a new session, more slots than a range has, on an account that a template makes. */
static void guest_visits(struct child *c, void *data) {
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

static void begin_visit(void) {
	w.guest = child_start(guest_visits, &w.turn);
	w.guest_lives = true;
}

static bool guest_has_reported(void *data) {
	struct pollfd p = {.fd = w.guest.hear, .events = POLLIN};

	(void)data;
	return poll(&p, 1, 0) > 0;
}

static bool berthd_is_ready(void *data) {
	char text[4096];
	ssize_t n = recv(w.notify, text, sizeof(text) - 1, MSG_DONTWAIT);

	(void)data;
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "READY=1");
}

static const struct operation operations[] = {
	{
		.name = "first start",
		.starts = true,
		.anew = true,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the guest alive and seized",
		.starts = true,
		.has_guest = true,
		.halfway = KILL_SEIZED,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the guest alive and half taken back",
		.starts = true,
		.has_guest = true,
		.halfway = KILL_AMID_V2,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the guest alive and in a release",
		.starts = true,
		.has_guest = true,
		.halfway = KILL_RELEASE,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the guest alive and in a revocation",
		.starts = true,
		.has_guest = true,
		.halfway = KILL_REVOKE,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the guest dead in a release",
		.starts = true,
		.has_guest = true,
		.fate = DIED,
		.halfway = KILL_RELEASE,
		.prepare = guest_kill,
		.finished = berthd_is_ready,
	},
	{
		.name = "start, the guest dead in a charge",
		.starts = true,
		.has_guest = true,
		.fate = DIED,
		.halfway = KILL_CHARGE,
		.prepare = guest_kill,
		.finished = berthd_is_ready,
	},
	{
		.name = "death of the guest",
		.has_guest = true,
		.fate = DIED,
		.begin = guest_kill,
		.finished = guest_is_reaped,
	},
	{
		.name = "death of the guest in a charge",
		.has_guest = true,
		.fate = DIED,
		.halfway = KILL_CHARGE,
		.begin = guest_kill,
		.finished = guest_is_reaped,
	},
	{
		.name = "death of the guest in a release",
		.has_guest = true,
		.fate = DIED,
		.halfway = KILL_RELEASE,
		.begin = guest_kill,
		.finished = guest_is_reaped,
	},
	{
		.name = "death of the guest, seized",
		.has_guest = true,
		.fate = DIED,
		.halfway = KILL_SEIZED,
		.begin = guest_kill,
		.finished = guest_is_reaped,
	},
	{
		.name = "revoke of the guest's slots",
		.has_guest = true,
		.fate = REVOKED_IF_ACKNOWLEDGED,
		.halfway = KILL_CHARGE,
		.begin = begin_revoke,
		.finished = reply_is_there,
	},
	{
		.name = "revoke of the guest's slots and of a release",
		.has_guest = true,
		.fate = REVOKED_IF_ACKNOWLEDGED,
		.halfway = KILL_RELEASE,
		.begin = begin_revoke,
		.finished = reply_is_there,
	},
	{
		.name = "set",
		.has_guest = true,
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
		.has_guest = true,
		.begin = begin_set_template,
		.finished = reply_is_there,
		.change = {{"visitor/*", 4, 9}},
	},
	{
		.name = "delete of an account with slots",
		.has_guest = true,
		.fate = REVOKED_IF_ACKNOWLEDGED,
		.halfway = KILL_CHARGE,
		.begin = begin_delete,
		.finished = reply_is_there,
		.change = {{"acme/alice", 20, KILL_ABSENT}},
	},
	{
		.name = "delete of an account with slots and a release",
		.has_guest = true,
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
		.has_guest = true,
		.begin = begin_import,
		.finished = reply_is_there,
		.change = {{"acme/alice", 20, 22}, {"carol", 10, 11},
			{"imported/one", KILL_ABSENT, 1}, {"imported/*", KILL_ABSENT, 2}},
	},
	{
		.name = "session, ranges and accounts by a template",
		.begin = begin_visit,
		.finished = guest_has_reported,
	},
	{
		.name = "checkpoint",
		.begin = begin_checkpoint,
		.finished = checkpoint_is_stored,
	},
	{
		.name = "stop",
		.has_guest = true,
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
