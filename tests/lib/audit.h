/* SPDX-License-Identifier: MIT */
#pragma once

/* Compares the counts of the accounts with the records (layout.h has the words of both). No process
 * may change the segment meanwhile. */

#include <stdbool.h>

#include "map.h"

/* Returns the account at this level of the path of `account` (level 0 is `account` itself). Returns
 * 0 if the path has no such level. */
static inline uint32_t account_ancestor(struct map *m, uint32_t account, uint32_t level) {
	for (; level > 0 && account != 0; level--) {
		struct entry *e = map_entry(m, account);

		/* Pairs with entry_write() in daemon/shared/directory-write.c. */
		account = e ? ancestry_parent(load_acquire(&e->ancestry)) : 0;
	}
	return account;
}

/* True if every count is the sum of the weights of the records that have charged the account: that
 * have added their weight to its count. If false, ret_why (512 bytes) says what is wrong. */
bool audit_counts(struct map *m, char *ret_why);

/* True if every record is closed and every count is 0. If false, ret_why (512 bytes) names a record
 * that isn't closed or a count that isn't 0. */
bool audit_is_empty(struct map *m, char *ret_why);
