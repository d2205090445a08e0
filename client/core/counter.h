/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The counter: how slots are taken and given back, exactly, whatever process dies or stalls when.
 *
 * Everything that changes a count goes through here, in every process. Nothing here blocks, makes a
 * system call (but for the first touch of a 4 MiB window, and one futex wake per checkpoint) or
 * waits for another process. counter.c opens with the argument for its correctness.
 */

#include "denials.h"
#include "directory.h"

/* A record where it is mapped, and its number. */
struct record_at {
	struct record *record;
	uint32_t number;
};

/* What the list of holders tells of a slot. */
struct stamp {
	uint64_t since;    /* ms since 1970 */
	const char *label; /* NULL: none; cut at 39 bytes, between characters */
};

/* A slot to be taken. */
struct slot_request {
	const struct path *path;
	uint32_t weight;
	struct pair seen[BERTH_LEVELS_MAX]; /* each level's cell, as counter_check() has seen it */
	struct stamp stamp;
};

/* All of them return 0, COUNTER_NEEDS_RECOUNT, or a negative errno, after which it isn't done, or not to its end:
 *   -EDQUOT     the limit of a level is reached (ret_level says which)
 *   -EOVERFLOW  a level's count would pass 1,048,575; of a bump: the cell has had its last one
 *   -ESTALE     an account of the path is not what it was: look the name up again
 *   -EAGAIN     the record is not free, or isn't what it was; take another, or look again
 *   -ERANGE     the record has used up its seqs: it is retired
 *   -ESHUTDOWN  the record is closed: the session has ended
 *   -ECANCELED  revoked meanwhile
 *   -ENOENT     not held (any more) under this seq
 *   -ENOMEM     a window that the counter needs can't be mapped
 *   -EUCLEAN    the shared words contradict each other
 * After the last two a release, or the revocation of a slot, may have been begun, which counter_finish()
 * ends. An acquire has left to counter_finish_seized() what it couldn't give back.
 */

/* It is done, but a count was less than what is given back: it stays as it is, for the recount. */
#define COUNTER_NEEDS_RECOUNT 1

/* BERTH_LIMIT_NONE is more than any count can be. */
static inline int counter_refusal(uint32_t count, uint32_t weight, uint32_t limit) {
	if (likely(count + weight <= limit && count + weight <= BERTH_COUNT_MAX))
		return 0;
	return count + weight > limit ? -EDQUOT : -EOVERFLOW;
}

/* What stands beside the words, and no count follows from: the label of a slot that is being taken,
 * and the highest count. */
void counter_label(struct record *record, const char *label, size_t length);
void counter_note_peak(struct cell *cell, uint32_t count);

/* Orders 1 and 3 of counter.c for a level whose cell says `count`. Pairs with
 * daemon/directory-write.c, which stores limit and generation, then bumps. */
static inline int counter_admit(const struct level *l, uint64_t count, uint32_t weight) {
	uint64_t said = load_acquire(&l->entry->word);

	if (unlikely(entry_generation(said) != l->generation))
		return -ESTALE;
	return counter_refusal(count_of(count), weight, entry_limit(said));
}

/* Looks at each level: -EDQUOT, -EOVERFLOW or -ESTALE if one refuses as it stands. Counts a denial if it is
 * -EDQUOT, and writes nothing else. */
static inline int counter_check(struct map *m, const struct path *path, uint32_t weight,
	struct pair ret_seen[BERTH_LEVELS_MAX], uint32_t *ret_level) {
	for (uint32_t k = 0; k < path->depth; k++) {
		const struct level *l = &path->level[k];
		struct pair seen = cell_load(l->cell);
		int r = counter_admit(l, seen.first, weight);

		if (unlikely(r < 0)) {
			if (r == -EDQUOT)
				denials_add_to_cell(m, l->cell, l->dirty);
			*ret_level = k;
			return r;
		}
		ret_seen[k] = seen;
	}
	return 0;
}

/* Takes the path with a record of the caller's session that no other thread uses. The caller has looked at
 * the path before it claimed the record (counter_check). ret_seq identifies the slot, with the record, until
 * its release. */
int counter_acquire(struct map *m, struct record_at at, const struct slot_request *request,
	uint64_t *ret_seq, uint32_t *ret_level);

/* Goes on where so many levels are charged for a slot that is to be `seq` (counter-fast.h). */
int counter_acquire_continue(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t charged, uint64_t seq, uint32_t *ret_level);

/* Gives the slot back. */
int counter_release(struct map *m, uint32_t record, uint64_t seq);

/* Goes on where so many levels were given back, from the top, of the slot `seq` (counter-fast.h). */
int counter_release_continue(
	struct map *m, struct record_at at, const struct path *path, uint32_t given, uint64_t seq);

/* N1 of counter.c, where it is needed. -ENOMEM: the record is out of reach, and its tag must not be
 * overwritten. */
int counter_note(struct map *m, uint64_t tag);

/* Leaves to the daemon what can't be given back for lack of memory. */
void counter_seize(struct map *m, uint32_t record);

uint32_t counter_count(struct map *m, uint32_t account);

/* The record with its newest step. CLOSED if there is no such record; -ENOMEM: a cell of its path is
 * out of reach. */
int counter_record(struct map *m, uint32_t record, struct snapshot *ret);

/* -- the daemon's --------------------------------------------------------------------------- */

/* Takes back the slot that the record was seen to hold, and no other; or, where it was seen to be taking
 * one, what it takes or holds by then. Whatever its owner is doing meanwhile. Not for a release that
 * was begun: counter_finish(). -EAGAIN: it has moved on since it was seen. */
int counter_revoke(struct map *m, uint32_t record, struct snapshot seen);

/* Finishes what an owner or a dead daemon had begun: a release, or the taking back of a record. */
int counter_finish(struct map *m, uint32_t record);

/* Takes back what an owner has abandoned. */
int counter_finish_seized(struct map *m, uint32_t record);

/* Revokes and closes. -EAGAIN: the owner keeps placing it; try again. */
int counter_close(struct map *m, uint32_t record);

/* CLOSED → FREE. -EBUSY if it isn't closed. */
int counter_open(struct map *m, uint32_t record);

/* True if the record has used up its seqs. */
bool counter_is_retired(struct map *m, uint32_t record);

/* Makes the compare-and-swap fail of every party that has read the cell, and what it read after it. */
int counter_bump(struct map *m, uint32_t account);

/* Whether the account's cell can be bumped so often. */
bool counter_has_bumps(struct map *m, uint32_t account, uint32_t times);

/* Notes what the cell's tag tells, before its index may stand below another parent. */
int counter_note_cell(struct map *m, uint32_t account);

/* Whether the record has charged this level of its path, whose cell bears this tag. */
bool counter_has_charged(struct snapshot s, uint32_t record, uint32_t level, uint64_t tag);

/* Writes the count that a cell should have, if the cell is still what was seen. -EAGAIN: it isn't. */
int counter_repair(struct map *m, uint32_t account, struct pair seen, uint32_t count);

/* Makes a record whose words are noise free again. -EAGAIN: it isn't what was seen any more. */
int counter_discard(struct map *m, uint32_t record, struct snapshot seen);
