/* SPDX-License-Identifier: MIT */

/* Two clients, one account. The daemon takes back what the first holds, or closes its record, and is
 * killed at any step; the next one resumes that, and closes the record of the second, which is dead. */

#define RECORDS 2
#define CELLS   1
#define LEVELS  1
#define SEQS    16
#define PARTIES (CLIENTS + 2)
#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef ACQUIRES
#define ACQUIRES 1
#endif

#define choose()           a_weight = 1
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
	:: true -> counter_close(1)
	fi;
dies:
	finish()
}

proctype NextDaemon(byte me) {
	COUNTER_LOCALS;

	daemon_start(1);
	counter_resume(1); /* resume_records */
	if
	:: CLIENTS > 1 ->
		counter_resume(2);
		kill(3);
		counter_close(2)
	:: else
	fi;
dies:
	finish()
}

init {
	atomic {
		daemon_seq = DAEMON_SEQ;
		allowed[0] = 1;
		entry[0] = entry_pack(1, 0);
		record[1] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		record[2] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		run Client(0, 1);
		run Daemon(1);
		run NextDaemon(2);
		if
		:: CLIENTS > 1 -> run Client(3, 2)
		:: else
		fi
	}
}
