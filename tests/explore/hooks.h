/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Code that is compiled with -fsanitize=thread calls a function at every access to memory. The
 * explorer's own functions replace those of ThreadSanitizer. They may pause the running coroutine
 * before each access to shared memory and before each atomic access.
 */

#include "coroutine.h"

/* The coroutine pauses when the first of these three counts runs out. It then has made
 * `accesses_left` more accesses; or `writes_left` more writes to cells and records, and is in front
 * of the next such write; or `loads_left` + 1 more loads from cells and records. */
extern int64_t accesses_left, writes_left, loads_left;

#define NO_END INT64_MAX /* doesn't pause */

/* The numbers, in all runs, of accesses, of writes to cells and records, and of failed
 * compare-and-swaps of cells and records. */
extern uint64_t accesses, writes, failures;

/* How often each word of cells and records has changed in this run. */
extern uint32_t version[WORDS];
void hooks_reset(void);
