/* SPDX-License-Identifier: MIT */

/* Gathers counts for the store. */

#include <string.h>

#include "array.h"
#include "batch.h"

int batch_add(struct batch *b, const char *name, const struct store_count *numbers) {
	size_t size = strlen(name) + 1;
	int r = array_reserve(&b->counts, &b->counts_capacity, b->count + 1);

	if (r >= 0)
		r = array_reserve(&b->names, &b->names_capacity, b->names_length + size);
	if (r < 0)
		return r;
	b->counts[b->count] = *numbers;
	b->counts[b->count++].name_offset = b->names_length;
	memcpy(b->names + b->names_length, name, size);
	b->names_length += size;
	return 0;
}

void batch_deinit(struct batch *b) {
	free(b->counts);
	free(b->names);
}
