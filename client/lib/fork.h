/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The handles of a forked child are copies of its parent's. A word in a page of its own tells: the
 * kernel makes it 0 in a child. Asking for the process id instead would be a system call. The fast
 * path needs no look at the word, because the kernel empties the blocks of threads, too (thread.h).
 */

#include "atomic.h"
#include "util.h"

#define FORK_OURS 1u

extern _Atomic uint32_t *fork_word;

/* Before the first handle is made. May be called again. */
void fork_watch(void);

/* Makes every handle the child's own. */
void fork_repair(void);

/* First in every function of the API but the fast path. Pairs with fork_repair(). */
static inline void fork_check(void) {
	if (unlikely(load_acquire(fork_word) != FORK_OURS))
		fork_repair();
}
