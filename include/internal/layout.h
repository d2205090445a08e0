/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The two files that daemon and library share, byte by byte.
 *
 * segment (clients map it read-write):   header | sessions | owners | dirty | cells | records
 * directory (clients map it read-only):  header | entries | tables | names
 *
 * Each part stands at a fixed offset that follows from the three capacities in the directory's
 * header. Both files have their full length from the start and are sparse; the daemon allocates a
 * stretch of every part and only then publishes, in the directory's header, how far each reaches
 * (`accounts`, `slots`, `sessions`). Nobody touches what is not published, so nobody meets a hole.
 *
 * What a client must be able to believe (capacities, published sizes, names, limits) is in the
 * directory, which it can't write. Everything in the segment may have been scribbled on by a peer:
 * it is bounds-checked at each use.
 */

#include <stddef.h>

#include "shared.h"

#define BERTH_LAYOUT_VERSION 3

/* A narrower sequence is for tests, which want it to wrap all the time. */
#ifndef BERTH_SEQ_BITS
#define BERTH_SEQ_BITS 22
#endif

_Static_assert(BERTH_SEQ_BITS >= 7 && BERTH_SEQ_BITS <= 22, "a path of 8 levels needs 128");

#define BERTH_LEVELS_MAX   8
#define BERTH_COUNT_MAX    1048575u
#define BERTH_WEIGHT_MAX   4095u
#define BERTH_LIMIT_NONE   0xFFFFFFu /* unlimited, as an entry's word says it */
#define BERTH_ACCOUNTS_MAX 16777215u
#define BERTH_SLOTS_MAX    4194288u
#define BERTH_SESSIONS_MAX 65536u
#define BERTH_RANGE        16u /* records are owned in ranges of so many */
#define BERTH_DIRTY_GROUP  64u /* cells that share one byte of the dirty summary */
#define BERTH_LABEL_SIZE   40
#define BERTH_NAME_MAX     255
#define BERTH_NAME_INLINE  32 /* longer names live in the names part, in blocks of 256 bytes */

/* -- the cell: one account's count, and who changed it last ------------------------------------ */

#define BERTH_SEQ_MASK ((UINT32_C(1) << BERTH_SEQ_BITS) - 1)

/* word: count:20 | record:22 | seq:22. Changed by counter.c alone. */
struct cell {
	_Atomic uint64_t word;
	_Atomic uint64_t denied; /* at this level, since the account was made; more in denials.h */
	_Atomic uint32_t peak;   /* highest count seen */
	_Atomic uint32_t waiting;
	_Atomic uint64_t reserved[5];
};

_Static_assert(sizeof(struct cell) == 64, "a cell is one cache line");

static inline uint64_t cell_pack(uint32_t count, uint32_t record, uint32_t seq) {
	return (uint64_t)count << 44 | (uint64_t)record << 22 | seq;
}
static inline uint32_t cell_count(uint64_t word) {
	return (uint32_t)(word >> 44);
}
static inline uint32_t cell_record(uint64_t word) {
	return word >> 22 & 0x3FFFFF;
}
static inline uint32_t cell_seq(uint64_t word) {
	return word & BERTH_SEQ_MASK;
}
/* Record and seq. */
static inline uint64_t cell_tag(uint64_t word) {
	return word & UINT64_C(0xFFFFFFFFFFF);
}

/* -- the record: one slot ---------------------------------------------------------------------- */

/* CLOSED is 0, so that a page never written is a page of records that nobody may use. */
enum record_state {
	RECORD_CLOSED, /* belongs to no living session */
	RECORD_FREE,   /* its session may place it on a path */
	RECORD_PLACED, /* its session takes slots of this account with it, and gives them back */
	RECORD_SEIZED, /* the daemon takes back what it has charged */
};

/* word: state:3 | top:3 | weight:12 | account:24 | seq:22. Top is the highest level of the account's
 * path: level 0 is the account itself, level k its k-th ancestor. Changed by counter.c alone. */
struct record {
	_Atomic uint64_t word;
	_Atomic uint64_t since; /* ms since 1970, when it was taken */
	_Atomic uint64_t label[BERTH_LABEL_SIZE / 8];
	_Atomic uint64_t reserved;
};

_Static_assert(sizeof(struct record) == 64, "a record is one cache line");

static inline uint64_t record_pack(
	enum record_state state, uint32_t top, uint32_t weight, uint32_t account, uint32_t seq) {
	return (uint64_t)state << 61 | (uint64_t)top << 58 | (uint64_t)weight << 46 |
	       (uint64_t)account << 22 | seq;
}
static inline enum record_state record_state(uint64_t w) {
	return (enum record_state)(w >> 61);
}
static inline uint32_t record_top(uint64_t w) {
	return w >> 58 & 7;
}
static inline uint32_t record_weight(uint64_t w) {
	return w >> 46 & 0xFFF;
}
static inline uint32_t record_account(uint64_t w) {
	return w >> 22 & 0xFFFFFF;
}
static inline uint32_t record_seq(uint64_t w) {
	return w & BERTH_SEQ_MASK;
}
/* All but the seq. */
static inline uint64_t record_place(uint64_t w) {
	return w & ~UINT64_C(0x3FFFFF);
}

/* A placed record goes round its path in cycles of so many steps, each a change of one cell: up,
 * charging levels 0 … top, and down again. A power of two, so that the seq tells the step. */
static inline uint32_t record_cycle(uint64_t w) {
	uint32_t top = record_top(w);

	return 2u << (top > 0) << (top > 1) << (top > 3);
}
/* The last step that was made: 0 none yet, top + 1 the highest level charged, that is a slot held. */
static inline uint32_t record_step(uint64_t w) {
	return record_seq(w) & (record_cycle(w) - 1);
}
/* How many levels, from 0 up, are charged after that. */
static inline uint32_t record_charged(uint64_t w) {
	uint32_t depth = record_top(w) + 1, step = record_step(w);

	return step <= depth ? step : step < 2 * depth ? 2 * depth - step : 0;
}
static inline bool record_is_held(uint64_t w) {
	return record_state(w) == RECORD_PLACED && record_step(w) == record_top(w) + 1;
}

/* -- sessions ---------------------------------------------------------------------------------- */

enum session_state {
	SESSION_NONE,
	SESSION_OPEN,
	SESSION_ENDING, /* every record is being closed; owners acquire nothing any more */
	SESSION_ENDED,  /* all closed, but the process lives: its ranges are nobody else's yet */
};

#define BERTH_DENIALS 4

/* Written by the daemon alone, but for `denials`; owners read state and serial before they acquire. */
struct session_entry {
	_Atomic uint32_t state;
	_Atomic uint32_t serial; /* differs for every session that the segment has seen */
	_Atomic uint32_t pid;
	_Atomic uint32_t uid;
	_Atomic uint64_t start_time; /* of the process, in clock ticks since boot; 0 unknown */
	_Atomic uint64_t image;      /* hash of AT_RANDOM: tells one exec image from the next */
	_Atomic uint64_t comm[2];
	_Atomic uint64_t opened; /* ms since 1970 */
	_Atomic uint64_t reserved0;
	/* account:24 | count:40. The owner's; the place is the session's, whichever it is. */
	_Atomic uint64_t denials[BERTH_DENIALS];
	_Atomic uint64_t reserved1[4];
};

_Static_assert(sizeof(struct session_entry) == 128, "a session entry is two cache lines");
_Static_assert(offsetof(struct session_entry, denials) == 64, "denials have a line of their own");

/* -- the segment ------------------------------------------------------------------------------- */

struct segment_header {
	uint64_t magic;
	uint32_t version;
	uint32_t reserved0;
	uint64_t fingerprint;
	uint8_t boot_id[16];
	uint64_t reserved1[3];
	_Alignas(64) _Atomic uint32_t armed; /* the daemon wants to be woken (wake.h) */
	_Atomic uint32_t wakes;
	_Alignas(64) _Atomic uint32_t daemon_seq; /* the next tag of the daemon's own changes */
	_Atomic uint32_t next_serial;
	uint8_t reserved2[4096 - 136];
};

_Static_assert(sizeof(struct segment_header) == 4096, "the segment's header is one page");

#define BERTH_SEGMENT_MAGIC   UINT64_C(0x31746e656d676573) /* "segment1" */
#define BERTH_DIRECTORY_MAGIC UINT64_C(0x3179726f74636572) /* "rectory1" */

/* -- the directory ----------------------------------------------------------------------------- */

enum entry_flag {
	ENTRY_LIVE = 1 << 0,   /* the entry bears a name */
	ENTRY_USABLE = 1 << 1, /* slots of it may be acquired (a limit or a template covers it) */
	ENTRY_CONFIGURED = 1 << 2, /* an administrator gave it its limit */
	ENTRY_TEMPLATE = 1 << 3,   /* a template gave it its limit */
};

/* word: limit:24 | flags:8 | generation:32. Written by the daemon alone. The generation changes
 * whenever the entry begins or ceases to be what the name says. */
struct entry {
	_Atomic uint64_t word;
	_Atomic uint64_t hash;
	_Atomic uint32_t parent; /* 0: none */
	_Atomic uint32_t block;  /* of a long name: block + 1 in the names part, else 0 */
	_Atomic uint32_t shape;  /* length of the name | depth << 8 (1: no ancestor) */
	_Atomic uint32_t reserved;
	_Atomic uint64_t name[BERTH_NAME_INLINE / 8]; /* padded with zeros */
};

_Static_assert(sizeof(struct entry) == 64, "an entry is one cache line");

static inline uint64_t entry_pack(uint32_t limit, uint32_t flags, uint32_t generation) {
	return (uint64_t)limit << 40 | (uint64_t)flags << 32 | generation;
}
static inline uint32_t entry_limit(uint64_t word) {
	return (uint32_t)(word >> 40);
}
static inline uint32_t entry_flags(uint64_t word) {
	return word >> 32 & 0xFF;
}
static inline uint32_t entry_generation(uint64_t word) {
	return (uint32_t)word;
}
static inline bool entry_is_usable(uint64_t word) {
	return (~entry_flags(word) & (ENTRY_LIVE | ENTRY_USABLE)) == 0;
}
static inline uint32_t shape_pack(uint32_t length, uint32_t depth) {
	return length | depth << 8;
}
static inline uint32_t shape_length(uint32_t shape) {
	return shape & 0xFF;
}
static inline uint32_t shape_depth(uint32_t shape) {
	return shape >> 8 & 0xFF;
}

/* A table slot: tag:8 | account:24; 0 is empty. The table of 2^k slots stands at 2^k * 4 bytes into
 * the tables part, so that a larger one is built beside the one in use. */
#define BERTH_TABLE_BITS_MIN 10
#define BERTH_TABLE_BITS_MAX 25

struct directory_header {
	uint64_t magic;
	uint32_t version;
	uint32_t reserved0;
	uint64_t fingerprint;
	uint8_t boot_id[16];
	uint64_t segment_ino; /* the segment that belongs to this directory */
	uint64_t reserved1;
	uint64_t hash_seed;
	uint32_t max_accounts;
	uint32_t max_slots;
	uint32_t max_sessions;
	_Atomic uint32_t accounts; /* cells and entries 0 … accounts-1 may be touched */
	_Atomic uint32_t slots;    /* records and owners, likewise */
	_Atomic uint32_t sessions;
	_Atomic uint32_t table_bits;
	_Atomic uint32_t blocks;   /* of long names */
	_Atomic uint32_t restored; /* 1: cells have the peaks and denials from before the boot */
	uint8_t reserved2[4096 - 100];
};

_Static_assert(sizeof(struct directory_header) == 4096, "the directory's header is one page");

/* Differs whenever a field above moves or changes its meaning; BERTH_LAYOUT_VERSION is raised by
 * hand for what sizes don't show. */
#define BERTH_FINGERPRINT                                                                    \
	((uint64_t)BERTH_LAYOUT_VERSION << 48 | (uint64_t)BERTH_SEQ_BITS << 40 |             \
		(uint64_t)sizeof(struct cell) << 32 | (uint64_t)sizeof(struct entry) << 24 | \
		(uint64_t)sizeof(struct record) << 16 |                                      \
		(uint64_t)sizeof(struct session_entry) << 8 | BERTH_RANGE)

/* Where each part begins, and how long the files are. */
struct layout {
	uint32_t max_accounts, max_slots, max_sessions;
	uint32_t accounts_end, records_end; /* indices stay below; index 0 is nobody's */
	uint64_t sessions, owners, dirty, cells, records, segment_size;
	uint64_t entries, tables, names, directory_size;
};

/* False if a capacity is 0 or above its maximum. */
bool layout_init(struct layout *l, uint32_t accounts, uint32_t slots, uint32_t sessions);
