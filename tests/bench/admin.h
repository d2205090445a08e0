/* SPDX-License-Identifier: MIT */
#pragma once

/* Calls berthd over one connection to its admin socket. To run berthctl for each call would measure
 * how long programs take to start. */

#include <stdint.h>

#include "bench.h"

void admin_open(const struct berthd *d);
void admin_close(void);
void admin_set(const char *account, uint32_t limit);
/* When berthd last stored counts, in ms since 1970; 0: never. */
uint64_t admin_checkpointed(void);
