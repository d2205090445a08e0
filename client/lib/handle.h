/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Handles (struct berth): their list, the lock of each handle, and its present and past sessions.
 *
 * A handle has one current session. Its past sessions stay in memory until berth_close(), so that
 * the library can still tell what became of their slots.
 */

#include "session.h"

struct berth {
	_Atomic(struct session *) current; /* NULL: a forked child hasn't opened its own yet */
	_Atomic(struct session *) fast;    /* the same for the fast path; session_none: none */
	_Atomic(struct session *) retired; /* the session that was current before; NULL: none */
	struct berth *next;                /* in the list of handles */
	char *runtime_dir;
	int timeout_ms;
	/* Protects the members below it, changes of `current`, and the adding of ranges to the pool
	 * of `current`. */
	pthread_mutex_t lock;
	struct descriptor socket;
	bool owes_reply; /* the reply to a request that timed out may still come */
};

/* Makes a handle without a session, and puts it in the list. -ENOMEM. */
int handle_new(const char *runtime_dir, int timeout_ms, struct berth **ret);
/* Takes the handle off the list. Threads that end don't look at its sessions any more. */
void handle_unlink(const struct berth *b);
/* Closes the socket, and frees the sessions and the handle, which must be off the list. */
void handle_free(struct berth *b);

/* Makes the session the current one, and retires the previous one. The caller has locked the
 * handle. */
void handle_publish(struct berth *b, struct session *s);

/* Returns a number for a new session. Slots contain some bits of that number, and these bits differ
 * from those of every session that the handle remembers. */
uint64_t handle_next_session_number(const struct berth *b);

/* Finds the handle's past session in which the slot was acquired. NULL: there is none. */
struct session *handle_find_retired(const struct berth *b, uint64_t slot);

/* -- all handles of the process ---------------------------------------------------------------- */

/* Calls the function with each session of each handle. No handle is unlinked meanwhile. */
void handles_each_session(void (*call)(struct session *s, void *data), void *data);

/* Makes this map the only one that uses its descriptors. The application may have closed a
 * descriptor of another map, which belongs to this handle's previous session or to another handle.
 * Then the kernel may have given the number to a descriptor of this map, perhaps even for the same
 * file. After this call, the other map doesn't use or close that number any more. */
void handles_claim_files(const struct map *m);

/* For fork.c. handles_lock() and handles_unlock() keep the list unchanged while the process forks.
 * In the child, handles_repair() leaves every handle without a session and without a socket. */
void handles_lock(void);
void handles_unlock(void);
void handles_repair(void);
