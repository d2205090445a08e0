/* SPDX-License-Identifier: MIT */
#pragma once

/* How people write numbers and limits: the only parser of numbers in berth. */

#include <stdint.h>

/* Decimal digits alone, at most max. -EINVAL, or -ERANGE above max; nothing written then. */
int number_parse(const char *text, uint64_t max, uint64_t *ret);

/* A limit as people write it: 0 to 1048575, or `unlimited` (ret: BERTH_LIMIT_NONE). */
int limit_parse(const char *text, uint32_t *ret);
#define LIMIT_FORMS "a limit is a whole number from 0 to 1048575, or 'unlimited'"
