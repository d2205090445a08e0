/* SPDX-License-Identifier: MIT */

/* Makes a session from berthd's welcome, and frees it. */

#include <string.h>
#include <sys/mman.h>

#include "path-cache.h"
#include "pool.h"
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

/* Maps the files and adds the records that berthd granted. Takes the descriptors. */
static int session_fill(
	struct session *s, const struct message_welcome *w, int directory, int segment) {
	int r = map_new(segment, directory, PROT_READ, &s->map);

	if (r < 0)
		return r;
	s->entry = map_session(s->map, w->session);
	if (!s->entry)
		return -EUCLEAN;
	s->map->session = s->entry;
	r = pool_new(s->map, s->slot_bits, &s->pool);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < w->range_count; i++) {
		r = pool_add_range(s->pool, w->range[i]);
		if (r < 0)
			return r == -ENOMEM ? r : -EUCLEAN;
	}
	return 0;
}

int session_new(uint64_t number, const struct message_welcome *w, int fds[MESSAGE_FDS_MAX],
	struct session **ret) {
	const uint32_t open[2] = {SESSION_OPEN, w->serial};
	struct session *s = calloc(1, sizeof(*s));
	uint64_t word;
	int r;

	if (!s) {
		close_cleanup(&fds[0]);
		close_cleanup(&fds[1]);
		return -ENOMEM;
	}
	s->index = w->session;
	s->serial = w->serial;
	s->number = number;
	s->slot_bits = number << SLOT_SESSION_SHIFT;
	memcpy(&word, open, sizeof(word));
	store_relaxed(&s->open, word);
	r = session_fill(s, w, fds[0], fds[1]);
	fds[0] = fds[1] = -1;
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}
