/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A handle's sessions with berthd: opening, resuming, replacing them, and asking the daemon.
 *
 * A handle has one current session; those that it had before stay until berth_close, so that their
 * slots are still known for what they were. What the functions below return: 0; a code of berth.h
 * (positive) that the daemon answered; or a negative errno, with -ECONNREFUSED, -ECONNRESET,
 * -ETIMEDOUT or -EBADMSG where it couldn't be asked. All but the inline ones may wait until the
 * deadline (clock_monotonic_ms), from any thread; errno stays as it is, and they are no cancellation point.
 */

#include "path-cache.h"
#include "clock.h"

struct session {
	struct berth *handle;  /* whose it is */
	struct session *older; /* retired before this one */
	struct map *map;
	struct pool *pool;
	struct session_entry *entry; /* read but for its denials */
	uint32_t index;
	uint32_t serial;
	uint64_t
		slots; /* the highest bits of the slots that it gives out: the lowest of its number */
	uint64_t number;       /* from 1; this process has no other session with it, now or ever */
	_Atomic uint64_t open; /* what the entry's first two words say while it is open */
	_Atomic(struct cache *) caches; /* of threads */
	_Atomic bool counts_denials;    /* one of them does (denials.h) */
};

struct berth {
	_Atomic(struct session *) current; /* NULL until a forked child has opened its own */
	_Atomic(struct session *) fast; /* the same, or session_none: what the fast path looks at */
	_Atomic(struct session *) retired; /* the latest of them */
	struct berth *next;                /* in the list of handles */
	char *runtime_dir;
	int timeout_ms;
	pthread_mutex_t lock; /* of the socket and of whoever changes `current` or adds ranges */
	int fd;               /* the socket, -1: none */
	bool owed;            /* it owes the reply to a question that timed out */
	uint64_t dev, ino;    /* its, so that a number that became somebody else's is noticed */
};

extern struct session session_none; /* its number is no thread's */

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

/* The session of the handle that gave out the slot and isn't current any more; or NULL. */
struct session *session_find_retired(const struct berth *b, uint64_t slot);

/* Where the number of a session begins in those of its slots. */
#define SESSION_SHIFT 44

static _always_inline_ bool session_gave(const struct session *s, uint64_t slot) {
	return (slot ^ s->slots) >> SESSION_SHIFT == 0;
}

/* False once the daemon has begun to end it. Pairs with the daemon's store of the state, which
 * precedes the closing of the records. */
static _always_inline_ bool session_is_open(const struct session *s) {
	return likely(load_acquire(&s->entry->open) == load_relaxed(&s->open));
}

/* The thread is in a call from here until it clears `inside`, and uses records of the session. False: as
 * session_is_open(); or the handle is being closed. Pairs with cache_close(). */
static _always_inline_ bool cache_enter(struct cache *c, const struct session *s) {
	store_relaxed(&c->inside, true);
	atomic_signal_fence(memory_order_seq_cst);
	return session_is_open(s);
}

/* Calls with each session of the process; none goes meanwhile. */
void sessions_each(void (*call)(struct session *s, void *data), void *data);

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
