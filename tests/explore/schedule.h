/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Does random runs, and prepares and ends the runs of scripts, too. The seed of a random run
 * decides which coroutine runs when, and for how long.
 */

#include "parties.h"

/* The figures of all runs together. */
struct tally {
	uint64_t runs, faults;
	uint64_t switches, stalls, kills, daemon_kills;
	uint64_t operations;
	uint64_t longest_stall; /* in operations */
};

extern struct tally tally;

/* Does a random run; the verdict is its result. */
void run(uint64_t seed);

/* Prepares a run with this plan, and starts berthd, but no process. */
void run_prepare(const struct plan *p);
/* Starts the coroutine of a thread, or of berthd. */
struct coroutine *party_start(uint32_t process, uint32_t thread, void (*body)(struct coroutine *c));
/* Ends a run: lets all coroutines finish what they are doing, releases all slots, kills all
 * processes, and checks that nothing is left. */
void run_wind_up(void);
