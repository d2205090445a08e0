/* SPDX-License-Identifier: MIT */
#pragma once

/* Directories and files that survive a power failure, and the locks of directories. Errors are
 * negative errnos. */

#include <sys/types.h>

/* DIR/NAME; to be freed. NULL: no memory. */
char *dir_path(const char *dir, const char *name);

/* Makes a directory, if it isn't there, and syncs its parent directory. */
int dir_make(const char *path, mode_t mode);

/* Makes durable that files were created, renamed and removed in a directory. */
int dir_sync(const char *path);

/* Writes a file anew, so that only its owner can read it, and syncs it. */
int dir_write_file(const char *path, const char *text, size_t size);

/* Makes the directory, if it isn't there, and takes the lock that keeps a second berthd out of it.
 * The lock is held until *ret_fd is closed or the process dies; a child doesn't inherit it. On
 * failure the log says why; -EAGAIN: another berthd holds the lock. */
int dir_lock(const char *path, mode_t mode, int *ret_fd);
