/* SPDX-License-Identifier: MIT */
#pragma once

/* Compares the counts with the records. No process may change the segment meanwhile. */

#include <stdbool.h>

#include "map.h"

/* True if every count is the sum of its records; otherwise ret_why (512 bytes) names a wrong
 * count. */
bool audit_counts(struct map *m, char *ret_why);

/* True if every record is closed and every count is 0; otherwise ret_why (512 bytes) names a record
 * or count for which that is false. */
bool audit_is_empty(struct map *m, char *ret_why);
