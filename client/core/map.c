/* SPDX-License-Identifier: MIT */

/* Checks the headers of the segment and the directory, and maps their windows. */

#include <sys/mman.h>
#include <sys/stat.h>
#include <string.h>

#include "map.h"

/* True if fd still refers to the file that it referred to at first. The application may have closed
 * fd, and opened another file that got the same number. */
static bool file_is_ours(const struct map_file *file) {
	struct stat st;

	return file->fd >= 0 && fstat(file->fd, &st) == 0 && st.st_dev == file->dev &&
	       st.st_ino == file->ino;
}

static int file_init(struct map_file *file, int fd, int prot, uint64_t *ret_size) {
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	file->fd = fd;
	file->prot = prot;
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

static int file_make_windows(struct map_file *file, uint64_t size) {
	file->windows = (uint32_t)(ROUND_UP(size, MAP_WINDOW) / MAP_WINDOW);
	file->window = calloc(file->windows, sizeof(*file->window));
	return file->window ? 0 : -ENOMEM;
}

static void file_close(struct map_file *file) {
	if (file_is_ours(file))
		(void)close(file->fd);
	file->fd = -1;
}

static void file_unmap(struct map_file *file) {
	for (uint32_t i = 0; file->window && i < file->windows; i++) {
		void *p = load_relaxed(&file->window[i]);

		if (p)
			(void)munmap(p, MAP_WINDOW);
	}
	free(file->window);
	file->window = NULL;
}

void *map_window(struct map *m, struct map_file *file, uint32_t window) {
	int saved = errno;
	void *p;

	if (window >= file->windows)
		return NULL;
	(void)pthread_mutex_lock(&m->lock);
	p = load_relaxed(&file->window[window]);
	if (!p && file_is_ours(file)) {
		p = mmap(NULL, MAP_WINDOW, file->prot, MAP_SHARED, file->fd,
			(off_t)((uint64_t)window << MAP_WINDOW_SHIFT));
		if (p == MAP_FAILED) {
			p = NULL;
		} else {
			/* The core dump of a server needs no counts of other servers. */
			(void)madvise(p, MAP_WINDOW, MADV_DONTDUMP);
			store_release(&file->window[window], p); /* pairs with map_at() */
		}
	}
	(void)pthread_mutex_unlock(&m->lock);
	errno = saved;
	return p;
}

bool map_files_are_ours(struct map *m) {
	int saved = errno;
	bool ours;

	(void)pthread_mutex_lock(&m->lock);
	ours = file_is_ours(&m->segment) && file_is_ours(&m->directory);
	(void)pthread_mutex_unlock(&m->lock);
	errno = saved;
	return ours;
}

static int map_open(struct map *m, int directory_prot) {
	uint64_t segment_size = 0, directory_size = 0;
	struct directory_header names;
	ssize_t n;
	int r;

	r = file_init(&m->directory, m->directory.fd, directory_prot, &directory_size);
	if (r >= 0)
		r = file_init(&m->segment, m->segment.fd, PROT_READ | PROT_WRITE, &segment_size);
	if (r < 0)
		return r;

	n = pread(m->directory.fd, &names, sizeof(names), 0);
	if (n < 0)
		return -errno;
	if (n != sizeof(names) || names.magic != BERTH_DIRECTORY_MAGIC)
		return -EUCLEAN;
	if (names.version != BERTH_LAYOUT_VERSION || names.fingerprint != BERTH_FINGERPRINT)
		return -EPROTONOSUPPORT;
	/* All later bounds come from m->layout, not from the file, which could change. */
	if (!layout_init(&m->layout, names.max_accounts, names.max_slots, names.max_sessions) ||
		segment_size < m->layout.segment_size || directory_size < m->layout.directory_size)
		return -EUCLEAN;
	r = file_make_windows(&m->directory, m->layout.directory_size);
	if (r >= 0)
		r = file_make_windows(&m->segment, m->layout.segment_size);
	if (r < 0)
		return r;

	m->names = map_at(m, &m->directory, 0);
	m->header = map_at(m, &m->segment, 0);
	if (!m->names || !m->header)
		return -ENOMEM;
	/* The directory names the segment that belongs to it. The header of the segment decides
	 * nothing: it is for people who read the file, and any client may have written over it. */
	return m->segment.ino == m->names->segment_ino ? 0 : -EUCLEAN;
}

int map_new(int segment_fd, int directory_fd, int directory_prot, struct map **ret) {
	struct map *m = calloc(1, sizeof(*m));
	int r;

	if (!m) {
		close_cleanup(&segment_fd);
		close_cleanup(&directory_fd);
		return -ENOMEM;
	}
	(void)pthread_mutex_init(&m->lock, NULL);
	m->segment.fd = segment_fd;
	m->directory.fd = directory_fd;
	r = map_open(m, directory_prot);
	if (r < 0) {
		close_cleanup(&m->segment.fd);
		close_cleanup(&m->directory.fd);
		map_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void map_close_files(struct map *m) {
	(void)pthread_mutex_lock(&m->lock);
	file_close(&m->segment);
	file_close(&m->directory);
	(void)pthread_mutex_unlock(&m->lock);
}

void map_free(struct map *m) {
	if (!m)
		return;
	file_close(&m->segment);
	file_close(&m->directory);
	file_unmap(&m->segment);
	file_unmap(&m->directory);
	(void)pthread_mutex_destroy(&m->lock);
	free(m);
}
