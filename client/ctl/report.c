/* SPDX-License-Identifier: MIT */

/* Prints errors on standard error. */

#include <stdarg.h>
#include <stdio.h>

#include "exit-status.h"
#include "report.h"

static const char *verb; /* NULL: not known yet */

static void message_print(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

static void message_print(const char *format, va_list args) {
	(void)fflush(stdout);
	fputs("berthctl: ", stderr);
	(void)vfprintf(stderr, format, args);
	putc('\n', stderr);
}

void report_error(const char *format, ...) {
	va_list args;

	va_start(args, format);
	message_print(format, args);
	va_end(args);
}

int report_usage(const char *format, ...) {
	va_list args;

	va_start(args, format);
	message_print(format, args);
	va_end(args);
	fprintf(stderr, "Try 'berthctl help%s%s'.\n", verb ? " " : "", verb ? verb : "");
	return CTL_USAGE;
}

void report_verb(const char *name) {
	verb = name;
}
