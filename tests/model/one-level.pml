/* SPDX-License-Identifier: MIT */

/* Two clients and one account. The daemon takes back what the first holds or takes while it goes on,
 * then finds the second dead and closes its record. */

#define RECORDS 2
#define CELLS   1
#define LEVELS  1
#define SEQS    16
#define PARTIES 3
#ifndef ACQUIRES
#define ACQUIRES 2
#endif
#ifdef WEIGHTS
#define LIMIT     3
#define choose()  if :: a_weight = 1 :: a_weight = 2 fi
#else
#define LIMIT     1
#define choose()  a_weight = 1
#endif

#define may_publish() ok = true
#define note_found()
#define note_publish()
#define scenario_at_rest()

#include "counter.pml"
#include "client.pml"

proctype Daemon(byte me) {
	COUNTER_LOCALS;

	revoke_one(1);
	kill(1);
	counter_close(2);
dies:
	finish()
}

init {
	atomic {
		daemon_seq = DAEMON_SEQ;
		allowed[0] = LIMIT;
		entry[0] = entry_pack(LIMIT, 0);
		record[1] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		record[2] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		run Client(0, 1);
		run Client(1, 2);
		run Daemon(2)
	}
}
