/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The functions that the compiler calls at every access to memory (-fsanitize=thread), in place of
 * ThreadSanitizer's own: each access to shared memory, and each atomic one, is where a coroutine may be
 * left for another.
 */

#include "coroutine.h"

/* How many more accesses the coroutine makes before it pauses; writes to cells and records, of which
 * it pauses in front of the last; and loads of these, after the last of which it pauses. */
extern int64_t accesses_left, writes_left, loads_left;

#define NO_END INT64_MAX

/* Accesses, writes to cells and records, and of these the compare-and-swaps that failed, in all runs. */
extern uint64_t accesses, writes, failures;

/* Of each word of cells and records: how often it has changed in this run. */
extern uint32_t version[WORDS];
void hooks_reset(void);
