/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The general path of calls, for what the fast path (fast.c) can't do. The fast path needs a path
 * cache of the calling thread that knows the account, and a record that rests on it. What the
 * functions return is a code of berth.h.
 */

#include <time.h>

#include "handle.h"

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

/* The code of berth.h for an internal result; a positive one is a code that berthd answered. */
int general_code(int r);

/* True if the caller's struct is as long as the library's, or longer and zero where the library
 * doesn't know it: then a newer program asks for nothing newer. */
static _always_inline_ bool sized_is_known(const void *p, size_t size, size_t known) {
	const char *byte = p;

	if (likely(size == known))
		return true;
	/* A size above 4096 was never set. */
	if (size < known || size > 4096)
		return false;
	for (size_t i = known; i < size; i++)
		if (byte[i] != 0)
			return false;
	return true;
}
