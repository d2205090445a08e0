/* SPDX-License-Identifier: MIT */

/* Notices that the process is a forked child, and then repairs the handles so that they are the
 * child's own. */

#include <sched.h>
#include <sys/mman.h>

#include "fork.h"
#include "handle.h"

#define FORK_WIPED     0u
#define FORK_REPAIRING 2u

/* fork(3) runs the handlers of this file. clone(2) and the bare system call don't run them. But the
 * kernel wipes the word in the child, and the child notices that at its next call of the library.
 * Before the word's page is mapped, and on a kernel that can't wipe the page, only the handlers
 * notice a child. */
static _Atomic uint32_t word_unwiped = FORK_OURS;
_Atomic uint32_t *fork_word = &word_unwiped;

static void child_repair(void) {
	handles_repair();
	store_release(fork_word, FORK_OURS); /* pairs with fork_check() */
}

/* The first thread that calls this repairs the handles. The other threads wait for it. */
void fork_repair(void) {
	if (cas32(fork_word, FORK_WIPED, FORK_REPAIRING))
		child_repair();
	while (load_acquire(fork_word) == FORK_REPAIRING)
		(void)sched_yield();
}

static void watch_begin(void) {
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page;

	(void)pthread_atfork(handles_lock, handles_unlock, child_repair);
	page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return;
	if (madvise(page, size, MADV_WIPEONFORK) < 0) {
		(void)munmap(page, size);
		return;
	}
	fork_word = page;
	store_release(fork_word, FORK_OURS);
}

void fork_watch(void) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, watch_begin);
}
