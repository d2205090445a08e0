/* SPDX-License-Identifier: MIT */
#pragma once

/* The two clocks: one for waiting, one for what people read. */

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read_usec(clockid_t clock) {
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Since some moment before the boot; it never goes back. Deadlines and pauses are measured by it. */
static inline uint64_t clock_monotonic_usec(void) {
	return clock_read_usec(CLOCK_MONOTONIC);
}

static inline int64_t clock_monotonic_ms(void) {
	return (int64_t)(clock_monotonic_usec() / 1000);
}

/* Milliseconds since 1970. An administrator may set this clock back. */
static inline uint64_t clock_wall_ms(void) {
	return clock_read_usec(CLOCK_REALTIME) / 1000;
}
