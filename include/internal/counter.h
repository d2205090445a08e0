/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The counter: how slots are taken and given back, exactly, whoever dies when.
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

/* What the holders' list tells of a slot. */
struct stamp {
	uint64_t since;    /* ms since 1970 */
	const char *label; /* NULL: none; cut at 39 bytes, between characters */
};

/* A slot to be taken. */
struct slot_request {
	const struct path *path;
	uint32_t weight;
	uint64_t word[BERTH_LEVELS_MAX]; /* of each level's cell, as counter_check() has seen it */
	struct stamp stamp;
};

/* All of them return 0 or a negative errno:
 *   -EDQUOT     the limit of a level is reached (ret_level says which)
 *   -EOVERFLOW  a level's count would pass 1,048,575
 *   -ESTALE     an account of the path is not what it was: look the name up again
 *   -EAGAIN     the record is not free; take another
 *   -ESHUTDOWN  the record is closed: the session has ended
 *   -ECANCELED  revoked meanwhile
 *   -ENOMEM     a window that the counter needs can't be mapped; an acquire leaves the record to
 *               counter_settle()
 *   -EUCLEAN    the shared words contradict each other; the record was moved on all the same
 */

/* BERTH_LIMIT_NONE is more than any count can be. */
static inline int counter_refusal(uint32_t count, uint32_t weight, uint32_t limit) {
	if (likely(count + weight <= limit && count + weight <= BERTH_COUNT_MAX))
		return 0;
	return count + weight > limit ? -EDQUOT : -EOVERFLOW;
}

/* What stands beside the words, and no count follows from: the label of a slot that is being taken,
 * and the highest count. */
void counter_label(struct record *record, const char *label);
void counter_note_peak(struct cell *cell, uint32_t count);

/* Orders 1 and 3 of counter.c for a level whose cell says `word`. Pairs with daemon/directory-write.c,
 * which stores limit and generation, then bumps. */
static inline int counter_admit(const struct level *l, uint64_t word, uint32_t weight) {
	uint64_t said = load_acquire(&l->entry->word);

	if (unlikely(entry_generation(said) != l->generation))
		return -ESTALE;
	return counter_refusal(cell_count(word), weight, entry_limit(said));
}

/* -EDQUOT or -EOVERFLOW, and counts the denial, if the path is full as it stands, or -ESTALE; writes
 * nothing else. */
static inline int counter_check(struct map *m, const struct path *path, uint32_t weight,
	uint64_t ret_word[BERTH_LEVELS_MAX], uint32_t *ret_level) {
	for (uint32_t k = 0; k < path->depth; k++) {
		const struct level *l = &path->level[k];
		uint64_t word = load_acquire(&l->cell->word);
		int r = counter_admit(l, word, weight);

		if (unlikely(r < 0)) {
			if (r != -ESTALE)
				denials_add(m, l->account, l->cell, l->dirty);
			*ret_level = k;
			return r;
		}
		ret_word[k] = word;
	}
	return 0;
}

/* Takes the path with a record of the caller's session that no other thread uses. ret_seq identifies
 * the slot, with the record, until its release. */
int counter_acquire(struct map *m, uint32_t record, const struct path *path, uint32_t weight,
	const struct stamp *stamp, uint32_t *ret_seq, uint32_t *ret_level);

/* Gives the slot back. -ENOENT: not held (any more) under this seq. */
int counter_release(struct map *m, uint32_t record, uint32_t seq);

/* The same for whoever has the record at hand, and has just looked (counter_check); and of whose path
 * the cells are known. */
int counter_acquire_at(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t *ret_seq, uint32_t *ret_level);
int counter_release_at(struct map *m, struct record_at at, const struct path *path, uint32_t seq);

/* Goes on where so many levels were given back, from the top, of the slot `seq` (counter-warm.h). */
int counter_release_rest(
	struct map *m, struct record_at at, const struct path *path, uint32_t given, uint32_t seq);

/* For an account without ancestors, where one look is likely to be enough: `stood_on` is the cell of the
 * account, likewise without ancestors, with which the record took its last slot; NULL: none. False:
 * nothing was taken, for whatever reason. */
bool counter_acquire_near(struct map *m, struct record_at at, const struct cell *stood_on,
	const struct level *l, uint64_t word, uint32_t weight, const struct stamp *stamp,
	uint32_t *ret_seq);

/* Goes on where so many levels are charged for a slot that is to be `seq` (counter-warm.h). */
int counter_acquire_rest(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t charged, uint32_t seq, uint32_t *ret_level);

/* Leaves to the daemon what can't be given back for lack of memory. */
void counter_abandon(struct map *m, uint32_t record);

uint32_t counter_count(struct map *m, uint32_t account);

/* -- the daemon's --------------------------------------------------------------------------- */

/* The record's word with the seq of its newest step, be it noted or not; 0 (CLOSED) if there is no
 * such record. */
uint64_t counter_record(struct map *m, uint32_t record);

/* Takes back the slot that the record was seen to hold, and no other; or, where it was seen to be taking
 * one, what it takes or holds by then. Whatever its owner is doing meanwhile. -EAGAIN: it has moved on
 * since it was seen. */
int counter_revoke(struct map *m, uint32_t record, uint64_t seen);

/* Takes back what an owner has abandoned. */
int counter_settle(struct map *m, uint32_t record);

/* Revokes and closes. -EAGAIN: the owner keeps placing it; try again. */
int counter_close(struct map *m, uint32_t record);

/* CLOSED → FREE. -EBUSY if it isn't closed. */
int counter_open(struct map *m, uint32_t record);

/* Finishes what a dead daemon had begun to take back. */
int counter_resume(struct map *m, uint32_t record);

/* Makes everyone who has read the cell's word, and what they read after it, fail its CAS. */
int counter_bump(struct map *m, uint32_t account);

/* Whether the record has charged this level of its path, whose cell bears this word. */
bool counter_has_charged(uint64_t rec, uint32_t record, uint32_t level, uint64_t word);

/* Writes the count that a cell should have, if the cell still bears the word that was seen. -EAGAIN:
 * it doesn't. For a count that somebody else wrote over. */
int counter_repair(struct map *m, uint32_t account, uint64_t seen, uint32_t count);

/* Makes a record whose word is noise free again. -EAGAIN: it isn't what was seen any more. */
int counter_discard(struct map *m, uint32_t record, uint64_t seen);
