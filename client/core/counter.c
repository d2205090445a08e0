/* SPDX-License-Identifier: MIT */

/*
 * The counter. The only file that changes a cell's count or a record's place, with counter-fast.h.
 *
 * Steps. A record that is PLACED on an account's path goes round it: up, charging levels 0 … top, then
 * it holds a slot, and down again. Each step is one 16-byte compare-and-swap on one cell, which changes
 * the count and writes the tag (record, seq). A seq tells which step of which cycle it is, and what is
 * charged after it (layout.h). The seqs of a record only grow: no tag is ever written twice, and no cell
 * ever returns to what it was. To note a step is to raise the record's `noted` to its seq. A note is true
 * whenever it is written, so the noting party needs no look at where the record stands.
 *
 * Invariant. The newest step of record r at level k of its path is the newer of `noted` and the tag of
 * that level's cell, if that tag is r's. Level k is charged if k < seq_charged(that step). A cell's count
 * is the sum of the weights of the records that have charged it. This holds at every instant.
 *
 * Writes. b is a base, step 0 of a cycle, above every seq that the record has used.
 *   P1 record  → PLACED here, noted b            16 bytes, from what was read after the claim
 *   A1 cell k  count + weight, tag (r, b + k + 1)       16 bytes; k = 0 … top
 *   R1 cell k  count - weight, tag (r, b + 16 - k)      16 bytes; k = top … 0. The party that makes the
 *                                                first one, at the top, has released the slot
 *   N1 record  noted = max(noted, seq)           8 bytes; of the tag that is about to be overwritten
 *   B1 cell    bumps + 1                         16 bytes; the daemon's. A repair writes the count, too,
 *                                                and, after N1, a tag of record 0
 *   V1 record  PLACED → SEIZED, FREE → CLOSED    8 bytes; the daemon's, or an owner's without memory
 *   V3 record  → FREE or CLOSED, noted = the rest of its newest step + 16     16 bytes; the daemon's
 * V2 stands between V1 and V3: N1 for the newest step that any cell of the path tells of, so that all
 * levels are given back in one cycle; then one 16-byte compare-and-swap for each level, from the top:
 * R1 if the level is charged, else B1, which seals it.
 * To revoke a slot that is held, the daemon makes R1 at the top with the seq of the next cycle
 * (b + 32 - top), on condition that the slot's seq is the newest there, and then the other R1. The record
 * stays PLACED and rests. The seq tells the owner that it was revoked: between a slot's seq and the end
 * of its cycle lie only the steps of a release.
 *
 * Order. A party that makes a step reads
 *   1 the cell: tag, count   2 the record: noted, place   3 limit and generation
 *   4 N1 for the tag's record, unless that is the party's own   5 the compare-and-swap
 * Whatever changes 2 or 3 afterwards also changes the cell (V2; B1 after a new limit or generation), so
 * 5 fails, however late it comes. A pair that was torn (tag and count of two moments) fails at 5, too;
 * what decides without 5 uses the tag alone, or the count alone. A release whose cell still bears the tag
 * that took the slot needs no 2: while that tag stands there, no party has given the slot back, nor moved
 * the record.
 *
 * Claims. One thread at a time uses a record to take slots: it has claimed it in the memory of its
 * process, or owns it there (pool.c). Every value that decides where a record is placed is read after the
 * record was claimed. What was read before the claim justifies nothing but 5 from that very pair: if 5
 * succeeds, the pair has stood all the time, and is as good as read now. So P1, which changes no cell, reads all that it
 * needs after the claim: noted, place, and the tag of level 0 where the record stands. Each cycle's last
 * step is made at level 0, so that tag tells that the record rests. If that tag is overwritten after P1
 * read it, and noted didn't tell of it, noted changes and P1 fails. And if the first A1 from an old pair
 * fails, the base that came of the pair is void as well.
 *
 * Death or stall, however long, after the write in front of the bar:
 *   P1 | A1, last A1 | return   the record rests on its path; it holds a slot
 *   A1 | A1    levels 0 … k are charged. The owner goes on; or V1 … V3, when the session ends or the
 *              slot is revoked: an owner that wakes finds the cell sealed or the place changed
 *   R1 | R1    top … k are given back. Any party goes on: owner, revoke, session end, the next daemon.
 *              Each step has its own seq, so "newest ≥ my step" says for ever that the step is made
 *   N1 | 5     the step is noted early; a late N1 changes nothing
 *   V1 | V3    the daemon, or the next one, runs V2 again from the top: it sees which levels are given
 *              back, and seals them once more
 *   a revocation's R1 at the top | the others    as R1 | R1, in the next cycle
 *   limit or generation | B1    not acknowledged; the next daemon bumps every cell at its start
 * No step waits for another process. The daemon's steps need no claim, since each is conditional on what
 * the cell says.
 *
 * Removed accounts. A record may rest on an account that is removed. When the index is used again below
 * another parent, the record stands on another path, whose upper cells it never touched. So removal ends
 * with N1 for the tag that the cell bears: then noted alone tells that the record rests
 * (daemon/directory-write.c). Old tags of the record's own in those cells are older than its P1.
 *
 * Noise. A process that writes over shared words breaks all of this. The recount (daemon/recount.c) repairs
 * counts from what the records still prove, and what code here reads is checked against its bounds.
 *
 * The end of the seqs. A record whose next cycle would begin above BERTH_SEQ_LAST is retired: no party
 * places or opens it again. 2^37 cycles last an hour if one record takes slots all the time at 30 ns.
 *
 * Loops. A loop goes round again only if another party's compare-and-swap succeeded meanwhile, or, in
 * memory that is written over, for ever: RETRIES_MAX bounds that.
 */

#include <string.h>

#include "counter-fast.h"

#define RETRIES_MAX (1 << 20)
/* How often a look at a record is repeated because a note came in between. */
#define SNAPSHOT_RETRIES_MAX 64

/* A record that makes steps, and the place on which it stands. */
struct placement {
	struct map *map;
	struct record_at at;
	uint64_t place;
};

/* -- notes: N1 ----------------------------------------------------------------------------------- */

/* Noise may lie above all seqs; then the record is of no use until a recount frees it. It goes on at a seq
 * that doesn't use it up, and that it is unlikely to have passed; or, once tags told of its steps, above
 * those. */
#define NOISE (UINT64_C(1) << 63)

static uint64_t noted_sane(uint64_t noted) {
	const uint64_t high = (BERTH_SEQ_MASK >> 2) + 1;

	if (noted <= BERTH_SEQ_MASK || (noted & ~BERTH_SEQ_MASK) == NOISE)
		return noted & BERTH_SEQ_MASK;
	return high | (noted & (high / 2 - 1));
}

static int record_note(struct record *record, uint64_t seq) {
	for (int i = 0; i < RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&record->noted);
		uint64_t next = MAX_OF(noted_sane(noted), seq);

		if (unlikely(noted > BERTH_SEQ_MASK))
			next |= NOISE;
		if (next == noted || cas(&record->noted, noted, next)) /* N1 */
			return 0;
	}
	return -EUCLEAN;
}

int counter_note(struct map *m, uint64_t tag) {
	struct record *record = map_record(m, tag_record(tag));

	if (unlikely(!record))
		return map_has_record(m, tag_record(tag)) ? -ENOMEM : 0;
	return record_note(record, tag_seq(tag));
}

/* -- looking at a record -------------------------------------------------------------------------- */

static bool is_on_path(uint64_t place) {
	return place_state(place) == RECORD_PLACED || place_state(place) == RECORD_SEIZED;
}

/* The cells of a record's path, for a party that didn't come by the name. -ENOMEM; -EUCLEAN: there is
 * no such path. */
static int record_path(struct map *m, uint64_t place, struct path *ret) {
	uint32_t account = place_account(place), depth = place_top(place) + 1;

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
		account = e ? ancestry_parent(load_acquire(&e->ancestry)) : 0;
	}
	return 0;
}

/* Raises `noted` to the newest step that a tag on the path tells of, for a record that stands at `place`.
 * If the path is shorter than that, in damaged memory, the levels that it has tell all there is. */
static int newest_step(struct map *m, uint32_t number, uint64_t place, uint64_t *noted) {
	struct path path;
	int r = record_path(m, place, &path);

	if (r == -ENOMEM)
		return r;
	for (uint32_t k = 0; k < path.depth; k++)
		*noted = step_newest(number, *noted, load_acquire(&path.level[k].cell->tag));
	return 0;
}

/* P1 and V3 raise noted, so while it stays the same, place and tags are of one placement. */
static int record_load(struct map *m, struct record_at at, struct snapshot *ret) {
	for (int i = 0; i < SNAPSHOT_RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&at.record->noted);
		int r = 0;

		ret->place = load_acquire(&at.record->place);
		ret->seq = noted;
		if (is_on_path(ret->place))
			r = newest_step(m, at.number, ret->place, &ret->seq);
		if (r < 0)
			return r;
		if (load_acquire(&at.record->noted) == noted)
			return 0;
	}
	return -EAGAIN;
}

int counter_record(struct map *m, uint32_t number, struct snapshot *ret) {
	const struct record_at at = {map_record(m, number), number};

	*ret = (struct snapshot){0};
	if (!at.record)
		return map_has_record(m, number) ? -ENOMEM : 0;
	return record_load(m, at, ret);
}

uint32_t counter_count(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);

	return cell ? count_of(load_acquire(&cell->count)) : 0;
}

bool counter_has_charged(struct snapshot s, uint32_t record, uint32_t level, uint64_t tag) {
	return is_on_path(s.place) && level < seq_charged(step_newest(record, s.seq, tag));
}

/* V1. False if it isn't placed so any more. */
static bool record_seize(struct record *record, uint64_t place) {
	return cas(&record->place, place,
		place_pack(RECORD_SEIZED, place_top(place), place_weight(place),
			place_account(place))); /* V1 */
}

void counter_seize(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);
	uint64_t place = record ? load_acquire(&record->place) : 0;

	if (place_state(place) == RECORD_PLACED)
		(void)record_seize(record, place);
}

/* -- giving back: R1 ------------------------------------------------------------------------------ */

/* Orders 4 and 5. -EAGAIN: the cell has changed. A count that is less than what is charged is damage: it
 * stays, and the record goes on, so that it isn't stuck for ever. */
static int level_try_discharge(
	const struct placement *p, const struct level *l, struct pair seen, uint64_t seq) {
	uint32_t count = count_of(seen.first), weight = place_weight(p->place);
	int damage = count < weight ? COUNTER_NEEDS_RECOUNT : 0;
	struct pair next = {seen.first, tag_pack(p->at.number, seq)};
	int r = step_note(p->map, p->at, seen.second);

	if (unlikely(r < 0))
		return r;
	if (likely(!damage))
		next.first -= (uint64_t)weight << BERTH_COUNT_SHIFT;
	if (unlikely(!cas16(&l->cell->count, seen, next))) /* R1 */
		return -EAGAIN;
	wake_changed(p->map, l->dirty);
	return damage;
}

/* The first step down, `seq`, which releases the slot `held`: of all parties that try, one makes it. */
static int top_discharge(
	const struct placement *p, const struct level *l, uint64_t held, uint64_t seq) {
	for (int i = 0; i < RETRIES_MAX; i++) {
		struct pair seen = cell_load(l->cell);               /* order 1 */
		uint64_t noted = load_acquire(&p->at.record->noted); /* 2 */
		uint64_t place = load_acquire(&p->at.record->place);
		int r;

		if (unlikely(place != p->place ||
			     step_newest(p->at.number, noted, seen.second) != held))
			return -ENOENT;
		r = level_try_discharge(p, l, seen, seq);
		if (likely(r != -EAGAIN))
			return r;
		back_off(i);
	}
	return -EUCLEAN;
}

/* Another step down, unless it is made: by whatever party, for it never comes again. */
static int level_discharge_once(const struct placement *p, const struct level *l, uint64_t seq) {
	for (int i = 0; i < RETRIES_MAX; i++) {
		struct pair seen = cell_load(l->cell);
		uint64_t noted = load_acquire(&p->at.record->noted);
		int r;

		if (step_newest(p->at.number, noted, seen.second) >= seq)
			return 0;
		r = level_try_discharge(p, l, seen, seq);
		if (likely(r != -EAGAIN))
			return r;
		back_off(i);
	}
	return -EUCLEAN;
}

/* The levels below `above`, in the cycle that begins at `base`. A fault at one doesn't keep the others. */
static int descend(
	const struct placement *p, const struct path *path, uint32_t above, uint64_t base) {
	int result = 0;

	while (above-- > 0) {
		int r = level_discharge_once(p, &path->level[above], seq_down(base, above));

		if (r == -ENOMEM)
			return r;
		result = result < 0 || r == 0 ? result : r;
	}
	return result;
}

int counter_release_continue(
	struct map *m, struct record_at at, const struct path *path, uint32_t given, uint64_t seq) {
	const struct placement p = {m, at, load_acquire(&at.record->place)};

	/* Else it was seized meanwhile: the daemon does the rest. */
	if (place_state(p.place) != RECORD_PLACED)
		return 0;
	return descend(&p, path, path->depth - given, seq_base(seq));
}

/* True if level 0, where each cycle ends, or noted tells of a step after the slot. */
static bool has_newer_step(const struct placement *p, uint64_t seq) {
	const struct cell *cell = map_cell(p->map, place_account(p->place));
	uint64_t tag = cell ? load_acquire(&cell->tag) : 0;

	return step_newest(p->at.number, load_acquire(&p->at.record->noted), tag) > seq ||
	       load_acquire(&p->at.record->place) != p->place;
}

/* The slot `seq`, which the record took where it stands. */
static int slot_release(const struct placement *p, const struct path *path, uint64_t seq) {
	uint32_t top = path->depth - 1;
	int r, down;

	/* A seq at which it rests is no slot, though noted says the same. */
	if (unlikely(seq_step(seq) != path->depth))
		return -ENOENT;
	r = top_discharge(p, &path->level[top], seq, seq_down(seq_base(seq), top));
	if (r < 0 || top == 0)
		return r;
	down = descend(p, path, top, seq_base(seq));
	return down != 0 ? down : r;
}

int counter_release(struct map *m, uint32_t number, uint64_t seq) {
	struct placement p = {m, {map_record(m, number), number}, 0};
	struct path path;
	int r;

	if (!p.at.record)
		return map_record_error(m, number);
	p.place = load_acquire(&p.at.record->place);
	if (place_state(p.place) != RECORD_PLACED)
		return -ENOENT;
	r = record_path(m, p.place, &path);
	/* It was revoked, and then the account removed: the path is another's, or none. */
	if (r != -ENOMEM && has_newer_step(&p, seq))
		return -ENOENT;
	return r == 0 ? slot_release(&p, &path, seq) : r;
}

/* -- placing: P1 ---------------------------------------------------------------------------------- */

/* The newest step at level 0 where the record stands. -EAGAIN: it stands nowhere, and can't be placed. */
static int newest_step_at_level_0(const struct placement *p, uint64_t place, uint64_t *noted) {
	const struct cell *cell;

	switch (place_state(place)) {
	case RECORD_FREE:
		return 0;
	case RECORD_CLOSED:
		return -ESHUTDOWN;
	case RECORD_PLACED:
		break;
	default:
		return -EAGAIN;
	}
	cell = map_cell(p->map, place_account(place));
	if (!cell)
		return map_account_error(p->map, place_account(place)) == -ENOMEM ? -ENOMEM
										  : -EAGAIN;
	*noted = step_newest(p->at.number, *noted, load_acquire(&cell->tag));
	return 0;
}

/* The base of the cycle that the record, claimed by the caller, can begin on p->place; P1 if it stands
 * elsewhere. All that is used here is read here. */
static int record_prepare(const struct placement *p, uint64_t *ret_base) {
	for (int i = 0; i < SNAPSHOT_RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&p->at.record->noted);
		uint64_t place = load_acquire(&p->at.record->place), base = noted;
		int r = newest_step_at_level_0(p, place, &base);

		/* Else the tag that told of the newest step may have been overwritten, and noted, in between. */
		if (load_acquire(&p->at.record->noted) != noted)
			continue;
		if (r < 0)
			return r;
		/* In use; or noise, until a recount has mended it. */
		if (seq_step(base) != 0 || noted > BERTH_SEQ_MASK)
			return -EAGAIN;
		if (place != p->place)
			base += BERTH_CYCLE;
		if (base > BERTH_SEQ_LAST)
			return -ERANGE;
		*ret_base = base;
		if (place == p->place || cas16(&p->at.record->place, (struct pair){place, noted},
						 (struct pair){p->place, base})) /* P1 */
			return 0;
	}
	return -EAGAIN;
}

/* -- taking: A1 ----------------------------------------------------------------------------------- */

void counter_note_peak(struct cell *cell, uint32_t count) {
	uint32_t peak = load_relaxed(&cell->peak);

	for (int i = 0; i < 64 && peak < count; i++) {
		if (cas32(&cell->peak, peak, count))
			return;
		peak = load_relaxed(&cell->peak);
	}
}

/* Refused at `level` with r, having charged those below it in the cycle that begins at `base`: gives
 * them back in the same cycle. Where that can't be, it is the daemon's to do. */
static _cold_ int retreat(const struct placement *p, const struct path *path, uint32_t level,
	uint64_t base, int r, uint32_t *ret_level) {
	int down;

	*ret_level = level;
	if (r == -EDQUOT)
		denials_add_to_cell(p->map, path->level[level].cell, path->level[level].dirty);
	if (level == 0)
		return r;
	down = r == -ENOMEM ? r : descend(p, path, level, base);
	if (down >= 0)
		return r;
	(void)record_seize(p->at.record, p->place);
	return -ENOMEM;
}

/* From `level` up. `base` was read after the claim, or proven by A1 at level 0. */
static _noinline_ int ascend(const struct placement *p, const struct path *path, uint32_t level,
	uint64_t base, uint32_t *ret_level) {
	uint32_t weight = place_weight(p->place);
	int failed = 0;

	for (int i = 0; level < path->depth; i++) {
		const struct level *l = &path->level[level];
		struct pair seen = cell_load(l->cell);               /* order 1 */
		uint64_t noted = load_acquire(&p->at.record->noted); /* 2 */
		int r;

		if (unlikely(
			    noted > base + level || load_acquire(&p->at.record->place) != p->place))
			return -ECANCELED;
		r = counter_admit(l, seen.first, weight); /* 3 */
		if (likely(r == 0))
			r = i < RETRIES_MAX ? step_note(p->map, p->at, seen.second)
					    : -EUCLEAN; /* 4 */
		if (unlikely(r < 0))
			return retreat(p, path, level, base, r, ret_level);
		if (level_charge(p->map, l, seen, weight,
			    tag_pack(p->at.number, seq_up(base, level)))) /* 5 */
			level++;
		else
			back_off(failed++);
	}
	return 0;
}

/* The first 39 bytes, but not a part of a UTF-8 character. */
static size_t label_cut(const char *label, size_t n) {
	if (n < BERTH_LABEL_SIZE)
		return n;
	for (n = BERTH_LABEL_SIZE - 1; n > 0 && ((unsigned char)label[n] & 0xC0) == 0x80;)
		n--;
	return n;
}

void counter_label(struct record *record, const char *label, size_t length) {
	uint64_t word[BERTH_LABEL_SIZE / 8] = {0};

	memcpy(word, label, label_cut(label, length));
	for (size_t i = 1; i < ELEMENTS(word); i++)
		store_relaxed(&record->label[i], word[i]);
	store_release(&record->label[0], word[0]);
}

static struct placement placement_of(
	struct map *m, struct record_at at, const struct slot_request *request) {
	const struct path *path = request->path;

	return (struct placement){m, at,
		place_pack(
			RECORD_PLACED, path->depth - 1, request->weight, path->level[0].account)};
}

/* Without the caller's looks. */
static _noinline_ int acquire_general(const struct placement *p, const struct slot_request *request,
	uint64_t *ret_seq, uint32_t *ret_level) {
	uint64_t base;
	int r = record_prepare(p, &base);

	if (r < 0)
		return r;
	record_unlabel(p->at.record);
	*ret_seq = seq_up(base, request->path->depth - 1);
	return ascend(p, request->path, 0, base, ret_level);
}

int counter_acquire_continue(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t charged, uint64_t seq, uint32_t *ret_level) {
	const struct placement p = placement_of(m, at, request);

	return ascend(&p, request->path, charged, seq_base(seq), ret_level);
}

int counter_acquire(struct map *m, struct record_at at, const struct slot_request *request,
	uint64_t *ret_seq, uint32_t *ret_level) {
	uint32_t charged = counter_acquire_fast(m, at, request, ret_seq);
	const struct placement p = placement_of(m, at, request);
	int r = 0;

	if (charged == 0)
		r = acquire_general(&p, request, ret_seq, ret_level);
	else if (charged < request->path->depth)
		r = counter_acquire_continue(m, at, request, charged, *ret_seq, ret_level);
	if (likely(r == 0))
		record_stamp(at.record, &request->stamp);
	return r;
}

/* -- bumps: B1 ------------------------------------------------------------------------------------ */

/* From what was seen. -EOVERFLOW: it has had its last bump. */
static int cell_bump_from(struct cell *cell, struct pair seen) {
	if (count_bumps(seen.first) >= BERTH_BUMPS_LAST)
		return -EOVERFLOW;
	return cas16(&cell->count, seen, (struct pair){seen.first + 1, seen.second})
		       ? 0
		       : -EAGAIN; /* B1 */
}

int counter_bump(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);
	int r = -EAGAIN;

	if (!cell)
		return map_account_error(m, account);
	for (int i = 0; i < RETRIES_MAX && r == -EAGAIN; i++) {
		struct pair seen = cell_load(cell);

		r = cell_bump_from(cell, seen);
	}
	return r == -EAGAIN ? -EUCLEAN : r;
}

bool counter_has_bumps(struct map *m, uint32_t account, uint32_t times) {
	struct cell *cell = map_cell(m, account);

	return !cell || BERTH_BUMPS_LAST - count_bumps(load_acquire(&cell->count)) >= times;
}

int counter_note_cell(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);

	return cell ? counter_note(m, load_acquire(&cell->tag)) : map_account_error(m, account);
}

/* A tag of record 0, which has no steps: it never came before. Its seq is a base, so that no process
 * takes it for one of its tokens (pool.h). */
static uint64_t tag_of_repair(struct map *m) {
	uint64_t seq = add_total(&m->header->repairs, BERTH_CYCLE) + BERTH_CYCLE;

	return tag_pack(0, seq_base(seq & BERTH_SEQ_MASK));
}

int counter_repair(struct map *m, uint32_t account, struct pair seen, uint32_t count) {
	struct cell *cell = map_cell(m, account);
	uint64_t rest = (seen.first & ~BERTH_COUNT_MASK) + 1;
	int r;

	if (!cell)
		return map_account_error(m, account);
	/* Used up by noise: they may begin anew, since the tag is new. */
	if (count_bumps(seen.first) >= BERTH_BUMPS_LAST)
		rest = seen.first & BERTH_CLOSED;
	r = counter_note(m, seen.second);
	if (r < 0)
		return r;
	/* The count may leave out the step that the old tag tells of, if noise lies over its record: then it
	 * mustn't be undone again. */
	return cas16(&cell->count, seen, (struct pair){count_pack(count, rest), tag_of_repair(m)})
		       ? 0
		       : -EAGAIN; /* B1 */
}

/* -- taking a record back: V1 … V3 ---------------------------------------------------------------- */

/* V2 at one level. */
static int level_seal(const struct placement *p, const struct level *l, uint32_t level) {
	for (int i = 0; i < RETRIES_MAX; i++) {
		struct pair seen = cell_load(l->cell);
		uint64_t noted = load_acquire(&p->at.record->noted);
		uint64_t newest = step_newest(p->at.number, noted, seen.second);
		int r = level < seq_charged(newest)
				? level_try_discharge(p, l, seen, seq_down(seq_base(newest), level))
				: cell_bump_from(l->cell, seen);

		if (likely(r != -EAGAIN)) {
			/* The party that made the last step may have died before it announced it. */
			wake_changed(p->map, l->dirty);
			return r;
		}
	}
	return -EUCLEAN;
}

/* V2. A record that rests may stand on a path that is no more: that of an account which was removed. */
static int path_seal(const struct placement *p) {
	struct snapshot now;
	struct path path;
	int r = record_path(p->map, p->place, &path), result = 0;

	if (r != -ENOMEM)
		r = record_load(p->map, p->at, &now);
	if (r < 0)
		return r;
	if (path.depth <= place_top(p->place))
		result = seq_charged(now.seq) > 0 ? COUNTER_NEEDS_RECOUNT : 0;
	r = record_note(p->at.record, now.seq);
	for (uint32_t k = path.depth; k-- > 0 && r >= 0;) {
		r = level_seal(p, &path.level[k], k);
		result = r != 0 ? r : result;
	}
	return r < 0 ? r : result;
}

/* V2 and V3, of a record that is SEIZED. */
static int record_finish_seized(struct map *m, struct record_at at, enum record_state state) {
	const struct placement p = {m, at, load_acquire(&at.record->place)};
	int damage;

	if (place_state(p.place) != RECORD_SEIZED)
		return -EAGAIN;
	damage = path_seal(&p);
	if (damage < 0)
		return damage;
	for (int i = 0; i < RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&at.record->noted), newest = noted;
		uint64_t place = load_acquire(&at.record->place);
		int r = newest_step(m, at.number, p.place, &newest);

		if (r < 0)
			return r;
		if (place != p.place)
			return -EAGAIN;
		if (cas16(&at.record->place, (struct pair){place, noted},
			    (struct pair){place_pack(state, 0, 0, 0),
				    seq_rest(noted_sane(newest)) + BERTH_CYCLE})) /* V3 */
			return damage;
	}
	return -EUCLEAN;
}

/* R1 at the top, one cycle on, and the other levels. */
static int revoke_held(struct map *m, struct record_at at, struct snapshot seen) {
	const struct placement p = {m, at, seen.place};
	uint64_t base = seq_base(seen.seq) + BERTH_CYCLE;
	uint32_t top = place_top(seen.place);
	struct path path;
	int r, down;

	r = record_path(m, seen.place, &path);
	if (r == 0)
		r = top_discharge(&p, &path.level[top], seen.seq, seq_down(base, top));
	if (r < 0)
		return r == -ENOENT ? -EAGAIN : r;
	down = descend(&p, &path, top, base);
	return down != 0 ? down : r;
}

int counter_revoke(struct map *m, uint32_t number, struct snapshot seen) {
	const struct record_at at = {map_record(m, number), number};
	struct snapshot now;
	int r;

	if (!at.record)
		return map_record_error(m, number);
	if (snapshot_is_held(seen))
		return revoke_held(m, at, seen);
	r = record_load(m, at, &now);
	if (r < 0)
		return r;
	if (now.place != seen.place || now.seq != seen.seq)
		return -EAGAIN;
	if (place_state(seen.place) == RECORD_PLACED && !record_seize(at.record, seen.place))
		return -EAGAIN;
	return is_on_path(seen.place) ? record_finish_seized(m, at, RECORD_FREE) : 0;
}

int counter_finish_seized(struct map *m, uint32_t number) {
	const struct record_at at = {map_record(m, number), number};
	int r = -EAGAIN;

	if (!at.record)
		return map_record_error(m, number);
	for (int i = 0; i < SNAPSHOT_RETRIES_MAX && r == -EAGAIN; i++)
		r = place_state(load_acquire(&at.record->place)) == RECORD_SEIZED
			    ? record_finish_seized(m, at, RECORD_FREE)
			    : 0;
	return r;
}

/* A release, or the revocation of a slot, that was begun. */
static int descent_finish(struct map *m, struct record_at at, struct snapshot now) {
	const struct placement p = {m, at, now.place};
	struct path path;
	int r = record_path(m, now.place, &path);

	/* Its owner may have finished it, and the account be removed since. */
	if (r == -EUCLEAN)
		return has_newer_step(&p, now.seq) ? 0 : r;
	if (r < 0)
		return r;
	/* Noise may tell of more levels than the path has. */
	return descend(&p, &path, MIN_OF(seq_charged(now.seq), path.depth), seq_base(now.seq));
}

int counter_finish(struct map *m, uint32_t number) {
	const struct record_at at = {map_record(m, number), number};
	struct snapshot now;
	int r;

	if (!at.record)
		return map_record_error(m, number);
	if (place_state(load_acquire(&at.record->place)) != RECORD_PLACED)
		return counter_finish_seized(m, number);
	r = record_load(m, at, &now);
	if (r < 0 || place_state(now.place) != RECORD_PLACED || !seq_goes_down(now.seq))
		return r;
	return descent_finish(m, at, now);
}

int counter_close(struct map *m, uint32_t number) {
	const struct record_at at = {map_record(m, number), number};
	int damage = 0;

	if (!at.record)
		return map_record_error(m, number);
	for (int i = 0; i < SNAPSHOT_RETRIES_MAX; i++) {
		uint64_t place = load_acquire(&at.record->place);
		int r;

		switch (place_state(place)) {
		case RECORD_CLOSED:
			return damage;
		case RECORD_PLACED:
			if (!record_seize(at.record, place))
				break;
			/* fallthrough */
		case RECORD_SEIZED:
			r = record_finish_seized(m, at, RECORD_CLOSED);
			if (r < 0 && r != -EAGAIN)
				return r;
			damage = r > 0 ? r : damage;
			break;
		default: /* FREE, or a state that no code writes, of which nothing can be told */
			damage = place_state(place) == RECORD_FREE ? damage : COUNTER_NEEDS_RECOUNT;
			(void)cas(&at.record->place, place,
				place_pack(RECORD_CLOSED, 0, 0, 0)); /* V1 */
		}
	}
	return -EAGAIN;
}

/* -- opening -------------------------------------------------------------------------------------- */

/* Where the record's next owner would begin: a cycle on, so that a thread of its last owner that is
 * still about to place it finds noted changed. */
static uint64_t opening_seq(const struct record *record) {
	return seq_rest(noted_sane(load_acquire(&record->noted))) + BERTH_CYCLE;
}

bool counter_is_retired(struct map *m, uint32_t number) {
	const struct record *record = map_record(m, number);

	return record && opening_seq(record) + BERTH_CYCLE > BERTH_SEQ_LAST;
}

int counter_open(struct map *m, uint32_t number) {
	struct record *record = map_record(m, number);

	if (!record)
		return map_record_error(m, number);
	for (int i = 0; i < RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&record->noted), seq = opening_seq(record);
		uint64_t place = load_acquire(&record->place);

		if (place_state(place) != RECORD_CLOSED)
			return -EBUSY;
		/* Retired, it is of no use to its owner, nor to a thread of the one before. */
		if (seq + BERTH_CYCLE > BERTH_SEQ_LAST)
			seq = MAX_OF(noted, BERTH_SEQ_LAST + BERTH_CYCLE);
		if (cas16(&record->place, (struct pair){place, noted},
			    (struct pair){place_pack(RECORD_FREE, 0, 0, 0), seq})) /* V3 */
			return 0;
	}
	return -EUCLEAN;
}

int counter_discard(struct map *m, uint32_t number, struct snapshot seen) {
	struct record *record = map_record(m, number);

	if (!record)
		return map_record_error(m, number);
	for (int i = 0; i < SNAPSHOT_RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&record->noted);
		uint64_t seq = seq_rest(noted_sane(MAX_OF(noted, seen.seq))) + BERTH_CYCLE;

		if (load_acquire(&record->place) != seen.place)
			break;
		if (cas16(&record->place, (struct pair){seen.place, noted},
			    (struct pair){place_pack(RECORD_FREE, 0, 0, 0), seq})) /* V3 */
			return 0;
	}
	return -EAGAIN;
}
