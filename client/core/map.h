/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Maps the two shared files into this process's memory, window by window.
 *
 * A window is 4 MiB of a file. It is mapped when it is first used, and stays mapped until
 * map_free(). Any thread may use a map at any time, but may free the map only if no other thread
 * uses it. An accessor, such as map_cell(), returns NULL if the index isn't published, or if the
 * window can't be mapped; map_account_error() and map_record_error() tell the two apart. An
 * accessor never returns a pointer outside the file, and it leaves errno unchanged.
 */

#include <pthread.h>

#include "layout.h"
#include "util.h"

#define MAP_WINDOW_SHIFT 22
#define MAP_WINDOW       (UINT64_C(1) << MAP_WINDOW_SHIFT)

struct map_file {
	int fd;
	int prot;
	uint64_t dev, ino; /* of the file; they reveal that the application has reused `fd` */
	uint32_t windows;
	_Atomic(void *) *window; /* address of each window; NULL: not mapped yet */
};

struct map {
	struct layout layout;
	struct map_file segment, directory;
	struct segment_header *header;
	const struct directory_header *names;
	struct session_entry *session; /* of this process's session (denials.h); NULL: none */
	pthread_mutex_t lock;          /* serialises mapping a window and map_close_files() */
};

/* Maps the headers of both files. Takes ownership of both descriptors, even if it fails.
 * directory_prot: PROT_READ; for the daemon, PROT_READ | PROT_WRITE. -EPROTONOSUPPORT: another
 * version of the layout; -EUCLEAN: a file is damaged, or the two don't belong together; -ENOMEM; or
 * an error of fstat() or pread(). */
int map_new(int segment_fd, int directory_fd, int directory_prot, struct map **ret);

/* Unmaps all windows, closes the files as map_close_files() does, and frees the map. NULL is
 * allowed. */
void map_free(struct map *m);

/* Closes both files, unless the application has reused their descriptor numbers. Mapped windows
 * stay mapped; no further window can be mapped. */
void map_close_files(struct map *m);

/* False once the application (by closefrom(), for instance) or map_close_files() has closed a
 * file. */
bool map_files_are_ours(struct map *m);

/* The address of a window, which is mapped if it isn't yet. NULL: it can't be mapped. */
void *map_window(struct map *m, struct map_file *file, uint32_t window);

static inline void *map_at(struct map *m, struct map_file *file, uint64_t offset) {
	uint32_t window = (uint32_t)(offset >> MAP_WINDOW_SHIFT);
	char *base = load_acquire(&file->window[window]); /* pairs with map_window() */

	if (unlikely(!base)) {
		base = map_window(m, file, window);
		if (!base)
			return NULL;
	}
	return base + (offset & (MAP_WINDOW - 1));
}

/* Whether the account or the record is published. The published sizes never shrink. The index must
 * be within the capacity, too: only the daemon writes the sizes, but the file may be damaged. The
 * loads pair with the daemon's publishing stores in daemon/shared/segment.c. */
static inline bool map_has_account(const struct map *m, uint32_t account) {
	return account != 0 && account < load_acquire(&m->names->accounts) &&
	       account < m->layout.accounts_end;
}
static inline bool map_has_record(const struct map *m, uint32_t record) {
	return record != 0 && record < load_acquire(&m->names->slots) &&
	       record < m->layout.records_end;
}

/* The error after an accessor returned NULL. -EUCLEAN: the index isn't published, so it is noise;
 * -ENOMEM: the window can't be mapped. */
static inline int map_account_error(const struct map *m, uint32_t account) {
	return map_has_account(m, account) ? -ENOMEM : -EUCLEAN;
}
static inline int map_record_error(const struct map *m, uint32_t record) {
	return map_has_record(m, record) ? -ENOMEM : -EUCLEAN;
}

/* An account's cell, entry and dirty byte. The caller has checked map_has_account(). */
static inline struct cell *map_cell_at(struct map *m, uint32_t account) {
	return map_at(m, &m->segment, m->layout.cells + (uint64_t)account * sizeof(struct cell));
}
static inline struct entry *map_entry_at(struct map *m, uint32_t account) {
	return map_at(
		m, &m->directory, m->layout.entries + (uint64_t)account * sizeof(struct entry));
}
/* The byte that marks the account's group of cells as dirty (wake.h). */
static inline _Atomic uint8_t *map_dirty_at(struct map *m, uint32_t account) {
	return map_at(m, &m->segment, m->layout.dirty + account / BERTH_DIRTY_GROUP);
}

/* The same without that condition: any index is allowed. NULL: the account isn't published, or the
 * window can't be mapped. */
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

/* The owner of a range of records: the session's index + 1; 0: no owner. */
static inline _Atomic uint32_t *map_owner(struct map *m, uint32_t range) {
	if (unlikely(range >= load_acquire(&m->names->slots) / BERTH_RANGE ||
		     range >= m->layout.records_end / BERTH_RANGE))
		return NULL;
	return map_at(m, &m->segment, m->layout.owners + (uint64_t)range * sizeof(uint32_t));
}
