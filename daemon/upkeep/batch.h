/* SPDX-License-Identifier: MIT */
#pragma once

/* Gathers counts of accounts, so that they can be handed over to the store together. */

#include "store.h"

struct batch {
	struct store_count *counts;
	size_t count, counts_capacity;
	char *names; /* one after another */
	size_t names_length, names_capacity;
};

/* Adds an account with these numbers (name_offset is set here). If all numbers are 0, the store
 * forgets the account. -ENOMEM. */
int batch_add(struct batch *b, const char *name, const struct store_count *numbers);
void batch_deinit(struct batch *b);
