/* SPDX-License-Identifier: MIT */
#pragma once

/* Reads the two clocks: the monotonic one for deadlines, the wall clock for times that people
 * read. */

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_usec(clockid_t clock) {
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The time since an arbitrary moment. It never goes back, whatever an administrator does. */
static inline uint64_t clock_monotonic_usec(void) {
	return clock_read_usec(CLOCK_MONOTONIC);
}

static inline int64_t clock_monotonic_ms(void) {
	return (int64_t)(clock_monotonic_usec() / 1000);
}

/* Milliseconds since 1970. It may go back, since an administrator may set this clock. */
static inline uint64_t clock_wall_ms(void) {
	return clock_read_usec(CLOCK_REALTIME) / 1000;
}
