/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The records that a session owns, and which of them this process holds.
 *
 * Threads take and give back at once, without a lock; only adding ranges is for one thread at a
 * time. Nothing here makes a system call.
 */

#include "counter.h"

struct pool;

/* A pool without ranges. The map stays the caller's and must outlive it. -ENOMEM. */
int pool_new(struct map *m, struct pool **ret);
void pool_free(struct pool *p); /* NULL is fine; releases nothing */

/* Adds the records 16n … 16n+15; the caller sees to it that one thread at a time does. -ERANGE: no
 * such range, or never anybody's; -EEXIST: the pool has it; -ENOMEM. */
int pool_add_range(struct pool *p, uint32_t number);

uint32_t pool_ranges(const struct pool *p);

/* How many more ranges would let each thread that uses the pool work on one of its own. */
uint32_t pool_ranges_wanted(const struct pool *p);

struct pool_slot {
	uint32_t record, seq;
};

/* As counter_acquire; moreover -ENOBUFS: no record is free, and -ENOMEM also if that can't be told of
 * all, for some can't be mapped: then ret->record is 0. ret->record is written whatever is
 * returned: after -ENOMEM it is the one to be settled, if it isn't 0. */
int pool_acquire(struct pool *p, const struct slot_request *request, struct pool_slot *ret);

/* 0; -ENOENT: not held, or released before; -ECANCELED: it had been revoked, and is forgotten now;
 * -ENOMEM: begun, but another must settle the record; the slot may be released again; -EUCLEAN. */
int pool_release(struct pool *p, uint32_t record, uint32_t seq);

/* Somebody has settled the record for us: after pool_acquire's or pool_release's -ENOMEM. */
void pool_settled(struct pool *p, uint32_t record);

/* Releases whatever this process holds. No other thread may be using the pool. */
void pool_release_all(struct pool *p);

/* -ECANCELED if the slot was held when its session ended, and forgets it; else -ENOENT. Touches no
 * shared memory. */
int pool_forget(struct pool *p, uint32_t record, uint32_t seq);
