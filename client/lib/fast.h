/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Acquires and releases: the fast path (fast.c), which needs a cache of the calling thread that knows the
 * account, and a record that rests there; and the general path (library.c), which does everything else.
 */

#include <time.h>

#include "berth.h"
#include "protocol.h"
#include "session.h"

/* A struct longer than this is a size that was never set. */
#define SIZE_MAX_BELIEVED 4096

/* True if a caller's struct is as long as ours, or longer and all zeros where we don't know it:
 * a newer program that asks for nothing newer. */
static _always_inline_ bool struct_is_known(const void *p, size_t size, size_t known) {
	const char *byte = p;

	if (likely(size == known))
		return true;
	if (size < known || size > SIZE_MAX_BELIEVED)
		return false;
	for (size_t i = known; i < size; i++)
		if (byte[i] != 0)
			return false;
	return true;
}

/* A slot: session:20 | record:22 | cycle:22, the lowest bits of the session's number in this process and of
 * the cycle of the slot's seq. Never 0, since no session has record 0. No two sessions that a handle
 * remembers have the same bits. The number is looked up among the handle's own sessions, and there compared
 * with the seq that the pool keeps of each slot which this process holds: so a number from an ended session,
 * or from a segment that was replaced, releases no other slot. One could only be taken for a slot of the same
 * session and record that was taken a multiple of 2^22 slots of this record later, if the program releases it
 * a second time. */
/* The number of a slot that is taken by `seq`, with the record whose last slot had the number `last`. */
static _always_inline_ berth_slot slot_next(berth_slot last, uint64_t seq) {
	return (last & ~UINT64_C(0x3FFFFF)) | pool_cycle(seq);
}
static _always_inline_ uint32_t slot_record(berth_slot slot) {
	return slot >> POOL_CYCLE_BITS & 0x3FFFFF;
}
static _always_inline_ uint32_t slot_cycle(berth_slot slot) {
	return slot & 0x3FFFFF;
}

/* To the second, which is what people are shown: asking for more costs as much as the rest. */
static _always_inline_ uint64_t slot_now(void) {
	return (uint64_t)time(NULL) * 1000;
}

/* The general path. Codes of berth.h. */
int general_acquire(
	struct berth *b, const char *account, uint32_t weight, const char *label, berth_slot *ret);
int general_release(struct berth *b, berth_slot slot);
/* Of a slot of which so many levels, from the top of its path, are given back already. */
int general_release_rest(struct berth *b, struct session *s, struct local_slot *local,
	const struct path *path, uint32_t given, uint64_t seq);
