/* SPDX-License-Identifier: MIT */

/*
 * Two processes, and two accounts below one that has room for one slot: who comes second is refused
 * above a charged level, and goes down again. The daemon revokes what the first holds or takes.
 *
 * KILL: then it finds the second dead, and closes its record. SAME: both are on one path. PARENT: the
 * second takes slots of the parent itself.
 *
 * ABANDON: an owner may lack the memory to go on, and leaves a release to the daemon. LEAVE: the next daemon
 * lacks it; it leaves what was begun until the first process is dead.
 */

#define RECORDS 2
#define CELLS   3
#define LEVELS  2
#define PARTIES 3

#define entry_of(account)  entry_pack(1, 0)
#define parent_of(account) 0

#if defined SAME
#define choose() stood = place_pack(RECORD_PLACED, 1, 1, 1)
#elif defined PARENT
#define choose() stood = (r == 1 -> place_pack(RECORD_PLACED, 1, 1, 1) : place_pack(RECORD_PLACED, 0, 1, 0))
#else
#define choose() stood = place_pack(RECORD_PLACED, 1, 1, r)
#endif

#include "counter.pml"

/* What an owner has left to the daemon for lack of memory. */
inline settle() {
#ifdef ABANDON
	threads[1] == 0 && threads[2] == 0;
	descent_finish(1, false);
	descent_finish(2, false)
#else
	skip
#endif
}
#define next_daemon_does() next_daemon()
inline next_daemon() {
#ifdef LEAVE
	kill(1);
	counter_close(1)
#else
	settle()
#endif
}

inline daemon_does() {
#ifndef CLOSE_ONLY
	descent_finish(1, true);
#endif
#ifdef KILL
	kill(2);
	counter_close(2);
#endif
	settle()
}

#include "parties.pml"

init {
	atomic {
		allowed[0] = 1;
		allowed[1] = 1;
		allowed[2] = 1;
		record(1, 1);
		record(2, 2);
		thread(1, 1, ROUNDS);
		thread(2, 2, 1);
		run Daemon(MORTAL)
	}
	schedule()
}
