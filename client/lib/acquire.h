/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The general path of acquires and releases, for what the fast path (fast.c) can't do. The fast
 * path needs a path cache of the calling thread that knows the account, and a record that rests on
 * it.
 *
 * The functions return codes of berth.h.
 */

#include <time.h>

#include "berth.h"
#include "pool.h"
#include "session.h"

/* The time for a record, to the second: people see no more, and reading a finer clock would cost as
 * much as all the rest of an acquire. */
static _always_inline_ uint64_t slot_now(void) {
	return (uint64_t)time(NULL) * 1000;
}

int general_acquire(
	struct berth *b, const char *account, uint32_t weight, const char *label, berth_slot *ret);

int general_release(struct berth *b, berth_slot slot);

/* Ends a release of the slot `seq`. The fast path has discharged some levels of its path, from the
 * top. */
int general_release_continue(struct session *s, struct local_slot *local, const struct path *path,
	uint32_t discharged, uint64_t seq);
