/* SPDX-License-Identifier: MIT */

/*
 * client/counter.c and include/internal/counter-warm.h, step by step: every function that counts,
 * under its own name.
 *
 * Each access to a shared word is one atomic step, in the order of the code, and before each its
 * party may turn out to be dead (STEP): killed with every shared write before it done and none
 * after. A killed party that nobody has noticed yet is one that is merely slow, so death is
 * modelled at the moment when somebody acts on it: the daemon ends the session, the next daemon
 * starts. What a party computes for itself, between two accesses, is seen by nobody.
 *
 * Sequence numbers come round (SEQS: 16 where paths have one level, 32 where they have two), and
 * SEQ_APART is as near to half a round as it may be. Records begin one round after the tags that a
 * scenario leaves in the cells, so each cold tag is met at once.
 *
 * What is conceded (counter.c, "What 64 bits can't give") is that a party stopped for exactly a
 * whole round finds the word that it remembers and goes on wrongly. So the words bear the rounds,
 * too: a comparison of whole words (cas, the look again at a cell) sees them, one of seqs alone
 * (seq_is_newer) doesn't. Nothing else knows of rounds.
 *
 * Nobody waits: no choice here is without its else (tests/model/run looks), so no statement blocks;
 * and seqs with their rounds never go back, so a state can only come again if a loop went round
 * without any word having changed: spin finds that there is no such cycle at all (-DNP). Hence from
 * every state, each party that is left alone comes to the end of what it does.
 *
 * A scenario defines RECORDS, CELLS, LEVELS, SEQS and PARTIES, what the parties do, and, as macros,
 * choose(), may_publish(), note_found(), note_publish() and scenario_at_rest(). SHORT: clients go the
 * short ways, too. NO_… and others take a safety step away (tests/model/run).
 *
 * Under another name, or in another's place (run asks for these as for the rest):
 *   newest_seq: in record_newest            seized_uncharge: in record_free
 *   cell_bump: in counter_bump              counter_acquire_rest: ascend
 *   descent_resume: in counter_resume       counter_record: record_newest
 *   counter_acquire_warm: counter_acquire_near, with a tag of the record's own alone
 *   counter_acquire: acquire_slowly, after a look that may refuse and that nothing else follows from
 *   counter_release: counter_release_at, after a look at where the record stands
 *
 * Not here (run lets these be):
 *   counter_count, record_path: a load, of what doesn't change here, or in the scenario
 *   counter_note_peak, cell_note_peak, counter_label, record_stamp: what stands beside the words
 *   counter_abandon, counter_settle: lack of memory; settling is record_take_back
 *   counter_discard: noise in a record
 * Nor are refusals counted, damage, wake_changed, and ROUNDS, which nothing reaches.
 */

/* enum record_state */
#define RECORD_CLOSED 0
#define RECORD_FREE   1
#define RECORD_PLACED 2
#define RECORD_SEIZED 3

/* cell: count:4 | record:2 | round and seq:7 */
#define cell_pack(count, number, seq) ((count) << 9 | (number) << 7 | (seq))
#define cell_count(word)              ((word) >> 9)
#define cell_record(word)             ((word) >> 7 & 3)
#define cell_seq(word)                ((word) & 127)

/* record: state:2 | top:1 | weight:2 | account:2 | round and seq:7 */
#define record_pack(state, top, weight, account, seq) \
	((state) << 12 | (top) << 11 | (weight) << 9 | (account) << 7 | (seq))
#define record_state(rec)   ((rec) >> 12)
#define record_top(rec)     ((rec) >> 11 & 1)
#define record_weight(rec)  ((rec) >> 9 & 3)
#define record_account(rec) ((rec) >> 7 & 3)
#define record_seq(rec)     ((rec) & 127)
#define record_place(rec)   ((rec) & ~127)
#define record_with(rec, seq) (record_place(rec) | (seq))
#define same_place(a, b)    (record_place(a) == record_place(b))

/* entry: limit:4 | generation:2 */
#define entry_pack(limit, generation) ((limit) << 2 | (generation))
#define entry_limit(word)             ((word) >> 2)
#define entry_generation(word)        ((word) & 3)

#define seq_distance(from, to)  (((to) - (from)) & (SEQS - 1))
#define seq_same(a, b)          (seq_distance(a, b) == 0)
#define seq_is_newer(seq, than) (seq_distance(than, seq) >= 1 && seq_distance(than, seq) < SEQS / 2)

/* How a record goes round its path. */
#define record_cycle(rec)      (2 << record_top(rec))
#define record_step(rec)       (record_seq(rec) & (record_cycle(rec) - 1))
#define record_charged(rec)    ((record_seq(rec) & 1) + 2 * (record_top(rec) & record_seq(rec) >> 1 & ~record_seq(rec)))
#define record_is_held(rec)    (record_state(rec) == RECORD_PLACED && record_step(rec) == record_top(rec) + 1)
#define record_next_down(rec)  (record_seq(rec) - record_step(rec) + 2 * record_top(rec) + 3 - record_charged(rec))
#define step_level(rec, seq)   (record_top(rec) & (seq) >> 1)
#define cycle_base(rec, seq)   ((seq) + record_cycle(rec) - 1 & ~(record_cycle(rec) - 1))
#define is_on_path(rec)        (record_state(rec) >= RECORD_PLACED)

/* Two cycles of the longest path, as in counter-warm.h. */
#ifndef SEQ_APART
#define SEQ_APART (SEQS / 2 - 4 * LEVELS - 1)
#endif

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
byte allowed[CELLS];      /* the highest count that an admission may make now */
byte alive_from[CELLS];   /* the generation below which the account's removal was acknowledged */
byte finished;

#if LEVELS == 1
#define directory_ancestor(account, level) (account)
#define directory_top(account)             0
#else
#define directory_ancestor(account, level) ((account) * (1 - (level)) + parent[account] * (level))
#ifndef directory_top
#define directory_top(account)             1
#endif
#endif

/* The newest step of record r at a level in cell c, as the cell's tag and its own word say. */
#define newest_at(r, c) \
	(cell_record(cell[c]) == (r) && seq_is_newer(cell_seq(cell[c]), record_seq(record[r])) \
		-> cell_seq(cell[c]) : record_seq(record[r]))
#define ancestor_of(r, k) directory_ancestor(record_account(record[r]), k)

/* The invariant that counter.c opens with: what words say of a record's level is what was done; */
#define is_told_at(r, k) \
	((charged[r] >> (k) & 1) == (is_on_path(record[r]) \
		&& (k) <= record_top(record[r]) \
		&& (k) < record_charged(record_with(record[r], newest_at(r, ancestor_of(r, k))))))

/* and a count is the sum of the weights that were so charged in the cell. */
#define counts_at(r, k, c) \
	((charged[r] >> (k) & 1 && ancestor_of(r, k) == (c)) * record_weight(record[r]))

#if LEVELS == 1
#define is_told(r)      is_told_at(r, 0)
#define counts_in(r, c) counts_at(r, 0, c)
#else
#define is_told(r)      is_told_at(r, 0) && is_told_at(r, 1)
#define counts_in(r, c) counts_at(r, 0, c) + counts_at(r, 1, c)
#endif
#if RECORDS == 1
#define sum_in(c)    (counts_in(1, c))
#define all_are_told (is_told(1))
#elif RECORDS == 2
#define sum_in(c)    (counts_in(1, c) + counts_in(2, c))
#define all_are_told (is_told(1) && is_told(2))
#endif
#define is_exact(c) (cell_count(cell[c]) == sum_in(c))
#if CELLS == 1
#define counts_are_exact is_exact(0)
#elif CELLS == 2
#define counts_are_exact (is_exact(0) && is_exact(1))
#else
#define counts_are_exact (is_exact(0) && is_exact(1) && is_exact(2))
#endif

#if LEVELS == 1
#define is_settled(r) (record_state(record[r]) != RECORD_SEIZED)
#else
#define is_settled(r) (record_state(record[r]) != RECORD_SEIZED \
	&& (charged[r] == 0 || charged[r] == (2 << record_top(record[r])) - 1))
#endif

#if defined MUTATED || defined NOISE /* is judged by what shows from outside alone */
#define check()
#else
#define check() check_told(); check_counts()
#define check_told() assert(all_are_told) /* what words say of a record is what was done */
#define check_counts() assert(counts_are_exact) /* a cell's count is what records have charged */
#endif

/* When everyone is done: nothing is on its way, and counts are what records hold. */
inline at_rest() {
	assert(is_settled(1) && is_settled(RECORDS)); /* at rest no slot is on its way */
	assert(counts_are_exact); /* at rest a cell's count is what records hold */
	assert(all_are_told); /* at rest words say what was done */
	scenario_at_rest()
}

/* -- accesses (include/internal/shared.h) -------------------------------------------------------- */

#define STEP if :: dead[me] -> goto dies :: else fi

#define COUNTER_LOCALS \
	short s_rec, word, seen, next, h_rec; \
	byte s_number, s_account, h_number, said, a_found, at, to, n, i, r; \
	bit ok

#define COUNTER_FORGET \
	s_rec = 0; word = 0; seen = 0; next = 0; h_rec = 0; \
	s_number = 0; s_account = 0; h_number = 0; said = 0; a_found = 0; at = 0; to = 0; \
	n = 0; i = 0; r = 0; ok = 0

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

inline load_record(number, into) { /* load_acquire */
	atomic {
		STEP;
		into = record[number]
	}
}

inline load_cell(account, into) { /* load_acquire */
	atomic {
		STEP;
		into = cell[account]
	}
}

inline load_entry(account, into) { /* load_acquire */
	atomic {
		STEP;
		into = entry[account]
	}
}

/* What a record's new word claims against the truth. */
inline note_record(number, old, new) {
	assert(record_seq(new) >= record_seq(old) && record_seq(new) < 120); /* the model has rounds enough */
	if
	:: record_state(new) < RECORD_PLACED || !same_place(new, old) && record_state(new) == RECORD_PLACED ->
		assert(charged[number] == 0) /* no slot is lost: what is free, or placed, is counted nowhere */
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

/* By which the name was resolved. */
#define a_generation(level) (a_found >> 2 * (level) & 3)

/* The truth of order 5: how a step's own change counts. */
inline note_charge(count, level) {
	assert(!(charged[s_number] & 1 << level)); /* no slot is counted twice */
	assert(count <= allowed[s_account]); /* no count passes the limit in force */
	assert(a_generation(level) >= alive_from[s_account]); /* nobody is admitted to a removed account */
	note_publish();
	charged[s_number] = charged[s_number] | 1 << level
}

inline note_uncharge(level) {
	assert(charged[s_number] & 1 << level); /* no slot is freed twice */
	charged[s_number] = charged[s_number] & ~(1 << level)
}

/* -- tags: N1 ------------------------------------------------------------------------------------ */

/* The newest step that a cell's word and the record tell of; a tag says no more than its distance. */
#define step_newest(number, rec, word) \
	(cell_record(word) == (number) && seq_is_newer(cell_seq(word), record_seq(rec)) \
		-> record_seq(rec) + seq_distance(record_seq(rec), cell_seq(word)) : record_seq(rec))

#ifdef NO_STANDS_ON
#define record_stands_on(rec, seq, account) true
#else
#define record_stands_on(rec, seq, account) \
	(directory_ancestor(record_account(rec), step_level(rec, seq)) == (account))
#endif

/* The word's tag is a step that its record doesn't know. */
#define record_awaits(rec, word) (is_on_path(rec) && seq_is_newer(cell_seq(word), record_seq(rec)))

inline record_note(account) {
	i = 0;
	do
	:: true ->
		load_record(h_number, h_rec);
		if
		:: !record_awaits(h_rec, word) || !record_stands_on(h_rec, cell_seq(word), account) -> break
		:: else
		fi;
#ifndef NO_NOTE_AGAIN
		load_cell(account, seen);
		ok = (seen == word);
		seen = 0;
		if
		:: !ok -> break
		:: else
		fi;
#endif
		next = record_with(h_rec, step_newest(h_number, h_rec, word));
		cas_record(h_number, h_rec, next);
		next = 0;
		i++;
		assert(i < 8); /* noting is done before its loop ends */
#ifdef NO_NOTE_RETRY
		break;
#endif
		if
		:: ok -> break
		:: else
		fi
	od;
	i = 0;
	h_rec = 0
}

inline cell_note(account) { /* order 4: what `word` tells of its record */
	h_number = cell_record(word);
	if
	:: h_number == 0
	:: else -> record_note(account)
	fi;
	h_number = 0
}

inline step_note() { /* an own tag is followed by another */
	if
	:: cell_record(word) == s_number
	:: else -> cell_note(s_account)
	fi
}

/* -- steps: by record s_number, whose place is s_rec's ------------------------------------------------ */

#define step_stands(rec) same_place(rec, s_rec)

#ifdef NO_SEQ_STANDS
#define step_is_mine(rec) step_stands(rec)
#else
#define step_is_mine(rec) (step_stands(rec) && !seq_is_newer(record_seq(rec), at))
#endif

inline step_uncharge(level) { /* order 5, R1 */
	atomic {
		STEP;
		if
		:: cell[s_account] == word ->
			note_uncharge(level);
#ifdef UNCOUNT_UNTAGGED
			cell[s_account] = cell_pack(cell_count(word) - record_weight(s_rec), 0, daemon_seq);
			daemon_seq++;
#else
			cell[s_account] = cell_pack(cell_count(word) - record_weight(s_rec), s_number, to);
#endif
			ok = true;
			check()
		:: else -> ok = false
		fi
	}
}

/* -- where a record stands ------------------------------------------------------------------------------ */

/* The record s_rec, and `at`, its newest step by the tags on its path. */
inline record_newest() {
	load_record(s_number, s_rec);
	at = record_seq(s_rec);
	do
	:: !is_on_path(s_rec) -> break
	:: else ->
		n = 0;
		do
		:: n > record_top(s_rec) -> break
		:: else ->
			load_cell(directory_ancestor(record_account(s_rec), n), word);
			at = step_newest(s_number, record_with(s_rec, at), word);
			n++
		od;
		n = 0;
		word = 0;
#ifdef NO_NEWEST_AGAIN
		break;
#endif
		load_record(s_number, seen);
		if
		:: seen == s_rec -> break
		:: else -> s_rec = seen
		fi;
		at = record_seq(s_rec)
	od;
	seen = 0
}

inline record_seize() { /* V1, from the place s_rec. ok: done */
	do
	:: true ->
		load_record(s_number, seen);
		if
		:: !step_stands(seen) ->
			ok = false;
			break
		:: else
		fi;
		next = record_pack(RECORD_SEIZED, record_top(seen), record_weight(seen), record_account(seen), record_seq(seen));
		cas_record(s_number, seen, next);
		next = 0;
		if
		:: ok -> break
		:: else
		fi
	od;
	seen = 0
}

/* -- giving back: R1 -------------------------------------------------------------------------------------- */

/* The step that gives back the slot s_rec, at `at`: to `to`. r says whether it was ours. */
inline top_uncharge() {
	s_account = directory_ancestor(record_account(s_rec), record_top(s_rec));
	do
	:: true ->
		load_cell(s_account, word); /* order 1 */
#ifdef NO_STANDS_RELEASE
		seen = s_rec;
#else
		load_record(s_number, seen); /* 2 */
#endif
		if
		:: !step_stands(seen) || !seq_same(step_newest(s_number, seen, word), at) ->
			r = ENOENT;
			break
		:: else
		fi;
		seen = 0;
#ifndef NO_NOTE_UNCHARGE
		step_note(); /* 4 */
#endif
		assert(cell_count(word) >= record_weight(s_rec)); /* no release finds damage */
		step_uncharge(record_top(s_rec)); /* 5 */
		if
		:: ok ->
			at = to;
			break
		:: else
		fi
	od;
	seen = 0;
	word = 0;
	to = 0
}

/* The step to `to`, at level n, unless it is made. ok: it is. */
inline level_uncharge() {
	s_account = directory_ancestor(record_account(s_rec), n);
	do
	:: true ->
		load_cell(s_account, word); /* order 1 */
#ifdef NO_STANDS_DESCEND
		seen = record_with(s_rec, at);
#else
		load_record(s_number, seen); /* 2 */
#endif
		ok = step_stands(seen);
		if
		:: !ok -> break
#ifndef NO_MADE
		:: ok && !seq_is_newer(to, step_newest(s_number, seen, word)) -> break
#endif
		:: else
		fi;
		seen = 0;
#ifndef NO_NOTE_UNCHARGE
		step_note(); /* 4 */
#endif
		assert(cell_count(word) >= record_weight(s_rec)); /* no release finds damage */
		step_uncharge(n); /* 5 */
		if
		:: ok -> break
		:: else
		fi
	od;
	seen = 0;
	word = 0
}

/* The levels below n, with the steps after `at`. ok: all are made. */
inline descend() {
	ok = true;
	do
	:: n == 0 || !ok -> break
	:: else ->
		n--;
		to = at + 1;
		level_uncharge();
		at = to
	od;
	to = 0;
	n = 0
}

inline counter_release_at(number, seq) {
	s_number = number;
	load_record(number, s_rec);
	if
	:: !record_is_held(record_with(s_rec, seq)) -> r = ENOENT
	:: else ->
		at = seq;
		to = at + 1;
		r = OK;
		top_uncharge();
		if
		:: r == OK ->
			n = record_top(s_rec);
			descend()
		:: else
		fi
	fi;
	at = 0;
	to = 0;
	s_rec = 0
}

#ifdef NO_TAG_WARM
#define is_tag(word, number, seq) true
#else
#define is_tag(word, number, seq) (cell_record(word) == number && seq_same(cell_seq(word), seq))
#endif

/* r: whether it was given back so. */
inline counter_release_warm(number, seq, account) {
	s_number = number;
	s_account = account;
	load_cell(account, word); /* order 1 */
	load_record(number, s_rec); /* 2 */
	to = seq + 1;
	ok = false;
	if
	:: record_state(s_rec) == RECORD_PLACED && record_top(s_rec) == 0 && is_tag(word, number, seq) &&
		cell_count(word) >= record_weight(s_rec) -> step_uncharge(0)
	:: else
	fi;
	r = (ok -> OK : EAGAIN);
	word = 0;
	to = 0;
	s_rec = 0
}

/* -- placing: P1 ------------------------------------------------------------------------------------------ */

/* What one acquire is about; a_found, the generations that the name was resolved with; a_stood, the
 * account with which it took its last slot, and 1; a_word, what it saw in the cells. */
#define ACQUIRE_LOCALS \
	byte a_account, a_weight, a_seq, a_stood; \
	short a_rec, a_was, a_word[LEVELS]

#if LEVELS == 1
#define WORDS_FORGET a_word[0] = 0
#else
#define WORDS_FORGET a_word[0] = 0; a_word[1] = 0
#endif
#define ACQUIRE_FORGET a_account = 0; a_weight = 0; a_seq = 0; a_stood = 0; a_rec = 0; a_was = 0; WORDS_FORGET

#define a_path(level) directory_ancestor(a_account, level)
#define a_top         directory_top(a_account)

inline record_refusal(rec) {
	if
	:: record_state(rec) == RECORD_CLOSED -> r = ESHUTDOWN
	:: else -> r = EAGAIN
	fi
}

/* The record s_rec as it rests, wherever that is, and `at`, its newest step; or r says why not. */
inline record_find() {
#ifdef FIND_FIRST
	load_record(s_number, h_rec);
	note_found();
	record_newest();
	ok = same_place(h_rec, s_rec);
#else
	record_newest();
	note_found();
	load_record(s_number, h_rec);
	ok = same_place(h_rec, s_rec) && !seq_is_newer(record_seq(h_rec), at);
#endif
	if
	:: !ok -> r = EAGAIN
	:: ok && (record_state(s_rec) == RECORD_FREE ||
		record_state(s_rec) == RECORD_PLACED && record_charged(record_with(s_rec, at)) == 0)
	:: else -> record_refusal(h_rec)
	fi;
	s_rec = h_rec;
	h_rec = 0
}

#define is_cold(word, seq) \
	(cell_record(word) == s_number && seq_distance(cell_seq(word), seq) > SEQ_APART)

/* An old tag of its own: with the seq at which it rests. r: it isn't what it was. */
inline level_freshen(account) {
	do
	:: true ->
		load_cell(account, word);
		if
		:: !is_cold(word, at) -> break
		:: else
		fi;
#ifndef NO_STANDS_FRESHEN
		load_record(s_number, seen); /* order 2 */
		ok = (seen == s_rec);
		seen = 0;
		if
		:: !ok ->
			r = EAGAIN;
			break
		:: else
		fi;
#endif
		atomic {
			STEP;
			if
			:: cell[account] == word ->
#ifdef FRESHEN_TO_BASE
				cell[account] = cell_pack(cell_count(word), s_number, to);
#else
				cell[account] = cell_pack(cell_count(word), s_number, at);
#endif
				ok = true;
				check()
			:: else -> ok = false
			fi
		}
		if
		:: ok -> break
		:: else
		fi
	od;
	word = 0
}

inline path_freshen() {
	n = 0;
	do
	:: n > a_top || r != OK -> break
	:: else ->
		level_freshen(a_path(n));
		n++
	od;
	n = 0
}

inline step_place() { /* s_rec rests at `at`. r: it isn't what it was */
#ifdef PLACE_LOW
	to = cycle_base(a_rec, at);
#else
	to = cycle_base(a_rec, at + 1);
#endif
#ifndef NO_FRESHEN
	path_freshen();
#endif
	next = record_with(a_rec, to);
	if
	:: r == OK ->
#ifdef STORE_PLACE
		store_record(s_number, next);
		ok = true;
#else
		cas_record(s_number, s_rec, next);
#endif
		r = (ok -> OK : EAGAIN);
		at = to
	:: else
	fi;
	next = 0;
	to = 0
}

inline step_renew() { /* it has gone far: the record is told. r: it isn't what it was */
	do
	:: true ->
		load_record(s_number, seen);
		if
		:: !step_is_mine(seen) ->
			r = EAGAIN;
			break
		:: else
		fi;
		next = record_with(seen, at);
		cas_record(s_number, seen, next);
		next = 0;
		if
		:: ok -> break
		:: else
		fi
	od;
	seen = 0
}

#ifdef NO_RENOTE
#define is_far(rec, seq) false
#else
#define is_far(rec, seq) (seq_distance(record_seq(rec), seq) > SEQ_APART)
#endif

/* -- taking: A1 -------------------------------------------------------------------------------------------- */

#ifdef NO_LIMIT
#define counter_refusal(word, said) false
#else
#define counter_refusal(word, said) (cell_count(word) + a_weight > entry_limit(said))
#endif

#ifdef NO_GENERATION
#define level_is_stale(said) false
#else
#define level_is_stale(said) (entry_generation(said) != a_generation(n))
#endif

/* Order 3 for `word`; r says why not. */
inline counter_admit() {
#ifndef LIMIT_FIRST
	load_entry(s_account, said);
#endif
	if
	:: level_is_stale(said) -> r = ESTALE
	:: else ->
		if
		:: counter_refusal(word, said) -> r = EDQUOT
		:: else
		fi
	fi;
	said = 0
}

inline cell_charge() { /* order 5 */
	atomic {
		STEP;
		if
		:: cell[s_account] == word ->
			note_charge(cell_count(word) + a_weight, n);
			cell[s_account] = cell_pack(cell_count(word) + a_weight, s_number, to);
			ok = true;
			check()
		:: else -> ok = false
		fi
	}
}

inline step_leave() { /* P2: it rests, at `at` */
	do
	:: true ->
		load_record(s_number, seen);
		if
		:: !step_is_mine(seen) -> break
		:: else
		fi;
		next = record_pack(RECORD_FREE, 0, 0, 0, at);
		cas_record(s_number, seen, next);
		next = 0;
		if
		:: ok -> break
		:: else
		fi
	od;
	seen = 0
}

/* Refused with n levels charged, at `at`. */
inline retreat() {
	if
	:: n == 0
	:: else ->
		at = at + 2 * record_top(s_rec) + 2 - 2 * n;
		descend();
#ifndef NO_LEAVE
		if
		:: ok -> step_leave()
		:: else
		fi
#endif
	fi
}

/* From level n up, from the step `at`, until the slot is held, or refused, or the record isn't ours any
 * more. */
inline ascend() {
	s_rec = a_rec;
	do
	:: n > a_top || r != OK -> break
	:: else ->
		s_account = a_path(n);
#ifdef LIMIT_FIRST
		load_entry(s_account, said);
#endif
		load_cell(s_account, word); /* order 1 */
#ifdef NO_STANDS_CHARGE
		seen = record_with(s_rec, at);
#else
		load_record(s_number, seen); /* 2 */
#endif
		if
		:: !step_is_mine(seen) -> r = ECANCELED
		:: else ->
			seen = 0;
			counter_admit(); /* 3 */
			if
			:: r != OK
			:: else ->
#ifndef NO_NOTE_CHARGE
				step_note(); /* 4 */
#endif
				to = at + 1;
				cell_charge(); /* 5 */
				if
				:: ok ->
					at = to;
					n++
				:: else
				fi;
				to = 0
			fi
		fi;
		seen = 0;
		word = 0
	od;
	if
	:: r == EDQUOT || r == ESTALE -> retreat()
	:: else
	fi;
	n = 0
}

/* Makes the record ready for an acquire: at rest, in the place a_rec, at the base of a cycle; or r says
 * why not. */
inline acquire_slowly() {
	do
	:: true ->
		a_was = s_rec;
		to = at;
		record_find();
		if
		:: r != OK -> break
		:: else
		fi;
#ifndef NO_REST_STANDS
		/* After a note it rests where it did; else it may be another's. */
		if
		:: a_was != 0 && (!same_place(s_rec, a_was) || at != to) ->
			r = EAGAIN;
			break
		:: else
		fi;
#endif
		to = 0;
		if
		:: same_place(s_rec, a_rec) ->
			if
			:: is_far(s_rec, at) -> step_renew()
			:: else
			fi
		:: else -> step_place()
		fi;
		if
		:: r == OK -> break
		:: else -> r = OK /* look again */
		fi
	od;
	a_was = 0;
	to = 0;
	at = cycle_base(a_rec, at)
}

/* -- the short ways ------------------------------------------------------------------------------------------ */

/* Orders 1 and 3 of all levels; r says why not. */
inline counter_check() {
	n = 0;
	do
	:: n > a_top || r != OK -> break
	:: else ->
		s_account = a_path(n);
#ifdef LIMIT_FIRST
		load_entry(s_account, said);
#endif
		load_cell(s_account, word);
		counter_admit();
		a_word[n] = word;
		n++
	od;
	word = 0;
	n = 0
}

#ifdef NO_COLD_NEAR
#define is_cold_near(word, seq) false
#else
#define is_cold_near(word, seq) is_cold(word, seq)
#endif

/* P1 for a record s_rec that rests on an account without ancestors, or nowhere. ok: done, at `at`. */
inline place_near() {
	at = record_seq(s_rec);
	ok = (record_state(s_rec) == RECORD_FREE);
	if
	:: record_state(s_rec) == RECORD_PLACED && record_top(s_rec) == 0 && a_stood > 0 ->
		load_cell(a_stood - 1, seen);
#ifndef NO_STOOD_NEAR
		at = step_newest(s_number, s_rec, seen);
#endif
		seen = 0;
		ok = (at % 2 == 0)
	:: else
	fi;
	at = cycle_base(a_rec, at + 1);
	if
	:: ok && !is_cold_near(word, at) ->
		next = record_with(a_rec, at);
#ifdef STORE_PLACE
		store_record(s_number, next);
#else
		cas_record(s_number, s_rec, next);
#endif
		next = 0
	:: else -> ok = false
	fi
}

/* ok: the slot is held. */
inline counter_acquire_near() {
	s_account = a_path(0);
#ifdef RECORD_FIRST
	s_rec = seen;
	seen = 0;
#else
	load_record(s_number, s_rec); /* order 2, or P1 */
#endif
	note_found();
	word = a_word[0];
	at = step_newest(s_number, s_rec, word);
	if
	:: same_place(s_rec, a_rec) -> ok = (at % 2 == 0 && !is_far(s_rec, at))
	:: else -> place_near()
	fi;
	if
	:: ok ->
#ifndef NO_NOTE_CHARGE
		step_note(); /* 4 */
#endif
		to = at + 1;
		cell_charge(); /* 5 */
		to = 0
	:: else
	fi;
	if
	:: ok -> at++
	:: else -> at = 0
	fi;
	word = 0;
	s_rec = 0
}

#ifdef LEVELS_FOREIGN
#define is_own(word) true
#else
#define is_own(word) (cell_record(word) == s_number)
#endif

/* n: how many levels are charged, the last with the step `at`. */
inline counter_acquire_levels() {
	n = 0;
#ifdef RECORD_FIRST
	s_rec = seen;
	seen = 0;
#else
	load_record(s_number, s_rec); /* order 2 */
#endif
	note_found();
	at = record_seq(s_rec) + seq_distance(record_seq(s_rec), cell_seq(a_word[0]));
	ok = (same_place(s_rec, a_rec) && cell_record(a_word[0]) == s_number && !is_far(s_rec, at) &&
		record_step(record_with(a_rec, at)) == 0);
	s_rec = 0;
	do
	:: n > a_top || !ok -> break
	:: else ->
		s_account = a_path(n);
		word = a_word[n];
		to = at + 1;
		ok = is_own(word);
		if
		:: ok -> cell_charge() /* 5 */
		:: else
		fi;
		if
		:: ok ->
			at = to;
			n++
		:: else
		fi
	od;
	to = 0;
	word = 0
}

/* The slot of a path of more levels. r: OK, or EAGAIN, with nothing done. */
inline counter_release_levels(number, seq) {
	s_number = number;
	n = 0;
#ifdef RELEASE_RECORD_FIRST
	load_record(number, s_rec);
#endif
	do
	:: n > a_top -> break
	:: else ->
		load_cell(a_path(n), a_word[n]); /* order 1 */
		n++
	od;
#ifndef RELEASE_RECORD_FIRST
	load_record(number, s_rec); /* 2 */
#endif
	at = seq;
	ok = (record_state(s_rec) == RECORD_PLACED && record_top(s_rec) == a_top &&
		is_tag(a_word[a_top], number, seq));
	do
	:: n == 0 || !ok -> break
	:: else ->
		s_account = a_path(n - 1);
		word = a_word[n - 1];
		to = at + 1;
		ok = (is_own(word) && cell_count(word) >= record_weight(s_rec));
		if
		:: ok -> step_uncharge(n - 1)
		:: else
		fi;
		if
		:: ok ->
			at = to;
			n--
		:: else
		fi
	od;
	WORDS_FORGET;
	r = (n > a_top -> EAGAIN : OK);
	if
	:: n == 0 || n > a_top -> n = 0
	:: else -> /* counter_release_rest */
		load_record(number, s_rec);
		if
		:: record_state(s_rec) == RECORD_PLACED -> descend()
		:: else -> n = 0
		fi
	fi;
	word = 0;
	to = 0;
	at = 0;
	s_rec = 0
}

/* Whether it goes the short ways first is open. r is OK. */
inline counter_acquire_at(mine) {
	s_number = mine;
	a_rec = record_pack(RECORD_PLACED, a_top, a_weight, a_account, 0);
	ok = false;
	n = 0;
#ifdef SHORT
	if
#ifndef GOODBYE
	:: true
#endif
	:: true ->
#ifdef RECORD_FIRST
		load_record(s_number, seen);
#endif
		counter_check();
		if
		:: r == OK && a_top == 0 -> counter_acquire_near()
		:: else
		fi;
#ifndef NEAR_ALONE
		if
		:: r == OK && !ok -> counter_acquire_levels()
		:: else
		fi;
#endif
		WORDS_FORGET;
		seen = 0
	fi;
	ok = ok || n > a_top || r != OK;
#ifdef GOODBYE
	/* Whoever looks again, the long way, is one who hadn't looked before: as in session-end.pml. */
	if
	:: !ok && n == 0 && found ->
		r = EAGAIN;
		ok = true
	:: else
	fi
#endif
#endif
	if
	:: !ok ->
		if
		:: n == 0 ->
			s_rec = 0;
			at = 0;
			acquire_slowly()
		:: else
		fi;
		if
		:: r == OK -> ascend()
		:: else
		fi
	:: else
	fi;
	word = 0;
	s_rec = 0;
	n = 0;
	if
	:: r == OK ->
		a_seq = at;
#ifdef SHORT
		a_stood = a_account + 1
#endif
	:: else
	fi;
	at = 0;
	a_rec = 0
}

/* -- the daemon's: bump, V1 … V4 ------------------------------------------------------------------------- */

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
		to = daemon_seq;
		daemon_seq++;
		assert(daemon_seq < 127) /* the model has rounds enough */
	}
}

/* To the same count, or a repaired one, with the daemon's tag. */
inline cas_cell(account, count) {
	atomic {
		STEP;
		if
		:: cell[account] == word ->
			cell[account] = cell_pack(count, 0, to);
			ok = true;
			check()
		:: else -> ok = false
		fi
	}
	to = 0
}

inline counter_bump(account) {
	do
	:: true ->
		load_cell(account, word);
#ifndef NO_NOTE_BUMP
		cell_note(account);
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

#ifndef BUMP_FROM
#define BUMP_FROM 0
#endif
#ifndef BUMP_TO
#define BUMP_TO record_top(s_rec)
#endif

/* V2: record s_number, s_rec, is SEIZED: no step of its owner can take effect any more. */
inline path_bump() {
#ifdef NO_BUMP_SEIZE
	skip
#else
	n = BUMP_FROM;
	do
	:: n > BUMP_TO -> break
	:: else ->
		counter_bump(directory_ancestor(record_account(s_rec), n));
		n++
	od;
	n = 0
#endif
}

/* V3, V4, in the place s_rec. */
inline record_free() {
	do
	:: true ->
		load_record(s_number, seen);
		if
		:: !step_stands(seen) -> break
		:: else -> s_rec = seen
		fi;
		seen = 0;
		n = record_charged(s_rec);
		if
		:: n == 0 ->
			next = record_pack(RECORD_FREE, 0, 0, 0, record_seq(s_rec));
			cas_record(s_number, s_rec, next) /* V4 */
		:: else ->
			to = record_next_down(s_rec);
			s_account = directory_ancestor(record_account(s_rec), n - 1);
			load_cell(s_account, word);
#ifndef NO_NOTE_UNCHARGE
			cell_note(s_account);
#endif
			assert(cell_count(word) >= record_weight(s_rec)); /* no revocation finds damage */
			step_uncharge(n - 1);
			if
			:: ok ->
				next = record_with(s_rec, to);
				cas_record(s_number, s_rec, next);
				ok = false
			:: else
			fi
		fi;
		next = 0;
		word = 0;
		if
		:: ok -> break
		:: else
		fi
	od;
	seen = 0;
	to = 0;
	n = 0
}

inline record_take_back() {
	load_record(s_number, s_rec);
	if
	:: record_state(s_rec) == RECORD_SEIZED ->
		path_bump();
		record_free()
	:: else
	fi
}

/* R1 at the top, one cycle on. */
inline revoke_held() {
	to = at + 1 + record_cycle(s_rec);
	top_uncharge();
	if
	:: r == ENOENT -> r = EAGAIN
	:: else
	fi
}

/* Of record s_number, which was seen to be s_rec, at the step `at`. */
inline counter_revoke() {
	r = OK;
	h_rec = record_with(s_rec, at);
	if
	:: record_is_held(h_rec) -> revoke_held()
	:: else ->
		record_newest();
		if
		:: record_with(s_rec, at) != h_rec -> r = EAGAIN
		:: else
		fi
	fi;
	s_rec = h_rec;
	h_rec = 0;
	at = 0;
#if LEVELS > 1
	if
	:: r == OK && !(record_is_held(s_rec) && record_top(s_rec) == 0) ->
		record_seize();
		if
		:: ok -> record_take_back()
		:: else
		fi
	:: else
	fi;
#endif
	r = OK;
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
		:: else ->
			ok = true;
			if
			:: record_state(s_rec) == RECORD_PLACED -> record_seize()
			:: else
			fi;
			if
			:: ok -> record_take_back()
			:: else
			fi
		fi
	od;
	s_rec = 0
}

#ifdef NO_SEQ_OPEN
#define OPENED 0
#endif
#ifndef OPENED
#define OPENED 1
#endif

inline counter_open(number) {
	load_record(number, s_rec);
	if
	:: record_state(s_rec) == RECORD_CLOSED ->
		next = record_pack(RECORD_FREE, 0, 0, 0, record_seq(s_rec) + OPENED);
		store_record(number, next);
		next = 0
	:: else
	fi;
	s_rec = 0
}

/* Begun at the top, by a daemon or by the owner. */
#ifdef NO_RESUME_DESCENT
#define is_descending(rec) false
#else
#define is_descending(rec) \
	(record_state(rec) == RECORD_PLACED && record_step(rec) > record_top(rec) + 1 && record_charged(rec) > 0)
#endif

inline counter_resume(number) {
	s_number = number;
	load_record(number, s_rec);
	if
#if LEVELS > 1
	:: record_state(s_rec) == RECORD_PLACED && record_top(s_rec) > 0 ->
		record_newest();
		if
		:: is_descending(record_with(s_rec, at)) ->
#ifdef RESUME_SEIZES
			assert(charged[number] != 3); /* no slot is taken back that nobody wanted back */
			record_seize();
			if
			:: ok -> record_take_back()
			:: else
			fi
#else
			n = record_charged(record_with(s_rec, at));
			descend()
#endif
		:: else
		fi
#endif
#ifndef NO_RESUME_SEIZED
	:: record_state(s_rec) == RECORD_SEIZED -> record_take_back()
#endif
	:: else
	fi;
	at = 0;
	s_rec = 0
}

/* -- repairs, after somebody wrote over the segment ------------------------------------------------------ */

#define counter_has_charged(rec, number, level, word) \
	(is_on_path(rec) && level <= record_top(rec) \
		&& level < record_charged(record_with(rec, step_newest(number, rec, word))))

inline counter_repair(account, count) { /* word: as seen */
#ifndef NO_NOTE_REPAIR
	cell_note(account);
#endif
	daemon_tag();
	cas_cell(account, count);
	word = 0
}
