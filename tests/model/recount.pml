/* SPDX-License-Identifier: MIT */

/*
 * daemon/upkeep/recount.c beside two processes. No process writes over the segment, so the recount never finds
 * a count that isn't the sum of what the records have charged. The first record goes from account 0 to account 1.
 *
 * DEEP: account 1 is below account 0, which the second process uses. The recount is of account DEEP.
 */

#define RECORDS 2
#ifdef DEEP
#define CELLS   2
#define LEVELS  2
#else
#define CELLS   2
#define LEVELS  1
#endif
#define PARTIES 3

#define entry_of(account)  entry_pack(2, 0)
#define parent_of(account) 0
#ifdef DEEP
#define choose() stood = (self == 1 -> place_pack(RECORD_PLACED, 1, 1, 1) : place_pack(RECORD_PLACED, 0, 1, 0))
#define RECOUNTED DEEP /* account */
#define TIMES     1
#else
#define choose() stood = place_pack(RECORD_PLACED, 0, 1, self == 1 && rounds == 0)
#define RECOUNTED 1
#define TIMES     2
#endif

#include "counter.pml"

inline record_add(number) {
	r = number;
	record_load();
	if
	:: is_on_path(place) && place_account(place) == RECOUNTED && seq_charged(at) > 0 -> i++
	:: is_on_path(place) && place_account(place) != RECOUNTED && place_top(place) == 1 &&
		parent_of(place_account(place)) == RECOUNTED && seq_charged(at) > 1 -> i++
	:: else
	fi;
	place = 0;
	noted = 0;
	at = 0
}

hidden byte the_recount_finds_nothing_wrong;

inline daemon_does() { /* recount */
	c = RECOUNTED;
	load_pair();
	last = tag;
	record_add(1);
	record_add(2);
	load(tag, cell_tag[c]);
#ifdef NO_TAG_AGAIN
	last = tag;
#endif
	promise(the_recount_finds_nothing_wrong, tag != last || word_count(word) == i)
}

#include "parties.pml"

init {
	atomic {
		allowed[0] = 2;
		allowed[1] = 2;
		record(1, 1);
		record(2, 2);
		thread(1, 1, TIMES);
		thread(2, 2, ROUNDS);
		run Daemon(false)
	}
	schedule()
}
