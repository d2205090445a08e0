/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The handles of a forked child are copies of its parent's. A word in a page of its own tells a
 * child from its parent: the kernel makes the word 0 in a child. Asking for the process id instead
 * would be a system call. The fast path needn't read the word, because the kernel also fills the
 * blocks of threads with zeros in a child (thread.c).
 */

#include "atomic.h"
#include "util.h"

#define FORK_OURS 1u

extern _Atomic uint32_t *fork_word;

/* Must be called before the first handle is made. May be called again. */
void fork_watch(void);

/* Makes every handle the child's own. */
void fork_repair(void);

/* Every function of the API calls this first, except on the fast path. Pairs with fork_repair(). */
static inline void fork_check(void) {
	if (unlikely(load_acquire(fork_word) != FORK_OURS))
		fork_repair();
}
