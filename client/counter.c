/* SPDX-License-Identifier: MIT */

/*
 * The counter. The only file that changes a cell's count or a record's state.
 *
 * Invariant. Every successful CAS on a cell writes, beside the new count, the tag (record, seq) of
 * the operation that it carries out, and nobody overwrites a tag before the operation that it names
 * is noted as done in its record ("helping"). So at every instant, for every record that says
 * CHARGE(k) or UNCHARGE(k) with seq s: the operation has taken effect if and only if the cell of
 * level k bears the tag (record, s). And in every cell, the count is the sum of the weights of the
 * records that, so read, have charged it.
 *
 * Writes in order, for acquire at levels 0 … top, s counting up by one for each:
 *   A1 record  FREE → CHARGE(0)              publish: from here the reaper knows of it
 *   A2 cell k  count + weight, tag (r, s)    takes effect at this CAS
 *   A3 record  CHARGE(k) → CHARGE(k+1), in the end HELD
 *   A4 record  CHARGE(k) → UNCHARGE(k-1), for k = 0 FREE: a level was full, go down again
 * and release at levels top … 0:
 *   R1 record  HELD → UNCHARGE(top)          who wins this CAS releases; nobody else can. The
 *                                            daemon, revoking, counts s up by two here
 *   R2 cell k  count - weight, tag (r, s)
 *   R3 record  UNCHARGE(k) → UNCHARGE(k-1), in the end FREE
 * and taking a charge back (the daemon alone):
 *   V1 record  CHARGE(k) → CANCEL(k)
 *   V2 cell k  same count, tag (0, n)        seals the fate: the owner's A2 can't succeed any more,
 *                                            and one that had was helped: CANCEL(k) → EFFECT(k)
 *   V3 record  CANCEL(k) → UNCHARGE(k-1) or FREE; EFFECT(k) → UNCHARGE(k)
 *
 * Death between any two leaves a record whose word, with the cell's tag, says exactly what is done:
 *   A1|A2  CHARGE(0), not the cell's tag: V1, V2 find no effect, V3 frees it
 *   A2|A3  CHARGE(k) and the cell's tag: whoever changes the cell next makes A3; V2 makes it EFFECT
 *   A3|A2  CHARGE(k+1), levels 0 … k charged: V3 goes down through UNCHARGE(k)
 *   R1|R2, R2|R3, R3|R2, A4|R2  UNCHARGE(k): anybody goes on with R2 or R3, told apart by the tag
 *   V1|V2, V2|V3  CANCEL or EFFECT: the next daemon goes on (counter_resume)
 * Repaired by the daemon when the session ends (counter_close), or at its own start; and A3, R3 by
 * whoever needs the cell. No step waits for another process.
 *
 * What makes it right is the order in which one who is about to change a cell reads:
 *   1 the cell's word   2 the record   3 limit and generation   4 the tag's record (help)   5 CAS
 * Whatever changed 2 or 3 after they were read has also changed the cell's word (helped, sealed,
 * bumped), so the CAS fails.
 * Who begins, with A1 or R1, takes the first look before that: 1, 3 and 4, and then the CAS on the
 * record is 2. So the three changes of an acquire or a release follow each other at once, and who is
 * refused at the first look has published nothing.
 *
 * Cold tags. A cell that rests keeps its last tag while the record goes on and its seq comes round.
 * Read naively, that tag would one day name a new operation as done. Hence the helper asks that the
 * record stands on this very cell; and before A1 the owner moves its seq past every tag of its own
 * in the cells of its path, with room for all that this acquire and its release can use. A tag that
 * the owner no longer found there may still be in the hands of a helper who read the cell before:
 * so the helper looks at the cell again after the record, and a tag that is still there is A2's or
 * R2's own.
 *
 * What 64 bits can't give. A party that is stopped between 1 and 5 while the cell's word changes and
 * comes back to the same count, record and seq would succeed wrongly. For that, one record must
 * make a whole multiple of 2^22 steps meanwhile, and its last step must be on this cell, with that
 * count. At 20 million steps a second through one record alone that takes 0.2 s, and then the party
 * must wake within the one step (50 ns) in which the word is the same: a chance of 2^-22 for each
 * such stop. Records are handed out in turn: where the others of the range are free, too, the rate
 * is a 16th of that.
 *
 * Loops. A loop goes round again only if somebody else's CAS succeeded meanwhile, or, in damaged
 * memory, for ever: ROUNDS bounds that.
 */

#include <string.h>

#include "counter.h"
#include "denials.h"
#include "wake.h"

#define ROUNDS (1 << 20)

static inline uint32_t seq_next(uint32_t seq) {
	return (seq + 1) & BERTH_SEQ_MASK;
}

/* -- records: what follows on what --------------------------------------------------------- */

static inline bool in_flight(uint64_t rec) {
	enum record_state state = record_state(rec);

	return state == RECORD_CHARGE || state == RECORD_UNCHARGE || state == RECORD_CANCEL;
}

static inline uint64_t record_freed(uint64_t rec) {
	return record_pack(RECORD_FREE, 0, 0, 0, record_seq(rec));
}

/* Into CHARGE or UNCHARGE of a level: always with the next seq. */
static inline uint64_t record_enter(uint64_t rec, enum record_state state, uint32_t level) {
	return record_move(rec, state, level, seq_next(record_seq(rec)));
}

/* From a level that is charged no more, or never was: down to the next one that is. */
static inline uint64_t record_below(uint64_t rec) {
	uint32_t level = record_level(rec);

	return level == 0 ? record_freed(rec) : record_enter(rec, RECORD_UNCHARGE, level - 1);
}

static inline uint64_t record_charged(uint64_t rec, uint32_t depth) {
	uint32_t level = record_level(rec);

	if (level + 1 < depth)
		return record_enter(rec, RECORD_CHARGE, level + 1);
	return record_move(rec, RECORD_HELD, level, record_seq(rec));
}

/* The record's word once the operation that it is in has taken effect. */
static uint64_t record_done(uint64_t rec, uint32_t depth) {
	switch (record_state(rec)) {
	case RECORD_CHARGE:
		return record_charged(rec, depth);
	case RECORD_CANCEL:
		return record_move(rec, RECORD_EFFECT, record_level(rec), record_seq(rec));
	default:
		return record_below(rec);
	}
}

/* -- cells ----------------------------------------------------------------------------------- */

/* One step on one cell: whose record, standing where, as last read. */
struct step {
	struct map *map;
	struct record *record;
	uint32_t number; /* the record's */
	uint64_t rec;    /* its word */
	struct cell *cell;
	_Atomic uint8_t *dirty;
	uint32_t account; /* the cell's */
};

/* Finds the cell that the record's word stands on. */
static _hot_ int step_find_cell(struct step *s) {
	s->account = record_account(s->rec);
	if (record_level(s->rec) > 0) {
		uint32_t ancestor;
		int r = directory_ancestor(s->map, s->account, record_level(s->rec), &ancestor);

		if (unlikely(r < 0))
			return r == -ENOENT ? -EUCLEAN : r;
		s->account = ancestor;
	}
	if (unlikely(!map_has_account(s->map, s->account)))
		return -EUCLEAN;
	s->cell = map_cell_at(s->map, s->account);
	s->dirty = map_dirty_at(s->map, s->account);
	return likely(s->cell && s->dirty) ? 0 : -ENOMEM;
}

static inline bool step_is_tagged(const struct step *s, uint64_t word) {
	return cell_record(word) == s->number && cell_seq(word) == record_seq(s->rec);
}

/* Notes in the record that its operation took effect: A3, R3. Then the step is about what it says
 * next, by our hand or another's. */
static inline void step_done(struct step *s, uint64_t done) {
	s->rec = cas(&s->record->word, s->rec, done) ? done : load_acquire(&s->record->word);
}

/* The record isn't what the step was about: have another look at it. */
static void step_reread(struct step *s) {
	s->rec = load_acquire(&s->record->word);
}

/* True while the record still says what the step was begun for. Pairs with the CASes on records:
 * read after the cell's word (order 1, 2 above). */
static inline bool step_stands(const struct step *s) {
	return load_acquire(&s->record->word) == s->rec;
}

static inline void cell_note_peak(struct cell *cell, uint32_t count) {
	uint32_t peak = load_relaxed(&cell->peak);

	for (int i = 0; i < 64 && peak < count; i++) {
		if (cas32(&cell->peak, peak, count))
			return;
		peak = load_relaxed(&cell->peak);
	}
}

/* Order 5, R2. */
static inline bool step_uncount(const struct step *s, uint64_t word, uint32_t weight) {
	uint32_t count = cell_count(word) - weight;

	if (!cas(&s->cell->word, word, cell_pack(count, s->number, record_seq(s->rec))))
		return false;
	wake_changed(s->map, s->dirty);
	return true;
}

/* True if the word's tag names an operation that its record hasn't noted as done. */
static inline bool record_awaits(uint64_t rec, uint64_t word) {
	return record_seq(rec) == cell_seq(word) && in_flight(rec);
}

/* Only if the record stands on this very cell, and the cell, read after the record, still bears the
 * tag. The CAS fails when another has helped, or when the daemon has just made CHARGE a CANCEL; then
 * it looks again. */
static _rare_ int record_help(struct map *m, struct record *record, uint32_t account,
	const struct cell *cell, uint64_t word) {
	for (int i = 0; i < 8; i++) {
		uint64_t rec = load_acquire(&record->word);
		uint32_t stands_on, depth;
		int r;

		if (!record_awaits(rec, word))
			return 0;
		r = directory_ancestor(m, record_account(rec), record_level(rec), &stands_on);
		if (r >= 0)
			r = directory_depth(m, record_account(rec), &depth);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		if (stands_on != account || load_acquire(&cell->word) != word)
			return 0;
		if (cas(&record->word, rec, record_done(rec, depth)))
			return 0;
	}
	return 0;
}

/* Notes the operation that the word's tag names as done: A3, R3, or CANCEL → EFFECT. -ENOMEM: the
 * record is out of reach, the tag must not be overwritten. */
static _hot_ int cell_help(
	struct map *m, uint32_t account, const struct cell *cell, uint64_t word) {
	uint32_t number = cell_record(word);
	struct record *record;

	if (number == 0)
		return 0;
	record = map_record(m, number);
	if (unlikely(!record))
		return map_has_record(m, number) ? -ENOMEM : 0;
	if (likely(!record_awaits(load_acquire(&record->word), word)))
		return 0;
	return record_help(m, record, account, cell, word);
}

/* Order 4. A tag of the step's own record, which was just seen (2) to be at another seq, is done. A
 * range lies in one window, so its records are found from each other: those of one process. */
static _hot_ int step_help(const struct step *s, uint64_t word) {
	uint32_t number = cell_record(word);
	struct record *record;

	if (number == s->number)
		return 0;
	if ((number ^ s->number) >= BERTH_RANGE)
		return cell_help(s->map, s->account, s->cell, word);
	record = s->record + ((int32_t)number - (int32_t)s->number);
	if (likely(!record_awaits(load_acquire(&record->word), word)))
		return 0;
	return record_help(s->map, record, s->account, s->cell, word);
}

uint32_t counter_count(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);

	return cell ? cell_count(load_acquire(&cell->word)) : 0;
}

/* -- giving back: R1, R2, R3 ------------------------------------------------------------------ */

/* True if `rec` is a later step of the release (or retreat) that `first` began. */
static bool same_descent(uint64_t first, uint64_t rec) {
	uint32_t steps = (record_seq(rec) - record_seq(first)) & BERTH_SEQ_MASK;

	return record_state(rec) == RECORD_UNCHARGE &&
	       record_account(rec) == record_account(first) &&
	       record_weight(rec) == record_weight(first) && steps <= record_level(first) &&
	       record_level(rec) == record_level(first) - steps;
}

/* One look at the level that the record stands on. */
static int step_uncharge(struct step *s) {
	uint64_t word = load_acquire(&s->cell->word);
	uint32_t weight = record_weight(s->rec);
	int r;

	if (step_is_tagged(s, word)) {
		/* Who made the change may have died before it said so. */
		wake_changed(s->map, s->dirty);
		step_done(s, record_below(s->rec));
		return 0;
	}
	if (!step_stands(s)) {
		step_reread(s);
		return 0;
	}
	r = step_help(s, word);
	if (unlikely(r < 0))
		return r;
	if (unlikely(cell_count(word) < weight)) {
		/* Damage. The record goes on, so that it isn't stuck for ever. */
		step_done(s, record_below(s->rec));
		return -EUCLEAN;
	}
	if (step_uncount(s, word, weight))          /* R2 */
		step_done(s, record_below(s->rec)); /* R3 */
	return 0;
}

/* The account that the record says has no such level. Damage, if the record stands: an account stays
 * while its own cell, the last to be uncharged, counts a slot of it. Else another went down to FREE
 * before us, and the account was removed. */
static int step_lost(struct step *s) {
	if (!step_stands(s)) {
		step_reread(s);
		return 0;
	}
	/* The record goes on, so that it isn't stuck for ever. */
	step_done(s, record_below(s->rec));
	return -EUCLEAN;
}

/* Goes down from UNCHARGE until the record is no longer this release's, whoever did the steps. */
static _rare_ int descend(struct map *m, uint32_t number, struct record *record, uint64_t first) {
	struct step s = {.map = m, .record = record, .number = number, .rec = first};
	int damage = 0;

	for (int i = 0; i < ROUNDS; i++) {
		int r = step_find_cell(&s);

		if (likely(r >= 0))
			r = step_uncharge(&s);
		else if (r == -EUCLEAN)
			r = step_lost(&s);
		if (unlikely(r == -EUCLEAN))
			damage = r;
		else if (unlikely(r < 0))
			return r;
		if (!same_descent(first, s.rec))
			return damage;
	}
	return -EUCLEAN;
}

/* R1, and down, without having looked before. */
static _rare_ int release_held(struct map *m, struct record_at at, uint64_t held) {
	uint64_t first = record_enter(held, RECORD_UNCHARGE, record_level(held));

	if (!cas(&at.record->word, held, first)) /* R1 */
		return -ENOENT;
	return descend(m, at.number, at.record, first);
}

/* The first look is taken before R1, whose CAS then is order 2: so nothing stands between the three
 * changes. */
int counter_release_at(struct map *m, struct record_at at, uint32_t seq) {
	uint64_t held = load_acquire(&at.record->word), first, word;
	struct step s;

	if (unlikely(record_state(held) != RECORD_HELD || record_seq(held) != seq))
		return -ENOENT;
	s.map = m;
	s.record = at.record;
	s.number = at.number;
	s.rec = held;
	if (unlikely(step_find_cell(&s) < 0))
		return release_held(m, at, held);
	word = load_acquire(&s.cell->word);                     /* order 1 */
	if (unlikely(cell_count(word) < record_weight(held)) || /* 4 */
		unlikely(step_help(&s, word) < 0))
		return release_held(m, at, held);
	first = record_enter(held, RECORD_UNCHARGE, record_level(held));
	if (unlikely(!cas(&at.record->word, held, first))) /* R1, 2 */
		return -ENOENT;
	s.rec = first;
	if (likely(step_uncount(&s, word, record_weight(held)))) /* 5, R2 */
		step_done(&s, record_below(first));              /* R3 */
	return likely(record_state(s.rec) == RECORD_FREE) || !same_descent(first, s.rec)
		       ? 0
		       : descend(m, at.number, at.record, s.rec);
}

int counter_release(struct map *m, uint32_t number, uint32_t seq) {
	const struct record_at at = {map_record(m, number), number};

	return at.record ? counter_release_at(m, at, seq) : map_record_error(m, number);
}

int counter_settle(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);
	uint64_t rec;

	if (!record)
		return map_record_error(m, number);
	rec = load_acquire(&record->word);
	return record_state(rec) == RECORD_UNCHARGE ? descend(m, number, record, rec) : 0;
}

/* -- taking: A1 … A4 -------------------------------------------------------------------------- */

/* What one acquire is about. */
struct acquire {
	struct step step;
	const struct path *path;
	uint32_t weight;
	uint32_t seq; /* of A1; level k is charged with seq + k */
	uint32_t *ret_level;
};

/* The daemon hears of it, as of a change: a count that is wrong may do nothing else than deny. */
void counter_deny(struct map *m, const struct level *l) {
	denials_add(m, l->account, l->cell);
	wake_changed(m, l->dirty);
}

/* True if the word bears a tag of this record that lies among the seqs that an acquire from `seq` on,
 * and its release or revocation, can use. */
static _hot_ bool seq_meets_tag(uint64_t word, uint32_t number, uint32_t seq, uint32_t depth) {
	return unlikely(cell_record(word) == number) &&
	       ((cell_seq(word) - seq) & BERTH_SEQ_MASK) < 2 * depth + 1;
}

/* Moves seq past a tag of this record in a cell of its path; true if it moved. */
static bool seq_pass_tag(const struct path *path, uint32_t number, uint32_t *seq) {
	for (uint32_t k = 0; k < path->depth; k++) {
		uint64_t word = load_acquire(&path->level[k].cell->word);

		if (seq_meets_tag(word, number, *seq, path->depth)) {
			*seq = seq_next(cell_seq(word));
			return true;
		}
	}
	return false;
}

static _apart_ uint32_t seq_pass_tags(const struct path *path, uint32_t number, uint32_t seq) {
	/* Each move passes a tag for good, unless seqs are so few that they come round. */
	for (uint32_t i = 0; i < path->depth * path->depth; i++)
		if (!seq_pass_tag(path, number, &seq))
			break;
	return seq;
}

/* The seq of A1, for a record that says `old` and a lowest cell that says `word`. */
static _hot_ uint32_t seq_choose(
	const struct path *path, uint32_t number, uint64_t old, uint64_t word) {
	uint32_t seq = seq_next(record_seq(old));

	if (likely(path->depth == 1) && !seq_meets_tag(word, number, seq, 1))
		return seq;
	return seq_pass_tags(path, number, seq);
}

/* Not to be published. */
static _rare_ int record_refusal(uint64_t rec) {
	return record_state(rec) == RECORD_CLOSED ? -ESHUTDOWN : -EAGAIN;
}

/* Counts a denial; returns r. */
static _rare_ int level_refuse(
	struct map *m, const struct path *path, uint32_t level, int r, uint32_t *ret_level) {
	if (r == -EDQUOT || r == -EOVERFLOW) {
		*ret_level = level;
		counter_deny(m, &path->level[level]);
	}
	return r;
}

/* A4: refused at this level with r; gives back what lower levels charged. */
static int retreat(struct acquire *a, int r) {
	struct step *s = &a->step;
	uint64_t below = record_below(s->rec);
	int down;

	if (!cas(&s->record->word, s->rec, below))
		return -ECANCELED;
	r = level_refuse(s->map, a->path, record_level(s->rec), r, a->ret_level);
	if (record_state(below) == RECORD_FREE)
		return r;
	down = descend(s->map, s->number, s->record, below);
	return down < 0 ? down : r;
}

static _hot_ void step_take(struct step *s, const struct level *l) {
	s->account = l->account;
	s->cell = l->cell;
	s->dirty = l->dirty;
}

/* Orders 3 and 4 for the word that was read at this level. Pairs with daemon/directory-write.c, which
 * stores limit and generation, then bumps. */
static _hot_ int step_admit(
	const struct step *s, const struct level *l, uint64_t word, uint32_t weight) {
	uint64_t said = load_acquire(&l->entry->word);
	int r;

	if (unlikely(entry_generation(said) != l->generation))
		return -ESTALE;
	r = counter_refusal(cell_count(word), weight, entry_limit(said));
	return likely(r == 0) ? step_help(s, word) : r;
}

/* Order 5, A2, and A3; only then what can wait: whoever dies before has a record that somebody else
 * gives back, and announces. False if the word has changed. */
static _hot_ bool step_charge(struct step *s, uint64_t word, uint32_t weight, uint32_t depth) {
	uint32_t count = cell_count(word) + weight;

	if (unlikely(!cas(&s->cell->word, word, cell_pack(count, s->number, record_seq(s->rec)))))
		return false;
	step_done(s, record_charged(s->rec, depth));
	wake_changed(s->map, s->dirty);
	cell_note_peak(s->cell, count);
	return true;
}

/* One look at the level that the record stands on. Negative: refused, and gone down again. */
static int step_ascend(struct acquire *a, const struct level *l) {
	struct step *s = &a->step;
	uint64_t word = load_acquire(&l->cell->word); /* order 1 */
	int r;

	if (!step_stands(s)) { /* 2 */
		step_reread(s);
		return 0;
	}
	if (step_is_tagged(s, word)) {
		step_done(s, record_charged(s->rec, a->path->depth));
		return 0;
	}
	r = step_admit(s, l, word, a->weight); /* 3, 4 */
	if (r < 0)
		return retreat(a, r);
	(void)step_charge(s, word, a->weight, a->path->depth); /* 5 */
	return 0;
}

/* True if the record's word is a step of this acquire: CHARGE(k) with its seq. */
static bool is_my_charge(const struct acquire *a, uint64_t rec) {
	return record_state(rec) == RECORD_CHARGE &&
	       record_account(rec) == a->path->level[0].account &&
	       record_level(rec) < a->path->depth &&
	       record_seq(rec) == ((a->seq + record_level(rec)) & BERTH_SEQ_MASK);
}

static bool is_my_slot(const struct acquire *a, uint64_t rec) {
	return record_state(rec) == RECORD_HELD &&
	       record_seq(rec) == ((a->seq + a->path->depth - 1) & BERTH_SEQ_MASK);
}

/* Goes up until the slot is held, or refused, or the record isn't this acquire's any more. */
static int ascend(struct acquire *a) {
	struct step *s = &a->step;

	for (int i = 0; i < ROUNDS && is_my_charge(a, s->rec); i++) {
		const struct level *l = &a->path->level[record_level(s->rec)];
		int r;

		step_take(s, l);
		r = step_ascend(a, l);
		if (unlikely(r < 0))
			return r;
	}
	return likely(is_my_slot(a, s->rec)) ? 0 : -ECANCELED;
}

/* Goes on from where the first look ended. Only here the acquire is put together in memory. */
static _apart_ int acquire_rest(struct step s, const struct slot_request *request, uint32_t seq,
	uint32_t *ret_seq, uint32_t *ret_level) {
	struct acquire a = {s, request->path, request->weight, seq, ret_level};
	int r = ascend(&a);

	*ret_seq = (seq + request->path->depth - 1) & BERTH_SEQ_MASK;
	return r;
}

/* Cut at 39 bytes, but not in the middle of a UTF-8 character. */
static size_t label_length(const char *label) {
	size_t n = strnlen(label, BERTH_LABEL_SIZE);

	if (n == BERTH_LABEL_SIZE)
		for (n--; n > 0 && ((unsigned char)label[n] & 0xC0) == 0x80;)
			n--;
	return n;
}

static _rare_ void record_label(struct record *record, const char *label) {
	uint64_t word[BERTH_LABEL_SIZE / 8] = {0};

	memcpy(word, label, label_length(label));
	for (size_t i = 0; i < ELEMENTS(word); i++)
		store_relaxed(&record->label[i], word[i]);
}

/* The owner's alone between A1 and HELD. */
static inline void record_stamp(struct record *record, const struct stamp *stamp) {
	store_relaxed(&record->since, stamp->since);
	if (stamp->label)
		record_label(record, stamp->label);
	else if (load_relaxed(&record->label[0]) != 0)
		store_relaxed(&record->label[0], 0);
}

/* The first look, at the lowest level, is taken before A1, whose CAS then is order 2: so nothing but
 * the stamp stands between the three changes, and who is refused has published nothing. */
int counter_acquire_at(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t *ret_seq, uint32_t *ret_level) {
	const struct path *path = request->path;
	uint64_t old = load_acquire(&at.record->word), word;
	struct step s;
	uint32_t seq;
	int r;

	if (unlikely(record_state(old) != RECORD_FREE))
		return record_refusal(old);
	s.map = m;
	s.record = at.record;
	s.number = at.number;
	step_take(&s, &path->level[0]);
	word = load_acquire(&s.cell->word);                         /* order 1 */
	r = step_admit(&s, &path->level[0], word, request->weight); /* 3, 4 */
	if (unlikely(r < 0))
		return level_refuse(m, path, 0, r, ret_level);
	seq = seq_choose(path, at.number, old, word);
	s.rec = record_pack(RECORD_CHARGE, 0, request->weight, s.account, seq);
	if (unlikely(!cas(&at.record->word, old, s.rec))) /* A1, 2 */
		return record_refusal(load_acquire(&at.record->word));
	record_stamp(at.record, &request->stamp);
	if (likely(step_charge(&s, word, request->weight, path->depth)) && /* 5 */
		likely(record_state(s.rec) == RECORD_HELD && record_seq(s.rec) == seq)) {
		*ret_seq = seq;
		return 0;
	}
	return acquire_rest(s, request, seq, ret_seq, ret_level);
}

int counter_acquire(struct map *m, uint32_t number, const struct path *path, uint32_t weight,
	const struct stamp *stamp, uint32_t *ret_seq, uint32_t *ret_level) {
	const struct record_at at = {map_record(m, number), number};
	const struct slot_request request = {path, weight, *stamp};

	return at.record ? counter_acquire_at(m, at, &request, ret_seq, ret_level)
			 : map_record_error(m, number);
}

/* -- the daemon's: bump, V1 … V3 --------------------------------------------------------------- */

/* Never the same tag twice: the number is taken before it is used, and outlives the daemon. */
static uint32_t daemon_tag(struct map *m) {
	return add_total(&m->header->daemon_seq, 1) & BERTH_SEQ_MASK;
}

int counter_bump(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);

	if (!cell)
		return map_account_error(m, account);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t word = load_acquire(&cell->word);
		int r = cell_help(m, account, cell, word);

		if (r < 0)
			return r;
		if (cas(&cell->word, word, cell_pack(cell_count(word), 0, daemon_tag(m))))
			return 0;
	}
	return -EUCLEAN;
}

/* HELD or EFFECT: every level from the record's own down to 0 is charged. */
static int revoke_charged(struct map *m, uint32_t number, struct record *record, uint64_t rec) {
	/* Two seqs on, where R1 goes one: so a process can tell what it released itself (pool.c). */
	uint64_t first = record_move(
		rec, RECORD_UNCHARGE, record_level(rec), seq_next(seq_next(record_seq(rec))));

	return cas(&record->word, rec, first) ? descend(m, number, record, first) : -EAGAIN;
}

/* V2, V3 for a record that says CANCEL, which only the daemon and helpers change. */
static int revoke_cancelled(struct map *m, uint32_t number, struct record *record, uint64_t rec) {
	uint64_t below = record_below(rec);
	uint32_t account;
	int r;

	r = directory_ancestor(m, record_account(rec), record_level(rec), &account);
	if (r >= 0)
		r = counter_bump(m, account);
	if (r == -ENOMEM)
		return r;
	/* Still CANCEL: it never took effect. */
	if (cas(&record->word, rec, below))
		return record_state(below) == RECORD_FREE ? 0 : descend(m, number, record, below);
	rec = load_acquire(&record->word);
	return record_state(rec) == RECORD_EFFECT ? revoke_charged(m, number, record, rec)
						  : -EAGAIN;
}

int counter_revoke(struct map *m, uint32_t number, uint64_t seen) {
	struct record *record = map_record(m, number);
	uint64_t cancelled;

	if (!record)
		return map_record_error(m, number);
	switch (record_state(seen)) {
	case RECORD_HELD:
	case RECORD_EFFECT:
		return revoke_charged(m, number, record, seen);
	case RECORD_UNCHARGE:
		return descend(m, number, record, seen);
	case RECORD_CHARGE: /* V1 */
		cancelled = record_move(seen, RECORD_CANCEL, record_level(seen), record_seq(seen));
		return cas(&record->word, seen, cancelled)
			       ? revoke_cancelled(m, number, record, cancelled)
			       : -EAGAIN;
	case RECORD_CANCEL:
		return revoke_cancelled(m, number, record, seen);
	default:
		return 0;
	}
}

uint64_t counter_record(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);

	return record ? load_acquire(&record->word) : 0;
}

/* A state that no code writes: noise. Nothing can be told from it, so it counts for nothing. */
static bool is_noise(uint64_t rec) {
	return record_state(rec) > RECORD_EFFECT;
}

int counter_close(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);
	int damage = 0;

	if (!record)
		return map_record_error(m, number);
	for (int i = 0; i < 64; i++) {
		uint64_t rec = load_acquire(&record->word);
		int r;

		if (record_state(rec) == RECORD_CLOSED)
			return damage;
		if (record_state(rec) == RECORD_FREE || is_noise(rec)) {
			if (is_noise(rec))
				damage = -EUCLEAN;
			if (cas(&record->word, rec,
				    record_pack(RECORD_CLOSED, 0, 0, 0, record_seq(rec))))
				return damage;
			continue;
		}
		r = counter_revoke(m, number, rec);
		if (r == -EUCLEAN)
			damage = r;
		else if (r < 0 && r != -EAGAIN)
			return r;
	}
	return -EAGAIN;
}

int counter_open(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);
	uint64_t rec;

	if (!record)
		return map_record_error(m, number);
	rec = load_acquire(&record->word);
	if (record_state(rec) != RECORD_CLOSED)
		return -EBUSY;
	rec = record_pack(RECORD_FREE, 0, 0, 0, seq_next(record_seq(rec)));
	store_release(&record->word, rec);
	return 0;
}

int counter_resume(struct map *m, uint32_t number) {
	uint64_t rec = counter_record(m, number);
	enum record_state state = record_state(rec);

	if (state == RECORD_UNCHARGE || state == RECORD_CANCEL || state == RECORD_EFFECT)
		return counter_revoke(m, number, rec);
	return 0;
}

/* -- repairs, after somebody wrote over the segment ----------------------------------------------- */

bool counter_has_charged(uint64_t rec, uint32_t number, uint64_t word) {
	bool tagged = cell_record(word) == number && cell_seq(word) == record_seq(rec);

	switch (record_state(rec)) {
	case RECORD_HELD:
	case RECORD_EFFECT:
		return true;
	case RECORD_CHARGE:
	case RECORD_CANCEL:
		return tagged;
	case RECORD_UNCHARGE:
		return !tagged;
	default:
		return false;
	}
}

int counter_repair(struct map *m, uint32_t account, uint64_t seen, uint32_t count) {
	struct cell *cell = map_cell(m, account);
	int r;

	if (!cell)
		return map_account_error(m, account);
	r = cell_help(m, account, cell, seen);
	if (r < 0)
		return r;
	return cas(&cell->word, seen, cell_pack(count, 0, daemon_tag(m))) ? 0 : -EAGAIN;
}

int counter_discard(struct map *m, uint32_t number, uint64_t seen) {
	struct record *record = map_record(m, number);

	if (!record)
		return map_record_error(m, number);
	return cas(&record->word, seen,
		       record_pack(RECORD_FREE, 0, 0, 0, seq_next(record_seq(seen))))
		       ? 0
		       : -EAGAIN;
}
