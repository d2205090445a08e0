/* SPDX-License-Identifier: MIT */

/* Writes values as a person reads them. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "name.h"
#include "number.h"
#include "show.h"
#include "util.h"

#define TIME_LAST UINT64_C(253402300799) /* 9999-12-31T23:59:59Z */

const char *show_text(struct shown *to, const char *text) {
	return name_escape(text, strlen(text), to->text, sizeof(to->text));
}

const char *show_number(struct shown *to, uint64_t n) {
	(void)snprintf(to->text, sizeof(to->text), "%" PRIu64, n);
	return to->text;
}

const char *show_limit(struct shown *to, uint32_t limit) {
	return limit_format(limit_of_message(limit), to->text);
}

const char *show_slot(struct shown *to, uint64_t slot) {
	/* cppcheck-suppress ctuuninitvar; only the address of to->text is used */
	(void)snprintf(to->text, sizeof(to->text), "%" PRIu64 ":%" PRIu64,
		message_slot_record(slot), message_slot_seq(slot));
	return to->text;
}

const char *show_time(struct shown *to, uint64_t ms) {
	/* The time at which a slot was acquired comes from shared memory, where a process may have
	 * written any number. Years have four digits. */
	time_t seconds = (time_t)MIN_OF(ms / 1000, TIME_LAST);
	struct tm tm = {.tm_mday = 1};

	(void)gmtime_r(&seconds, &tm);
	(void)strftime(to->text, sizeof(to->text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return to->text;
}

bool show_is_terminal(void) {
	return isatty(STDOUT_FILENO);
}
