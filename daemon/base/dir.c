/* SPDX-License-Identifier: MIT */

/* Makes, syncs and locks directories, and writes files. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "dir.h"
#include "log.h"
#include "util.h"

char *dir_path(const char *dir, const char *name) {
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

int dir_sync(const char *path) {
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int dir_make(const char *path, mode_t mode) {
	_cleanup_free_ char *parent = NULL;

	if (mkdir(path, mode) < 0)
		return errno == EEXIST ? 0 : -errno;
	parent = dir_path(path, "..");
	return parent ? dir_sync(parent) : -ENOMEM;
}

int dir_write_file(const char *path, const char *text, size_t size) {
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	while (size > 0) {
		ssize_t n = write(fd, text, size);

		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		text += n;
		size -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

int dir_lock(const char *path, mode_t mode, int *ret_fd) {
	/* A lock by F_SETLK belongs to the process. A lock of the open file (F_OFD_SETLK) would be
	 * shared with a child. */
	const struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	_cleanup_free_ char *file = dir_path(path, "lock");
	int fd, r;

	if (!file)
		return -ENOMEM;
	/* Servers of other users need access. mkdir() obeys the umask, but chmod() doesn't. */
	if (mkdir(path, mode) == 0 ? chmod(path, mode) < 0 : errno != EEXIST) {
		r = -errno;
		log_error("Can't make the directory %s: %s", path, strerror(-r));
		return r;
	}
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = -errno;
		log_error("Can't open %s: %s", file, strerror(-r));
		return r;
	}
	if (fcntl(fd, F_SETLK, &lock) == 0) {
		*ret_fd = fd;
		return 0;
	}
	r = errno == EACCES ? -EAGAIN : -errno;
	(void)close(fd);
	if (r == -EAGAIN)
		log_error("Another berthd uses %s; stop it, or give this one other directories "
			  "(--runtime-dir, --state-dir)",
			path);
	else
		log_error("Can't lock %s: %s", path, strerror(-r));
	return r;
}
