/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Restores what the store holds. Before berthd serves, all limits are restored. While berthd
 * serves, the peaks and denials from before the boot are restored in time slices.
 */

#include "accounts.h"
#include "batch.h"
#include "store.h"

/* Puts all stored limits in force. The log says what fails. */
int restore_limits(struct accounts *a, struct store *s);

struct restore;

/* adopted: the cells may have peaks and denials already, since they were adopted with the
 * segment. */
int restore_new(struct accounts *a, struct store *s, bool adopted, struct restore **ret);
void restore_free(struct restore *r); /* NULL is fine */

/* True until all counts are restored. */
bool restore_is_running(const struct restore *r);

/* Does one time slice. 1: there are more counts; 0: all counts are restored; negative: an error,
 * which was logged. After an error, the next call tries again, if restore_is_running() is still
 * true. *stale gets accounts that the store should forget; the caller frees it. *ret_unknown
 * becomes true if it isn't known which numbers the store has. */
int restore_slice(struct restore *r, struct batch *stale, bool *ret_unknown);
