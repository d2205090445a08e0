/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The number of a slot (berth_slot): session:20 | record:22 | cycle:22.
 *
 * `session` has the lowest bits of the session's number in this process. `cycle` has the lowest
 * bits of the cycle of the slot's seq. A slot's number is never 0, because no session has record 0.
 * No two sessions that a handle remembers have the same bits.
 *
 * A release looks the number up among the handle's own sessions, and compares it with the seq that
 * the pool keeps of each slot which this process holds. So a number from a session that ended, or
 * from a segment that was replaced, releases no other slot. One mistake stays possible: if a
 * program releases a slot twice, and in between a multiple of 2^22 slots was acquired with the same
 * record in the same session, then the second release gives back the latest of them.
 */

#include "berth.h"
#include "layout.h"
#include "util.h"

#define SLOT_SESSION_SHIFT 44
#define SLOT_CYCLE_BITS    22
#define SLOT_CYCLE_MASK    ((UINT32_C(1) << SLOT_CYCLE_BITS) - 1)
#define SLOT_RECORD_MASK   UINT32_C(0x3FFFFF)

static inline uint32_t slot_cycle_of_seq(uint64_t seq) {
	return (uint32_t)(seq / BERTH_CYCLE) & SLOT_CYCLE_MASK;
}

static _always_inline_ uint32_t slot_cycle(berth_slot slot) {
	return slot & SLOT_CYCLE_MASK;
}

static _always_inline_ uint32_t slot_record(berth_slot slot) {
	return slot >> SLOT_CYCLE_BITS & SLOT_RECORD_MASK;
}

/* The number of the slot `seq` of a record whose last slot had the number `last`. */
static _always_inline_ berth_slot slot_next(berth_slot last, uint64_t seq) {
	return (last & ~(uint64_t)SLOT_CYCLE_MASK) | slot_cycle_of_seq(seq);
}
