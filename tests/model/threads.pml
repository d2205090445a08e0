/* SPDX-License-Identifier: MIT */

/*
 * Two threads of one process share a record by claims, and both have read cells before they claim it. Between the
 * read and the claim of one thread, the other may place the record elsewhere, on account 1, and use many of its
 * cycles there. Another process takes a slot of account 0; the daemon revokes.
 */

#define RECORDS 2
#define CELLS   2
#ifdef DEEP
#define LEVELS  2
#else
#define LEVELS  1
#endif
#ifdef ALONE
#define PARTIES 3
#else
#define PARTIES 4
#endif

#define SHARED
#define FAR 2

#define entry_of(account)  entry_pack(1, 0)
#define parent_of(account) 1

/* The first thread uses account 1, then account 0. DEEP: account 1 is also the parent of account 0. */
#define choose() \
	stood = (r == 1 && rounds == 1 -> place_pack(RECORD_PLACED, 0, 1, 1) \
		: place_pack(RECORD_PLACED, LEVELS - 1, 1, 0))

#include "counter.pml"

inline daemon_does() {
#ifdef REVOKE
	descent_finish(1, true)
#else
	skip
#endif
}

#include "parties.pml"

#ifdef TWICE
/* Releases the slot that the other thread holds, which that thread releases at the same time. */
proctype Releaser(byte self; byte r) { atomic {
	LOCALS;

	stood = place_pack(RECORD_PLACED, LEVELS - 1, 1, 0);
	load_parent(0);
	STEP;
	last = token[r];
	if
	:: last == 0 || last == CLAIMED -> goto dies
	:: else
	fi;
	n = LEVELS;
	to = seq_down(last, n - 1);
	descend();
	if
	:: begun -> token_store(0)
	:: else -> tell_holder()
	fi;
dies:
	finish() }
}
#endif

init {
	atomic {
		allowed[0] = 1;
		allowed[1] = 1;
		parent[0] = 1;
		record(1, 1);
		record(2, 2);
		/* The record rests there at the start. */
		place_of[1] = place_pack(RECORD_PLACED, LEVELS - 1, 1, 0);
		cell_tag[0] = tag_pack(1, CYCLE);
#ifdef TWICE
		thread(1, 1, 1);
		threads[1]++;
		run Releaser(1, 1);
#else
		thread(1, 1, 2);
		thread(1, 1, 1);
#endif
#ifndef ALONE
		thread(2, 2, 1);
#endif
		run Daemon(MORTAL)
	}
	schedule()
}
