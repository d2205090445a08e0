/* SPDX-License-Identifier: MIT */

/* One client whose steps go further than half a round from what its record says, while the daemon
 * changes the cell, or cells, now and then. REFUSED: the parent's limit comes and goes. */

#define RECORDS 1
#ifdef TWO
#define CELLS   2
#define LEVELS  2
#define SEQS    32
#else
#define CELLS   1
#define LEVELS  1
#define SEQS    16
#endif
#define PARTIES 2

#define choose()           a_weight = 1; a_account = LEVELS - 1
#define may_publish()      ok = true
#define note_found()
#define note_publish()
#define scenario_at_rest()

#include "counter.pml"
#include "client.pml"

proctype Daemon(byte me) {
	COUNTER_LOCALS;

#ifdef REFUSED
	atomic {
		STEP;
		entry[0] = entry_pack(0, 0)
	}
#endif
	counter_bump(0);
#ifdef TWO
	counter_bump(1);
#endif
dies:
	finish()
}

init {
	atomic {
		daemon_seq = DAEMON_SEQ;
		allowed[0] = 1;
		entry[0] = entry_pack(1, 0);
#ifdef TWO
		allowed[1] = 1;
		entry[1] = entry_pack(1, 0);
#endif
		record[1] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		run Client(0, 1);
		run Daemon(1)
	}
}
