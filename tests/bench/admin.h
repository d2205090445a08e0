/* SPDX-License-Identifier: MIT */
#pragma once

/* Talks to berthd's admin socket over one connection, as a program would that does so often; a
 * berthctl for each question would measure how long programs take to start. */

#include <stdint.h>

#include "bench.h"

void admin_open(const struct berthd *d);
void admin_close(void);
void admin_set(const char *account, uint32_t limit);
/* When berthd last stored counts, in ms since 1970; 0: not yet. */
uint64_t admin_checkpointed(void);
