/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The two shared files, mapped once for the daemon and once for each process, all within one stretch of
 * address space; and the private memory of everybody. Both are emptied before each run.
 */

#include "map.h"

/* How much there is of everything: little, so that a run begins, and is audited, within microseconds. */
#define PROCESSES 3u
#define DAEMON    PROCESSES
#define THREADS   3u
#define ACCOUNTS  15u
#define RANGES    7u /* the first isn't granted */
#define SESSIONS  8u

#define CELLS   (ACCOUNTS + 1)
#define RECORDS (RANGES * BERTH_RANGE)

/* The words of cells and records, numbered; a cell and a record are eight words each. */
#define RECORD_WORDS (CELLS * 8)
#define WORDS        (RECORD_WORDS + RECORDS * 8)
#define NO_WORD      UINT32_MAX

struct world {
	char *begin;     /* of the mappings */
	uint64_t length; /* of all of them */
	struct layout layout;
	/* As the daemon has them mapped. */
	struct segment_header *header;
	struct directory_header *names;
	struct entry *entry;
	struct cell *cell;
	struct record *record;
};

extern struct world world;

/* Once, before the first run. */
void world_make(void);

/* What the sources under test keep in static variables is as it was when the program began. */
void statics_keep(void);
void statics_reset(void);

/* Everything is as in a new segment whose parts are all published. */
void world_reset(void);

/* The two files as a process, or the daemon, has them mapped; from private memory. */
struct map *world_map(uint32_t process);

/* Private memory, zeroed; what is freed isn't used again in the same run. */
void *arena_take(size_t size);

static inline bool world_has(const volatile void *p) {
	return (uint64_t)((uintptr_t)p - (uintptr_t)world.begin) < world.length;
}

/* The number of the word of a cell or record that stands there; NO_WORD: another thing does. */
uint32_t world_word(const volatile void *p);
/* The account whose entry's word stands there; 0: another thing does. */
uint32_t world_entry_word(const volatile void *p);
/* The session whose state stands there; SESSIONS: another thing does. */
uint32_t world_session_state(const volatile void *p);
