/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The format of the store's two databases, limits/data.mdb and counts/data.mdb. Each of them is an
 * LMDB environment with two tables:
 *
 *   "meta"                 "format" → FORMAT_VERSION, a uint32_t
 *   "limits" or "counts"   name → a value, then the checksum of name and value, a uint64_t
 *
 * A name has 1 to BERTH_NAME_MAX bytes, none of them NUL. The value is a struct limit_value or a
 * struct count_value. The checksum is XXH3_64bits of the value, seeded with XXH3_64bits of the name
 * (lmdb_sum_entry). All numbers have the machine's byte order.
 *
 * If the limits have a later version, berthd doesn't start. If the counts have one, berthd begins
 * them afresh. Each change of the format needs a new version.
 */

#include <stdint.h>

#define FORMAT_VERSION 1u
#define FORMAT_KEY     "format"
#define META_TABLE     "meta"
#define LIMITS_TABLE   "limits"
#define COUNTS_TABLE   "counts"

struct limit_value {
	uint32_t limit; /* BERTH_LIMIT_NONE: unlimited */
	uint32_t reserved;
};

_Static_assert(sizeof(struct limit_value) == 8, "a limit's value has no padding");

struct count_value {
	uint32_t count;
	uint32_t peak;
	uint64_t denied;
};

_Static_assert(sizeof(struct count_value) == 16, "a count's value has no padding");

#define VALUE_SIZE_MAX 16
