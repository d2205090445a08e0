/* SPDX-License-Identifier: MIT */
#pragma once

/* Directories and files that survive a power failure, and the locks of directories. Errors are
 * negative errnos. */

#include <sys/types.h>

/* Returns DIR/NAME, which the caller frees. NULL: no memory. */
char *dir_path(const char *dir, const char *name);

/* Makes a directory, and syncs its parent directory. If it exists, returns 0. */
int dir_make(const char *path, mode_t mode);

/* Syncs a directory: the creations, renames and removals of its files become durable. */
int dir_sync(const char *path);

/* Creates or overwrites a file, which only its owner can read, and syncs the file. */
int dir_write_file(const char *path, const char *text, size_t size);

/* Makes the directory if it doesn't exist, and takes its lock, so that no second berthd uses the
 * directory. The lock is held until *ret_fd is closed or the process dies; a child doesn't inherit
 * the lock. On failure the log says why; -EAGAIN: another berthd holds the lock. */
int dir_lock(const char *path, mode_t mode, int *ret_fd);
