/* SPDX-License-Identifier: MIT */
#pragma once

/* Where berthd's sockets and shared files are. libberth, berthctl and berthd agree on it. */

#include <stdlib.h>

#define DEFAULT_RUNTIME_DIR "/run/berth"

/* Returns `given`, which the caller was passed or has read from the command line. If `given` is
 * NULL, returns $BERTH_RUNTIME_DIR, except in a set-user-ID program. If the directory is then unset
 * or empty, returns the default. The string is borrowed. */
static inline const char *runtime_dir_choose(const char *given) {
	const char *dir = given ? given : secure_getenv("BERTH_RUNTIME_DIR");

	return dir && *dir ? dir : DEFAULT_RUNTIME_DIR;
}
