/* SPDX-License-Identifier: MIT */

/*
 * A limit is lowered, acknowledged, and raised again, while two processes acquire and release. The daemon
 * may be killed anywhere; the next one bumps every cell.
 */

#define RECORDS 2
#define CELLS   1
#define LEVELS  1
#define PARTIES 3

#define parent_of(account) 0

#include "counter.pml"

inline limit_store(limit) {
	STEP;
	entry[0] = entry_pack(limit, 0);
	allowed[0] = (limit > allowed[0] -> limit : allowed[0])
}

/* From here on, the limit is in force. */
inline acknowledge() {
	allowed[0] = entry_limit(entry[0])
}

inline directory_set(limit) {
	limit_store(limit);
#ifndef NO_BUMP_LIMIT
	counter_bump(0);
#endif
	acknowledge()
}

inline daemon_does() {
	directory_set(1);
	directory_set(2)
}
#define stock_entry(account) acknowledge()

#include "parties.pml"

init {
	atomic {
		allowed[0] = 2;
		entry[0] = entry_pack(2, 0);
		record(1, 1);
		record(2, 2);
		thread(1, 1, ROUNDS);
		thread(2, 2, ROUNDS);
		run Daemon(MORTAL)
	}
	schedule()
}
