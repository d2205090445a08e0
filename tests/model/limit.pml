/* SPDX-License-Identifier: MIT */

/* Two clients; the daemon takes the limit away and gives it back (directory-write.c), and may be
 * killed at every step: the next one puts in force what was stored, then takes it away again. */

#define RECORDS 2
#define CELLS   1
#define LEVELS  1
#define SEQS    16
#define PARTIES (CLIENTS + RESTARTS + 1)
#ifndef ACQUIRES
#define ACQUIRES 1
#endif
#ifndef CLIENTS
#define CLIENTS 2
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif

#define choose()           a_weight = 1
#define may_publish()      ok = true
#define note_found()
#define note_publish()
#define scenario_at_rest()

#include "counter.pml"
#include "client.pml"

byte stored; /* the limit, as the store has it */

inline word_store(limit) {
	atomic {
		STEP;
		entry[0] = entry_pack(limit, 0);
		if
		:: limit > allowed[0] -> allowed[0] = limit
		:: else
		fi
	}
#ifndef NO_BUMP_LIMIT
	counter_bump(0)
#endif
}

inline set(limit) {
	atomic {
		STEP;
		stored = limit
	}
	word_store(limit);
	atomic { /* the answer */
		STEP;
		allowed[0] = limit
	}
}

proctype Daemon(byte me) {
	COUNTER_LOCALS;

	counter_bump(0); /* directory_new */
	set(0);
	set(1);
dies:
	finish()
}

proctype NextDaemon(byte me) {
	COUNTER_LOCALS;

	daemon_start(1);
	counter_bump(0); /* directory_new */
	word_store(stored); /* load_limits */
	allowed[0] = stored;
	set(0);
dies:
	finish()
}

init {
	atomic {
		daemon_seq = DAEMON_SEQ;
		stored = 1;
		allowed[0] = 1;
		entry[0] = entry_pack(1, 0);
		record[1] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		record[2] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		run Client(0, 1);
		run Daemon(1);
		if
		:: RESTARTS > 0 -> run NextDaemon(2)
		:: else
		fi;
		if
		:: CLIENTS > 1 -> run Client(CLIENTS + RESTARTS, 2)
		:: else
		fi
	}
}
