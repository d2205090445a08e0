/* SPDX-License-Identifier: MIT */
#pragma once

/* Compares the counts with the records. No process may change the segment meanwhile. */

#include <stdbool.h>

#include "map.h"

/* True if every count is the sum of its records; else ret_why (512 bytes) names one that isn't. */
bool audit_counts(struct map *m, char *ret_why);

/* True if every record is closed and every count is 0; else ret_why (512 bytes) names one that
 * isn't. */
bool audit_is_empty(struct map *m, char *ret_why);
