/* SPDX-License-Identifier: MIT */
#pragma once

/* What berthctl may ask on admin.sock is the table admin_types (server.h); an import that was begun
 * and not committed goes with its connection. */

struct import;

void import_free(struct import *i); /* NULL is fine */
