/* SPDX-License-Identifier: MIT */
#pragma once

/* Puts in force at start what the store holds. */

#include "accounts.h"
#include "store.h"

/* All limits and templates, or none is to be served: a limit that is stored and not in force would
 * admit too many. Says in the log which one it was. */
int load_limits(struct accounts *a, struct store *s);
