/* SPDX-License-Identifier: MIT */

/*
 * A thread of a server: acquires and releases with one record, up to ACQUIRES times. Which account
 * and weight, and whether the slot is kept for good, is open; with SHORT, by which way.
 *
 * A scenario defines choose(): a_account, a_weight, a_found; and may_publish(): ok says whether the
 * session is open.
 */

/* The short way first, or not. */
inline release(number) {
#ifdef SHORT
	if
	:: a_top == 0 -> counter_release_warm(number, a_seq, a_account)
	:: a_top > 0 -> counter_release_levels(number, a_seq)
	:: r = EAGAIN
	fi;
	if
	:: r == EAGAIN -> counter_release_at(number, a_seq)
	:: else
	fi
#else
	counter_release_at(number, a_seq)
#endif
}

proctype Client(byte me; byte number) {
	COUNTER_LOCALS;
	ACQUIRE_LOCALS;
	byte round;

	do
	:: round == ACQUIRES -> break
	:: else ->
		round++;
		choose();
		may_publish();
		if
		:: !ok -> break
		:: else
		fi;
		r = OK;
		counter_acquire_at(number);
		if
		:: r == OK && round == ACQUIRES -> break /* keeps it: what it would do next, the daemon does */
		:: r == OK -> release(number)
		:: r == OK -> break
		:: r == ESHUTDOWN -> break
		:: else
		fi;
		a_seq = 0
	od;
dies:
	atomic {
		ACQUIRE_FORGET;
		round = 0;
		finish()
	}
}

inline revoke_one(number) { /* admin.c: a slot that is held, or on its way up */
	s_number = number;
	record_newest(); /* counter_record */
	if
	:: record_state(s_rec) == RECORD_PLACED && record_step(record_with(s_rec, at)) > 0 &&
		record_step(record_with(s_rec, at)) <= record_top(s_rec) + 1 -> counter_revoke()
	:: else
	fi;
	at = 0;
	s_rec = 0
}
