/* SPDX-License-Identifier: MIT */
#pragma once

/* An import: lines are gathered, checked as they come, stored in one transaction, then applied. */

#include "server.h"

int handle_import_begin(struct connection *c, const void *message, size_t length, int *fds);
int handle_import_lines(struct connection *c, const void *message, size_t length, int *fds);
int handle_import_commit(struct connection *c, const void *message, size_t length, int *fds);
