/* SPDX-License-Identifier: MIT */

/*
 * Two processes and one account. The daemon revokes what the first process holds or takes, while both go on.
 * Then it finds the second process dead, and closes its record.
 *
 * WEIGHTS: slots of weight 1 or 2, of 3.
 */

#define RECORDS 2
#define CELLS   1
#define LEVELS  1
#define PARTIES 3

#ifdef WEIGHTS
#define LIMIT 3
#define choose() \
	if \
	:: stood = place_pack(RECORD_PLACED, 0, 1, 0) \
	:: stood = place_pack(RECORD_PLACED, 0, 2, 0) \
	fi
#else
#define LIMIT 1
#endif
#define entry_of(account)  entry_pack(LIMIT, 0)
#define parent_of(account) 0

#include "counter.pml"

inline daemon_does() {
	descent_finish(1, true);
	kill(2);
	counter_close(2)
}

#include "parties.pml"

init {
	atomic {
		allowed[0] = LIMIT;
		record(1, 1);
		record(2, 2);
		thread(1, 1, ROUNDS);
		thread(2, 2, 1);
		run Daemon(MORTAL)
	}
	schedule()
}
