/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Checks the shared words after each write to them.
 */

#include "world.h"

/* A word of a cell or record was written. */
void audit_write(uint32_t word);
/* Another word of the two files was written. */
void audit_other_write(const volatile void *p);
/* A compare-and-swap succeeded although this word had changed and changed back. `alone`: it
 * compared only this word, not two words. */
void audit_returned(uint32_t word, bool alone);
/* Called at the end of a run, when all slots are released and berthd has nothing to do. */
void audit_end(void);

/* Called before each run. */
void audit_reset(void);

/* The number of audits in all runs. */
extern uint64_t audits;
