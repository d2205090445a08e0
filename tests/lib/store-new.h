/* SPDX-License-Identifier: MIT */
#pragma once

/* Opens a store in one call. It makes the three calls (store.h) that berthd makes while it
 * starts. */

#include "store.h"

static inline int store_new(const char *state_dir, struct store **ret) {
	struct store *s;
	int r = store_begin(state_dir, &s);

	if (r < 0)
		return r;
	r = store_wait(s);
	if (r == 0)
		r = store_start(s);
	if (r < 0)
		store_free(s);
	else
		*ret = s;
	return r;
}
