/* SPDX-License-Identifier: MIT */

/*
 * Two clients and one account, and daemon/recount.c, which adds up their records while they go on.
 * Nobody writes over the segment: then it never finds a count that isn't the sum.
 *
 * NOISE: once somebody raises the count, at any moment. When all is quiet it is recounted once more,
 * and is what the records hold. (A count that is lowered is not here: a release finds it too small,
 * which is damage, and the model has none.)
 */

#define RECORDS 2
#define CELLS   1
#define LEVELS  1
#define SEQS    16
#ifdef NOISE
#define PARTIES 5
#else
#define PARTIES 3
#endif
#define ACQUIRES 1
#define LIMIT    2

#define choose()           a_weight = 1
#define may_publish()      ok = true
#define note_found()
#define note_publish()
#define scenario_at_rest()

#include "counter.pml"
#include "client.pml"

#define RECOUNT_LOCALS \
	COUNTER_LOCALS; \
	short was, now; \
	byte sum

inline record_add(number) { /* recount.c */
	s_number = number;
	record_newest(); /* counter_record */
	if
	:: counter_has_charged(record_with(s_rec, at), number, 0, was) -> sum = sum + record_weight(s_rec)
	:: else
	fi;
	at = 0;
	s_rec = 0
}

inline cell_compare() { /* recount.c */
	load_cell(0, now);
	if
	:: cell_count(now) == sum
#ifndef NO_WORD_AGAIN
	:: cell_count(now) != sum && now != was
#endif
	:: else ->
#ifndef NOISE
		assert(false); /* without noise there is nothing to repair */
#endif
		word = now;
		counter_repair(0, sum)
	fi
}

inline recount() {
	load_cell(0, was); /* cells_read: 1 */
	sum = 0;
	record_add(1); /* records_read: 2 */
	record_add(2);
	cell_compare(); /* cells_compare: 3 */
	was = 0;
	now = 0;
	sum = 0
}

proctype Recount(byte me) {
	RECOUNT_LOCALS;

	recount();
	recount();
dies:
	finish()
}

#ifdef NOISE
proctype Noise(byte me) {
	COUNTER_LOCALS;

	atomic {
		cell[0] = cell_pack(cell_count(cell[0]) + 1, cell_record(cell[0]), cell_seq(cell[0]));
		finish()
	}
}

proctype LastRecount(byte me) {
	RECOUNT_LOCALS;

	finished == PARTIES - 1;
	recount();
dies:
	finish()
}
#endif

init {
	atomic {
		daemon_seq = DAEMON_SEQ;
		allowed[0] = LIMIT;
		entry[0] = entry_pack(LIMIT, 0);
		record[1] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		record[2] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		run Client(0, 1);
		run Client(1, 2);
		run Recount(2);
#ifdef NOISE
		run Noise(3);
		run LastRecount(4)
#endif
	}
}
