/* SPDX-License-Identifier: MIT */

/*
 * The counter. This file and counter-fast.h are the only ones that change a cell's count or a
 * record's place.
 *
 * Parties. A party is whatever makes steps: a thread of the process that owns a record, or berthd.
 *
 * Steps. A record that is PLACED on an account's path goes up: it charges the levels 0 … top, one
 * after the other. Then it holds a slot. To release the slot, it goes down: it discharges the
 * levels top … 0. Each step is one 16-byte compare-and-swap on one cell. It changes the count and
 * writes the tag (record, seq). A seq names one step of one cycle, and so tells which levels are
 * charged after that step (layout.h). The seqs of a record only grow. So no tag is ever written
 * twice, and no cell ever returns to an earlier value. To note a step means to raise the record's
 * `noted` to the step's seq. A note is true whenever it is written, so the party that writes it
 * need not look where the record stands.
 *
 * Invariant. The newest step of record r at level k of its path is the step in `noted`, unless that
 * level's cell bears a newer tag of r: then it is the step of that tag. Level k is charged if k <
 * seq_charged(that step). A cell's count is the sum of the weights of the records that have charged
 * it. This holds at every instant.
 *
 * Writes. b is a base: step 0 of a cycle, above every seq that the record has used.
 *   P1 record  → PLACED on the path, noted b        16 bytes, from values read after the claim
 *   A1 cell k  count + weight, tag (r, b + k + 1)   16 bytes; k = 0 … top
 *   R1 cell k  count - weight, tag (r, b + 16 - k)  16 bytes; k = top … 0. The party that makes the
 *                                                   first R1, at the top, has released the slot
 *   N1 record  noted = max(noted, seq)              8 bytes; seq of the tag about to be overwritten
 *   B1 cell    bumps + 1                            16 bytes; only the daemon. A repair also writes
 *                                                   the count and, after N1, a tag of record 0
 *   V1 record  PLACED → SEIZED, FREE → CLOSED       8 bytes; the daemon, or an owner without memory
 *   V3 record  → FREE or CLOSED, noted = the end    16 bytes; only the daemon
 *              of its newest step's cycle + 16
 * V2 stands between V1 and V3. V2 begins with N1 for the newest step of which any cell of the path
 * tells, so that all levels are discharged in one cycle. Then it makes one 16-byte compare-and-swap
 * for each level, from the top: R1 if the level is charged, otherwise B1, which seals the level. To
 * revoke a slot that is held, the daemon makes R1 at the top, if the slot's seq is still the newest
 * there. This R1 has the seq b + 32 - top, of the next cycle. Then the daemon makes R1 at the other
 * levels. The record stays PLACED and rests. The seq tells the owner that the slot was revoked: the
 * steps of a release have seqs of the slot's own cycle.
 *
 * Order. A party that makes a step reads
 *   1 the cell: tag, count   and after that, in either order,
 *   2 the record: noted, place   3 limit and generation
 * and then makes
 *   4 N1 for the tag's record, unless the step is a step of the same record
 *   5 the compare-and-swap
 * If what 2 and 3 have read changes, the cell changes after that (by V2, or by B1 after a new limit
 * or generation). So 5 fails, however late it comes. A torn pair (tag and count of two moments)
 * fails at 5, too. A decision that is made without 5 uses the tag alone, or the count alone. A
 * release skips 2 if its cell still bears the tag that took the slot: while the cell bears that
 * tag, no party has released the slot or moved the record.
 *
 * Claims. One thread at a time uses a record to take slots. In the memory of its process, this
 * thread has claimed the record, or its path cache owns the record (pool.h). Every value that
 * decides where a record is placed is read after the record was claimed. A pair (count and tag)
 * that was read before the claim justifies only a compare-and-swap (5) from that pair: if 5
 * succeeds, the pair has not changed in the meantime, so it is as valid as if it were read now. P1
 * changes no cell, so it reads all that it needs after the claim: noted, place, and the tag of
 * level 0 where the record stands. Each cycle's last step is made at level 0, so the tag of level 0
 * tells that the record rests. Before another party overwrites that tag, it notes the tag. So if
 * the tag is overwritten after the thread has read it, and noted did not tell of that step yet,
 * noted changes, and P1 fails. And if the first A1 from an old pair fails, the base that was
 * derived from the pair is void as well.
 *
 * A party may die, or stall for any time, between two writes. Below, a bar separates the two
 * writes, and the text beside them says what follows:
 *   P1 | A1    the record rests on its path
 *   last A1 | return    the record holds a slot
 *   A1 | A1    levels 0 … k are charged. The owner goes on; or V1 … V3 follow, when the session
 *              ends or the slot is revoked. An owner that resumes after that finds the cell sealed
 *              or the place changed
 *   R1 | R1    levels top … k are discharged. Any party goes on: the owner, a revocation, the end
 *              of the session, the next daemon. Each step has its own seq, so "newest ≥ my step"
 *              tells for ever that the step was made
 *   N1 | 5     the step is noted early; a late N1 changes nothing
 *   V1 | V3    the daemon, or the next daemon, makes V2 again from the top. It sees which levels
 *              are discharged, and seals them once more
 *   a revocation's R1 at the top | its other R1    like R1 | R1, but in the next cycle
 *   limit or generation | B1    the change was not acknowledged; the next daemon bumps every cell
 *              at its start
 * No step waits for another process. The daemon's steps need no claim, since each of them is
 * conditional on the content of the cell.
 *
 * Removed accounts. A record may rest on an account that is removed. When a new account gets the
 * removed account's index, but has another parent, the record stands on another path, whose upper
 * cells it has not touched since its P1. So a removal ends with N1 for the tag that the cell bears.
 * After that, noted alone tells that the record rests (daemon/shared/directory-write.c). If those
 * upper cells bear tags of the record, the tags are older than its P1, so their seqs are below
 * noted.
 *
 * Noise. Noise is any value that a faulty or malicious process has written over shared words. With
 * noise, none of the above holds. The recount (daemon/upkeep/recount.c) computes the counts again
 * from the records. The code here checks each value that it reads against its bounds.
 *
 * The end of the seqs. A record whose next cycle would begin above BERTH_SEQ_LAST is retired: no
 * party places it again, and counter_open() leaves its `noted` above BERTH_SEQ_LAST. A record uses
 * up 2^37 cycles in about an hour if it takes slots all the time at 30 ns each.
 *
 * Loops. A loop repeats only if another party's compare-and-swap succeeded meanwhile. If a faulty
 * process keeps writing over the memory, a loop could repeat for ever; RETRIES_MAX bounds it.
 */

#include "counter-fast.h"
#include "counter.h"

#define SNAPSHOT_RETRIES_MAX 64 /* of a read of a record that another party changes meanwhile */

/* A record that makes steps, and the place at which it stands. */
struct placement {
	struct map *map;
	struct record_at at;
	uint64_t place;
};

/* -- reading a record -------------------------------------------------------------------------- */

static bool is_on_path(uint64_t place) {
	return place_state(place) == RECORD_PLACED || place_state(place) == RECORD_SEIZED;
}

/* Finds the cells of a record's path from its place alone. -ENOMEM: a part of the path can't be
 * mapped; -EUCLEAN: the path has fewer levels than the place says. ret->depth: how many levels were
 * found. */
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
		/* Pairs with entry_write() in daemon/shared/directory-write.c. */
		account = e ? ancestry_parent(load_acquire(&e->ancestry)) : 0;
	}
	return 0;
}

/* Raises *noted to the newest step that a tag on the path tells of, for a record that stands at
 * `place`. If damaged memory makes the path shorter than the place says, the function uses the
 * levels that exist. */
static int newest_step(struct map *m, uint32_t number, uint64_t place, uint64_t *noted) {
	struct path path;
	int r = record_path(m, place, &path);

	if (r == -ENOMEM)
		return r;
	for (uint32_t k = 0; k < path.depth; k++)
		*noted = step_newest(number, *noted, load_acquire(&path.level[k].cell->tag));
	return 0;
}

/* Reads place and newest step. P1 and V3 raise noted, so while noted stays the same, place and tags
 * belong to one placement. */
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

/* V1. False: the record's place is no longer `place`. */
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

/* -- discharging: R1 --------------------------------------------------------------------------- */

/* Orders 4 and 5 of R1 at one level. -EAGAIN: the cell has changed. A count that is less than the
 * weight is damaged: then the step leaves the count as it is, so that the record isn't stuck for
 * ever. */
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

/* Discharges the levels below `above`, in the cycle that begins at `base`. After -ENOMEM at a
 * level, returns at once. After any other error, goes on, and returns the first error at the end.
 * Without an error, returns COUNTER_NEEDS_RECOUNT if a level returned that, and 0 otherwise. */
static int descend(
	const struct placement *p, const struct path *path, uint32_t above, uint64_t base) {
	int result = 0;

	while (above-- > 0) {
		const struct level *l = &path->level[above];
		uint64_t seq = seq_down(base, above);
		int r = -EAGAIN;

		for (int i = 0; i < RETRIES_MAX && r == -EAGAIN; i++) {
			struct pair seen = cell_load(l->cell);
			uint64_t noted = load_acquire(&p->at.record->noted);

			/* Each step is made once. Another party may have made this one. */
			if (step_newest(p->at.number, noted, seen.second) >= seq)
				r = 0;
			else
				r = level_try_discharge(p, l, seen, seq);
			if (unlikely(r == -EAGAIN))
				back_off(i);
		}
		if (r == -ENOMEM)
			return r;
		if (r == -EAGAIN)
			r = -EUCLEAN;
		result = result < 0 || r == 0 ? result : r;
	}
	return result;
}

int counter_release_continue(struct map *m, struct record_at at, const struct path *path,
	uint32_t discharged, uint64_t seq) {
	const struct placement p = {m, at, load_acquire(&at.record->place)};

	/* If the daemon has seized the record meanwhile, the daemon discharges the other levels. */
	if (place_state(p.place) != RECORD_PLACED)
		return 0;
	return descend(&p, path, path->depth - discharged, seq_base(seq));
}

/* True if the record has made a step after the one that took the slot `seq`. The tag of level 0,
 * where each cycle ends, or noted tells of such a step. Also true if the record stands
 * elsewhere. */
static bool has_newer_step(const struct placement *p, uint64_t seq) {
	const struct cell *cell = map_cell(p->map, place_account(p->place));
	uint64_t tag = cell ? load_acquire(&cell->tag) : 0;

	return step_newest(p->at.number, load_acquire(&p->at.record->noted), tag) > seq ||
	       load_acquire(&p->at.record->place) != p->place;
}

/* Releases the slot `held`, which the record took at p->place, by steps of the cycle that begins at
 * `base`. Of all parties that try this, exactly one makes the first step down, which releases the
 * slot; the others get -ENOENT. */
static int slot_release(
	const struct placement *p, const struct path *path, uint64_t held, uint64_t base) {
	uint32_t top = path->depth - 1;
	int r = -EAGAIN, down;

	/* A seq at which the record rests identifies no slot, even if that seq is the newest. */
	if (unlikely(seq_step(held) != path->depth))
		return -ENOENT;
	for (int i = 0; i < RETRIES_MAX && r == -EAGAIN; i++) {
		struct pair seen = cell_load(path->level[top].cell); /* order 1 */
		uint64_t noted = load_acquire(&p->at.record->noted); /* 2 */
		uint64_t place = load_acquire(&p->at.record->place);

		if (unlikely(place != p->place ||
			     step_newest(p->at.number, noted, seen.second) != held))
			return -ENOENT;
		r = level_try_discharge(p, &path->level[top], seen, seq_down(base, top));
		if (unlikely(r == -EAGAIN))
			back_off(i);
	}
	if (r < 0)
		return r == -EAGAIN ? -EUCLEAN : r;
	down = descend(p, path, top, base);
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
	/* The slot may have been revoked and its account removed: then the path is that of another
	 * account, or doesn't exist. */
	if (r != -ENOMEM && has_newer_step(&p, seq))
		return -ENOENT;
	return r == 0 ? slot_release(&p, &path, seq, seq_base(seq)) : r;
}

/* -- placing: P1 ------------------------------------------------------------------------------- */

/* Makes the record, which the caller has claimed, stand at p->place, by P1 if it stands elsewhere.
 * *ret_base: the base of the cycle that the record can begin there. This function itself reads
 * every value that it uses ("Claims"). -EAGAIN: the record is in use or seized, or its words are
 * noise, and no recount has freed it yet; -ESHUTDOWN: it is CLOSED; -ERANGE: it is retired;
 * -ENOMEM. */
static int record_prepare(const struct placement *p, uint64_t *ret_base) {
	for (int i = 0; i < SNAPSHOT_RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&p->at.record->noted);
		uint64_t place = load_acquire(&p->at.record->place), base = noted;
		enum record_state state = place_state(place);
		const struct cell *cell = NULL;

		if (state == RECORD_PLACED)
			cell = map_cell(p->map, place_account(place));
		if (cell)
			base = step_newest(p->at.number, noted, load_acquire(&cell->tag));
		/* `base` is too low if another party has noted the newest tag and overwritten
		 * it. */
		if (load_acquire(&p->at.record->noted) != noted)
			continue;
		if (state == RECORD_CLOSED)
			return -ESHUTDOWN;
		if (state == RECORD_PLACED && !cell &&
			map_has_account(p->map, place_account(place)))
			return -ENOMEM;
		if ((state != RECORD_FREE && !cell) || seq_step(base) != 0 ||
			noted > BERTH_SEQ_MASK)
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

/* -- charging: A1 ------------------------------------------------------------------------------ */

/* Charges the levels from `level` up. `base` was read after the claim, or A1 at level 0 has
 * confirmed it. If a level refuses, discharges the levels below it, and returns that level's
 * error. */
static _noinline_ int ascend(
	const struct placement *p, const struct path *path, uint32_t level, uint64_t base) {
	uint32_t weight = place_weight(p->place);
	int failed = 0, r = 0;

	for (int i = 0; level < path->depth; i++) {
		const struct level *l = &path->level[level];
		struct pair seen = cell_load(l->cell);               /* order 1 */
		uint64_t noted = load_acquire(&p->at.record->noted); /* 2 */

		if (unlikely(
			    noted > base + level || load_acquire(&p->at.record->place) != p->place))
			return -ECANCELED;
		r = counter_admit(l, seen.first, weight); /* 3 */
		if (likely(r == 0))
			r = i < RETRIES_MAX ? step_note(p->map, p->at, seen.second)
					    : -EUCLEAN; /* 4 */
		if (unlikely(r < 0))
			break;
		if (level_charge(p->map, l, seen, weight,
			    tag_pack(p->at.number, seq_up(base, level)))) /* 5 */
			level++;
		else
			back_off(failed++);
	}
	if (likely(r == 0))
		return 0;
	if (r == -EDQUOT)
		denials_add_to_cell(p->map, path->level[level].cell, path->level[level].dirty);
	/* The levels are discharged in the same cycle in which they were charged. */
	if (level == 0 || (r != -ENOMEM && descend(p, path, level, base) >= 0))
		return r;
	/* Memory is short, or a level can't be discharged. The record is seized, so that the daemon
	 * discharges the levels. */
	(void)record_seize(p->at.record, p->place);
	return -ENOMEM;
}

int counter_acquire_continue(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t charged, uint64_t seq) {
	const struct placement p = {m, at, request_place(request)};

	return ascend(&p, request->path, charged, seq_base(seq));
}

int counter_acquire(
	struct map *m, struct record_at at, const struct slot_request *request, uint64_t *ret_seq) {
	uint32_t charged = counter_acquire_fast(m, at, request, ret_seq);
	const struct placement p = {m, at, request_place(request)};
	uint64_t base;
	int r = 0;

	/* record_prepare() and ascend() read the cells themselves, not request->seen. */
	if (charged == 0) {
		r = record_prepare(&p, &base);
		if (r < 0)
			return r;
		record_unlabel(at.record);
		*ret_seq = seq_up(base, request->path->depth - 1);
	}
	if (charged < request->path->depth)
		r = ascend(&p, request->path, charged, seq_base(*ret_seq));
	if (likely(r == 0))
		record_stamp(at.record, &request->stamp);
	return r;
}

/* -- bumps: B1 --------------------------------------------------------------------------------- */

/* B1, if the cell is still `seen`. -EAGAIN: the cell has changed; -EOVERFLOW: it has had its last
 * bump. */
static int cell_bump_from(struct cell *cell, struct pair seen) {
	if (count_bumps(seen.first) >= BERTH_BUMPS_LAST)
		return -EOVERFLOW;
	if (!cas16(&cell->count, seen, (struct pair){seen.first + 1, seen.second})) /* B1 */
		return -EAGAIN;
	return 0;
}

int counter_bump(struct map *m, uint32_t account) {
	struct cell *cell = map_cell(m, account);
	int r = -EAGAIN;

	if (!cell)
		return map_account_error(m, account);
	for (int i = 0; i < RETRIES_MAX && r == -EAGAIN; i++)
		r = cell_bump_from(cell, cell_load(cell));
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

int counter_repair(struct map *m, uint32_t account, struct pair seen, uint32_t count) {
	struct cell *cell = map_cell(m, account);
	uint64_t rest = (seen.first & ~BERTH_COUNT_MASK) + 1, seq;
	int r;

	if (!cell)
		return map_account_error(m, account);
	/* If noise has used up the bumps, they begin again at 0. That is safe, since the tag is
	 * new. */
	if (count_bumps(seen.first) >= BERTH_BUMPS_LAST)
		rest = seen.first & BERTH_CLOSED;
	r = counter_note(m, seen.second);
	if (r < 0)
		return r;
	/* If the record of the old tag is noise, `count` may lack the step of that tag. The new tag
	 * replaces the old one, so that no party discharges the level because of that step. The new
	 * tag has record 0, which has no steps, and a seq that no cell has had. The seq is a base,
	 * so that no process takes the tag for one of its tokens (pool.h). */
	seq = seq_base(
		(add_total(&m->header->repairs, BERTH_CYCLE) + BERTH_CYCLE) & BERTH_SEQ_MASK);
	if (!cas16(&cell->count, seen,
		    (struct pair){count_pack(count, rest), tag_pack(0, seq)})) /* B1 */
		return -EAGAIN;
	return 0;
}

/* -- seizing a record: V1 … V3 ----------------------------------------------------------------- */

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
			/* The party that made the last step may have died before it announced that
			 * step. */
			wake_changed(p->map, l->dirty);
			return r;
		}
	}
	return -EUCLEAN;
}

/* V2 and V3 of a SEIZED record, which becomes `state`. -EAGAIN: it isn't SEIZED. */
static int record_finish_seized(struct map *m, struct record_at at, enum record_state state) {
	const struct placement p = {m, at, load_acquire(&at.record->place)};
	struct snapshot now;
	struct path path;
	int r, damage = 0;

	if (place_state(p.place) != RECORD_SEIZED)
		return -EAGAIN;
	/* V2. If the record rests, its account may have been removed, and its path may be gone. */
	r = record_path(m, p.place, &path);
	if (r != -ENOMEM)
		r = record_load(m, at, &now);
	if (r < 0)
		return r;
	if (path.depth <= place_top(p.place) && seq_charged(now.seq) > 0)
		damage = COUNTER_NEEDS_RECOUNT;
	r = record_note(at.record, now.seq);
	for (uint32_t k = path.depth; k-- > 0 && r >= 0;) {
		r = level_seal(&p, &path.level[k], k);
		damage = r > 0 ? r : damage;
	}
	if (r < 0)
		return r;
	for (int i = 0; i < RETRIES_MAX; i++) {
		uint64_t noted = load_acquire(&at.record->noted), newest = noted;
		uint64_t place = load_acquire(&at.record->place);

		r = newest_step(m, at.number, p.place, &newest);
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

int counter_revoke(struct map *m, uint32_t number, struct snapshot seen) {
	const struct record_at at = {map_record(m, number), number};
	struct snapshot now;
	int r;

	if (!at.record)
		return map_record_error(m, number);
	/* A slot that is held is released in the next cycle. */
	if (snapshot_is_held(seen)) {
		const struct placement p = {m, at, seen.place};
		uint64_t base = seq_base(seen.seq) + BERTH_CYCLE;
		struct path path;

		r = record_path(m, seen.place, &path);
		if (r == 0)
			r = slot_release(&p, &path, seen.seq, base);
		return r == -ENOENT ? -EAGAIN : r;
	}
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

/* Completes a release or a revocation that has begun. */
static int descent_finish(struct map *m, struct record_at at, struct snapshot now) {
	const struct placement p = {m, at, now.place};
	struct path path;
	int r = record_path(m, now.place, &path);

	/* The owner may have completed the release, and the account may have been removed since. */
	if (r == -EUCLEAN)
		return has_newer_step(&p, now.seq) ? 0 : r;
	if (r < 0)
		return r;
	/* If the seq is noise, it may tell of more levels than the path has. */
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
		default: /* FREE; or noise: a state that no code writes */
			damage = place_state(place) == RECORD_FREE ? damage : COUNTER_NEEDS_RECOUNT;
			(void)cas(&at.record->place, place,
				place_pack(RECORD_CLOSED, 0, 0, 0)); /* V1 */
		}
	}
	return -EAGAIN;
}

/* -- opening ----------------------------------------------------------------------------------- */

/* The seq at which the record's next owner begins. It is one cycle above the seq at which the
 * record rests, so that noted changes. Then, if a thread of the previous owner is about to place
 * the record, its P1 fails. */
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
		/* A retired record gets a seq with which neither its new owner nor a thread of the
		 * previous owner can place it. */
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
