/* SPDX-License-Identifier: MIT */

/* Exit statuses: what the help says about them, and which codes of <berth.h> they stand for. Prints
 * errors on standard error. */

#include <stdarg.h>
#include <stdio.h>

#include "berth.h"
#include "exit-status.h"

const char exit_status_help[] = "Exit status:\n"
				"  0   done\n"
				"  1   failed\n"
				"  2   wrong usage, name or limit\n"
				"  69  berthd can't be reached\n"
				"  75  denied: the limit is reached (1238)\n"
				"  77  not allowed\n";

static const char *verb; /* NULL: not known yet */

int exit_status_of(uint32_t code) {
	switch (code) {
	case BERTH_SUCCESS:
		return CTL_OK;
	case BERTH_ACCESS_DENIED:
		return CTL_NOT_ALLOWED;
	case BERTH_CONNECTION_REFUSED:
		return CTL_UNREACHABLE;
	case BERTH_CONNECTION_COUNT_LIMIT:
		return CTL_DENIED;
	default:
		return CTL_FAILED;
	}
}

__attribute__((format(printf, 1, 0))) static void message_print(const char *format, va_list args) {
	(void)fflush(stdout);
	fputs("berthctl: ", stderr);
	(void)vfprintf(stderr, format, args);
	putc('\n', stderr);
}

int report_error(const char *format, ...) {
	va_list args;

	va_start(args, format);
	message_print(format, args);
	va_end(args);
	return CTL_FAILED;
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
