/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Values as a person reads them: names, limits, slots, times. Each function writes valid UTF-8
 * without control characters, whatever the value is, and returns the text of `to`.
 */

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

/* Enough for a name of which every byte is escaped. */
#define SHOWN_SIZE (4 * MESSAGE_NAME_SIZE)
struct shown {
	char text[SHOWN_SIZE];
};

const char *show_text(struct shown *to, const char *text);
const char *show_number(struct shown *to, uint64_t n);
const char *show_limit(struct shown *to, uint32_t limit); /* as messages have it */
const char *show_slot(struct shown *to, uint64_t slot);   /* as messages have it: "RECORD:SEQ" */
const char *show_time(struct shown *to, uint64_t ms);     /* since 1970: "2026-01-31T23:59:59Z" */

/* Whether standard output is a terminal, where a person reads it. */
bool show_is_terminal(void);
