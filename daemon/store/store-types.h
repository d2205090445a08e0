/* SPDX-License-Identifier: MIT */
#pragma once

/* The limits and counts that the store takes and gives (store.h). */

#include <stdint.h>

/* One limit to be put or deleted. The name is that of an account or a template. */
struct store_limit {
	const char *name; /* NUL-terminated; borrowed until done() */
	uint32_t limit;   /* BERTH_LIMIT_NONE: unlimited; STORE_DELETE: delete it */
};
#define STORE_DELETE UINT32_MAX

/* The numbers that a checkpoint writes for one account. */
struct store_count {
	uint32_t count;
	uint32_t peak;
	uint64_t denied;
	uint64_t name_offset; /* of the name, in the job's `names` */
};

typedef int (*store_each_limit)(void *data, const char *name, uint32_t limit);
typedef int (*store_each_count)(
	void *data, const char *name, uint32_t count, uint32_t peak, uint64_t denied);
