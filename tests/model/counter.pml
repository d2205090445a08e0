/* SPDX-License-Identifier: MIT */

/*
 * client/counter.c, step by step: every function that touches shared memory, under its own name.
 *
 * Each access to a shared word is one atomic step, in the order of the code, and before each its
 * party may turn out to be dead (STEP): killed with every shared write before it done and none
 * after. A killed party that nobody has noticed yet is one that is merely slow, so death is
 * modelled at the moment when somebody acts on it: the daemon ends the session, the next daemon
 * starts. What a party computes for itself, between two accesses, is seen by nobody.
 *
 * Sequence numbers come round (SEQS, 4 where one level is charged; two need more than (2 *
 * depth + 1) * depth = 10, for seq_pass_tags must find room between the tags of both cells: 16). Records begin one
 * round after the tags that a scenario leaves in the cells, so each cold tag is met at once.
 *
 * What is conceded (counter.c, "What 64 bits can't give") is that a party stopped for exactly a
 * whole round finds the word that it remembers and goes on wrongly. So the words bear the rounds,
 * too: a comparison of whole words (cas, step_stands) sees them, one of seqs alone (step_is_tagged,
 * record_awaits, same_descent, seq_meets_tag, is_my_…) doesn't. Nothing else knows of rounds.
 *
 * Nobody waits: no choice here is without its else (tests/model/run looks), so no statement blocks;
 * and seqs with their rounds never go back, so a state can only come again if a loop went round
 * without any word having changed: spin finds that there is no such cycle at all (-DNP). Hence from
 * every state, each party that is left alone comes to the end of what it does.
 *
 * A scenario defines RECORDS, CELLS, LEVELS, SEQS and PARTIES, what the parties do, and, as macros,
 * choose(), may_publish(), note_found(), note_publish() and scenario_at_rest(). NO_… and
 * STORE_… take a safety step away (tests/model/run).
 *
 * Not here: counter_check, counter_count, counter_record (a load each, nothing follows from them),
 * counter_deny, cell_note_peak, record_label, record_stamp (numbers beside the words), damage and lack of
 * memory (step_find_cell, step_lost, is_noise, counter_discard), wake_changed, and ROUNDS, which
 * nothing reaches.
 */

/* enum record_state */
#define RECORD_CLOSED   0
#define RECORD_FREE     1
#define RECORD_CHARGE   2
#define RECORD_HELD     3
#define RECORD_UNCHARGE 4
#define RECORD_CANCEL   5
#define RECORD_EFFECT   6

/* cell: count:4 | record:2 | round and seq:5 */
#define cell_pack(count, number, seq) ((count) << 7 | (number) << 5 | (seq))
#define cell_count(word)              ((word) >> 7)
#define cell_record(word)             ((word) >> 5 & 3)
#define cell_seq(word)                ((word) & 31)

/* record: state:3 | level:1 | weight:2 | account:2 | round and seq:5 */
#define record_pack(state, level, weight, account, seq) \
	((state) << 10 | (level) << 9 | (weight) << 7 | (account) << 5 | (seq))
#define record_state(rec)   ((rec) >> 10)
#define record_level(rec)   ((rec) >> 9 & 1)
#define record_weight(rec)  ((rec) >> 7 & 3)
#define record_account(rec) ((rec) >> 5 & 3)
#define record_seq(rec)     ((rec) & 31)

/* entry: limit:4 | generation:2 */
#define entry_pack(limit, generation) ((limit) << 2 | (generation))
#define entry_limit(word)             ((word) >> 2)
#define entry_generation(word)        ((word) & 3)

#define seq_next(seq)         ((seq) + 1)
#define seq_distance(from, to) (((to) - (from)) & (SEQS - 1))
#define seq_same(a, b)        (seq_distance(a, b) == 0)

short record[RECORDS + 1]; /* 0 is nobody's */
short cell[CELLS];
byte entry[CELLS];
byte parent[CELLS]; /* of an account, of two levels */
byte daemon_seq;
bit dead[PARTIES];

/* What a call returns. */
#define OK         0
#define EDQUOT     1
#define ESTALE     2
#define EAGAIN     3
#define ESHUTDOWN  4
#define ECANCELED  5
#define ENOENT     6

/* No word of a fresh cell may look like one that the daemon wrote: segment.c begins with 1. */
#ifdef DAEMON_SEQ_ZERO
#define DAEMON_SEQ 0
#else
#define DAEMON_SEQ 1
#endif

/* -- what must hold ------------------------------------------------------------------------------ */

/* The truth, which no code reads: bit k of charged[r] says that record r's level k is counted. */
byte charged[RECORDS + 1];
bit held[RECORDS + 1];    /* a slot that nobody has begun to release */
byte allowed[CELLS];      /* the highest count that an admission may make now */
byte alive_from[CELLS];   /* the generation below which the account's removal was acknowledged */
byte finished;

#if LEVELS == 1
#define directory_ancestor(account, level) (account)
#define directory_depth(account)           1
#else
#define directory_ancestor(account, level) ((level) == 0 -> (account) : parent[account])
#define directory_depth(account)           2
#endif

#define ALL_LEVELS ((1 << LEVELS) - 1)

/* The weight with which record r is counted at its level k in cell c, as its word and the cell's tag
 * say: the invariant that counter.c opens with. */
#define counts_at(r, k, c) \
	(record_state(record[r]) >= RECORD_CHARGE \
		&& directory_ancestor(record_account(record[r]), k) == (c) \
		&& (record_state(record[r]) == RECORD_HELD || (k) < record_level(record[r]) \
			|| ((k) == record_level(record[r]) && (record_state(record[r]) == RECORD_EFFECT \
				|| ((record_state(record[r]) == RECORD_UNCHARGE) != is_tag(r, c))))) \
		-> record_weight(record[r]) : 0)
#define is_tag(r, c) (cell_record(cell[c]) == (r) && \
	seq_same(cell_seq(cell[c]), record_seq(record[r])))

#if LEVELS == 1
#define counts_in(r, c) counts_at(r, 0, c)
#else
#define counts_in(r, c) counts_at(r, 0, c) + counts_at(r, 1, c)
#endif
#if RECORDS == 1
#define sum_in(c) (counts_in(1, c))
#elif RECORDS == 2
#define sum_in(c) (counts_in(1, c) + counts_in(2, c))
#else
#define sum_in(c) (counts_in(1, c) + counts_in(2, c) + counts_in(3, c))
#endif
#define is_exact(c) (cell_count(cell[c]) == sum_in(c))
#if CELLS == 1
#define counts_are_exact is_exact(0)
#elif CELLS == 2
#define counts_are_exact (is_exact(0) && is_exact(1))
#else
#define counts_are_exact (is_exact(0) && is_exact(1) && is_exact(2))
#endif

#define is_settled(r) (record_state(record[r]) == RECORD_FREE \
	|| record_state(record[r]) == RECORD_CLOSED || record_state(record[r]) == RECORD_HELD)

#if defined MUTATED || defined NOISE /* is judged by what shows from outside alone */
#define check()
#else
#define check() assert(counts_are_exact) /* a cell's count is what records have charged */
#endif

/* When everyone is done: nothing is on its way, and counts are what records hold. */
inline at_rest() {
	assert(is_settled(1) && is_settled(RECORDS)); /* at rest no slot is on its way */
	assert(counts_are_exact); /* at rest a cell's count is what records hold */
	scenario_at_rest()
}

/* -- accesses (include/internal/shared.h) -------------------------------------------------------- */

#define STEP if :: dead[me] -> goto dies :: else fi

#define COUNTER_LOCALS \
	short s_rec, word, seen, first, below, next, h_rec; \
	byte s_number, s_account, h_number, said, a_found, n, i, r; \
	bit ok

#define COUNTER_FORGET \
	s_rec = 0; word = 0; seen = 0; first = 0; below = 0; next = 0; h_rec = 0; \
	s_number = 0; s_account = 0; h_number = 0; said = 0; a_found = 0; n = 0; i = 0; r = 0; ok = 0

/* The end of a party, of its own accord or killed. */
inline finish() {
	atomic {
		COUNTER_FORGET;
		finished++;
		if
		:: finished == PARTIES -> at_rest()
		:: else
		fi
	}
}

/* A process dies, and the daemon is told. */
inline kill(party) {
	atomic {
		STEP;
		dead[party] = true
	}
}

inline load_record(number, to) { /* load_acquire */
	atomic {
		STEP;
		to = record[number]
	}
}

inline load_cell(account, to) { /* load_acquire */
	atomic {
		STEP;
		to = cell[account]
	}
}

inline load_entry(account, to) { /* load_acquire */
	atomic {
		STEP;
		to = entry[account]
	}
}

/* What a record's new word claims against the truth. */
inline note_record(number, old, new) {
	assert(record_seq(new) >= record_seq(old)); /* the model has rounds enough */
	if
	:: record_state(new) == RECORD_FREE || record_state(new) == RECORD_CLOSED ->
		assert(charged[number] == 0) /* no slot is lost: what is free is counted nowhere */
	:: record_state(new) == RECORD_HELD ->
		assert(charged[number] == ALL_LEVELS); /* who holds a slot is counted at every level */
		held[number] = true
	:: record_state(new) == RECORD_UNCHARGE && record_state(old) == RECORD_HELD ->
		assert(held[number]); /* a slot is released once */
		held[number] = false
	:: else
	fi
}

inline cas_record(number, old, new) { /* cas */
	atomic {
		STEP;
		if
		:: record[number] == old ->
			note_record(number, old, new);
			record[number] = new;
			ok = true;
			check()
		:: else -> ok = false
		fi
	}
}

inline store_record(number, new) { /* store_release */
	atomic {
		STEP;
		note_record(number, record[number], new);
		record[number] = new;
		check()
	}
}

/* -- cells --------------------------------------------------------------------------------------- */

#define record_freed(rec) record_pack(RECORD_FREE, 0, 0, 0, record_seq(rec))

#define record_enter_seq(rec, state, level, seq) \
	record_pack(state, level, record_weight(rec), record_account(rec), seq)
#define record_enter(rec, state, level) record_enter_seq(rec, state, level, seq_next(record_seq(rec)))

#ifdef NO_SEQ_UNCHARGE
#define record_first(rec) record_enter_seq(rec, RECORD_UNCHARGE, record_level(rec), record_seq(rec))
#else
#define record_first(rec) record_enter(rec, RECORD_UNCHARGE, record_level(rec))
#endif

#if defined NO_SEQ_DENIED
#define KEEPS_SEQ(rec) (record_state(rec) == RECORD_CHARGE)
#elif defined NO_SEQ_CANCELLED
#define KEEPS_SEQ(rec) (record_state(rec) == RECORD_CANCEL)
#elif defined NO_SEQ_BELOW
#define KEEPS_SEQ(rec) (record_state(rec) == RECORD_UNCHARGE)
#else
#define KEEPS_SEQ(rec) false
#endif

#define record_revoked(rec) record_enter_seq(rec, RECORD_UNCHARGE, record_level(rec), \
	seq_next(seq_next(record_seq(rec))))

#define record_below(rec) \
	(record_level(rec) == 0 -> record_freed(rec) : \
		record_enter_seq(rec, RECORD_UNCHARGE, record_level(rec) - 1, \
			(KEEPS_SEQ(rec) -> record_seq(rec) : seq_next(record_seq(rec)))))

#ifdef NO_SEQ_ABOVE
#define record_above(rec) \
	record_enter_seq(rec, RECORD_CHARGE, record_level(rec) + 1, record_seq(rec))
#else
#define record_above(rec) record_enter(rec, RECORD_CHARGE, record_level(rec) + 1)
#endif

#define record_charged(rec) \
	(record_level(rec) + 1 < directory_depth(record_account(rec)) -> record_above(rec) : \
		record_enter_seq(rec, RECORD_HELD, record_level(rec), record_seq(rec)))

#define record_cancelled(rec, state) \
	record_enter_seq(rec, state, record_level(rec), record_seq(rec))

#define record_done(rec) \
	(record_state(rec) == RECORD_CHARGE -> record_charged(rec) : \
		(record_state(rec) == RECORD_CANCEL -> record_cancelled(rec, RECORD_EFFECT) : \
			record_below(rec)))

#define in_flight(rec) (record_state(rec) == RECORD_CHARGE || \
	record_state(rec) == RECORD_UNCHARGE || record_state(rec) == RECORD_CANCEL)

#define step_is_tagged(word) \
	(cell_record(word) == s_number && seq_same(cell_seq(word), record_seq(s_rec)))

inline step_done() { /* A3, R3: to `next` */
	cas_record(s_number, s_rec, next);
	if
	:: ok -> s_rec = next
	:: else -> load_record(s_number, s_rec)
	fi;
	next = 0
}

inline step_reread() {
	load_record(s_number, s_rec)
}

inline step_stands() { /* order 2 */
	load_record(s_number, seen);
	ok = (seen == s_rec);
	seen = 0
}

/* By which the name was resolved. */
#define a_generation(level) (a_found >> 2 * (level) & 3)

/* The truth of order 5: how a step's own change counts. */
inline note_charge(count) {
	assert(!(charged[s_number] & 1 << record_level(s_rec))); /* no slot is counted twice */
	assert(count <= allowed[s_account]); /* no count passes the limit in force */
	assert(a_generation(record_level(s_rec)) >= alive_from[s_account]); /* nobody is admitted to a removed account */
	charged[s_number] = charged[s_number] | 1 << record_level(s_rec)
}

inline note_uncharge() {
	assert(charged[s_number] & 1 << record_level(s_rec)); /* no slot is freed twice */
	charged[s_number] = charged[s_number] & ~(1 << record_level(s_rec))
}

inline step_uncount() { /* order 5: R2 */
	atomic {
		STEP;
		if
		:: cell[s_account] == word ->
			note_uncharge();
			cell[s_account] = cell_pack(
				cell_count(word) - record_weight(s_rec), s_number, record_seq(s_rec));
			ok = true;
			check()
		:: else -> ok = false
		fi
	}
}

#define record_awaits(rec, word) (seq_same(record_seq(rec), cell_seq(word)) && in_flight(rec))

#ifdef NO_STANDS_ON
#define stands_elsewhere(account) false
#else
#define stands_elsewhere(account) \
	(directory_ancestor(record_account(h_rec), record_level(h_rec)) != account)
#endif

inline record_help(account) {
	i = 0;
	do
	:: true ->
		load_record(h_number, h_rec);
		if
		:: !record_awaits(h_rec, word) || stands_elsewhere(account) -> break
		:: else
		fi;
#ifndef NO_HELP_AGAIN
		load_cell(account, seen);
		ok = (seen == word);
		seen = 0;
		if
		:: !ok -> break
		:: else
		fi;
#endif
		next = record_done(h_rec);
		cas_record(h_number, h_rec, next);
		next = 0;
		i++;
		assert(i < 8); /* helping is done before its loop ends */
#ifdef NO_HELP_RETRY
		break;
#endif
		if
		:: ok -> break
		:: else
		fi
	od;
	i = 0
}

inline cell_help(account) { /* order 4 */
	if
	:: cell_record(word) == 0
	:: else ->
		h_number = cell_record(word);
		load_record(h_number, h_rec);
		if
		:: record_awaits(h_rec, word) -> record_help(account)
		:: else
		fi
	fi;
	h_rec = 0;
	h_number = 0
}

inline step_help() {
	if
	:: cell_record(word) == s_number
	:: else -> cell_help(s_account)
	fi
}

/* -- giving back: R1, R2, R3 ----------------------------------------------------------------------- */

#define same_descent(first, rec) (record_state(rec) == RECORD_UNCHARGE \
	&& record_account(rec) == record_account(first) \
	&& record_weight(rec) == record_weight(first) \
	&& seq_distance(record_seq(first), record_seq(rec)) <= record_level(first) \
	&& record_level(rec) == record_level(first) - seq_distance(record_seq(first), record_seq(rec)))

#ifdef NO_MINE_UNCHARGE
#define uncharge_is_mine(word) false
#else
#define uncharge_is_mine(word) step_is_tagged(word)
#endif

inline step_uncharge() {
	load_cell(s_account, word); /* order 1 */
	if
	:: uncharge_is_mine(word) ->
		next = record_below(s_rec);
		step_done()
	:: else ->
#ifdef NO_STANDS_UNCHARGE
		ok = true;
#else
		step_stands(); /* 2 */
#endif
		if
		:: !ok -> step_reread()
		:: else ->
#ifndef NO_HELP_UNCHARGE
			step_help(); /* 4 */
#endif
			assert(cell_count(word) >= record_weight(s_rec)); /* no release finds damage */
			step_uncount(); /* R2 */
			if
			:: ok ->
				next = record_below(s_rec);
				step_done() /* R3 */
			:: else
			fi
		fi
	fi;
	word = 0
}

inline descend() { /* from `first`, of record s_number */
	s_rec = first;
	do
	:: true ->
		s_account = directory_ancestor(record_account(s_rec), record_level(s_rec));
		step_uncharge();
		if
		:: !same_descent(first, s_rec) -> break
		:: else
		fi
	od;
	first = 0;
	s_rec = 0
}

/* R1, for whoever saw `old` */
inline cas_release(number, old) {
#ifdef STORE_RELEASE
	store_record(number, first);
	ok = true
#else
	cas_record(number, old, first)
#endif
}

/* `word` is the first look, in which the count need not be whole: the record may have been revoked
 * and uncounted since it was read. Then release_held() is told so by R1. */
inline counter_release(number, seq) { /* counter_release_at */
	s_number = number;
	load_record(number, s_rec);
	if
	:: record_state(s_rec) != RECORD_HELD || !seq_same(record_seq(s_rec), seq) -> r = ENOENT
	:: else ->
		s_account = directory_ancestor(record_account(s_rec), record_level(s_rec));
		load_cell(s_account, word); /* order 1 */
		n = (cell_count(word) >= record_weight(s_rec));
		if
		:: n == 0
		:: else ->
#ifndef NO_HELP_UNCHARGE
			step_help() /* 4 */
#endif
		fi;
		first = record_first(s_rec);
		cas_release(number, s_rec); /* R1, 2 */
		if
		:: !ok -> r = ENOENT
		:: else ->
			s_rec = first;
			if
			:: n == 0
			:: else ->
				step_uncount(); /* 5, R2 */
				if
				:: ok ->
					next = record_below(s_rec);
					step_done() /* R3 */
				:: else
				fi
			fi;
			n = 0;
			word = 0;
			if
			:: same_descent(first, s_rec) ->
				first = s_rec;
				descend()
			:: else
			fi;
			r = OK
		fi
	fi;
	n = 0;
	word = 0;
	first = 0;
	s_rec = 0
}

inline counter_settle(number) {
	s_number = number;
	load_record(number, first);
	if
	:: record_state(first) == RECORD_UNCHARGE -> descend()
	:: else
	fi;
	first = 0
}

/* -- taking: A1 … A4 --------------------------------------------------------------------------------- */

/* What one acquire is about; and a_found, the generations that the name was resolved with. */
#define ACQUIRE_LOCALS \
	byte a_account, a_weight, a_seq, k; \
	short old

#define ACQUIRE_FORGET a_account = 0; a_weight = 0; a_seq = 0; k = 0; old = 0

#define a_path(level) directory_ancestor(a_account, level)

#define seq_meets_tag(word) \
	(cell_record(word) == s_number && seq_distance(a_seq, cell_seq(word)) < 2 * LEVELS + 1)

inline seq_pass_tag() { /* ok: it moved */
	k = 0;
	ok = false;
	do
	:: k == LEVELS || ok -> break
	:: else ->
		s_account = a_path(k);
		load_cell(s_account, seen);
		if
		:: seq_meets_tag(seen) ->
			a_seq = seq_next(a_seq + seq_distance(a_seq, cell_seq(seen)));
			ok = true
		:: else
		fi;
		k++
	od;
	k = 0;
	seen = 0
}

inline seq_pass_tags() {
	n = 0;
	do
	:: n == LEVELS * LEVELS -> break
	:: else ->
		seq_pass_tag();
		if
		:: !ok -> break
		:: else
		fi;
		n++
	od;
	n = 0
}

inline seq_choose() { /* for A1, from `old` and the first look's `word` */
	a_seq = seq_next(record_seq(old));
#ifndef NO_SEQ_PASS_TAG
	if
	:: LEVELS == 1 && !seq_meets_tag(word)
	:: else -> seq_pass_tags()
	fi
#endif
}

inline retreat(why) { /* A4 */
	below = record_below(s_rec);
#ifdef STORE_RETREAT
	store_record(s_number, below);
	ok = true;
#else
	cas_record(s_number, s_rec, below);
#endif
	r = why;
	if
	:: !ok -> r = ECANCELED
	:: record_state(below) == RECORD_FREE
	:: else ->
		first = below;
#ifndef NO_DESCENT
		descend()
#endif
	fi;
	below = 0
}

#ifdef NO_LIMIT
#define level_refusal(word, said) false
#else
#define level_refusal(word, said) (cell_count(word) + a_weight > entry_limit(said))
#endif

#ifdef NO_MINE_CHARGE
#define charge_is_mine(word) false
#else
#define charge_is_mine(word) step_is_tagged(word)
#endif

#ifdef NO_GENERATION
#define level_is_stale(said) false
#else
#define level_is_stale(said) (entry_generation(said) != a_generation(record_level(s_rec)))
#endif

/* Orders 3 and 4 for `word`; r says why not. */
inline step_admit() {
#ifndef LIMIT_FIRST
	load_entry(s_account, said); /* 3 */
#endif
	if
	:: level_is_stale(said) -> r = ESTALE
	:: else ->
		if
		:: level_refusal(word, said) -> r = EDQUOT
		:: else ->
#ifndef NO_HELP_CHARGE
			step_help() /* 4 */
#endif
		fi
	fi;
	said = 0
}

inline step_charge() { /* order 5, A2, and A3 */
	atomic {
		STEP;
		if
		:: cell[s_account] == word ->
			n = cell_count(word) + a_weight;
			note_charge(n);
			cell[s_account] = cell_pack(n, s_number, record_seq(s_rec));
			n = 0;
			ok = true;
			check()
		:: else -> ok = false
		fi
	}
	if
	:: ok ->
		next = record_charged(s_rec);
		step_done()
	:: else
	fi
}

inline step_ascend() {
#ifdef LIMIT_FIRST
	load_entry(s_account, said);
#endif
	load_cell(s_account, word); /* order 1 */
#ifdef NO_STANDS_CHARGE
	ok = true;
#else
	step_stands(); /* 2 */
#endif
	if
	:: !ok -> step_reread()
	:: else ->
		if
		:: charge_is_mine(word) ->
			next = record_charged(s_rec);
			step_done()
		:: else ->
			step_admit(); /* 3, 4 */
			if
			:: r != OK -> retreat(r)
			:: else -> step_charge() /* 5 */
			fi
		fi
	fi;
	word = 0;
	said = 0
}

#define is_my_charge(rec) (record_state(rec) == RECORD_CHARGE && record_account(rec) == a_account \
	&& seq_same(record_seq(rec), a_seq + record_level(rec)))
#define is_my_slot(rec) (record_state(rec) == RECORD_HELD \
	&& seq_same(record_seq(rec), a_seq + LEVELS - 1))

inline ascend() {
	do
	:: r != OK || !is_my_charge(s_rec) -> break
	:: else ->
		s_account = a_path(record_level(s_rec));
		step_ascend()
	od;
	if
	:: r == OK && !is_my_slot(s_rec) -> r = ECANCELED
	:: else
	fi;
	s_rec = 0
}

inline record_refusal() {
	if
	:: record_state(old) == RECORD_CLOSED -> r = ESHUTDOWN
	:: else -> r = EAGAIN
	fi
}

inline counter_acquire(mine) { /* counter_acquire_at; r is OK */
	s_number = mine;
	load_record(mine, old);
	note_found();
	if
	:: record_state(old) != RECORD_FREE -> record_refusal()
	:: else ->
		s_account = a_path(0);
#ifdef LIMIT_FIRST
		load_entry(s_account, said);
#endif
		load_cell(s_account, word); /* order 1 */
		step_admit(); /* 3, 4 */
		if
		:: r != OK
		:: else ->
			seq_choose();
			s_rec = record_pack(RECORD_CHARGE, 0, a_weight, a_account, a_seq);
			atomic { /* cas: A1, and order 2 of the first look */
				STEP;
				if
				:: record[s_number] == old ->
					note_publish();
					note_record(s_number, old, s_rec);
					record[s_number] = s_rec;
					ok = true;
					check()
				:: else -> ok = false
				fi
			}
			if
			:: ok
			:: else ->
				load_record(s_number, old);
				record_refusal()
			fi
		fi
	fi;
	old = 0;
	if
	:: r == OK ->
		s_account = a_path(0);
		step_charge(); /* 5 */
		word = 0;
		ascend()
	:: else
	fi;
	word = 0;
	s_rec = 0;
	if
	:: r == OK -> a_seq = a_seq + LEVELS - 1
	:: else -> a_seq = 0
	fi
}

/* -- the daemon's: bump, V1 … V3 ------------------------------------------------------------------------ */

/* A daemon begins, after its predecessor's death. */
inline daemon_start(predecessor) {
	atomic {
		dead[predecessor] = true;
#ifdef DAEMON_SEQ_REPEATED
		daemon_seq = DAEMON_SEQ
#endif
	}
}

inline daemon_tag() { /* add_total */
	atomic {
		STEP;
		n = daemon_seq;
		daemon_seq++;
		assert(daemon_seq < 32) /* the model has rounds enough */
	}
}

/* To the same count, or a repaired one, with the daemon's tag. */
inline cas_cell(account, count) {
	atomic {
		STEP;
		if
		:: cell[account] == word ->
			cell[account] = cell_pack(count, 0, n);
			ok = true;
			check()
		:: else -> ok = false
		fi
	}
	n = 0
}

inline counter_bump(account) {
	do
	:: true ->
		load_cell(account, word);
#ifndef NO_HELP_BUMP
		cell_help(account);
#endif
		daemon_tag();
		cas_cell(account, cell_count(word));
		if
		:: ok -> break
		:: else
		fi
	od;
	word = 0
}

inline revoke_charged() { /* s_rec: HELD or EFFECT */
	first = record_revoked(s_rec);
	cas_release(s_number, s_rec);
	if
	:: ok -> descend()
	:: else -> r = EAGAIN
	fi;
	first = 0
}

inline revoke_cancelled() { /* s_rec: CANCEL */
	below = record_below(s_rec);
#ifndef NO_BUMP_CANCEL
	s_account = directory_ancestor(record_account(s_rec), record_level(s_rec));
	counter_bump(s_account); /* V2 */
#endif
	cas_record(s_number, s_rec, below); /* V3 */
	if
	:: ok ->
		if
		:: record_state(below) == RECORD_FREE
		:: else ->
			first = below;
			descend()
		fi
	:: else ->
		load_record(s_number, s_rec);
		if
		:: record_state(s_rec) == RECORD_EFFECT -> revoke_charged()
		:: else -> r = EAGAIN
		fi
	fi;
	below = 0
}

inline counter_revoke() { /* s_rec: as record s_number was seen */
	if
	:: record_state(s_rec) == RECORD_HELD || record_state(s_rec) == RECORD_EFFECT -> revoke_charged()
	:: record_state(s_rec) == RECORD_UNCHARGE ->
		first = s_rec;
		descend()
	:: record_state(s_rec) == RECORD_CHARGE -> /* V1 */
		next = record_cancelled(s_rec, RECORD_CANCEL);
		cas_record(s_number, s_rec, next);
		s_rec = next;
		next = 0;
		if
		:: ok -> revoke_cancelled()
		:: else -> r = EAGAIN
		fi
	:: record_state(s_rec) == RECORD_CANCEL -> revoke_cancelled()
	:: else
	fi;
	s_rec = 0
}

inline counter_close(number) {
	s_number = number;
	do
	:: true ->
		load_record(number, s_rec);
		if
		:: record_state(s_rec) == RECORD_CLOSED -> break
		:: record_state(s_rec) == RECORD_FREE ->
			next = record_pack(RECORD_CLOSED, 0, 0, 0, record_seq(s_rec));
			cas_record(number, s_rec, next);
			next = 0;
			if
			:: ok -> break
			:: else
			fi
		:: else -> counter_revoke()
		fi
	od;
	s_rec = 0;
	r = OK
}

#ifdef NO_SEQ_OPEN
#define seq_opened(rec) record_seq(rec)
#else
#define seq_opened(rec) seq_next(record_seq(rec))
#endif

inline counter_open(number) {
	load_record(number, s_rec);
	if
	:: record_state(s_rec) == RECORD_CLOSED ->
		next = record_pack(RECORD_FREE, 0, 0, 0, seq_opened(s_rec));
		store_record(number, next);
		next = 0
	:: else
	fi;
	s_rec = 0
}

#ifdef NO_RESUME_UNCHARGE
#define resumes_uncharge(state) false
#else
#define resumes_uncharge(state) (state == RECORD_UNCHARGE)
#endif
#ifdef NO_RESUME_CANCEL
#define resumes_cancel(state) false
#else
#define resumes_cancel(state) (state == RECORD_CANCEL)
#endif
#ifdef NO_RESUME_EFFECT
#define resumes_effect(state) false
#else
#define resumes_effect(state) (state == RECORD_EFFECT)
#endif

inline counter_resume(number) {
	s_number = number;
	load_record(number, s_rec);
	if
	:: resumes_uncharge(record_state(s_rec)) || resumes_cancel(record_state(s_rec)) ||
		resumes_effect(record_state(s_rec)) -> counter_revoke()
	:: else
	fi;
	s_rec = 0;
	r = OK
}

/* -- repairs, after somebody wrote over the segment ------------------------------------------------------ */

#define counter_has_charged(rec, number, word) \
	(record_state(rec) == RECORD_HELD || record_state(rec) == RECORD_EFFECT \
		|| ((record_state(rec) == RECORD_CHARGE || record_state(rec) == RECORD_CANCEL) \
			&& is_tagged_by(rec, number, word)) \
		|| (record_state(rec) == RECORD_UNCHARGE && !is_tagged_by(rec, number, word)))
#define is_tagged_by(rec, number, word) \
	(cell_record(word) == (number) && seq_same(cell_seq(word), record_seq(rec)))

inline counter_repair(account, count) { /* word: as seen */
#ifndef NO_HELP_REPAIR
	cell_help(account);
#endif
	daemon_tag();
	cas_cell(account, count);
	word = 0
}
