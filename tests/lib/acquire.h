/* SPDX-License-Identifier: MIT */
#pragma once

/* Acquires a slot with a given record, as a thread does that has claimed this record (pool.h). */

#include <string.h>

#include "counter.h"

/* First checks the account's own limit, as the library does. Then discards the values of the cells
 * that the check has read (`seen`), so that counter_acquire() (counter.h) reads the cells again. */
static inline int record_acquire(struct map *m, uint32_t number, const struct path *path,
	uint32_t weight, const struct stamp *stamp, uint64_t *ret_seq) {
	const struct record_at at = {map_record(m, number), number};
	struct slot_request request = {.path = path, .weight = weight, .stamp = *stamp};
	struct path account = *path;
	int r;

	if (!at.record)
		return map_record_error(m, number);
	account.depth = 1;
	r = counter_check(m, &account, weight, request.seen);
	if (r < 0)
		return r;
	memset(request.seen, 0xFF, sizeof(request.seen));
	return counter_acquire(m, at, &request, ret_seq);
}
