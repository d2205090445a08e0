/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The counter: how slots are taken and given back, exactly, whoever dies when.
 *
 * Everything that changes a count goes through here, in every process. Nothing here blocks, makes a
 * system call (but for the first touch of a 4 MiB window, and one futex wake per checkpoint) or
 * waits for another process. counter.c opens with the argument for its correctness.
 */

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
	struct stamp stamp;
};

/* All of them return 0 or a negative errno:
 *   -EDQUOT     the limit of a level is reached (ret_level says which)
 *   -EOVERFLOW  a level's count would pass 1,048,575
 *   -ESTALE     an account of the path is not what it was: look the name up again
 *   -EAGAIN     the record is not free; take another
 *   -ESHUTDOWN  the record is closed: the session has ended
 *   -ECANCELED  revoked meanwhile
 *   -ENOMEM     a window that the counter needs can't be mapped; the record may be left half
 *               done, counter_settle finishes it
 *   -EUCLEAN    the shared words contradict each other; the record was moved on all the same
 */

/* BERTH_LIMIT_NONE is more than any count can be. */
static inline int counter_refusal(uint32_t count, uint32_t weight, uint32_t limit) {
	if (likely(count + weight <= limit && count + weight <= BERTH_COUNT_MAX))
		return 0;
	return count + weight > limit ? -EDQUOT : -EOVERFLOW;
}

/* Counts a denial at a level. */
void counter_deny(struct map *m, const struct level *l);

/* -EDQUOT or -EOVERFLOW, and counts the denial, if the path is full as it stands; writes nothing
 * else. */
static inline int counter_check(
	struct map *m, const struct path *path, uint32_t weight, uint32_t *ret_level) {
	for (uint32_t k = 0; k < path->depth; k++) {
		const struct level *l = &path->level[k];
		int r = counter_refusal(cell_count(load_acquire(&l->cell->word)), weight,
			entry_limit(load_acquire(&l->entry->word)));

		if (unlikely(r < 0)) {
			counter_deny(m, l);
			*ret_level = k;
			return r;
		}
	}
	return 0;
}

/* Takes the path with a record of the caller's session. ret_seq identifies the slot, with the
 * record, until its release. */
int counter_acquire(struct map *m, uint32_t record, const struct path *path, uint32_t weight,
	const struct stamp *stamp, uint32_t *ret_seq, uint32_t *ret_level);

/* Gives the slot back. -ENOENT: not held (any more) under this seq. */
int counter_release(struct map *m, uint32_t record, uint32_t seq);

/* The same for whoever has the record at hand. */
int counter_acquire_at(struct map *m, struct record_at at, const struct slot_request *request,
	uint32_t *ret_seq, uint32_t *ret_level);
int counter_release_at(struct map *m, struct record_at at, uint32_t seq);

/* Finishes a release that was begun (UNCHARGE), if one was. Anybody may. */
int counter_settle(struct map *m, uint32_t record);

uint32_t counter_count(struct map *m, uint32_t account);

/* -- the daemon's --------------------------------------------------------------------------- */

/* The record's word as it is now; 0 (CLOSED) if there is no such record. */
uint64_t counter_record(struct map *m, uint32_t record);

/* Takes back the slot that the record was seen to hold, or to be taking, whatever its owner is doing
 * meanwhile. -EAGAIN: it has moved on since it was seen. */
int counter_revoke(struct map *m, uint32_t record, uint64_t seen);

/* Revokes and closes. -EAGAIN: the owner keeps publishing; try again. */
int counter_close(struct map *m, uint32_t record);

/* CLOSED → FREE. -EBUSY if it isn't closed. */
int counter_open(struct map *m, uint32_t record);

/* Finishes what a dead daemon had begun: UNCHARGE, CANCEL and EFFECT. */
int counter_resume(struct map *m, uint32_t record);

/* Makes everyone who has read the cell's word, and what they read after it, fail its CAS. */
int counter_bump(struct map *m, uint32_t account);

/* Whether the record has charged the cell of the level that its word names, which bears this word. */
bool counter_has_charged(uint64_t rec, uint32_t record, uint64_t word);

/* Writes the count that a cell should have, if the cell still bears the word that was seen. -EAGAIN:
 * it doesn't. For a count that somebody else wrote over. */
int counter_repair(struct map *m, uint32_t account, uint64_t seen, uint32_t count);

/* Makes a record whose word is noise free again. -EAGAIN: it isn't what was seen any more. */
int counter_discard(struct map *m, uint32_t record, uint64_t seen);
