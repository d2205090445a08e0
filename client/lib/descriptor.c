/* SPDX-License-Identifier: MIT */

/* Tells whether a descriptor is still the library's. */

#include <sys/stat.h>

#include "descriptor.h"

static bool is_file(int fd, uint64_t dev, uint64_t ino) {
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

int descriptor_set(struct descriptor *d, int fd) {
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int r = -errno;

		close_cleanup(&fd);
		return r;
	}
	*d = (struct descriptor){fd, st.st_dev, st.st_ino};
	return 0;
}

bool descriptor_is_ours(const struct descriptor *d) {
	return is_file(d->fd, d->dev, d->ino);
}

void descriptor_close(struct descriptor *d) {
	if (descriptor_is_ours(d))
		(void)close(d->fd);
	d->fd = -1;
}

void map_file_forget(struct map *m, struct map_file *file, int fd) {
	(void)pthread_mutex_lock(&m->lock);
	if (fd >= 0 && file->fd == fd)
		file->fd = -1;
	(void)pthread_mutex_unlock(&m->lock);
}

void map_file_renew(struct map *m, struct map_file *file, int *fd) {
	bool is_ours;

	(void)pthread_mutex_lock(&m->lock);
	/* If the new descriptor has the old number, the application has closed the old one,
	 * although the number stands for the same file. */
	is_ours = file->fd != *fd && is_file(file->fd, file->dev, file->ino);
	if (!is_ours && is_file(*fd, file->dev, file->ino)) {
		file->fd = *fd;
		*fd = -1;
	}
	(void)pthread_mutex_unlock(&m->lock);
}
