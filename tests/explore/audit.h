/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Checks the shared words after each write to them.
 */

#include "world.h"

/* A word of a cell or record was written. */
void audit_write(uint32_t word);
/* Something else in the two files was written. */
void audit_other_write(const volatile void *p);
/* A compare-and-swap of this word, alone or with a second one, succeeded though the word had
 * changed and come back to the same value. */
void audit_returned(uint32_t word, bool alone);
/* At the end of a run: all slots are released, and berthd has nothing to do. */
void audit_end(void);

/* Before each run. */
void audit_reset(void);

/* The number of audits in all runs. */
extern uint64_t audits;
