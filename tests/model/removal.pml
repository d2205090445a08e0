/* SPDX-License-Identifier: MIT */

/*
 * daemon/shared/directory-write.c: account 1, below account 0, is removed if its count is 0, and its index is used
 * again below account 2. Meanwhile a process acquires slots of the account that it found by the name; its record
 * may rest there. Another process takes slots of either parent. The daemon revokes, and may be killed anywhere;
 * the next one restores its state from the shared files.
 *
 * SHARED: another thread of the first process uses the same record, and a path that may be out of date.
 */

#define RECORDS 2
#define CELLS   3
#define LEVELS  2
#ifdef SHARED
#define PARTIES 4
#else
#define PARTIES 3
#endif

/* The name is found: an entry whose limit is 0 isn't LIVE. */
#define choose() \
	stood = place_pack(RECORD_PLACED, 1, 1, 1); \
	STEP; \
	found = entry_generation(entry[1]); \
	if \
	:: self == 1 \
	:: self == 2 -> stood = place_pack(RECORD_PLACED, 0, 1, 0); found = 0 \
	:: self == 2 -> stood = place_pack(RECORD_PLACED, 0, 1, 2); found = 0 \
	fi
#define may_acquire() ok = (self == 2 || entry_limit(entry[1]) > 0)

#include "counter.pml"

inline entry_store(limit) {
	STEP;
	entry[1] = entry_pack(limit, entry_generation(entry[1]) + 1);
	allowed[1] = (limit > allowed[1] -> limit : allowed[1])
}

inline directory_renew() { /* the removal is undone */
	entry_store(1);
	counter_bump(1)
}

/* No slot is held, and none can be taken: frees the index. */
inline index_free() {
#ifndef NO_NOTE_REMOVAL
	load(tag, cell_tag[1]);
	tag_note(tag);
	tag = 0;
#endif
	alive_from[1] = entry_generation(entry[1])
}

inline directory_create() {
	STEP;
	parent[1] = 2;
	entry_store(1)
}

inline directory_remove() {
	load(word, cell_word[1]);
	if
	:: word_count(word) == 0 ->
		entry_store(0);
#ifndef NO_BUMP_GENERATION
		counter_bump(1);
#endif
		load(word, cell_word[1]);
		if
		:: word_count(word) == 0 ->
			index_free();
			directory_create()
		:: else -> directory_renew()
		fi
	:: else
	fi
}

inline daemon_does() {
#ifdef REVOKE
	descent_finish(1, true);
#endif
	directory_remove()
}

/* The next daemon, at its start. */
#define stock_entry(account) entry_revive(account)
inline entry_revive(account) {
	if
	:: account == 1 && entry_limit(entry[1]) == 0 ->
		load(word, cell_word[1]);
		if
		:: word_count(word) == 0 -> index_free()
		:: else -> directory_renew()
		fi
	:: else
	fi
}
#define next_daemon_does() index_use_again()
inline index_use_again() {
	if
	:: entry_limit(entry[1]) == 0 -> directory_create()
	:: else
	fi
}

#include "parties.pml"

init {
	atomic {
		allowed[0] = 2; entry[0] = entry_pack(2, 0);
		allowed[1] = 1; entry[1] = entry_pack(1, 0);
		allowed[2] = 1; entry[2] = entry_pack(1, 0);
		record(1, 1);
		record(2, 2);
		thread(1, 1, ROUNDS);
		thread(2, 2, 1);
#ifdef SHARED
		thread(1, 1, 1);
#endif
		run Daemon(MORTAL)
	}
	schedule()
}
