/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Checks the words of cells and records (world.h) after each write to them. An audit compares the
 * counts in all cells with the records.
 */

#include "world.h"

/* Called after a write to a word of a cell or record. */
void audit_write(uint32_t word);
/* Called after a write to anything else in the two shared files. */
void audit_other_write(const volatile void *p);
/* Called when a compare-and-swap has succeeded although this word had changed, and changed back,
 * since the coroutine loaded it. `alone`: the compare-and-swap compared only this word, not two
 * words. */
void audit_returned(uint32_t word, bool alone);
/* Called at the end of a run, when all slots are released and berthd has nothing to do. */
void audit_end(void);

/* Called before each run. */
void audit_reset(void);

/* The number of audits in all runs. */
extern uint64_t audits;
