/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Runs: who goes on when, and for how long, is drawn from a seed.
 */

#include "parties.h"

/* What all runs have done together. */
struct tally {
	uint64_t runs, faults;
	uint64_t switches, stalls, kills, daemon_kills;
	uint64_t operations;
	uint64_t longest; /* stall, in operations */
};

extern struct tally tally;

/* One run; the verdict says what it came to. */
void run(uint64_t seed);

/* For scripts: everything as at the beginning of a run with this plan, and nothing has begun. */
void run_prepare(const struct plan *p);
/* Goes on with everything until it has ended what it does; releases all, ends all, and judges. */
void run_wind_up(void);
