/* SPDX-License-Identifier: MIT */
#pragma once

/* Structs of the API that begin with their size. */

#include "util.h"

/* A struct that is longer than this has a size that was never set. */
#define SIZED_MAX 4096

/* True if the caller's struct is as long as the library's, or longer and zero where the library
 * doesn't know it: then a newer program asks for nothing newer. */
static _always_inline_ bool sized_is_known(const void *p, size_t size, size_t known) {
	const char *byte = p;

	if (likely(size == known))
		return true;
	if (size < known || size > SIZED_MAX)
		return false;
	for (size_t i = known; i < size; i++)
		if (byte[i] != 0)
			return false;
	return true;
}
