/* SPDX-License-Identifier: MIT */
#pragma once

/* Arrays that grow as elements are appended. */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* Raises *capacity to `count` elements or more. The capacity at least doubles each time, so that
 * appending elements one by one is cheap. *array (NULL with capacity 0 at first) may move; the
 * caller frees it. -ENOMEM: nothing has changed. */
#define array_reserve(array, capacity, count) \
	array_reserve_bytes((void **)(array), (capacity), (count), sizeof(**(array)))

static inline int array_reserve_bytes(void **array, size_t *capacity, size_t count, size_t size) {
	size_t grown_capacity = *capacity * 2 > 64 ? *capacity * 2 : 64;
	void *grown;

	if (count <= *capacity)
		return 0;
	if (grown_capacity < count)
		grown_capacity = count;
	grown = reallocarray(*array, grown_capacity, size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = grown_capacity;
	return 0;
}
