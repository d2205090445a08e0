/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A handle's sessions with berthd: opening, resuming, replacing them, and asking the daemon.
 *
 * A handle has one current session; those that it had before stay until berth_close, so that their
 * slots are still known for what they were. What the functions below return: 0; a code of berth.h
 * (positive) that the daemon answered; or a negative errno, with -ECONNREFUSED, -ECONNRESET,
 * -ETIMEDOUT or -EBADMSG where it couldn't be asked. All but the inline ones may wait until the
 * deadline (message_now), from any thread; errno stays as it is, and they are no cancellation point.
 */

#include "pool.h"
#include "recall.h"

struct session {
	struct session *older; /* retired before this one */
	struct map *map;
	struct pool *pool;
	struct session_entry *entry; /* read but for its denials */
	uint32_t index;
	uint32_t serial;
	uint64_t
		slots; /* the highest bits of the slots that it gives out: the lowest of its serial */
	struct recall recall;
};

_Static_assert(_Alignof(struct session) <= _Alignof(max_align_t), "calloc() gives no more");

struct berth {
	_Atomic(struct session *) current; /* NULL until a forked child has opened its own */
	_Atomic(struct session *) retired; /* the latest of them */
	struct berth *next;                /* in the list of handles */
	char *runtime_dir;
	int timeout_ms;
	pthread_mutex_t lock; /* of the socket and of whoever changes `current` or adds ranges */
	int fd;               /* the socket, -1: none */
	bool owed;            /* it owes the reply to a question that timed out */
	uint64_t dev, ino;    /* its, so that a number that became somebody else's is noticed */
};

/* Opens nothing yet. -ENOMEM. */
int session_handle_new(const char *runtime_dir, int timeout_ms, struct berth **ret);
/* Hangs up, saying goodbye if the session is this process's, and frees all. */
void session_handle_free(struct berth *b);

/* The current session, opened if there is none. */
int session_get(struct berth *b, int64_t deadline, struct session **ret);

/* The following do nothing and return 0 when s isn't the current session any more, or ceases to be
 * it meanwhile: the caller goes on with the one that is. */

/* Opens a session in place of one that was lost. */
int session_replace(struct berth *b, const struct session *s, int64_t deadline);
/* Has the daemon hand out the files again, or open another session, if the application closed them. */
int session_renew(struct berth *b, struct session *s, int64_t deadline);
/* Has the daemon enter a name in the directory. */
int session_resolve(struct berth *b, struct session *s, const char *account, int64_t deadline);
/* Adds ranges, unless the pool has other than `seen` already. */
int session_grow(struct berth *b, struct session *s, uint32_t seen, int64_t deadline);
/* Has the daemon finish what was begun with a record. */
int session_settle(struct berth *b, struct session *s, uint32_t record, int64_t deadline);

/* A session of the handle that isn't current any more, by its serial's bits under mask; or NULL. */
struct session *session_find_retired(struct berth *b, uint32_t serial, uint32_t mask);

/* False once the daemon has begun to end it. Pairs with the daemon's store of the state, which
 * precedes the closing of the records. */
static inline bool session_is_open(const struct session *s) {
	const struct session_entry *e = s->entry;
	uint32_t serial = s->serial;

	return likely(
		load_acquire(&e->state) == SESSION_OPEN && load_relaxed(&e->serial) == serial);
}

/* -- forked children -------------------------------------------------------------------------- */

#define FORK_OURS 1u

/* A word that the kernel makes 0 in a child: asking for the pid would be a system call. */
extern _Atomic uint32_t *session_fork_word;

/* Makes every handle the child's own: without a session, without a socket. */
void session_fork_repair(void);

/* First in every function of the API. */
static inline void session_check_fork(void) {
	if (unlikely(load_acquire(session_fork_word) != FORK_OURS))
		session_fork_repair();
}
