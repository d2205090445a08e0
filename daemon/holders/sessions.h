/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sessions: which process holds records, and what berthd does when that process is gone.
 *
 * A session ends in one of four cases: its process is dead (the pidfd shows it), its connection is
 * closed, its process opens a session from a newer exec image, or its process says goodbye (BYE).
 * Then berthd revokes all slots and closes all records of the session, and other sessions can get
 * its ranges. If only the connection was closed, other sessions get the ranges once the process is
 * dead.
 */

#include <systemd/sd-event.h>

#include "ranges.h"

struct session;
struct sessions;

/* The content of the session's entry in the segment. Clients can write over the entry; this copy is
 * in berthd's own memory. */
struct session_identity {
	uint32_t serial;
	pid_t pid;
	uid_t uid;
	uint32_t reserved;   /* 0, since copies are compared byte by byte */
	uint64_t start_time; /* 0: not known, so any process with this pid counts */
	uint64_t image;
	uint64_t comm[2];
	uint64_t opened; /* ms since 1970 */
};

/* Adopts the sessions that are in the segment: sessions of living processes stay open, sessions of
 * dead processes end. Finishes what a dead berthd had begun with their records. */
int sessions_new(sd_event *event, struct segment *segment, struct sessions **ret);
void sessions_free(struct sessions *all); /* NULL is fine; no session ends */

/* Sets the function that is called with each session that is about to be freed. */
void sessions_on_ended(struct sessions *all, void (*ended)(struct session *s));

uint32_t sessions_count(const struct sessions *all);
/* How many records all sessions have together. */
uint32_t sessions_granted(const struct sessions *all);
struct ranges *sessions_ranges(const struct sessions *all);

/* The session that owns a record; NULL: none does. */
struct session *sessions_owner(const struct sessions *all, uint32_t record);

/* A request for a session. pid and uid come from the kernel; the caller has checked that the pidfd
 * is that of the same process. */
struct session_claim {
	pid_t pid;
	uid_t uid;
	int pidfd; /* sessions_open() takes the descriptor, even if it fails */
	uint64_t image;
	uint32_t resume_session, resume_serial;
};

/* Opens a session for a process, or resumes the session that the process asks for (*ret_resumed).
 * -ENOSPC: all sessions are in use; -ENOMEM; -ESRCH: the process is dead. */
int sessions_open(
	struct sessions *all, struct session_claim *claim, struct session **ret, bool *ret_resumed);

/* To be called when the session's connection has ended. goodbye: the process gives the session
 * up. */
void session_disconnected(struct session *s, bool goodbye);
/* To be called when the session's connection has ended, but the session stays open because its
 * process is going to resume it. */
void session_set_disconnected(struct session *s);

/* Grants one more range of records. -ENOSPC, -ENOMEM. */
int session_grant(struct session *s, uint32_t *ret_range);

uint32_t session_index(const struct session *s);
const struct session_identity *session_identity(const struct session *s);
/* False once the session is ending. */
bool session_is_open(const struct session *s);

/* A pointer that clients.c keeps with the session; NULL at first. */
void session_set_user(struct session *s, void *user);
void *session_user(const struct session *s);

/* Rewrites the entries of the table that a client wrote over. Returns the number of these
 * entries. */
uint32_t sessions_rewrite(struct sessions *all);
