/* SPDX-License-Identifier: MIT */

/* Makes the two files and maps them. Empties them and the arena before a run, but only the few
 * pages that are in use. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "world.h"

#define MAPS       (PROCESSES + 1)
#define PAGE       4096u
#define ARENA_SIZE (256u << 20)

struct world world;
static char *arena;
static size_t arena_used;

static void *must_map(void *p) {
	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

static char *file_at(uint32_t process, bool directory) {
	return world.begin + (2 * (uint64_t)process + directory) * MAP_WINDOW;
}

void world_make(void) {
	if (!layout_init(&world.layout, ACCOUNTS, RECORDS - BERTH_RANGE, SESSIONS))
		abort();
	world.length = MAPS * 2 * MAP_WINDOW;
	world.begin = must_map(mmap(
		NULL, world.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	for (int directory = 0; directory < 2; directory++) {
		int fd = memfd_create("explore", MFD_CLOEXEC);

		if (fd < 0 || ftruncate(fd, MAP_WINDOW) < 0) {
			perror("memfd_create");
			exit(2);
		}
		/* A file is one window long. Only berthd can write the directory. */
		for (uint32_t p = 0; p < MAPS; p++)
			must_map(mmap(file_at(p, directory), MAP_WINDOW,
				directory && p != DAEMON ? PROT_READ : PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_FIXED, fd, 0));
		(void)close(fd);
	}
	world.header = (void *)file_at(DAEMON, false);
	world.cell = (void *)(file_at(DAEMON, false) + world.layout.cells);
	world.record = (void *)(file_at(DAEMON, false) + world.layout.records);
	world.names = (void *)file_at(DAEMON, true);
	world.entry = (void *)(file_at(DAEMON, true) + world.layout.entries);
	arena = must_map(mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

/* The table of names is the smallest possible one. */
void world_reset(void) {
	memset(file_at(DAEMON, false), 0, world.layout.segment_size);
	memset(file_at(DAEMON, true), 0, world.layout.tables + (8u << BERTH_TABLE_BITS_MIN));
	world.names->max_accounts = ACCOUNTS;
	world.names->max_slots = RECORDS - BERTH_RANGE;
	world.names->max_sessions = SESSIONS;
	world.names->hash_seed = 1;
	world.names->accounts = CELLS;
	world.names->slots = RECORDS;
	world.names->sessions = SESSIONS;
	world.header->next_serial = 1;
	memset(arena, 0, arena_used);
	arena_used = 0;
}

void *arena_take(size_t size) {
	void *p = arena + arena_used;

	arena_used += ROUND_UP(size, 128);
	if (arena_used > ARENA_SIZE) {
		(void)fprintf(stderr, "explore: a run allocates too much memory\n");
		exit(2);
	}
	return p;
}

/* The linker defines these symbols: the ends of the sections into which campaigns.mk puts the
 * static variables of the sources under test. */
extern char __start_explored_data[], __stop_explored_data[];
extern char __start_explored_bss[], __stop_explored_bss[];
static char *statics_kept;

void statics_keep(void) {
	size_t length = (size_t)(__stop_explored_data - __start_explored_data);

	statics_kept = malloc(length);
	if (!statics_kept)
		abort();
	memcpy(statics_kept, __start_explored_data, length);
}

void statics_reset(void) {
	memcpy(__start_explored_data, statics_kept,
		(size_t)(__stop_explored_data - __start_explored_data));
	memset(__start_explored_bss, 0, (size_t)(__stop_explored_bss - __start_explored_bss));
}

static void window_set(struct map_file *file, char *base) {
	file->fd = -1;
	file->windows = 1;
	file->window = arena_take(sizeof(*file->window));
	store_release(&file->window[0], base);
}

struct map *world_map(uint32_t process) {
	struct map *m = arena_take(sizeof(*m));

	m->layout = world.layout;
	window_set(&m->segment, file_at(process, false));
	window_set(&m->directory, file_at(process, true));
	m->header = (void *)file_at(process, false);
	m->names = (void *)file_at(process, true);
	return m;
}

static uint64_t offset_of(const volatile void *p) {
	return (uint64_t)((uintptr_t)p - (uintptr_t)world.begin) % (2 * MAP_WINDOW);
}

uint32_t world_word(const volatile void *p) {
	uint64_t offset = offset_of(p);

	if (offset - world.layout.cells < sizeof(struct cell) * CELLS)
		return (uint32_t)(offset - world.layout.cells) / 8;
	if (offset - world.layout.records < sizeof(struct record) * RECORDS)
		return RECORD_WORDS + (uint32_t)(offset - world.layout.records) / 8;
	return NO_WORD;
}

uint32_t world_entry_word(const volatile void *p) {
	uint64_t offset = offset_of(p) - MAP_WINDOW - world.layout.entries;

	return offset < sizeof(struct entry) * CELLS && offset % sizeof(struct entry) == 0
		       ? (uint32_t)(offset / sizeof(struct entry))
		       : 0;
}

uint32_t world_session_state(const volatile void *p) {
	uint64_t offset = offset_of(p) - world.layout.sessions;
	uint64_t size = sizeof(struct session_entry);

	return offset < size * SESSIONS && offset % size == offsetof(struct session_entry, state)
		       ? (uint32_t)(offset / size)
		       : SESSIONS;
}
