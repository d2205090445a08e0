/* SPDX-License-Identifier: MIT */
#pragma once

/* berthctl's exit statuses, and the errors that it reports on standard error. A function that
 * reports its errors itself returns an exit status. Text from outside goes through show_text
 * (show.h) before it is reported. */

#include <stdint.h>

/* The last three are EX_UNAVAILABLE, EX_TEMPFAIL and EX_NOPERM of sysexits.h. */
enum exit_status {
	CTL_OK = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_UNREACHABLE = 69,
	CTL_DENIED = 75,
	CTL_NOT_ALLOWED = 77,
};

/* What the help says about the statuses. */
extern const char exit_status_help[];

/* The exit status that stands for a code of <berth.h>. */
int exit_status_of(uint32_t code);

/* Prints "berthctl: …" and a newline. Returns CTL_FAILED. */
int report_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints such a message about a wrong command line, and tells which help to read. Returns
 * CTL_USAGE. */
int report_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From now on report_usage names the help of this verb. The name is borrowed. */
void report_verb(const char *name);
