/* SPDX-License-Identifier: MIT */

/* Makes a session from berthd's reply to HELLO, and frees it. Tells whether descriptors are still
 * the library's. */

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "path-cache.h"
#include "session.h"

struct session session_none = {.number = UINT64_MAX};

void session_free(struct session *s) {
	struct cache *c, *next;

	if (!s)
		return;
	for (c = load_relaxed(&s->caches); c; c = next) {
		next = c->next;
		cache_free(c);
	}
	pool_free(s->pool);
	map_free(s->map);
	free(s);
}

int session_new(uint64_t number, const struct message_welcome *w, int fds[MESSAGE_FDS_MAX],
	struct session **ret) {
	const uint32_t open[2] = {SESSION_OPEN, w->serial};
	struct session *s = calloc(1, sizeof(*s));
	uint64_t word;
	int r;

	if (!s)
		return -ENOMEM;
	s->index = w->session;
	s->serial = w->serial;
	s->number = number;
	s->slot_bits = number << SLOT_SESSION_SHIFT;
	memcpy(&word, open, sizeof(word));
	store_relaxed(&s->open, word);

	r = map_new(fds[1], fds[0], PROT_READ, &s->map);
	fds[0] = fds[1] = -1;
	if (r < 0)
		goto fail;
	s->entry = map_session(s->map, w->session);
	s->map->session = s->entry;
	r = s->entry ? pool_new(s->map, s->slot_bits, &s->pool) : -EUCLEAN;
	if (r < 0)
		goto fail;
	for (uint32_t i = 0; i < w->range_count; i++) {
		r = pool_add_range(s->pool, w->range[i]);
		if (r < 0) {
			r = r == -ENOMEM ? r : -EUCLEAN;
			goto fail;
		}
	}
	*ret = s;
	return 0;
fail:
	session_free(s);
	return r;
}

/* -- descriptors ------------------------------------------------------------------------------- */

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

void map_file_renew(struct map *m, struct map_file *file, int *fd) {
	bool is_ours;

	(void)pthread_mutex_lock(&m->lock);
	/* If the new descriptor has the old descriptor's number, the application has closed the old
	 * descriptor, even though the number refers to the same file. */
	is_ours = file->fd != *fd && is_file(file->fd, file->dev, file->ino);
	if (!is_ours && is_file(*fd, file->dev, file->ino)) {
		file->fd = *fd;
		*fd = -1;
	}
	(void)pthread_mutex_unlock(&m->lock);
}
