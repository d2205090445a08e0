/* SPDX-License-Identifier: MIT */

/* Parses numbers and limits, and writes limits. */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "number.h"

#define UNLIMITED "unlimited"

int number_parse(const char *text, uint64_t max, uint64_t *ret) {
	uint64_t n = 0;
	bool too_large = false;

	if (!*text)
		return -EINVAL;
	/* Even if the number is too large, the loop goes on: if any other character follows, the
	 * error is -EINVAL. */
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (uint64_t)(*text - '0'), &n) || n > max)
			too_large = true;
	}
	if (too_large)
		return -ERANGE;
	*ret = n;
	return 0;
}

int limit_parse(const char *text, uint32_t *ret) {
	uint64_t n = BERTH_LIMIT_NONE;
	int r = strcmp(text, UNLIMITED) == 0 ? 0 : number_parse(text, BERTH_COUNT_MAX, &n);

	if (r == 0)
		*ret = (uint32_t)n;
	return r;
}

const char *limit_format(uint32_t limit, char to[LIMIT_TEXT_SIZE]) {
	if (limit == BERTH_LIMIT_NONE)
		(void)snprintf(to, LIMIT_TEXT_SIZE, UNLIMITED);
	else
		(void)snprintf(to, LIMIT_TEXT_SIZE, "%" PRIu32, limit);
	return to;
}
