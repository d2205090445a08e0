/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Judges the shared words after each write to them.
 */

#include "world.h"

/* A word of a cell or record was written. */
void audit_write(uint32_t word);
/* Something else in the two files was. */
void audit_other_write(const volatile void *p);
/* A compare-and-swap, of this word alone or of two, took it for unchanged though it had changed and come
 * back. */
void audit_returned(uint32_t word, bool alone);
/* Once all have released what they held, and berthd has done what it had to. */
void audit_end(void);

/* Before each run. */
void audit_reset(void);

/* So many audits, in all runs. */
extern uint64_t audits;
