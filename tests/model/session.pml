/* SPDX-License-Identifier: MIT */

/*
 * daemon/holders/sessions.c and ranges.c: the session of a process ends, since its socket hung up, while two
 * threads of the process are inside. When the process is dead, its range (one record) goes to another session. The
 * daemon may be killed anywhere; the next one goes on.
 *
 * GOODBYE: instead, a thread of the process closes the session, and says goodbye if it has claimed every
 * record. Then the range goes to the other session at once.
 */

#define RECORDS 1
#ifdef DEEP
#define CELLS   2
#define LEVELS  2
#else
#define CELLS   1
#define LEVELS  1
#endif
#define PARTIES 4

#define SHARED
#define entry_of(account)  entry_pack(1, 0)
#define parent_of(account) 0
#define choose() \
	stood = place_pack(RECORD_PLACED, LEVELS - 1, 1, LEVELS - 1)
#define may_acquire() \
	STEP; \
	ok = (session[self] == SESSION_OPEN && (self == 1 || told))

/* enum session_state */
#define SESSION_NONE   0
#define SESSION_OPEN   1
#define SESSION_ENDING 2
#define SESSION_ENDED  3
#define SESSION_KEEPER 4

byte session[3] = SESSION_OPEN;
bit told;    /* session 2 knows of the range */
bit goodbye; /* was said */

#include "counter.pml"

inline state_write(state) {
	STEP;
	session[1] = state
}

inline owner_write(process) {
	STEP;
	owner[1] = process
}

/* Ends the session as far as is possible now. */
inline session_end(is_dead) {
	if
	:: session[1] == SESSION_OPEN -> state_write(SESSION_ENDING) /* E1 */
	:: else
	fi;
	if
	:: session[1] == SESSION_ENDING ->
		counter_close(1); /* E2 */
		state_write(SESSION_ENDED) /* E3 */
	:: else
	fi;
	if
	:: session[1] == SESSION_ENDED && (is_dead) ->
		if
		:: owner[1] == 1 -> owner_write(0) /* E4 */
		:: else
		fi;
		state_write(SESSION_NONE) /* E5 */
	:: else
	fi
}

inline ranges_grant() {
	if
	:: owner[1] == 0 ->
		owner_write(2); /* G1 */
		counter_open(1); /* G2 */
		STEP;
		told = true /* G3 */
	:: else
	fi
}

#ifdef RANGE_OF_LIVING
#define is_gone true
#else
#define is_gone (dead[1] || goodbye)
#endif

/* The socket hangs up, with or without a goodbye; then the process dies. */
inline session_serve() {
	session_end(is_gone);
	ranges_grant();
	if
	:: !dead[1] && !is_gone ->
		kill(1);
		session_end(is_gone)
	:: else
	fi;
	ranges_grant()
}

inline daemon_does() {
	session_serve()
}
#define next_daemon_does() session_serve()

#include "parties.pml"

/* berth_close: claims every record, so that no thread that is still inside can use one. */
inline berth_close() {
#ifdef NO_GOODBYE_RULE
	ok = true;
#else
	claim();
#endif
	STEP;
	goodbye = ok
}

proctype Closer(byte self; byte r) { atomic {
	LOCALS;

	berth_close();
dies:
	finish() }
}

init {
	atomic {
		allowed[0] = 1;
		allowed[LEVELS - 1] = 1;
		record(1, 1);
		thread(1, 1, ROUNDS);
#ifdef GOODBYE
		threads[1]++;
		run Closer(1, 1);
#else
		thread(1, 1, 1);
#endif
		thread(2, 1, 1);
		run Daemon(MORTAL)
	}
	schedule()
}
