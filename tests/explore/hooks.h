/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The functions that the compiler calls at every access to memory (-fsanitize=thread), instead of
 * ThreadSanitizer's. The running coroutine may be paused before each access to shared memory and
 * before each atomic access.
 */

#include "coroutine.h"

/* The coroutine pauses before the access that follows `accesses_left` more accesses, before the
 * write to a cell or record that follows `writes_left` more such writes, and before the access that
 * follows `loads_left` + 1 more loads from cells and records. */
extern int64_t accesses_left, writes_left, loads_left;

#define NO_END INT64_MAX /* doesn't pause */

/* In all runs: accesses, writes to cells and records, and compare-and-swaps of these that
 * failed. */
extern uint64_t accesses, writes, failures;

/* How often each word of cells and records has changed in this run. */
extern uint32_t version[WORDS];
void hooks_reset(void);
