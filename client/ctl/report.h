/* SPDX-License-Identifier: MIT */
#pragma once

/* Errors, on standard error. Text from outside goes through show_text (show.h) first. */

/* Prints "berthctl: …" and a newline. */
void report_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints the same for a command line that can't be used, and which help to read. Returns
 * CTL_USAGE. */
int report_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From now on report_usage names the help of this verb. The name is borrowed. */
void report_verb(const char *name);
