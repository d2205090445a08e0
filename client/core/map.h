/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The two shared files in this process's memory, window by window.
 *
 * A window is 4 MiB of a file, mapped when first touched and kept until map_free. Threads may use
 * one map at once. Every accessor returns NULL for an index that isn't published, or for a window
 * that can't be had (map_account_error and map_record_error tell which), never a pointer outside the
 * file. errno stays as it is.
 */

#include <pthread.h>

#include "layout.h"
#include "util.h"

#define MAP_WINDOW_SHIFT 22
#define MAP_WINDOW       (UINT64_C(1) << MAP_WINDOW_SHIFT)

struct map_file {
	int fd;
	int prot;
	uint64_t dev, ino; /* so that a descriptor number that became somebody else's is noticed */
	uint32_t windows;
	_Atomic(void *) *window;
};

struct map {
	struct layout layout;
	struct map_file segment, directory;
	struct segment_header *header;
	const struct directory_header *names;
	struct session_entry *session; /* of this process; NULL: it has none (denials.h) */
	pthread_mutex_t lock; /* of window mapping against map_close_files; private memory */
};

/* Takes both descriptors whatever it returns. -EPROTONOSUPPORT: another layout; -EUCLEAN: damaged;
 * -ENOMEM, or what fstat and mmap say. directory_prot: PROT_READ, the daemon adds PROT_WRITE. */
int map_new(int segment_fd, int directory_fd, int directory_prot, struct map **ret);
void map_free(struct map *m); /* NULL is fine; unmaps, and closes what is still its own */

/* Closes the files, if they are still this map's. Mapped windows stay, further ones are -EBADF. */
void map_close_files(struct map *m);

/* False once the application has closed them (closefrom), or the map has. */
bool map_files_are_ours(struct map *m);

/* The window's address, mapping it if need be; NULL where that fails. */
void *map_window(struct map *m, struct map_file *file, uint32_t window);

static inline void *map_at(struct map *m, struct map_file *file, uint64_t offset) {
	uint32_t window = (uint32_t)(offset >> MAP_WINDOW_SHIFT);
	char *base = load_acquire(&file->window[window]);

	if (unlikely(!base)) {
		base = map_window(m, file, window);
		if (!base)
			return NULL;
	}
	return base + (offset & (MAP_WINDOW - 1));
}

/* The published sizes never shrink, and the capacities bound them: the daemon alone writes them,
 * but a directory file could be damaged. */
static inline bool map_has_account(const struct map *m, uint32_t account) {
	return account != 0 && account < load_acquire(&m->names->accounts) &&
	       account < m->layout.accounts_end;
}
static inline bool map_has_record(const struct map *m, uint32_t record) {
	return record != 0 && record < load_acquire(&m->names->slots) &&
	       record < m->layout.records_end;
}

/* Why an accessor returned NULL: the index is noise, or there is no memory (or file) for it. */
static inline int map_account_error(const struct map *m, uint32_t account) {
	return map_has_account(m, account) ? -ENOMEM : -EUCLEAN;
}
static inline int map_record_error(const struct map *m, uint32_t record) {
	return map_has_record(m, record) ? -ENOMEM : -EUCLEAN;
}

/* What an account has, for an index of which map_has_account() was true. */
static inline struct cell *map_cell_at(struct map *m, uint32_t account) {
	return map_at(m, &m->segment, m->layout.cells + (uint64_t)account * sizeof(struct cell));
}
static inline struct entry *map_entry_at(struct map *m, uint32_t account) {
	return map_at(
		m, &m->directory, m->layout.entries + (uint64_t)account * sizeof(struct entry));
}
/* The summary byte of an account's group of cells. */
static inline _Atomic uint8_t *map_dirty_at(struct map *m, uint32_t account) {
	return map_at(m, &m->segment, m->layout.dirty + account / BERTH_DIRTY_GROUP);
}

static inline struct cell *map_cell(struct map *m, uint32_t account) {
	return likely(map_has_account(m, account)) ? map_cell_at(m, account) : NULL;
}
static inline struct entry *map_entry(struct map *m, uint32_t account) {
	return likely(map_has_account(m, account)) ? map_entry_at(m, account) : NULL;
}
static inline _Atomic uint8_t *map_dirty(struct map *m, uint32_t account) {
	return likely(map_has_account(m, account)) ? map_dirty_at(m, account) : NULL;
}

static inline struct record *map_record(struct map *m, uint32_t record) {
	if (unlikely(!map_has_record(m, record)))
		return NULL;
	return map_at(m, &m->segment, m->layout.records + (uint64_t)record * sizeof(struct record));
}

static inline struct session_entry *map_session(struct map *m, uint32_t session) {
	if (unlikely(session >= load_acquire(&m->names->sessions) ||
		     session >= m->layout.max_sessions))
		return NULL;
	return map_at(m, &m->segment,
		m->layout.sessions + (uint64_t)session * sizeof(struct session_entry));
}

/* The owner of a range of records: session + 1, or 0. */
static inline _Atomic uint32_t *map_owner(struct map *m, uint32_t range) {
	if (unlikely(range >= load_acquire(&m->names->slots) / BERTH_RANGE ||
		     range >= m->layout.records_end / BERTH_RANGE))
		return NULL;
	return map_at(m, &m->segment, m->layout.owners + (uint64_t)range * sizeof(uint32_t));
}
