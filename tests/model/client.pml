/* SPDX-License-Identifier: MIT */

/*
 * A thread of a server: acquires and releases with one record, up to ACQUIRES times. Which account
 * and weight, and whether the slot is kept for good, is open.
 *
 * A scenario defines choose(): a_account, a_weight, a_found; and may_publish(): ok says whether the
 * session is open.
 */

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
		counter_acquire(number);
		if
		:: r == OK && round == ACQUIRES -> break /* keeps it: what it would do next, the daemon does */
		:: r == OK -> counter_release(number, a_seq)
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
