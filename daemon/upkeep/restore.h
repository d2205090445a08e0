/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Brings back what the store holds: at start all limits, before berthd serves; then, in time slices
 * while it serves, the peaks and denials of before.
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

/* One time slice. 1: there are more counts; 0: none; an error: the log has it, and another call
 * tries again while restore_is_running(). *stale gets accounts that the store should forget; it is
 * the caller's. *ret_unknown is set if the store doesn't have what was restored. */
int restore_slice(struct restore *r, struct batch *stale, bool *ret_unknown);
