/* SPDX-License-Identifier: MIT */

/*
 * Two clients, each with an account of its own below one that has room for one slot: who comes
 * second goes down again. The daemon takes back what the first holds or takes while it goes on, then
 * finds the second dead and closes its record.
 *
 * RESUME: one client, who goes on while a daemon resumes after one that had begun nothing.
 *
 * WARM: both stand there already, with tags of the first in its cells.
 *
 * RESTART: it is killed at any step, and the next one resumes. COLD: the ancestor's cell bears a tag
 * of the first client's record, at any seq.
 */

#define RECORDS 2
#define CELLS   3
#define LEVELS  2
#define SEQS    32
#if defined RESUME
#define PARTIES 2
#elif defined RESTART
#define PARTIES 4
#else
#define PARTIES 3
#endif
#ifndef ACQUIRES
#define ACQUIRES 1
#endif

#define choose()           a_weight = 1; a_account = number
#define may_publish()      ok = true
#define note_found()
#define note_publish()
#define scenario_at_rest()

#include "counter.pml"
#include "client.pml"

proctype Daemon(byte me) {
	COUNTER_LOCALS;

#ifndef CLOSE_ONLY
	revoke_one(1);
#endif
#ifndef REVOKE_ONLY
	kill(1);
	counter_close(2);
#endif
dies:
	finish()
}

#if defined RESTART || defined RESUME
proctype NextDaemon(byte me) {
	COUNTER_LOCALS;

#ifndef RESUME
	daemon_start(2);
	counter_resume(2);
#endif
	counter_resume(1); /* resume_records */
dies:
	finish()
}
#endif

init {
	byte tag;

	atomic {
#ifdef COLD
		select (tag: 0 .. 31);
		cell[0] = cell_pack(0, 1, tag);
		tag = 0;
#endif
		daemon_seq = DAEMON_SEQ;
		allowed[0] = 1;
		allowed[1] = 1;
		allowed[2] = 1;
		entry[0] = entry_pack(1, 0);
		entry[1] = entry_pack(1, 0);
		entry[2] = entry_pack(1, 0);
#ifdef WARM
		cell[0] = cell_pack(0, 1, SEQS - 1);
		cell[1] = cell_pack(0, 1, SEQS);
		cell[2] = cell_pack(0, 2, SEQS);
		record[1] = record_pack(RECORD_PLACED, 1, 1, 1, SEQS);
		record[2] = record_pack(RECORD_PLACED, 1, 1, 2, SEQS);
#else
		record[1] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
		record[2] = record_pack(RECORD_FREE, 0, 0, 0, SEQS);
#endif
		run Client(0, 1);
#ifdef RESUME
		run NextDaemon(1)
#else
		run Client(1, 2);
		run Daemon(2)
#endif
#ifdef RESTART
		;
		run NextDaemon(3)
#endif
	}
}
