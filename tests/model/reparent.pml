/* SPDX-License-Identifier: MIT */

/*
 * An account of two levels is removed and made again below another parent, while a record still
 * stands on it, at rest, and the new parent's cell bears an old tag of that record, of any seq.
 * Another client charges the new parent meanwhile.
 */

#define RECORDS 2
#define CELLS   3
#define LEVELS  2
#define SEQS    32
#define PARTIES 2

/* 0 and 1 have no ancestors; 2 is below either. */
#define directory_top(account) ((account) >> 1)
#define ACQUIRES 1

#define choose()           a_weight = 1; a_account = 1
#define may_publish()      ok = true
#define note_found()
#define note_publish()
#define scenario_at_rest()

#include "counter.pml"
#include "client.pml"

proctype Daemon(byte me) {
	COUNTER_LOCALS;

#ifndef NO_BUMP_ANCESTOR
	counter_bump(1); /* directory_create: before C1 */
#endif
	atomic { /* entry_write: C1 */
		STEP;
		parent[2] = 1;
		check()
	}
	counter_bump(1); /* and any change of it after that */
dies:
	finish()
}

init {
	byte tag;

	atomic {
		select (tag: 0 .. 31);
		cell[1] = cell_pack(0, 1, tag);
		tag = 0;
		daemon_seq = DAEMON_SEQ;
		allowed[1] = 1;
		entry[1] = entry_pack(1, 0);
		record[1] = record_pack(RECORD_PLACED, 1, 1, 2, SEQS);
		record[2] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		run Client(0, 2);
		run Daemon(1)
	}
}
