/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The general path of calls. It handles every call that the fast path (acquire.c) can't handle. The
 * fast path works only if the calling thread's path cache knows the account, and has a record that
 * rests on the account. The functions return codes of berth.h.
 */

#include <time.h>

#include "handle.h"

/* The time of an acquire, in ms since 1970, rounded down to the second. The list of holders shows
 * whole seconds only, and reading a finer clock would take as long as all other work of an
 * acquire. */
static _always_inline_ uint64_t slot_now(void) {
	return (uint64_t)time(NULL) * 1000;
}

int general_acquire(
	struct berth *b, const char *account, uint32_t weight, const char *label, berth_slot *ret);

int general_release(struct berth *b, berth_slot slot);

/* Ends a release of the slot `seq`. The fast path has already discharged the `discharged` highest
 * levels of the slot's path. */
int general_release_continue(struct session *s, struct local_slot *local, const struct path *path,
	uint32_t discharged, uint64_t seq);

/* The code of berth.h for the result of an internal function. A positive result is a code that
 * berthd sent, and is returned as it is. */
int general_code(int r);

/* True if the caller's struct is as long as the library's, or is longer and every further byte is
 * 0. A program with a longer struct was compiled for a newer library; if the rest is 0, the program
 * uses only fields that this library knows. */
static _always_inline_ bool sized_is_known(const void *p, size_t size, size_t known) {
	const char *byte = p;

	if (likely(size == known))
		return true;
	/* If the size is above 4096, the caller has not set it. */
	if (size < known || size > 4096)
		return false;
	for (size_t i = known; i < size; i++)
		if (byte[i] != 0)
			return false;
	return true;
}
