/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The memory of a run. The two shared files (map.h) are mapped once for berthd and once for each
 * process, at adjacent addresses. The private memory of all parties is one arena. The files and the
 * arena are emptied before each run.
 */

#include "map.h"

/* The sizes are small, so that a run begins, and an audit ends, within microseconds. */
#define PROCESSES 3u
#define DAEMON    PROCESSES /* berthd's index, where processes have an index */
#define THREADS   3u
#define ACCOUNTS  15u
#define RANGES    7u /* the first one is never granted */
#define SESSIONS  8u

#define CELLS   (ACCOUNTS + 1)
#define RECORDS (RANGES * BERTH_RANGE)

/* The words of cells and records have numbers: those of cell a begin at 8 * a, those of record r at
 * RECORD_WORDS + 8 * r. */
#define RECORD_WORDS (CELLS * 8)
#define WORDS        (RECORD_WORDS + RECORDS * 8)
#define NO_WORD      UINT32_MAX

struct world {
	char *begin; /* the lowest address of all mappings */
	uint64_t length;
	struct layout layout;
	/* In berthd's mapping: */
	struct segment_header *header;
	struct directory_header *names;
	struct entry *entry;
	struct cell *cell;
	struct record *record;
};

extern struct world world;

/* Called once, before the first run. */
void world_make(void);

/* Before the first run, statics_keep() copies the static variables of the sources under test.
 * Before each run, statics_reset() restores them. */
void statics_keep(void);
void statics_reset(void);

/* Makes both files as they are when berthd has just made them, but with all parts published. */
void world_reset(void);

/* Returns a struct map for the mappings of a process or of berthd (DAEMON). The struct is allocated
 * in the arena. */
struct map *world_map(uint32_t process);

/* Allocates private memory, zeroed. Freed memory isn't used again in the same run. */
void *arena_take(size_t size);

static inline bool world_has(const volatile void *p) {
	return (uint64_t)((uintptr_t)p - (uintptr_t)world.begin) < world.length;
}

/* Returns the number of the word at that address; NO_WORD: the address isn't in a cell or
 * record. */
uint32_t world_word(const volatile void *p);
/* Returns the account whose entry has its `word` at that address; 0: none. */
uint32_t world_entry_word(const volatile void *p);
/* Returns the session whose state is at that address; SESSIONS: none. */
uint32_t world_session_state(const volatile void *p);
