/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Finds the path caches of the calling thread.
 *
 * A session has the caches of all threads that use it, and frees them at its end. A thread finds
 * its own caches in a block, to which a thread-local pointer points. The block is freed at the
 * thread's end. The block names each cache by the number of its session. The process uses no such
 * number twice, so a thread never touches a cache that was freed.
 */

#include "path-cache.h"
#include "session.h"

#define THREAD_CACHES 4

/* Some of a thread's caches, the one that was used last first. */
struct thread {
	uint64_t session[THREAD_CACHES]; /* of each cache: the number of its session; 0: none */
	struct cache *cache[THREAD_CACHES];
};

#if defined(__GLIBC__)
/* glibc reserves enough thread-local storage for a pointer of a library that is loaded later. */
#define _thread_local_ __thread __attribute__((tls_model("initial-exec")))
#else
#define _thread_local_ __thread
#endif

extern _thread_local_ struct thread *thread_self; /* never NULL */

/* The thread's cache of the session, which is made if there is none. NULL: no memory. */
struct cache *thread_get_cache(struct session *s);
/* If the thread used this session lately, puts the thread's cache first in the block, and returns
 * it. NULL: the block doesn't name one. */
struct cache *thread_find_cache(uint64_t session);

/* The thread uses records of the session from here until it calls thread_leave(). False: the daemon
 * has begun to end the session, or the handle is being closed. Pairs with threads_keep_out(). */
static _always_inline_ bool thread_enter(struct cache *c, const struct session *s) {
	store_relaxed(&c->is_inside, true);
	fence_compiler();
	return session_is_open(s);
}

static _always_inline_ void thread_leave(struct cache *c) {
	store_release(&c->is_inside, false);
}

/* Makes thread_enter() return false for the session from now on. True: no thread is inside. */
bool threads_keep_out(struct session *s);
