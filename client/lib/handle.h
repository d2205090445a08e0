/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Handles (struct berth): the list of them, the lock of each, and the sessions that each has had.
 *
 * A handle has one current session. The sessions that it had before stay until berth_close(), so
 * that the handle can still tell what became of their slots.
 */

#include "session.h"

struct berth {
	_Atomic(struct session *) current; /* NULL: a forked child hasn't opened its own yet */
	_Atomic(struct session *) fast;    /* the same for the fast path; session_none: none */
	_Atomic(struct session *) retired; /* the latest of the sessions that were current */
	struct berth *next;                /* in the list of handles */
	char *runtime_dir;
	int timeout_ms;
	/* Of what follows, of changes of `current`, and of the adding of ranges to its pool. */
	pthread_mutex_t lock;
	struct descriptor socket;
	bool owes_reply; /* berthd owes the reply to a request that timed out */
};

/* A handle without a session, in the list. -ENOMEM. */
int handle_new(const char *runtime_dir, int timeout_ms, struct berth **ret);
/* Takes the handle off the list. Threads that end don't look at its sessions any more. */
void handle_unlink(const struct berth *b);
/* Closes the socket; frees the sessions, and the handle, which isn't in the list. */
void handle_free(struct berth *b);

/* The caller has locked the handle: makes the session the current one, and retires the one
 * before. */
void handle_publish(struct berth *b, struct session *s);

/* A number for a new session, whose bits in slots are none of a session that the handle
 * remembers. */
uint64_t handle_next_session_number(const struct berth *b);

/* The session of the handle that gave out the slot and isn't current any more. NULL: there is
 * none. */
struct session *handle_find_retired(const struct berth *b, uint64_t slot);

/* -- all handles of the process ---------------------------------------------------------------- */

/* Calls with each session of each handle. No handle is unlinked meanwhile. */
void handles_each_session(void (*call)(struct session *s, void *data), void *data);

/* The application may have closed a descriptor of another map, and the kernel may have given its
 * number to this map, for the same file even. Then the other map, of this handle's session before
 * or of another handle, doesn't use or close it any more. */
void handles_claim_files(const struct map *m);

/* For fork.c: keeps the list as it is while the process forks; and in the child leaves every handle
 * without a session and without a socket. */
void handles_lock(void);
void handles_unlock(void);
void handles_repair(void);
