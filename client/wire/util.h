/* SPDX-License-Identifier: MIT */
#pragma once

/* Small macros and cleanup functions that every file uses. */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ELEMENTS(a)     (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b)    ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b)    ((a) > (b) ? (a) : (b))
#define ROUND_UP(n, to) (((n) + (to)-1) / (to) * (to))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* _cold_ and _noinline_ keep rare work out of the functions that every acquire and release
 * executes. _always_inline_ makes the common case one piece of code without calls. */
#define _cold_          __attribute__((noinline, cold))
#define _noinline_      __attribute__((noinline))
#define _always_inline_ inline __attribute__((always_inline))

static inline void free_cleanup(void *p) {
	free(*(void **)p);
}

/* Closes *fd, unless it is negative, and sets it to -1. Leaves errno unchanged, for use on an error
 * path. */
static inline void close_cleanup(int *fd) {
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

/* For local variables: frees, or closes, the variable when it goes out of scope. */
#define _cleanup_free_  __attribute__((cleanup(free_cleanup)))
#define _cleanup_close_ __attribute__((cleanup(close_cleanup)))
