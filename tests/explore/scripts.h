/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A script is a schedule written by hand, for a fault that random runs take long to find. A script
 * stops one party (parties.h) in the middle of an operation, and perhaps a second party, while
 * other parties make the steps that expose the fault. The script is played again and again. Each
 * time its parties are stopped at other places: after a load from a cell or record, or in front of
 * a write.
 */

#include "parties.h"

/* Plays the scripts whose names begin with `name` or, if `name` is NULL, all scripts. A second
 * party is stopped at every stride-th place only; stride is odd. Returns false if a script found a
 * fault, which was printed. */
bool scripts_run(const char *name, uint32_t stride);

/*
 * Each script is played with two processes, A and B, and accounts of one and of two levels, whose
 * limits are 3 at first. Commas separate the steps:
 *
 *     [NUMBER] PARTY TASK [ACCOUNT]  a party does a whole task, once or NUMBER times
 *     stop PARTY TASK [ACCOUNT]      begins a task, and stops the party at its place
 *     finish PARTY                   runs a stopped party to the end of its task
 *     warm PARTY ACCOUNT             in half of the plays: makes a pair (an acquire and its
 *                                    release), so that the next acquire takes the fast path
 *     again ACCOUNT                  A and B make pairs of it, to find damaged cells and records
 *     kill A, kill berthd
 *
 * A party is the thread A1, A2, B1 or B2, or berthd. scripts.c has the tasks.
 */
struct script {
	const char *name;
	uint32_t stops;    /* parties that it stops: 0, 1 or 2 */
	bool every_access; /* stops them at every access (hooks.h) */
	const char *steps;
};

extern const struct script scripts[];
extern const size_t scripts_end;
