/* SPDX-License-Identifier: MIT */
#pragma once

/* Arrays that grow. */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* Makes room for `count` elements in all, and for more than that at once, so that appending one by one
 * is cheap. The array may move. 0; -ENOMEM: nothing has changed. */
#define array_reserve(array, capacity, count) \
	array_reserve_bytes((void **)(array), (capacity), (count), sizeof(**(array)))

static inline int array_reserve_bytes(void **array, size_t *capacity, size_t count, size_t size) {
	size_t room = *capacity * 2 > 64 ? *capacity * 2 : 64;
	void *grown;

	if (count <= *capacity)
		return 0;
	if (room < count)
		room = count;
	grown = reallocarray(*array, room, size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = room;
	return 0;
}
