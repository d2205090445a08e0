/* SPDX-License-Identifier: MIT */

/*
 * daemon/directory-write.c: an account is removed if its count is 0, and its index used again, with
 * another limit, while two clients charge whatever the name was when they resolved it. The daemon
 * may be killed at every step; the next one takes stock.
 */

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

/* The name is found; an entry with limit 0 isn't LIVE. */
#define choose() \
	a_weight = 1; \
	load_entry(0, said); \
	a_found = entry_generation(said)
#define may_publish()      ok = (entry_limit(said) > 0)
#define note_found()
#define note_publish()
#define scenario_at_rest()

#include "counter.pml"
#include "client.pml"

inline entry_store(limit, generation) {
	atomic {
		STEP;
		entry[0] = entry_pack(limit, generation);
		if
		:: limit > allowed[0] -> allowed[0] = limit
		:: else
		fi
	}
}

inline bump_generation() {
#ifdef NO_BUMP_GENERATION
	skip
#else
	counter_bump(0)
#endif
}

inline directory_renew(limit) { /* also the removal that is taken back */
	generation++;
	entry_store(limit, generation);
	counter_bump(0)
}

/* The removal is done: who found the name before is admitted no more. */
inline is_removed() {
	atomic {
		STEP;
		allowed[0] = 0;
		alive_from[0] = entry_generation(entry[0])
	}
}

inline directory_remove() { /* is_free says whether it was removed */
	load_cell(0, word); /* counter_count */
	is_free = false;
	if
	:: cell_count(word) == 0 ->
		generation++;
		entry_store(0, generation); /* R1 */
		bump_generation(); /* R2 */
		load_cell(0, word); /* counter_count */
		if
		:: cell_count(word) > 0 -> directory_renew(2)
		:: else ->
			is_removed(); /* R3, R4 */
			is_free = true
		fi
	:: else
	fi;
	word = 0
}

inline directory_create(limit) {
	generation++;
	entry_store(limit, generation) /* C2 */
}

proctype Daemon(byte me) {
	COUNTER_LOCALS;
	byte generation;
	bit is_free;

	directory_remove();
	if
	:: is_free -> directory_create(1)
	:: else
	fi;
dies:
	atomic {
		generation = 0;
		is_free = false;
		finish()
	}
}

proctype NextDaemon(byte me) {
	COUNTER_LOCALS;
	byte generation;

	daemon_start(1);
	generation = entry_generation(entry[0]);
	counter_bump(0); /* stock_entry */
	if
	:: entry_limit(entry[0]) > 0
	:: else ->
		load_cell(0, word); /* entry_revive */
		if
		:: cell_count(word) > 0 ->
			word = 0;
			directory_renew(2)
		:: else ->
			word = 0;
			is_removed();
			directory_create(1)
		fi
	fi;
dies:
	atomic {
		generation = 0;
		finish()
	}
}

init {
	atomic {
		daemon_seq = DAEMON_SEQ;
		allowed[0] = 2;
		entry[0] = entry_pack(2, 0);
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
