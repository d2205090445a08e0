/* SPDX-License-Identifier: MIT */

/* Two clients and two accounts whose cells bear tags of long ago: of either record, at any seq. The
 * daemon takes back what the first holds or takes, or closes the record of the second, dead. */

#define RECORDS 2
#define CELLS   2
#define LEVELS  1
#define SEQS    16
#define PARTIES 3
#ifndef ACQUIRES
#define ACQUIRES 1
#endif

#define choose()           a_weight = 1; if :: a_account = 0 :: a_account = 1 fi
#define may_publish()      ok = true
#define note_found()
#define note_publish()
#define scenario_at_rest()

#include "counter.pml"
#include "client.pml"

proctype Daemon(byte me) {
	COUNTER_LOCALS;

	if
	:: true ->
		revoke_one(1)
	:: true ->
		kill(1);
		counter_close(2)
	fi;
dies:
	finish()
}

init {
	byte tag;

	atomic {
		daemon_seq = DAEMON_SEQ;
		select (tag: 1 .. 8);
		cell[0] = cell_pack(0, 1 + (tag >> 2 & 1), tag & 3);
#ifdef LARGE
		select (tag: 1 .. 8);
#else
		tag = 1;
#endif
		cell[1] = cell_pack(0, 1 + (tag >> 2 & 1), tag & 3);
		tag = 0;
		allowed[0] = 1;
		allowed[1] = 1;
		entry[0] = entry_pack(1, 0);
		entry[1] = entry_pack(1, 0);
		record[1] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		record[2] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		run Client(0, 1);
		run Client(1, 2);
		run Daemon(2)
	}
}
