/* SPDX-License-Identifier: MIT */

/*
 * Keeps the handles of the process, and the sessions of each handle. In a forked child, makes the
 * handles the child's own.
 */

#include <string.h>

#include "handle.h"

/* A handle's `next` is written before the handle is linked. So another thread may fork at any
 * instant, and the child finds the whole list. A thread locks a handle before it locks the list. */
static struct berth *handles;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;

/* -- sessions ---------------------------------------------------------------------------------- */

uint64_t handle_next_session_number(const struct berth *b) {
	static _Atomic uint64_t numbers;
	const struct session *current = load_relaxed(&b->current);
	uint64_t number, slot;

	do {
		number = add_relaxed(&numbers, 1) + 1;
		slot = number << SLOT_SESSION_SHIFT;
	} while (slot == 0 || (current && session_gave_slot(current, slot)) ||
		 handle_find_retired(b, slot));
	return number;
}

/* The old session is retired before another session becomes current. So a thread that looks for the
 * session of a slot, first in `current` and then in the list of retired sessions, always finds
 * it. */
void handle_publish(struct berth *b, struct session *s) {
	struct session *old = load_relaxed(&b->current);

	s->handle = b;
	handles_claim_files(s->map);
	if (old) {
		map_close_files(old->map);
		old->older = load_relaxed(&b->retired);
		store_release(&b->retired, old); /* pairs with handle_find_retired() */
	}
	/* Pair with the loads in acquire.c and acquire-general.c. */
	store_release(&b->current, s);
	store_release(&b->fast, s);
}

struct session *handle_find_retired(const struct berth *b, uint64_t slot) {
	struct session *s = load_acquire(&b->retired);

	while (s && !session_gave_slot(s, slot))
		s = s->older;
	return s;
}

/* Drops all sessions of the handle, which no other thread uses. */
static void sessions_drop(struct berth *b, void (*drop)(struct session *)) {
	struct session *s = load_relaxed(&b->retired), *older;

	/* In a forked child, `current` and `retired` may be the same session, if another thread of
	 * the parent was in handle_publish() at the fork. */
	if (load_relaxed(&b->current) != s)
		drop(load_relaxed(&b->current));
	store_relaxed(&b->fast, &session_none);
	store_relaxed(&b->current, NULL);
	store_relaxed(&b->retired, NULL);
	for (; s; s = older) {
		older = s->older;
		drop(s);
	}
}

/* -- the list of handles ----------------------------------------------------------------------- */

void handles_lock(void) {
	(void)pthread_mutex_lock(&list_lock);
}

void handles_unlock(void) {
	(void)pthread_mutex_unlock(&list_lock);
}

void handles_each_session(void (*call)(struct session *s, void *data), void *data) {
	handles_lock();
	for (struct berth *b = handles; b; b = b->next) {
		struct session *current = load_acquire(&b->current);

		if (current)
			call(current, data);
		for (struct session *s = load_acquire(&b->retired); s; s = s->older)
			if (s != current)
				call(s, data);
	}
	handles_unlock();
}

void handles_claim_files(const struct map *m) {
	handles_lock();
	for (struct berth *b = handles; b; b = b->next) {
		struct session *s = load_acquire(&b->current);

		if (!s || s->map == m)
			continue;
		(void)pthread_mutex_lock(&s->map->lock);
		if (s->map->segment.fd == m->segment.fd)
			s->map->segment.fd = -1;
		if (s->map->directory.fd == m->directory.fd)
			s->map->directory.fd = -1;
		(void)pthread_mutex_unlock(&s->map->lock);
	}
	handles_unlock();
}

int handle_new(const char *runtime_dir, int timeout_ms, struct berth **ret) {
	struct berth *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->runtime_dir = strdup(runtime_dir);
	if (!b->runtime_dir) {
		free(b);
		return -ENOMEM;
	}
	store_relaxed(&b->fast, &session_none);
	b->timeout_ms = timeout_ms;
	b->socket.fd = -1;
	(void)pthread_mutex_init(&b->lock, NULL);
	handles_lock();
	b->next = handles;
	handles = b;
	handles_unlock();
	*ret = b;
	return 0;
}

void handle_unlink(const struct berth *b) {
	struct berth **at = &handles;

	handles_lock();
	while (*at && *at != b)
		at = &(*at)->next;
	if (*at)
		*at = b->next;
	handles_unlock();
}

void handle_free(struct berth *b) {
	descriptor_close(&b->socket);
	sessions_drop(b, session_free);
	(void)pthread_mutex_destroy(&b->lock);
	free(b->runtime_dir);
	free(b);
}

/* -- forked children --------------------------------------------------------------------------- */

/* Frees the child's copy of a session of its parent. The copy of the map may be locked: at the
 * fork, another thread of the parent may have had the lock. */
static void session_drop(struct session *s) {
	if (s)
		(void)pthread_mutex_init(&s->map->lock, NULL);
	session_free(s);
}

void handles_repair(void) {
	int error = errno, cancel_state;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	(void)pthread_mutex_init(&list_lock, NULL);
	for (struct berth *b = handles; b; b = b->next) {
		(void)pthread_mutex_init(&b->lock, NULL);
		descriptor_close(&b->socket);
		sessions_drop(b, session_drop);
	}
	(void)pthread_setcancelstate(cancel_state, NULL);
	errno = error;
}
