/* SPDX-License-Identifier: MIT */

/*
 * The counter. The only file that changes a cell's count or a record's word.
 *
 * Steps. A record that is PLACED on an account's path goes round it: up, charging levels 0 … top,
 * then it holds a slot, and down again. Each step is one CAS on one cell, which changes the count and
 * writes the tag (record, seq), with seq one higher each time; so a seq tells which step of its cycle
 * it is, and what is charged after it (layout.h). The record itself isn't written.
 *
 * Invariant. A record's newest step at a level is told by the tag in that level's cell, or, once
 * another's change has taken the tag's place, by the record: for nobody overwrites a tag before he
 * has noted its seq in the record that it names, if it is newer than what the record says. So at
 * every instant each level's cell and the record together say whether the record has charged it; and
 * a cell's count is the sum of the weights of the records that have.
 *
 * Writes in order, for an acquire by a record whose seq is at the base of a cycle, b:
 *   P1 record  FREE or PLACED elsewhere → PLACED, b   only if it isn't on this path already
 *   A1 cell k  count + weight, tag (r, b + k + 1)     k = 0 … top: each takes effect at once
 *   P2 record  PLACED → FREE                          after an acquire that was refused above level 0
 * for a release, or for an acquire that is refused above a charged level:
 *   R1 cell k  count - weight, tag (r, the next step) k = top … 0. Who makes the first one, at the
 *                                                     top, has released the slot; nobody else can
 * for whoever is about to overwrite a tag (r, t) of another:
 *   N1 record  PLACED or SEIZED, s → the same, t      if t is newer
 * and for taking back, whatever the owner is doing (the daemon alone; V1 also an owner who lacks the
 * memory to go on):
 *   V1 record  PLACED → SEIZED
 *   V2 cell k  same count, tag (0, n)                 k = 0 … top: no step of the owner's that began
 *                                                     before can take effect any more, and the
 *                                                     newest that had is noted
 *   V3 cell k  count - weight, tag (r, the next step) and N1, from the highest charged level down
 *   V4 record  SEIZED → FREE
 * A slot that is held is revoked by R1 at the top first, so that none but this very slot is; with the
 * seq of the next cycle, by which its owner can tell that it wasn't he. If it has one level that is
 * all.
 *
 * Death between any two leaves what the invariant says:
 *   P1|A1, after the last R1  nothing charged: V1 … V4, or the next acquire, go on from there
 *   A1|A1, R1|R1  some levels charged: V1 … V4 when the session ends. Where the way down was begun,
 *                 be it by a daemon that died after its R1 at the top, the next one makes the other R1
 *                 (counter_resume); an owner who was giving back himself finds them made
 *   N1            noted twice is noted once
 *   V1|V2 … V3|V4 the next daemon begins with V2 again (counter_resume, counter_close)
 * No step waits for another process.
 *
 * What makes it right is the order in which one who is about to change a cell reads:
 *   1 the cell's word   2 the record   3 limit and generation   4 the tag's record (N1)   5 CAS
 * Whatever changed 2 or 3 after they were read has also changed the cell's word (sealed by V2,
 * bumped), so the CAS fails. Of 2 the place is compared, and that the seq isn't newer than the own
 * steps, for a note moves it up to these at any time.
 *
 * One at a time. A placed record's steps up are made by one thread, which has claimed it in the
 * memory of its process (pool.c); the first one down by whoever wins its CAS, the others by the same.
 *
 * Old tags. A cell that rests keeps its last tag while the record goes on and its seqs come round.
 * Newer is what lies less than half a round ahead. So the record's own seq is moved on before its
 * steps are that far from it (renew), and no tag of its own on its path may fall that far behind: it
 * is looked for when the record is placed (freshen), and an acquire that isn't refused renews them all.
 * A tag that names a record which stands elsewhere is not its. Who notes has looked at the cell, at the
 * record, and at the cell again, so that a tag which is still there was the newest of that level when
 * the record was read. Held up then, he may note late; but only if nobody has noted since, and then
 * what was newer stands in the cells.
 *
 * What 64 bits can't give. A party that is stopped between 1 and 5 while the cell's word changes and
 * comes back to the same count, record and seq would succeed wrongly. For that, one record must
 * make a whole multiple of 2^22 steps meanwhile, and its last step must be on this cell, with that
 * count. At 40 million steps a second through one record alone that takes 0.1 s, and then the party
 * must wake within the one step (25 ns) in which the word is the same: a chance of 2^-22 for each
 * such stop. A thread that finds others of its range free changes the record after 2^16 steps, so
 * that the rate is a 16th of that.
 *
 * Loops. A loop goes round again only if somebody else's CAS succeeded meanwhile, or, in damaged
 * memory, for ever: ROUNDS bounds that.
 */

#include <string.h>

#include "counter-warm.h"

#define ROUNDS (1 << 20)

/* -- seqs --------------------------------------------------------------------------------------- */

/* True if `seq` is at most half a round ahead of `than`. */
static inline bool seq_is_newer(uint32_t seq, uint32_t than) {
	return seq_distance(than, seq) - 1 < SEQ_HALF - 1;
}

static inline uint64_t record_with(uint64_t rec, uint32_t seq) {
	return record_place(rec) | seq;
}

/* Where the next cycle begins: here, if this one hasn't. */
static inline uint32_t cycle_base(uint64_t place, uint32_t seq) {
	uint32_t cycle = record_cycle(place);

	return (seq + cycle - 1) & ~(cycle - 1) & BERTH_SEQ_MASK;
}

/* The step by which the highest charged level is given back. */
static inline uint32_t record_next_down(uint64_t rec) {
	uint32_t base = record_seq(rec) & ~(record_cycle(rec) - 1);

	return seq_add(base, 2 * record_top(rec) + 3 - record_charged(rec));
}

/* The level at which the step to `seq` was made. */
static uint32_t step_level(uint64_t rec, uint32_t seq) {
	uint32_t depth = record_top(rec) + 1, step = record_step(record_with(rec, seq));

	if (step == 0 || step >= 2 * depth)
		return 0;
	return step <= depth ? step - 1 : 2 * depth - step;
}

/* -- tags: N1 ------------------------------------------------------------------------------------ */

static inline bool is_on_path(uint64_t rec) {
	return record_state(rec) == RECORD_PLACED || record_state(rec) == RECORD_SEIZED;
}

/* True if the word's tag names a step of its record that the record doesn't know of. */
static inline bool record_awaits(uint64_t rec, uint64_t word) {
	return is_on_path(rec) && seq_is_newer(cell_seq(word), record_seq(rec));
}

/* Only if the step was made on this very cell, and the cell, read after the record, still bears the
 * tag. -EUCLEAN: words keep changing, as none of ours do. */
static _apart_ int record_note(
	struct map *m, struct record *record, const struct cell *cell, uint64_t word) {
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t rec = load_acquire(&record->word);
		uint32_t stands_on;
		int r;

		if (!record_awaits(rec, word))
			return 0;
		r = directory_ancestor(
			m, record_account(rec), step_level(rec, cell_seq(word)), &stands_on);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		if (map_cell(m, stands_on) != cell || load_acquire(&cell->word) != word)
			return 0;
		if (cas(&record->word, rec, record_with(rec, cell_seq(word)))) /* N1 */
			return 0;
	}
	return -EUCLEAN;
}

/* Order 4. -ENOMEM: the record is out of reach, the tag must not be overwritten. */
static _hot_ int cell_note(struct map *m, const struct cell *cell, uint64_t word) {
	uint32_t number = cell_record(word);
	struct record *record;

	if (number == 0)
		return 0;
	record = map_record(m, number);
	if (unlikely(!record))
		return map_has_record(m, number) ? -ENOMEM : 0;
	if (likely(!record_awaits(load_acquire(&record->word), word)))
		return 0;
	return record_note(m, record, cell, word);
}

/* -- steps --------------------------------------------------------------------------------------- */

/* Who makes a step: a record, and the place on which it stands. */
struct step {
	struct map *map;
	struct record *record;
	uint32_t number;
	uint64_t place;
};

/* Order 2. Pairs with V1: read after the cell's word. */
static _hot_ bool step_stands(const struct step *s, uint64_t rec) {
	return record_place(rec) == s->place;
}

/* Order 4. A tag of the step's own record needs no note: the step that follows is newer. A range lies
 * in one window, so its records are found from each other: those of one process. */
static _hot_ int step_note(const struct step *s, const struct level *l, uint64_t word) {
	uint32_t number = cell_record(word);
	struct record *record;

	if (likely(number == s->number))
		return 0;
	if ((number ^ s->number) >= BERTH_RANGE)
		return cell_note(s->map, l->cell, word);
	record = s->record + ((int32_t)number - (int32_t)s->number);
	if (!record_awaits(load_acquire(&record->word), word))
		return 0;
	return record_note(s->map, record, l->cell, word);
}

/* The record's newest step at the level whose cell says `word`, read before the record. */
static _hot_ uint32_t step_newest(uint32_t number, uint64_t rec, uint64_t word) {
	uint32_t seq = record_seq(rec);

	return cell_record(word) == number && seq_is_newer(cell_seq(word), seq) ? cell_seq(word)
										: seq;
}

void counter_note_peak(struct cell *cell, uint32_t count) {
	uint32_t peak = load_relaxed(&cell->peak);

	for (int i = 0; i < 64 && peak < count; i++) {
		if (cas32(&cell->peak, peak, count))
			return;
		peak = load_relaxed(&cell->peak);
	}
}

/* Order 5, R1. A count that is less than what is charged is damage: it stays, and the record goes on,
 * so that it isn't stuck for ever. */
static _hot_ bool step_uncharge(
	const struct step *s, const struct level *l, uint64_t word, uint32_t seq, int *ret_damage) {
	uint32_t count = cell_count(word), weight = record_weight(s->place);

	if (unlikely(count < weight)) {
		*ret_damage = -EUCLEAN;
		weight = 0;
	}
	if (unlikely(!cas(&l->cell->word, word, cell_pack(count - weight, s->number, seq))))
		return false;
	wake_changed(s->map, l->dirty);
	return true;
}

uint32_t counter_count(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);

	return cell ? cell_count(load_acquire(&cell->word)) : 0;
}

/* -- where a record stands --------------------------------------------------------------------- */

/* The cells of a record's path, for one who didn't come by the name. -ENOMEM; -EUCLEAN: there is no
 * such path. */
static int record_path(struct map *m, uint64_t rec, struct path *ret) {
	uint32_t account = record_account(rec), depth = record_top(rec) + 1;

	for (ret->depth = 0; ret->depth < depth; ret->depth++) {
		struct level *l = &ret->level[ret->depth];
		struct entry *e;

		if (unlikely(!map_has_account(m, account)))
			return -EUCLEAN;
		l->cell = map_cell_at(m, account);
		l->dirty = map_dirty_at(m, account);
		e = ret->depth + 1 < depth ? map_entry_at(m, account) : NULL;
		if (unlikely(!l->cell || !l->dirty || (!e && ret->depth + 1 < depth)))
			return -ENOMEM;
		account = e ? load_relaxed(&e->parent) : 0;
	}
	return 0;
}

/* The newest seq of the record that said `rec`, by it and the tags in the cells of its path. */
static uint32_t newest_seq(struct map *m, uint32_t number, uint64_t rec) {
	uint32_t account = record_account(rec);

	for (uint32_t k = 0; k <= record_top(rec); k++) {
		const struct cell *cell;

		if (k > 0 && directory_ancestor(m, account, 1, &account) < 0)
			break;
		cell = map_cell(m, account);
		if (cell)
			rec = record_with(rec, step_newest(number, rec, load_acquire(&cell->word)));
	}
	return record_seq(rec);
}

/* The record's word with its newest seq. A note between the looks makes it look again. */
static uint64_t record_newest(struct map *m, uint32_t number, const struct record *record) {
	uint64_t rec = load_acquire(&record->word), again;
	uint32_t seq = record_seq(rec);

	for (int i = 0; i < 64 && is_on_path(rec); i++) {
		seq = newest_seq(m, number, rec);
		again = load_acquire(&record->word);
		if (again == rec)
			return record_with(rec, seq);
		rec = again;
		seq = record_seq(rec);
	}
	return record_with(rec, seq);
}

uint64_t counter_record(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);

	return record ? record_newest(m, number, record) : 0;
}

/* V1. False if it isn't placed so any more. */
static bool record_seize(struct record *record, uint64_t place) {
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t rec = load_acquire(&record->word);

		if (record_place(rec) != place)
			return false;
		if (cas(&record->word, rec,
			    record_pack(RECORD_SEIZED, record_top(rec), record_weight(rec),
				    record_account(rec), record_seq(rec))))
			return true;
	}
	return false;
}

void counter_abandon(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);
	uint64_t rec = record ? load_acquire(&record->word) : 0;

	if (record_state(rec) == RECORD_PLACED)
		(void)record_seize(record, record_place(rec));
}

/* -- giving back: R1 ----------------------------------------------------------------------------- */

/* The first step down, from the slot `seq`, with the tag `next`: of all who try one makes it. -ENOENT:
 * it is not held, or not any more. */
static _hot_ int top_uncharge(
	const struct step *s, const struct level *l, uint32_t seq, uint32_t next) {
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t word = load_acquire(&l->cell->word);  /* order 1 */
		uint64_t rec = load_acquire(&s->record->word); /* 2 */
		int r, damage = 0;

		if (unlikely(!step_stands(s, rec) || step_newest(s->number, rec, word) != seq))
			return -ENOENT;
		r = step_note(s, l, word); /* 4 */
		if (unlikely(r < 0))
			return r;
		if (likely(step_uncharge(s, l, word, next, &damage))) /* 5 */
			return damage;
	}
	return -EUCLEAN;
}

/* One step down, if it isn't made yet: a new daemon may have come upon a release that was going on, and
 * gone on with it. -ECANCELED: the record was seized. */
static _hot_ int level_uncharge(const struct step *s, const struct level *l, uint32_t seq) {
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t word = load_acquire(&l->cell->word);
		uint64_t rec = load_acquire(&s->record->word);
		int r, damage = 0;

		if (unlikely(!step_stands(s, rec)))
			return -ECANCELED;
		if (unlikely(!seq_is_newer(seq, step_newest(s->number, rec, word))))
			return 0;
		r = step_note(s, l, word);
		if (unlikely(r < 0))
			return r;
		if (likely(step_uncharge(s, l, word, seq, &damage)))
			return damage;
	}
	return -EUCLEAN;
}

/* From the level below `above` down, with the steps after `seq`. */
static int descend(const struct step *s, const struct path *path, uint32_t above, uint32_t seq) {
	int damage = 0;

	while (above-- > 0) {
		int r;

		seq = seq_add(seq, 1);
		r = level_uncharge(s, &path->level[above], seq);
		if (r == -EUCLEAN)
			damage = r;
		else if (unlikely(r < 0))
			return r;
	}
	return damage;
}

int counter_release_at(struct map *m, struct record_at at, const struct path *path, uint32_t seq) {
	struct step s = {m, at.record, at.number, record_place(load_acquire(&at.record->word))};
	int r, damage;

	/* A seq at which it rests is no slot, though the record says the same. */
	if (unlikely(!record_is_held(s.place | seq) || record_top(s.place) + 1 != path->depth))
		return -ENOENT;
	damage = top_uncharge(&s, &path->level[path->depth - 1], seq, seq_add(seq, 1));
	if (path->depth == 1 || unlikely(damage < 0 && damage != -EUCLEAN))
		return damage;
	r = descend(&s, path, path->depth - 1, seq_add(seq, 1));
	return likely(r == 0) || r == -ECANCELED ? damage : r;
}

int counter_release_rest(
	struct map *m, struct record_at at, const struct path *path, uint32_t given, uint32_t seq) {
	const struct step s = {
		m, at.record, at.number, record_place(load_acquire(&at.record->word))};
	int r;

	/* Else it was seized: the daemon does the rest. */
	if (record_state(s.place) != RECORD_PLACED)
		return 0;
	r = descend(&s, path, path->depth - given, seq_add(seq, given));
	return r == -ECANCELED ? 0 : r;
}

int counter_release(struct map *m, uint32_t number, uint32_t seq) {
	const struct record_at at = {map_record(m, number), number};
	struct path path;
	uint64_t rec;
	int r;

	if (!at.record)
		return map_record_error(m, number);
	rec = load_acquire(&at.record->word);
	if (record_state(rec) != RECORD_PLACED)
		return -ENOENT;
	r = record_path(m, rec, &path);
	/* It was revoked, and then the account deleted. */
	if (r == -EUCLEAN && record_place(load_acquire(&at.record->word)) != record_place(rec))
		return -ENOENT;
	return r == 0 ? counter_release_at(m, at, &path, seq) : r;
}

/* -- placing: P1 --------------------------------------------------------------------------------- */

/* Not to be placed. */
static _rare_ int record_refusal(uint64_t rec) {
	return record_state(rec) == RECORD_CLOSED ? -ESHUTDOWN : -EAGAIN;
}

/* The record as it rests, wherever that is, with its newest seq; or why it can't be used. Loaded again
 * after that was looked for: the two must be of one owner's. */
static int record_find(const struct step *s, uint64_t *ret_rec, uint32_t *ret_seq) {
	uint64_t newest = record_newest(s->map, s->number, s->record);
	uint64_t rec = load_acquire(&s->record->word);

	if (record_place(rec) != record_place(newest) ||
		seq_is_newer(record_seq(rec), record_seq(newest)))
		return -EAGAIN;
	if (record_state(rec) != RECORD_FREE &&
		(record_state(rec) != RECORD_PLACED || record_charged(newest) > 0))
		return record_refusal(rec);
	*ret_rec = rec;
	*ret_seq = record_seq(newest);
	return 0;
}

/* An old tag of the record's own in a cell of the path on which it is to be placed: with the seq at
 * which it rests, which it stands at until P1, lest a cell of both paths say that it has gone on. */
static int level_freshen(const struct step *s, const struct level *l, uint64_t rec, uint32_t seq) {
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t word = load_acquire(&l->cell->word);

		if (cell_record(word) != s->number ||
			seq_distance(cell_seq(word), seq) <= SEQ_APART)
			return 0;
		/* Order 2. */
		if (load_acquire(&s->record->word) != rec)
			return -EAGAIN;
		if (cas(&l->cell->word, word, cell_pack(cell_count(word), s->number, seq)))
			return 0;
	}
	return -EUCLEAN;
}

static int path_freshen(const struct step *s, const struct path *path, uint64_t rec, uint32_t seq) {
	int r = 0;

	for (uint32_t k = 0; k < path->depth && r == 0; k++)
		r = level_freshen(s, &path->level[k], rec, seq);
	return r;
}

/* Puts a record that rests at seq, wherever, on the path, at the base of a cycle that is above all that
 * it has used. -EAGAIN: it isn't what it was; a note may have moved it. */
static _apart_ int step_place(
	const struct step *s, const struct path *path, uint64_t rec, uint32_t *seq) {
	uint32_t base = cycle_base(s->place, seq_add(*seq, 1));
	int r = path_freshen(s, path, rec, *seq);

	if (r < 0)
		return r;
	if (!cas(&s->record->word, rec, record_with(s->place, base))) /* P1 */
		return -EAGAIN;
	*seq = base;
	return 0;
}

/* True if the record stands where it did, and nobody but a note has moved it. */
static _hot_ bool step_is_mine(const struct step *s, uint64_t rec, uint32_t newest) {
	return step_stands(s, rec) && !seq_is_newer(record_seq(rec), newest);
}

/* Its steps have gone far from what the record says: it is told. */
static _rare_ int step_renew(const struct step *s, uint32_t seq) {
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t rec = load_acquire(&s->record->word);

		if (!step_is_mine(s, rec, seq))
			return -EAGAIN;
		if (cas(&s->record->word, rec, record_with(rec, seq)))
			return 0;
	}
	return -EUCLEAN;
}

/* -- taking: A1 ---------------------------------------------------------------------------------- */

/* Counts a denial; returns r. */
static _rare_ int level_refuse(
	struct map *m, const struct path *path, uint32_t level, int r, uint32_t *ret_level) {
	if (r == -EDQUOT || r == -EOVERFLOW) {
		*ret_level = level;
		denials_add(m, path->level[level].account, path->level[level].cell,
			path->level[level].dirty);
	}
	return r;
}

/* P2. The record leaves its path, on which it rests. */
static void step_leave(const struct step *s, uint32_t seq) {
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t rec = load_acquire(&s->record->word);

		if (!step_is_mine(s, rec, seq) ||
			cas(&s->record->word, rec, record_pack(RECORD_FREE, 0, 0, 0, seq)))
			return;
	}
}

/* Refused at `level` with r, having charged those below it from the cycle's base on: gives them back,
 * and leaves the path, since the tags from there up were not renewed. Without the memory for that it is
 * the daemon's to do. */
static _rare_ int retreat(const struct step *s, const struct path *path, uint32_t level,
	uint32_t base, int r, uint32_t *ret_level) {
	uint32_t seq = seq_add(base, 2 * path->depth - level);
	int down;

	r = level_refuse(s->map, path, level, r, ret_level);
	if (level == 0)
		return r;
	down = r == -ENOMEM ? r : descend(s, path, level, seq);
	if (down == -ENOMEM)
		(void)record_seize(s->record, s->place); /* V1 */
	else if (down != -ECANCELED)
		step_leave(s, seq_add(seq, level));
	return down == -ENOMEM || down == -EUCLEAN ? down : r;
}

/* From `level` up, with the steps after `seq`, which is the cycle's base + level. */
static _apart_ int ascend(const struct step *s, const struct path *path, uint32_t level,
	uint32_t base, uint32_t *ret_level) {
	for (int i = 0; level < path->depth; i++) {
		const struct level *l = &path->level[level];
		uint64_t word = load_acquire(&l->cell->word); /* order 1 */
		int r;

		if (unlikely(!step_is_mine(s, load_acquire(&s->record->word), /* 2 */
			    seq_add(base, level))))
			return -ECANCELED;
		r = counter_admit(l, word, record_weight(s->place)); /* 3 */
		if (likely(r == 0))
			r = i < ROUNDS ? step_note(s, l, word) : -EUCLEAN; /* 4 */
		if (unlikely(r < 0))
			return retreat(s, path, level, base, r, ret_level);
		level += cell_charge(s->map, l->cell, l->dirty, word,
			record_weight(s->place), /* 5 */
			cell_pack(0, s->number, seq_add(base, level + 1)));
	}
	return 0;
}

/* Cut at 39 bytes, but not in the middle of a UTF-8 character. */
static size_t label_length(const char *label) {
	size_t n = strnlen(label, BERTH_LABEL_SIZE);

	if (n == BERTH_LABEL_SIZE)
		for (n--; n > 0 && ((unsigned char)label[n] & 0xC0) == 0x80;)
			n--;
	return n;
}

void counter_label(struct record *record, const char *label) {
	uint64_t word[BERTH_LABEL_SIZE / 8] = {0};

	memcpy(word, label, label_length(label));
	for (size_t i = 0; i < ELEMENTS(word); i++)
		store_relaxed(&record->label[i], word[i]);
}

/* True if it rests where it did, at the same step; a note may have moved it up to that. */
static bool rests_still(uint64_t was, uint32_t was_seq, uint64_t rec, uint32_t seq) {
	return record_place(rec) == record_place(was) && seq == was_seq;
}

/* Where the look of the caller didn't do: the record stands elsewhere, has gone far, or the cell has
 * changed. */
static _apart_ int acquire_slowly(const struct step *s, const struct slot_request *request,
	uint32_t *ret_seq, uint32_t *ret_level) {
	const struct path *path = request->path;
	uint32_t seq = 0, was_seq = 0, base;
	uint64_t rec = 0, was = 0;
	int r = -EAGAIN;

	for (int i = 0; i < 64 && r == -EAGAIN; i++) {
		r = record_find(s, &rec, &seq);
		if (r < 0)
			return r;
		if (i > 0 && !rests_still(was, was_seq, rec, seq))
			return -EAGAIN;
		was = rec;
		was_seq = seq;
		if (!step_stands(s, rec))
			r = step_place(s, path, rec, &seq);
		else
			r = seq_distance(record_seq(rec), seq) > SEQ_APART ? step_renew(s, seq) : 0;
	}
	if (r < 0)
		return r;
	record_stamp(s->record, &request->stamp);
	base = cycle_base(s->place, seq);
	*ret_seq = seq_add(base, path->depth);
	return ascend(s, path, 0, base, ret_level);
}

/* P1 for a record that rests on an account without ancestors, whose cell is this, or nowhere. False: it
 * isn't so. */
static bool place_near(const struct step *s, uint64_t rec, const struct cell *stood_on,
	uint64_t word, uint32_t *ret_seq) {
	uint32_t seq = record_seq(rec);

	if (record_state(rec) == RECORD_PLACED && record_top(rec) == 0 && stood_on)
		seq = step_newest(s->number, rec, load_acquire(&stood_on->word));
	else if (record_state(rec) != RECORD_FREE)
		return false;
	if (record_state(rec) == RECORD_PLACED && seq % 2 != 0)
		return false;
	*ret_seq = cycle_base(s->place, seq_add(seq, 1));
	/* An old tag of its own would have to be freshened. */
	if (cell_record(word) == s->number && seq_distance(cell_seq(word), *ret_seq) > SEQ_APART)
		return false;
	return cas(&s->record->word, rec, record_with(s->place, *ret_seq));
}

bool counter_acquire_near(struct map *m, struct record_at at, const struct cell *stood_on,
	const struct level *l, uint64_t word, uint32_t weight, const struct stamp *stamp,
	uint32_t *ret_seq) {
	const struct step s = {
		m, at.record, at.number, record_pack(RECORD_PLACED, 0, weight, l->account, 0)};
	uint64_t rec = load_acquire(&at.record->word); /* order 2, or P1 */
	uint32_t seq = step_newest(at.number, rec, word);

	if (step_stands(&s, rec)) {
		if (seq % 2 != 0 || seq_distance(record_seq(rec), seq) > SEQ_APART)
			return false;
	} else if (!place_near(&s, rec, stood_on, word, &seq)) {
		return false;
	}
	if (unlikely(step_note(&s, l, word) < 0)) /* 4 */
		return false;
	record_stamp(at.record, stamp);
	*ret_seq = seq_add(seq, 1);
	return cell_charge(
		m, l->cell, l->dirty, word, weight, cell_pack(0, at.number, *ret_seq)); /* 5 */
}

int counter_acquire_rest(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t charged, uint32_t seq, uint32_t *ret_level) {
	const struct path *path = request->path;
	const struct step s = {m, at.record, at.number,
		record_pack(RECORD_PLACED, path->depth - 1, request->weight, path->level[0].account,
			0)};

	return ascend(&s, path, charged, seq_add(seq, -path->depth), ret_level);
}

/* The caller has looked at every level (1, 3): so where nobody comes in between, an acquire is one CAS
 * for each. */
int counter_acquire_at(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t *ret_seq, uint32_t *ret_level) {
	const struct path *path = request->path;
	const struct step s = {m, at.record, at.number,
		record_pack(RECORD_PLACED, path->depth - 1, request->weight, path->level[0].account,
			0)};
	uint32_t charged = counter_acquire_levels(m, at, request, ret_seq);

	if (likely(charged == path->depth))
		return 0;
	return charged > 0 ? counter_acquire_rest(m, at, request, charged, *ret_seq, ret_level)
			   : acquire_slowly(&s, request, ret_seq, ret_level);
}

int counter_acquire(struct map *m, uint32_t number, const struct path *path, uint32_t weight,
	const struct stamp *stamp, uint32_t *ret_seq, uint32_t *ret_level) {
	const struct record_at at = {map_record(m, number), number};
	const struct slot_request request = {.path = path, .weight = weight, .stamp = *stamp};
	const struct level *l = &path->level[0];
	const struct step s = {m, at.record, number,
		record_pack(RECORD_PLACED, path->depth - 1, weight, l->account, 0)};
	int r;

	if (!at.record)
		return map_record_error(m, number);
	/* Who is refused now has written nothing. */
	r = counter_admit(l, load_acquire(&l->cell->word), weight);
	return r == 0 ? acquire_slowly(&s, &request, ret_seq, ret_level)
		      : level_refuse(m, path, 0, r, ret_level);
}

/* -- the daemon's: bump, V1 … V4 ------------------------------------------------------------------ */

/* Never the same tag twice: the number is taken before it is used, and outlives the daemon. */
static uint32_t daemon_tag(struct map *m) {
	return add_total(&m->header->daemon_seq, 1) & BERTH_SEQ_MASK;
}

static int cell_bump(struct map *m, struct cell *cell) {
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t word = load_acquire(&cell->word);
		int r = cell_note(m, cell, word);

		if (r < 0)
			return r;
		if (cas(&cell->word, word, cell_pack(cell_count(word), 0, daemon_tag(m))))
			return 0;
	}
	return -EUCLEAN;
}

int counter_bump(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);

	return cell ? cell_bump(m, cell) : map_account_error(m, account);
}

/* V2. Who made the last step may have died before he announced it. */
static int path_bump(struct map *m, const struct path *path) {
	for (uint32_t k = 0; k < path->depth; k++) {
		int r = cell_bump(m, path->level[k].cell);

		if (r < 0)
			return r;
		wake_changed(m, path->level[k].dirty);
	}
	return 0;
}

/* V3 at one level. */
static int seized_uncharge(const struct step *s, const struct path *path, uint64_t rec) {
	const struct level *l = &path->level[record_charged(rec) - 1];
	uint64_t word = load_acquire(&l->cell->word);
	uint32_t next = record_next_down(rec);
	int damage = 0, r;

	r = cell_note(s->map, l->cell, word);
	if (r == 0 && step_uncharge(s, l, word, next, &damage))
		(void)cas(&s->record->word, rec, record_with(rec, next));
	return r < 0 ? r : damage;
}

/* V3 and V4, on a path that has these levels at least. */
static int record_free(const struct step *s, const struct path *path) {
	int damage = 0;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t rec = load_acquire(&s->record->word);

		if (!step_stands(s, rec))
			return -EAGAIN;
		if (record_charged(rec) > 0 && path->depth > record_top(rec)) {
			int r = seized_uncharge(s, path, rec);

			if (r == -ENOMEM)
				return r;
			damage = r < 0 ? r : damage;
			continue;
		}
		if (record_charged(rec) > 0)
			damage = -EUCLEAN;
		if (cas(&s->record->word, rec,
			    record_pack(RECORD_FREE, 0, 0, 0, record_seq(rec)))) /* V4 */
			return damage;
	}
	return -EUCLEAN;
}

/* V2 … V4. A record that rests may stand on a path that is no more: that of an account which was removed. */
static int record_take_back(struct map *m, uint32_t number, struct record *record) {
	uint64_t rec = load_acquire(&record->word);
	const struct step s = {m, record, number, record_place(rec)};
	struct path path;
	int r, damage;

	if (record_state(rec) != RECORD_SEIZED)
		return -EAGAIN;
	r = record_path(m, rec, &path);
	damage = r == -ENOMEM ? r : path_bump(m, &path);
	if (damage == -ENOMEM)
		return damage;
	r = record_free(&s, &path);
	return r < 0 ? r : damage;
}

/* R1 at the top, one cycle on. */
static int revoke_held(struct map *m, uint32_t number, struct record *record, uint64_t seen) {
	const struct step s = {m, record, number, record_place(seen)};
	uint32_t next = seq_add(record_seq(seen), 1 + record_cycle(seen));
	struct path path;
	int r;

	r = record_path(m, seen, &path);
	if (r == 0)
		r = top_uncharge(&s, &path.level[record_top(seen)], record_seq(seen), next);
	return r == -ENOENT ? -EAGAIN : r;
}

int counter_revoke(struct map *m, uint32_t number, uint64_t seen) {
	struct record *record = map_record(m, number);
	int r = 0, damage;

	if (!record)
		return map_record_error(m, number);
	if (record_is_held(seen))
		r = revoke_held(m, number, record, seen);
	else if (record_newest(m, number, record) != seen)
		r = -EAGAIN;
	if (r < 0 && r != -EUCLEAN)
		return r;
	if (record_is_held(seen) && record_top(seen) == 0)
		return r;
	damage = r;
	if (record_state(seen) == RECORD_PLACED && !record_seize(record, record_place(seen)))
		return -EAGAIN;
	r = is_on_path(seen) ? record_take_back(m, number, record) : 0;
	return r < 0 ? r : damage;
}

int counter_settle(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);

	if (!record)
		return map_record_error(m, number);
	return record_state(load_acquire(&record->word)) == RECORD_SEIZED
		       ? record_take_back(m, number, record)
		       : 0;
}

/* A state that no code writes: noise. Nothing can be told from it, so it counts for nothing. */
static bool is_noise(uint64_t rec) {
	return record_state(rec) > RECORD_SEIZED;
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
		if (record_state(rec) == RECORD_PLACED && !record_seize(record, record_place(rec)))
			continue;
		r = record_take_back(m, number, record);
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
	/* A whole cycle on, so that a thread of the last session that is still about to do something
	 * with it finds that it isn't its record any more. */
	store_release(&record->word,
		record_pack(RECORD_FREE, 0, 0, 0, seq_add(record_seq(rec), 2 * BERTH_LEVELS_MAX)));
	return 0;
}

/* A revocation of a slot that was begun at the top; or its owner's release, who finds it done. */
static int descent_resume(struct map *m, uint32_t number, struct record *record) {
	uint64_t rec = record_newest(m, number, record);
	const struct step s = {m, record, number, record_place(rec)};
	struct path path;
	int r;

	if (record_state(rec) != RECORD_PLACED || record_step(rec) <= record_top(rec) + 1 ||
		record_charged(rec) == 0)
		return 0;
	r = record_path(m, rec, &path);
	if (r == 0)
		r = descend(&s, &path, record_charged(rec), record_seq(rec));
	return r == -ECANCELED ? 0 : r;
}

int counter_resume(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);
	uint64_t rec;

	if (!record)
		return map_record_error(m, number);
	rec = load_acquire(&record->word);
	if (record_state(rec) == RECORD_PLACED && record_top(rec) > 0)
		return descent_resume(m, number, record);
	return counter_settle(m, number);
}

/* -- repairs, after somebody wrote over the segment ----------------------------------------------- */

bool counter_has_charged(uint64_t rec, uint32_t number, uint32_t level, uint64_t word) {
	return is_on_path(rec) &&
	       level < record_charged(record_with(rec, step_newest(number, rec, word)));
}

int counter_repair(struct map *m, uint32_t account, uint64_t seen, uint32_t count) {
	struct cell *cell = map_cell(m, account);
	int r;

	if (!cell)
		return map_account_error(m, account);
	r = cell_note(m, cell, seen);
	if (r < 0)
		return r;
	return cas(&cell->word, seen, cell_pack(count, 0, daemon_tag(m))) ? 0 : -EAGAIN;
}

int counter_discard(struct map *m, uint32_t number, uint64_t seen) {
	struct record *record = map_record(m, number);

	if (!record)
		return map_record_error(m, number);
	for (int i = 0; i < 64; i++) {
		uint64_t rec = load_acquire(&record->word);

		if (record_place(rec) != record_place(seen))
			break;
		if (cas(&record->word, rec,
			    record_pack(RECORD_FREE, 0, 0, 0, seq_add(record_seq(seen), 1))))
			return 0;
	}
	return -EAGAIN;
}
