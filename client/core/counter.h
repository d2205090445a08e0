/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The counter: acquires and releases slots exactly, even if any process dies or stalls at any
 * instruction.
 *
 * Every change of a count, in every process, goes through these functions. No function blocks or
 * waits for another process. The only system calls are those that map a window of 4 MiB when it is
 * first used, and at most one futex wake per checkpoint. Any thread may call any function at any
 * time, unless its comment says otherwise. The comment at the top of counter.c argues that the
 * counter is correct. It also explains the labels (A1, N1, …).
 */

#include "counter-step.h"
#include "denials.h"

/* The functions that return an int return 0, COUNTER_NEEDS_RECOUNT, or a negative errno. With an
 * errno the operation was not made, or not completed:
 *   -EDQUOT     the limit of a level is reached
 *   -EOVERFLOW  a level's count would pass 1,048,575; for a bump: the cell has had its last bump
 *   -ESTALE     an account of the path was removed or changed: look the name up again
 *   -EAGAIN     an acquire: the record is not free, use another one; other functions: the record
 *               or the cell has changed, read it again
 *   -ERANGE     the record has used up its seqs: it is retired
 *   -ESHUTDOWN  the record is closed: the session has ended
 *   -ECANCELED  the daemon revoked the slot meanwhile
 *   -ENOENT     the record doesn't hold the slot with this seq, or no longer holds it
 *   -ENOMEM     a window that the counter needs can't be mapped
 *   -EUCLEAN    the shared words contradict each other
 * After -ENOMEM and -EUCLEAN a release or a revocation may have begun; counter_finish() completes
 * it. If an acquire couldn't discharge the levels that it had charged, it has seized its record;
 * counter_finish_seized() then discharges them.
 */

/* The operation was made, but the shared words were damaged: a count was less than the weight that
 * was to be subtracted, or a record's place or path was invalid. Counts may stay wrong until a
 * recount repairs them. */
#define COUNTER_NEEDS_RECOUNT 1

/* Order 3 of counter.c for a level. `count`: the count word of its cell, which the caller has read
 * (order 1). Returns 0, -ESTALE, -EDQUOT or -EOVERFLOW. Pairs with word_store() in
 * daemon/shared/directory-write.c, which stores limit and generation, then bumps the cell. */
static inline int counter_admit(const struct level *l, uint64_t count, uint32_t weight) {
	uint64_t word = load_acquire(&l->entry->word);
	uint32_t sum = count_of(count) + weight;

	if (unlikely(entry_generation(word) != l->generation))
		return -ESTALE;
	/* BERTH_LIMIT_NONE is higher than any count. */
	if (unlikely(sum > entry_limit(word)))
		return -EDQUOT;
	return likely(sum <= BERTH_COUNT_MAX) ? 0 : -EOVERFLOW;
}

/* Orders 1 and 3 for each level of the path: fills ret_seen, or returns -EDQUOT, -EOVERFLOW or
 * -ESTALE for the first level that refuses. With -EDQUOT the function has counted a denial at that
 * level. It writes nothing else to the segment. */
static inline int counter_check(struct map *m, const struct path *path, uint32_t weight,
	struct pair ret_seen[BERTH_LEVELS_MAX]) {
	for (uint32_t k = 0; k < path->depth; k++) {
		const struct level *l = &path->level[k];
		struct pair seen = cell_load(l->cell);
		int r = counter_admit(l, seen.first, weight);

		if (unlikely(r < 0)) {
			if (r == -EDQUOT)
				denials_add_to_cell(m, l->cell, l->dirty);
			return r;
		}
		ret_seen[k] = seen;
	}
	return 0;
}

/* Acquires a slot with a record of the caller's session. The calling thread must have claimed the
 * record, and must have called counter_check(). The record and *ret_seq together identify the slot
 * until its release. */
int counter_acquire(
	struct map *m, struct record_at at, const struct slot_request *request, uint64_t *ret_seq);

/* Continues an acquire of which counter_acquire_fast() has charged the `charged` lowest levels.
 * `seq`: what that function wrote to *ret_seq. On success the caller must call record_stamp(). */
int counter_acquire_continue(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t charged, uint64_t seq);

/* Releases the slot that the record took with this seq. */
int counter_release(struct map *m, uint32_t record, uint64_t seq);

/* Continues a release of the slot `seq` of which counter_release_fast() has discharged the
 * `discharged` highest levels. */
int counter_release_continue(struct map *m, struct record_at at, const struct path *path,
	uint32_t discharged, uint64_t seq);

/* V1 by a process that lacks the memory to discharge the levels of its record: seizes the record if
 * the record is PLACED. The daemon completes the release by counter_finish_seized(). */
void counter_seize(struct map *m, uint32_t record);

/* The account's count. 0 if the account isn't published, or its cell can't be mapped. */
uint32_t counter_count(struct map *m, uint32_t account);

/* Reads a record's place and its newest step, which may not be noted yet. A record that isn't
 * published is CLOSED. -EAGAIN: the record changes all the time; -ENOMEM: a cell of its path can't
 * be mapped. */
int counter_record(struct map *m, uint32_t record, struct snapshot *ret);

/* -- for the daemon only ----------------------------------------------------------------------- */

/* Revokes the slot that the record holds in the snapshot `seen`, and no other slot. If the record
 * is on its way up in that snapshot, the function seizes the record, and then discharges all levels
 * that are charged. The owner may do anything meanwhile. For a release that has begun, use
 * counter_finish(). -EAGAIN: the record has changed since `seen`. */
int counter_revoke(struct map *m, uint32_t record, struct snapshot seen);

/* Completes whatever the owner or a dead daemon began with this record: a release, a revocation, or
 * V1 to V3. If nothing was begun, changes nothing. */
int counter_finish(struct map *m, uint32_t record);

/* V2 and V3 for a record that is SEIZED. Afterwards the record is FREE. If the record isn't SEIZED,
 * the function changes nothing. */
int counter_finish_seized(struct map *m, uint32_t record);

/* Discharges whatever the record has charged, and closes the record. -EAGAIN: the owner placed the
 * record again and again; retry. */
int counter_close(struct map *m, uint32_t record);

/* CLOSED → FREE, for a new owner. -EBUSY: the record isn't CLOSED. */
int counter_open(struct map *m, uint32_t record);

/* True if the record has used up its seqs. */
bool counter_is_retired(struct map *m, uint32_t record);

/* B1: makes every compare-and-swap fail that is based on an earlier read of the cell. So it also
 * invalidates the values that a party has read after the cell, such as the limit. */
int counter_bump(struct map *m, uint32_t account);

/* Whether the account's cell has at least `times` bumps left. */
bool counter_has_bumps(struct map *m, uint32_t account, uint32_t times);

/* N1 for the tag of the account's cell. It must be called before the index of a removed account is
 * used again, because the new account may have another parent. */
int counter_note_cell(struct map *m, uint32_t account);

/* Whether the record, in the snapshot, has charged this level of its path. `tag`: of that level's
 * cell. */
bool counter_has_charged(struct snapshot s, uint32_t record, uint32_t level, uint64_t tag);

/* Writes the count that a recount has computed, if the cell is still `seen`. -EAGAIN: the cell has
 * changed. */
int counter_repair(struct map *m, uint32_t account, struct pair seen, uint32_t count);

/* For a record whose words a faulty process has written over: makes the record FREE, and discharges
 * no level. -EAGAIN: its place is no longer that of `seen`. */
int counter_discard(struct map *m, uint32_t record, struct snapshot seen);
