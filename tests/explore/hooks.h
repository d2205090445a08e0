/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Code that is compiled with -fsanitize=thread calls a function at every access to memory. The
 * explorer's own functions replace those of ThreadSanitizer. These functions may pause the running
 * coroutine before each access to shared memory and before each atomic access.
 */

#include "coroutine.h"

/* The running coroutine pauses when the first of these three counts runs out: after `accesses_left`
 * more accesses; after `writes_left` more writes to cells and records, in front of the next such
 * write; or after `loads_left` + 1 more loads from cells and records. */
extern int64_t accesses_left, writes_left, loads_left;

#define NO_END INT64_MAX /* a count that doesn't run out */

/* The numbers, in all runs, of accesses, of writes to cells and records, and of failed
 * compare-and-swaps of cells and records. */
extern uint64_t accesses, writes, failures;

/* The version of each word of cells and records: how often it has changed in this run. */
extern uint32_t version[WORDS];

/* Called before each run. */
void hooks_reset(void);
