/* SPDX-License-Identifier: MIT */
#pragma once

/* Random numbers. If a test runs again with the same seed, it gets the same numbers. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Returns and prints a seed: $SEED. If $SEED isn't set or is 0, the seed is taken from the
 * clock. */
static inline uint64_t random_seed(void) {
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 0;
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	if (seed == 0)
		seed = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	printf("SEED=%" PRIu64 "\n", seed);
	return seed;
}

/* Returns a random number from 0 to n - 1. */
static inline uint32_t random_of(uint64_t *state, uint32_t n) {
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 33) % n);
}

/* The state of random_below(). A test may use random_below() if only one of its threads uses random
 * numbers. */
static uint64_t random_state;

static inline void random_init(void) {
	random_state = random_seed();
}

static inline uint32_t random_below(uint32_t n) {
	return random_of(&random_state, n);
}
