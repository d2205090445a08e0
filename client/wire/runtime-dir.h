/* SPDX-License-Identifier: MIT */
#pragma once

/* Where berthd's sockets and shared files are. libberth, berthctl and berthd agree on it. */

#include <stdlib.h>

#define DEFAULT_RUNTIME_DIR "/run/berth"

/* `given`, which was passed or read from the command line; if that is NULL, $BERTH_RUNTIME_DIR, but not
 * in a set-user-ID program; if that is unset or empty, the default. Borrowed. */
static inline const char *runtime_dir_choose(const char *given) {
	const char *dir = given ? given : secure_getenv("BERTH_RUNTIME_DIR");

	return dir && *dir ? dir : DEFAULT_RUNTIME_DIR;
}
