/* SPDX-License-Identifier: MIT */
#pragma once

/* Parses numbers and limits as people write them. berth has no other parser of numbers. */

#include <stdint.h>

/* Parses a number of decimal digits only. -EINVAL: the text isn't such a number; -ERANGE: the
 * number is above max. */
int number_parse(const char *text, uint64_t max, uint64_t *ret);

/* Parses a limit: 0 to 1048575, or `unlimited`, which is BERTH_LIMIT_NONE. Errors as
 * number_parse(). */
int limit_parse(const char *text, uint32_t *ret);

/* Writes a limit so that limit_parse() reads it back. Returns `to`. */
#define LIMIT_TEXT_SIZE 16
const char *limit_format(uint32_t limit, char to[LIMIT_TEXT_SIZE]);

#define LIMIT_FORMS "a limit is a whole number from 0 to 1048575, or 'unlimited'"
