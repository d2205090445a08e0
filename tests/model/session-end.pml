/* SPDX-License-Identifier: MIT */

/*
 * daemon/sessions.c and ranges.c: the session of a live process ends, for its socket hung up, and
 * only when the process is dead does its range (one record) go to another session. The daemon may be
 * killed at every step; the next one goes on.
 *
 * FULL: before that the limit is lowered to 0, so an acquire may be refused that has been published.
 *
 * GOODBYE: instead of that the process says goodbye while a thread of it, against berth.h, has found
 * the record FREE and is about to publish: it must not get hold of what is another's by then.
 */

#define RECORDS 1
#define CELLS   1
#define LEVELS  1
#define SEQS    16
#define PARTIES 4
#ifdef GOODBYE
#define ACQUIRES 1
#endif
#ifndef ACQUIRES
#define ACQUIRES 2
#endif

/* enum session_state */
#define SESSION_NONE   0
#define SESSION_OPEN   1
#define SESSION_ENDING 2
#define SESSION_ENDED  3

byte session[2] = SESSION_OPEN;
byte owner = 1; /* of record 1's range: the session + 1, 0 nobody's */
bit told;       /* session 1 knows of the range */
bit found;      /* the first client has seen the record FREE */

#define choose() a_weight = 1

#include "counter.pml"

/* session_is_open; the second has to have a range. */
inline may_publish() {
	atomic {
		STEP;
		ok = (session[me] == SESSION_OPEN && (me == 0 || told))
	}
}

inline note_found() {
	found = found || me == 0
}

inline note_publish() {
	assert(owner == me + 1) /* nobody publishes a record of another's session */
}

inline scenario_at_rest() {
	assert(!dead[0] || session[0] == SESSION_NONE); /* at rest no session outlives its process */
	assert(session[0] != SESSION_ENDING); /* at rest no session is left half ended */
	assert(owner != 1 || (session[0] == SESSION_OPEN) == (record_state(record[1]) != RECORD_CLOSED)); /* at rest the records of open sessions are open, and those alone */
	assert(owner != 2 || !told || record_state(record[1]) != RECORD_CLOSED); /* at rest a record that was handed out is open */
	assert(owner != 0 || record_state(record[1]) == RECORD_CLOSED) /* at rest a record of nobody's is closed */
}

#include "client.pml"

inline state_write(state) {
	atomic {
		STEP;
		session[0] = state
	}
}

inline owner_write(to) { /* G1, T1 */
	atomic {
		STEP;
		owner = to
	}
}

inline session_end(is_dead) {
#ifndef NO_ENDING
	if
	:: session[0] == SESSION_OPEN -> state_write(SESSION_ENDING) /* E1 */
	:: else
	fi;
#endif
	if
	:: session[0] == SESSION_ENDING || session[0] == SESSION_OPEN ->
		if
		:: owner == 1 -> counter_close(1) /* session_close_records: E2 */
		:: else
		fi;
		state_write(SESSION_ENDED) /* E3 */
	:: else
	fi;
	if
	:: session[0] == SESSION_ENDED && is_dead ->
		if
		:: owner == 1 -> owner_write(0) /* ranges_take_back: E4 */
		:: else
		fi;
		state_write(SESSION_NONE) /* E5 */
	:: else
	fi
}

inline ranges_grant() {
	if
	:: owner == 0 ->
		owner_write(2); /* G1 */
		counter_open(1); /* G2 */
		atomic { /* G3 */
			STEP;
			told = true
		}
	:: else
	fi
}

#ifdef RANGE_OF_LIVING
#define is_dead_enough true
#else
#define is_dead_enough dead[0]
#endif

proctype Daemon(byte me) {
	COUNTER_LOCALS;

#ifdef FULL /* while somebody is about to change the cell, so that what was published is refused */
	atomic { /* word_store */
		STEP;
		entry[0] = entry_pack(0, 0)
	}
	counter_bump(0);
	allowed[0] = 0;
#endif
#ifdef GOODBYE
	if
	:: found -> session_end(true)
	:: else
	fi;
#else
	session_end(is_dead_enough);
	kill(0);
	session_end(true);
#endif
	ranges_grant();
dies:
	finish()
}

proctype NextDaemon(byte me) {
	COUNTER_LOCALS;

	daemon_start(2);
	counter_resume(1); /* resume_records */
	if /* session_adopt, adopt_watches */
#ifndef NO_RESUME_ENDING
	:: session[0] == SESSION_ENDING || session[0] == SESSION_ENDED || dead[0] ->
#else
	:: dead[0] ->
#endif
		session_end(dead[0])
	:: else
	fi;
	ranges_grant();
dies:
	finish()
}

init {
	atomic {
		daemon_seq = DAEMON_SEQ;
		allowed[0] = 1;
		entry[0] = entry_pack(1, 0);
		if
		:: record[1] = record_pack(RECORD_FREE, 0, 0, 0, SEQS)
		:: record[1] = record_pack(RECORD_PLACED, 0, 1, 0, SEQS)
		fi;
		run Client(0, 1);
		run Client(1, 1);
		run Daemon(2);
		run NextDaemon(3)
	}
}
