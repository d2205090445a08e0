/* SPDX-License-Identifier: MIT */

/*
 * Two processes, and two accounts below one whose limit is one slot. The process that comes second is refused
 * above a charged level, and discharges that level. The daemon revokes what the first process holds or takes.
 *
 * KILL: then the daemon finds the second process dead, and closes its record. SAME: both processes use one path.
 * PARENT: the second process takes slots of the parent itself.
 *
 * ABANDON: an owner may lack the memory to go on, and seizes its record, so that the daemon completes the release.
 * LEAVE: the next daemon lacks the memory; it completes nothing until the first process is dead.
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

/* Completes what owners could not complete for lack of memory. */
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
