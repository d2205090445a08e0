/* SPDX-License-Identifier: MIT */

/*
 * A model of client/core/counter.c, step by step. Functions have the names that they have there where
 * they are alike, and writes have their letters (P1, A1, R1, N1, B1, V1, V3).
 *
 * Each access to a shared word is one step (STEP), in the order of the code. The two words of a cell are
 * read in two steps; a compare-and-swap of 16 bytes is one step. A party may be killed before each step:
 * then all its writes before this step are done, and none after it. As long as no other party acts on the
 * death, a killed party is the same as one that is merely slow. So the model has the death at the moment
 * when another party acts on it: when the daemon ends the session, or when the next daemon starts.
 *
 * A cycle has 2 × LEVELS steps here, not 16. The model's seqs and bumps don't run out: a promise fails if
 * they would.
 *
 * Each choice has an else (tests/model/run checks this), so no statement waits. Seqs and bumps only grow,
 * so a state can come again only if a loop went round without a change of any word; spin checks that there
 * is no such cycle (-DNP). Hence from every state, each party that runs alone completes its work.
 *
 * A configuration defines RECORDS, CELLS, LEVELS and PARTIES, and what its threads choose. With -D, a
 * safety step is taken away (the tables in tests/model/run).
 *
 * The model leaves out peaks, denials, labels, wake-ups, `closed`, noise, and lack of memory except for
 * ABANDON.
 */

#ifndef ROUNDS /* acquires of the first thread */
#define ROUNDS 1
#endif
#ifndef MORTAL /* whether the daemon may be killed */
#define MORTAL false
#endif

#define CYCLE (2 * LEVELS)

/* enum record_state */
#define RECORD_CLOSED 0
#define RECORD_FREE   1
#define RECORD_PLACED 2
#define RECORD_SEIZED 3

/* A cell's two words: bumps:5 | count:3, and record:2 | seq:6. */
#define word_count(word)      ((word) & 7)
#define tag_pack(record, seq) ((record) << 6 | (seq))
#define tag_record(tag)       ((tag) >> 6)
#define tag_seq(tag)          ((tag) & 63)

/* A record's place, the first of its two words: state:2 | top:1 | weight:2 | account:2 */
#define place_pack(state, top, weight, account) ((state) << 5 | (top) << 4 | (weight) << 2 | (account))
#define place_state(place)            ((place) >> 5)
#define place_top(place)              ((place) >> 4 & 1)
#define place_weight(place)           ((place) >> 2 & 3)
#define place_account(place)          ((place) & 3)
#define place_with_state(place, state) ((place) & 31 | (state) << 5)

/* An entry: limit:3 | generation:3. With limit 0 it isn't LIVE, and bears no account. */
#define entry_pack(limit, generation) ((limit) << 3 | (generation))
#define entry_limit(entry)            ((entry) >> 3)
#define entry_generation(entry)       ((entry) & 7)

/* A seq: cycle and step. */
#define seq_base(seq)      ((seq) - (seq) % CYCLE)
#define seq_rest(seq)      seq_base((seq) + CYCLE - 1)
#define seq_charged(seq)   ((seq) % CYCLE <= LEVELS -> (seq) % CYCLE : CYCLE - (seq) % CYCLE)
#define seq_goes_down(seq) ((seq) % CYCLE > LEVELS)
#define seq_down(seq, level) (seq_base(seq) + CYCLE - (level)) /* of R1 at this level, in the cycle of seq */

#ifdef SEQS_WRAP
#define seq_kept(seq) ((seq) % 8)
#else
#define seq_kept(seq) (seq)
#endif

byte cell_word[CELLS];
byte cell_tag[CELLS];
byte place_of[RECORDS + 1]; /* record 0 is no record */
byte noted_of[RECORDS + 1];
byte entry[CELLS];
byte parent[CELLS]; /* of an account with two levels */

/* The memory of the process that owns the record: 0, CLAIMED, or the seq of the slot that is held. */
#define CLAIMED 255
byte token[RECORDS + 1];

#define DAEMON 0
bit dead[3];     /* processes */
byte threads[3]; /* of each process: how many run */
byte finished;   /* parties */

/* What a call returns. */
#define OK        0
#define EDQUOT    1
#define ESTALE    2
#define EAGAIN    3
#define ECANCELED 4

/* -- what must hold ------------------------------------------------------------------------------ */

/* The truth, which only the promises read. */
byte taken[RECORDS + 1];     /* bit c: the record has charged cell c */
byte slot[RECORDS + 1];      /* the seq of the slot that it holds; 0: it holds none */
bit revoked[RECORDS + 1];    /* the daemon released its last slot */
byte owner[RECORDS + 1];     /* the process whose session has the record; 0: none */
byte allowed[CELLS];         /* the highest count that an acquire may make now */
byte alive_from[CELLS];      /* lower generations belong to accounts whose removal was acknowledged */

hidden byte cells_and_records_tell_what_was_done;
hidden byte counts_are_what_records_have_charged;
hidden byte at_the_end_all_is_0;
hidden byte no_level_is_charged_twice;
hidden byte no_level_is_given_back_twice;
hidden byte no_count_passes_its_limit;
hidden byte no_removed_account_admits;
hidden byte only_its_session_uses_a_record;
hidden byte only_the_slot_that_was_seen_is_taken;
hidden byte the_holder_is_told_the_truth;
hidden byte the_model_has_seqs_and_bumps_enough;

#define promise(name, condition) name = (condition); assert(name)

c_code {
/* The invariant: what the cell and the record alone tell about the record. */
static int has_charged(int r, int c)
{
	int place = now.place_of[r], tag = now.cell_tag[c], newest = now.noted_of[r];
	int step, k;

	if (place >> 5 < RECORD_PLACED)
		return 0;
	if (tag >> 6 == r && (tag & 63) > newest)
		newest = tag & 63;
	step = newest % CYCLE;
	for (k = 0; k <= (place >> 4 & 1); k++)
		if ((k == 0 ? place & 3 : now.parent[place & 3]) == c)
			return k < (step <= LEVELS ? step : CYCLE - step);
	return 0;
}

static void look(void)
{
	int c, r, sum;

	cells_and_records_tell_what_was_done = counts_are_what_records_have_charged = 1;
	for (c = 0; c < CELLS; c++) {
		for (r = 1, sum = 0; r <= RECORDS; r++) {
			sum += (now.taken[r] >> c & 1) * (now.place_of[r] >> 2 & 3);
			if (has_charged(r, c) != (now.taken[r] >> c & 1))
				cells_and_records_tell_what_was_done = 0;
		}
		if ((now.cell_word[c] & 7) != sum)
			counts_are_what_records_have_charged = 0;
	}
}

static void look_at_the_end(void)
{
	int c, r;

	at_the_end_all_is_0 = 1;
	for (c = 0; c < CELLS; c++)
		if ((now.cell_word[c] & 7) != 0)
			at_the_end_all_is_0 = 0;
	for (r = 1; r <= RECORDS; r++)
		if (now.taken[r] || now.place_of[r] >> 5 == RECORD_SEIZED)
			at_the_end_all_is_0 = 0;
}
}

inline check() {
	c_code { look(); };
	assert(cells_and_records_tell_what_was_done);
	assert(counts_are_what_records_have_charged)
}

/* -- accesses ---------------------------------------------------------------------------------------- */

/* Between two accesses a party runs alone, since no other party sees what it computes. At each access the
 * scheduler lets any party go on. `mortal`: a daemon may die here; its successor begins at the label
 * `dies`. */
chan go[PARTIES + 1] = [0] of { bit };
#define STEP \
	go[_pid] ? _; \
	if \
	:: dead[self] || mortal -> goto dies \
	:: !dead[self] fi

/* Variables of each party, about the record r that it works with, on the path of a place. */
#define LOCALS \
	byte stood, above;            /* the place, and the account of its level 1 */ \
	byte c;                       /* the account of the level that it works on */ \
	byte tag, word, noted, place; /* as read */ \
	byte at;                      /* the newest step that it has seen */ \
	byte n, last, to, other;      /* levels that are charged; the steps of R1; N1 */ \
	bit ok, begun, mortal
#define FORGET skip; d_step { \
	stood = 0; above = 0; c = 0; tag = 0; word = 0; noted = 0; place = 0; at = 0; \
	n = 0; last = 0; to = 0; other = 0; ok = 0; begun = 0 }

#define path(level) ((level) == 0 -> place_account(stood) : above)

inline finish() {
	FORGET;
	threads[self] = threads[self] - (self != DAEMON);
	finished++;
	if
	:: finished == PARTIES ->
		c_code { look_at_the_end(); };
		assert(at_the_end_all_is_0)
	:: else
	fi
}

inline load(into, from) {
	STEP;
	into = from
}

#ifdef COUNT_FIRST
#define load_pair() load(word, cell_word[c]); load(tag, cell_tag[c])
#else
#define load_pair() load(tag, cell_tag[c]); load(word, cell_word[c])
#endif

/* If entries and parents never change in a configuration, reading them is no step. */
#ifndef entry_of
#define load_entry()       load(limit, entry[c])
#else
#define load_entry()       limit = entry_of(c)
#endif
#ifndef parent_of
#define load_parent(account) load(above, parent[account])
#else
#define load_parent(account) above = parent_of(account)
#endif

/* The newest step of the record r, from what it has noted and from a tag. */
#define newest(seq, name) (tag_record(name) == r && tag_seq(name) > (seq) -> tag_seq(name) : (seq))

inline cell_write(new_word, new_tag) {
	promise(the_model_has_seqs_and_bumps_enough, (new_word) < 256 && tag_record(new_tag) < 4);
	cell_word[c] = new_word;
	cell_tag[c] = new_tag;
	ok = true;
	check()
}

inline cell_charge() { /* A1 at level n */
	STEP;
	if
	:: cell_tag[c] == tag && cell_word[c] == word -> d_step {
		promise(no_level_is_charged_twice, !(taken[r] >> c & 1));
		promise(no_count_passes_its_limit, word_count(word) + place_weight(stood) <= allowed[c]);
		promise(no_removed_account_admits, n > 0 || found >= alive_from[c]);
		promise(only_its_session_uses_a_record, owner[r] == self);
		taken[r] = taken[r] | 1 << c;
		slot[r] = (n == place_top(stood) -> at + n + 1 : 0);
		revoked[r] = false;
		cell_write(word + place_weight(stood), tag_pack(r, at + n + 1)) }
	:: else -> ok = false
	fi
}

/* R1, the step `to`; if the record holds a slot, this must be the slot `seen`. */
#define ANY_SLOT 0
inline cell_discharge(seen) {
	STEP;
	if
	:: cell_tag[c] == tag && cell_word[c] == word -> d_step {
		promise(no_level_is_given_back_twice, taken[r] >> c & 1);
		promise(only_the_slot_that_was_seen_is_taken,
			slot[r] == 0 || (seen) == ANY_SLOT || (seen) == slot[r]);
		taken[r] = taken[r] & ~(1 << c);
		revoked[r] = (slot[r] != 0 -> self == DAEMON : revoked[r]);
		slot[r] = 0;
		cell_write(word - place_weight(stood), tag_pack(r, to)) }
	:: else -> ok = false
	fi
}

inline cell_bump() { /* B1 */
	STEP;
	if
	:: cell_tag[c] == tag && cell_word[c] == word -> d_step {
#ifdef BUMP_NOTHING
		cell_write(word, tag) }
#else
		cell_write(word + 8, tag) }
#endif
	:: else -> ok = false
	fi
}

inline record_write(new_place, new_noted) { /* P1, V3: both words */
	STEP;
	if
#ifdef PLACE_BY_CAS8
	:: place_of[r] == place -> d_step {
#else
	:: place_of[r] == place && noted_of[r] == noted -> d_step {
#endif
		promise(the_model_has_seqs_and_bumps_enough, (new_noted) + 2 * CYCLE < 64);
		place_of[r] = new_place;
		noted_of[r] = new_noted;
		ok = true;
		check() }
	:: else -> ok = false
	fi
}

inline place_write(new_place) { /* V1: the place alone */
	STEP;
	if
	:: place_of[r] == place -> d_step {
		place_of[r] = new_place;
		ok = true;
		check() }
	:: else -> ok = false
	fi
}

/* -- tags: N1 -------------------------------------------------------------------------------------------- */

inline tag_note(name) {
	do
	:: true ->
		load(other, noted_of[tag_record(name)]);
		if
		:: other >= tag_seq(name) -> break
		:: else
		fi;
		STEP;
		if
		:: noted_of[tag_record(name)] == other -> d_step { /* N1 */
			noted_of[tag_record(name)] = tag_seq(name);
			ok = true;
			check() }
		:: else -> ok = false
		fi;
#ifdef NO_NOTE_AGAIN
		break;
#endif
		if
		:: ok -> break
		:: else
		fi
	od;
	other = 0
}

inline tag_note_of_others() {
#ifdef NO_NOTE
	skip
#else
	if
	:: tag_record(tag) == r || tag_record(tag) == 0
	:: else -> tag_note(tag)
	fi
#endif
}

/* -- reading a record ------------------------------------------------------------------------------------ */

#define is_on_path(place) (place_state(place) >= RECORD_PLACED)

/* `place` and `noted` of one placement, and `at`, the newest step that the record and its path tell of. */
inline record_load() {
	do
	:: true ->
		load(noted, noted_of[r]);
		load(place, place_of[r]);
		at = noted;
		if
		:: is_on_path(place) ->
			load(tag, cell_tag[place_account(place)]);
			at = newest(at, tag)
		:: else
		fi;
		if
		:: is_on_path(place) && place_top(place) == 1 ->
			load_parent(place_account(place));
			load(tag, cell_tag[above]);
			at = newest(at, tag)
		:: else
		fi;
		tag = 0;
#ifdef NO_NOTED_AGAIN
		break;
#endif
		load(other, noted_of[r]);
		if
		:: other == noted -> break
		:: else
		fi
	od;
	other = 0
}

/* -- discharging: R1 ------------------------------------------------------------------------------------- */

/* The step `to` at this level, unless a step newer than `last` was made. ok: this party made it. */
inline level_discharge(level) {
	c = path(level);
	do
	:: true ->
		load_pair(); /* order 1 */
		load(noted, noted_of[r]); /* order 2 */
		load(place, place_of[r]);
#ifdef NO_LOOK_DOWN
		place = stood;
#endif
		if
		:: place != stood || newest(noted, tag) > last ->
			ok = false;
			break
		:: else
		fi;
		tag_note_of_others(); /* order 4 */
		cell_discharge(last); /* order 5 */
		if
		:: ok -> break
		:: else
		fi
	od;
	c = 0;
	tag = 0;
	word = 0;
	noted = 0;
	place = 0
}

/* Discharges the levels below n: the first one by the step `to`, unless a step newer than `last` was made; the
 * others by the steps that follow. If another party has made the first step, n stays as it was. */
inline descend() {
	begun = false;
	do
	:: n == 0 -> break
	:: else ->
		if
		:: true
#ifdef ABANDON
		:: begun && self != DAEMON -> /* it lacks the memory to go on */
			load(place, place_of[r]);
			if
			:: place == stood -> place_write(place_with_state(place, RECORD_SEIZED)) /* V1 */
			:: else
			fi;
			place = 0;
			break
#endif
		fi;
		level_discharge(n - 1);
		if
		:: !ok && !begun -> break
		:: else
		fi;
		begun = true;
		n--;
		last = to;
		to++
	od;
	to = 0
}

/* -- placing and charging: P1, A1 ---------------------------------------------------------------------------- */

/* What the thread has read before it claimed a record, and what it knows of the account. */
#define ACQUIRE_LOCALS \
	byte look_tag[LEVELS], look_word[LEVELS], found, code, limit; \
	bit looked
#if LEVELS == 1
#define LOOKS_FORGET look_tag[0] = 0; look_word[0] = 0
#else
#define LOOKS_FORGET look_tag[0] = 0; look_word[0] = 0; look_tag[1] = 0; look_word[1] = 0
#endif
#define ACQUIRE_FORGET skip; d_step { LOOKS_FORGET; found = 0; code = 0; limit = 0; looked = false }

/* The generation of level 1 never changes here. */
#ifdef NO_GENERATION
#define is_stale(entry) false
#else
#define is_stale(entry) (n == 0 && entry_generation(entry) != found)
#endif

/* Order 3, for the count in `word`. */
inline level_admit() {
#ifndef LIMIT_FIRST
	load_entry();
#endif
	if
	:: is_stale(limit) -> code = ESTALE
	:: !is_stale(limit) && word_count(word) + place_weight(stood) > entry_limit(limit) -> code = EDQUOT
	:: else
	fi;
	limit = 0
}

/* Orders 1 and 3 of all levels. */
inline counter_check() {
	n = 0;
	do
	:: n > place_top(stood) || code != OK -> break
	:: else ->
		c = path(n);
#ifdef LIMIT_FIRST
		load_entry();
#endif
		load_pair();
		level_admit();
		look_tag[n] = tag;
		look_word[n] = word;
		n++
	od;
	tag = 0;
	word = 0;
	n = 0
}

/* FAR: by how many cycles more than needed a record that is placed may go on. */
#ifdef FAR
#define go_far() if :: true :: at = at + FAR * CYCLE fi
#else
#define go_far()
#endif

#ifdef PLACE_OLD_LOOK /* from before the claim */
#define load_tag_of_old_place() tag = old_tag
#else
#define load_tag_of_old_place() load(tag, cell_tag[place_account(place)])
#endif

/* Places the record, which was claimed, on the path of `stood`. at: the base of its next cycle. */
inline record_ready() {
	looked = true;
	do
	:: true ->
		load(noted, noted_of[r]);
		load(place, place_of[r]);
		if
		:: place == stood ->
			at = seq_kept(newest(noted, look_tag[0]));
			looked = looked && seq_charged(at) == 0;
			break
		:: else
		fi;
		at = noted;
		if
		:: place_state(place) == RECORD_PLACED ->
			load_tag_of_old_place();
			at = newest(at, tag)
		:: else
		fi;
		tag = 0;
		if
		:: place_state(place) == RECORD_CLOSED || place_state(place) == RECORD_SEIZED ||
			seq_charged(at) > 0 ->
			code = EAGAIN;
			break
		:: else
		fi;
#ifndef PLACE_LOW
		at = seq_kept(seq_rest(at) + CYCLE);
#endif
		go_far();
		record_write(stood, at); /* P1 */
		if
		:: ok -> break
		:: else
		fi
	od;
	noted = 0;
	place = 0
}

/* Orders 1 to 3, for level n. */
inline level_look() {
#ifdef LIMIT_FIRST
	load_entry();
#endif
	load_pair();
#ifdef NO_LOOK_UP
	if
	:: n == 0 ->
		load(noted, noted_of[r])
	:: else
	fi;
	place = stood;
#else
	load(noted, noted_of[r]);
	load(place, place_of[r]);
#endif
	if
	:: place != stood || n > 0 && newest(noted, tag) > at + n -> code = ECANCELED
	:: else ->
#ifndef STALE_BASE
		at = (n == 0 -> seq_kept(newest(noted, tag)) : at);
#endif
		if
		:: n == 0 && seq_charged(at) > 0 -> code = ECANCELED
		:: else -> level_admit()
		fi
	fi;
	noted = 0;
	place = 0
}

/* Charges levels, from the base `at`, until all are charged or one refuses. n: how many are charged. */
inline ascend() {
	n = 0;
	do
	:: n > place_top(stood) || code != OK -> break
	:: else ->
		c = path(n);
		if
		:: looked ->
			tag = look_tag[n];
			word = look_word[n]
		:: else -> level_look()
		fi;
		if
		:: code == OK ->
			tag_note_of_others(); /* order 4 */
			cell_charge(); /* order 5 */
			n = n + ok;
			looked = looked && ok
		:: else
		fi;
		tag = 0;
		word = 0
	od
}

/* -- the daemon's: B1, V1, V2, V3 ------------------------------------------------------------------------------ */

inline counter_bump(account) {
	c = account;
	do
	:: true ->
		load_pair();
		cell_bump();
		if
		:: ok -> break
		:: else
		fi
	od;
	tag = 0;
	word = 0
}

/* V2 at one level: R1, in the cycle that N1 has made the newest at every level; or B1. */
inline level_seal(level) {
	c = path(level);
	do
	:: true ->
		load_pair();
		load(noted, noted_of[r]);
		if
		:: seq_charged(newest(noted, tag)) > level ->
			tag_note_of_others();
			to = seq_down(newest(noted, tag), level);
			cell_discharge(ANY_SLOT)
#ifndef NO_SEAL
		:: else -> cell_bump()
#else
		:: else -> ok = true
#endif
		fi;
		if
		:: ok -> break
		:: else
		fi
	od;
	tag = 0;
	word = 0;
	noted = 0;
	to = 0
}

/* V2 and V3 of a SEIZED record, which record_load() has read. */
inline record_finish_seized(state) {
	stood = place;
#ifndef NO_NOTE_SEIZED
	tag_note(tag_pack(r, at));
#endif
	n = place_top(stood) + 1;
	do
	:: n == 0 -> break
	:: else ->
		n--;
		level_seal(n)
	od;
	do
	:: true ->
		record_load();
#ifdef LET_GO_LOW
		record_write(place_pack(state, 0, 0, 0), noted); /* V3 */
#else
		record_write(place_pack(state, 0, 0, 0), seq_rest(at) + CYCLE); /* V3 */
#endif
		if
		:: ok -> break
		:: else
		fi
	od
}

/* Completes what was begun: V2 and V3 of a SEIZED record, or the way down. `all`: also revokes what the record
 * holds, or is taking. */
inline descent_finish(number, all) {
	r = number;
	do
	:: true ->
		record_load();
		stood = place;
		if
		:: place_state(place) == RECORD_SEIZED ->
			record_finish_seized(RECORD_FREE);
			break
		:: place_state(place) == RECORD_PLACED && seq_charged(at) > 0
		:: else -> break
		fi;
		if
		:: seq_goes_down(at) ->
			n = seq_charged(at);
			to = at + 1
		:: (all) && at % CYCLE == place_top(place) + 1 -> /* a slot that is held */
			n = place_top(place) + 1;
#ifdef REVOKE_OWN_CYCLE
			to = seq_down(at, place_top(place))
#else
			to = seq_down(at + CYCLE, place_top(place))
#endif
		:: else
		fi;
		if
		:: n > 0 ->
			last = at;
			descend();
			break
		:: n == 0 && (all) ->
			place_write(place_with_state(place, RECORD_SEIZED)); /* V1 */
			if
			:: !ok -> break
			:: else
			fi
		:: else -> break
		fi
	od;
	FORGET
}

inline counter_close(number) {
	r = number;
	do
	:: true ->
		record_load();
		if
		:: place_state(place) == RECORD_CLOSED -> break
		:: place_state(place) == RECORD_FREE -> place_write(place_with_state(place, RECORD_CLOSED)) /* V1 */
		:: place_state(place) == RECORD_PLACED -> place_write(place_with_state(place, RECORD_SEIZED)) /* V1 */
		:: else -> record_finish_seized(RECORD_CLOSED)
		fi
	od;
	FORGET
}

inline counter_open(number) {
	r = number;
	load(noted, noted_of[r]);
	load(place, place_of[r]);
	if
	:: place_state(place) == RECORD_CLOSED ->
		record_write(place_with_state(place, RECORD_FREE), seq_rest(noted) + CYCLE) /* V3 */
	:: else
	fi;
	FORGET
}
