/* SPDX-License-Identifier: MIT */
#pragma once

/* The exit statuses of berthctl. Functions that report their errors themselves return one. */

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

/* The exit status that stands for a code of <berth.h>. */
int exit_status_of(uint32_t code);
