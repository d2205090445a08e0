/* SPDX-License-Identifier: MIT */
#pragma once

/* Small things that every file uses. */

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

/* Keeps what is rarely done, or not each time, out of the functions that every acquire and release
 * goes through, and has those be one piece of code in each file. */
#define _cold_          __attribute__((noinline, cold))
#define _noinline_      __attribute__((noinline))
#define _always_inline_ inline __attribute__((always_inline))

static inline void free_cleanup(void *p) {
	free(*(void **)p);
}

/* Closes and forgets; errno stays as it was, so that it can stand on an error path. */
static inline void close_cleanup(int *fd) {
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

#define _cleanup_free_  __attribute__((cleanup(free_cleanup)))
#define _cleanup_close_ __attribute__((cleanup(close_cleanup)))
