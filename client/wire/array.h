/* SPDX-License-Identifier: MIT */
#pragma once

/* Arrays that grow. */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

/* Extends an array to `to` elements; the new ones are zeros. *array (NULL with count 0 at first)
 * may move; the caller frees it. -ENOMEM: nothing has changed. */
#define array_extend(array, count, to) \
	array_extend_bytes((void **)(array), (count), (to), sizeof(**(array)))

static inline int array_extend_bytes(void **array, uint32_t *count, uint32_t to, size_t size) {
	char *grown;

	if (to <= *count)
		return 0;
	/* calloc() gives a large array pages that take no memory until they are written. */
	grown = *array ? reallocarray(*array, to, size) : calloc(to, size);
	if (!grown)
		return -ENOMEM;
	if (*array)
		memset(grown + *count * size, 0, (to - *count) * size);
	*array = grown;
	*count = to;
	return 0;
}
