/* SPDX-License-Identifier: MIT */

/*
 * The threads of a server, and what each daemon does at its start.
 *
 * A configuration defines choose(), which sets `stood`, the place that an acquire is for, `above`, and
 * `found`, the generation of the account; and may_acquire(), after which `ok` tells whether the session is
 * open.
 */

#ifndef choose
#define choose()      stood = place_pack(RECORD_PLACED, 0, 1, 0)
#endif
#ifndef stock_entry
#define stock_entry(account)
#endif
#ifndef next_daemon_does
#define next_daemon_does()
#endif
#ifndef may_acquire
#define may_acquire() ok = true
#endif

/* The last thing that init does. */
inline schedule() {
end:	do
	:: go[1] ! 0
	:: go[2] ! 0
#if PARTIES > 2
	:: go[3] ! 0
#endif
#if PARTIES > 3
	:: go[4] ! 0
#endif
	od
}

/* For init: a record, FREE, of a process. */
inline record(number, process) {
	place_of[number] = place_pack(RECORD_FREE, 0, 0, 0);
	owner[number] = process
}

inline thread(process, number, rounds) {
	threads[process]++;
	run Thread(process, number, rounds)
}

/* The daemon finds a process dead. */
inline kill(process) {
	STEP;
	dead[process] = true;
	threads[process] == 0 /* no party sees what a dead thread does next */
}

#ifndef SHARED /* by two threads */
inline claim() {
	ok = true
}
#define token_store(value)
#define token_take() ok = true
#else
inline claim() {
	STEP;
	ok = (token[r] == 0);
	token[r] = (ok -> CLAIMED : token[r])
}

inline token_store(value) {
	STEP;
	token[r] = value
}

#define token_take() \
	ok = (token[r] == last); \
	token[r] = (ok -> 0 : token[r])
#endif

/* The thread could not release the slot `last`. It finds out whether another thread of its process released it,
 * or the daemon. */
inline tell_holder() {
	record_load();
	STEP;
	if
	:: place_state(place) == RECORD_PLACED && at >= last && at <= seq_rest(last) ->
		promise(the_holder_is_told_the_truth, !revoked[r])
	:: else ->
		token_take();
		/* From V1 on, the daemon releases the slot. */
		promise(the_holder_is_told_the_truth,
			!ok || revoked[r] || place_state(place_of[r]) == RECORD_SEIZED)
	fi
}

/* Acquires and releases `rounds` times with the record r. */
proctype Thread(byte self; byte r; byte rounds) { atomic {
	LOCALS;
	ACQUIRE_LOCALS;

	do
	:: rounds == 0 -> break
	:: else ->
		rounds--;
		choose();
		load_parent(place_account(stood));
		may_acquire();
		code = (ok -> OK : EAGAIN);
		counter_check();
		ok = false;
#ifdef PLACE_OLD_LOOK
		byte old_tag;
		STEP;
		old_tag = cell_tag[place_account(place_of[r])];
#endif
		if
		:: code == OK -> claim()
		:: else
		fi;
		if
		:: ok ->
			record_ready();
			if
			:: code == OK -> ascend()
			:: else
			fi;
			last = at + n;
			if
			:: code == OK ->
				token_store(last)
			:: else
			fi;
			if
			:: code == ECANCELED || n == 0
			:: else ->
				to = seq_down(last, n - 1);
				descend()
			fi;
			if
			:: code == OK && !begun -> tell_holder()
			:: else -> token_store(0)
			fi
		:: else
		fi;
		ACQUIRE_FORGET;
		FORGET
	od;
dies:
	rounds = 0;
	ACQUIRE_FORGET;
	finish() }
}

/* The daemon executes the configuration's daemon_does(). If it is mortal, it may die at each step; the next
 * daemon then starts as below. */
proctype Daemon(bit is_mortal) { atomic {
	LOCALS;
	byte self, r, i;

	mortal = is_mortal;
	daemon_does();
	goto over;
dies:
	mortal = false;
	FORGET;
	i = 0;
	do
	:: i == CELLS -> break
	:: else ->
#ifndef NO_BUMP_START
		counter_bump(i);
#endif
		stock_entry(i);
		i++
	od;
	i = 1;
	do
	:: i > RECORDS -> break
	:: else ->
		if
		:: dead[owner[i]] -> counter_close(i)
#if defined NO_RESUME || defined LEAVE
		:: else
#else
		:: else -> descent_finish(i, false)
#endif
		fi;
		i++
	od;
	next_daemon_does();
over:
	mortal = false;
	is_mortal = false;
	r = 0;
	i = 0;
	finish() }
}
