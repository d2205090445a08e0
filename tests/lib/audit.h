/* SPDX-License-Identifier: MIT */
#pragma once

/* Judges the counts by the records. Nobody may change anything meanwhile, unless it says so. */

#include <stdbool.h>

#include "map.h"

/* True if every count is what the records say; else ret_why (512 bytes) says which isn't. */
bool audit_counts(struct map *m, char *ret_why);

/* True if no record is taken and every count is 0. */
bool audit_is_empty(struct map *m, char *ret_why);
