/* SPDX-License-Identifier: MIT */
#pragma once

/* What berthctl may ask on admin.sock is the table admin_types (server.h); an import that was begun
 * and not handed to the store goes with its connection. */

#include <stdbool.h>

struct import;

void import_free(struct import *i); /* NULL is fine */
/* Whether it is committed, and room for it is being made: what its connection waits for, then. */
bool import_is_preparing(const struct import *i);
