/* SPDX-License-Identifier: MIT */

/*
 * Two threads of one process, which share a record by claims, and have both looked at cells before they
 * claim it. It may go far while it is placed elsewhere, on account 1, between the look and the claim of
 * the other thread. Another process takes a slot of account 0; the daemon revokes.
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

/* The first thread goes elsewhere, and comes back. DEEP: account 1 is also the parent of account 0. */
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
/* Releases what the other thread holds, as that does itself. */
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
		/* It rests there since a while. */
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
