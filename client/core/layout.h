/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The two files that daemon and library share, byte by byte.
 *
 * segment (clients map it read-write):   header | sessions | owners | dirty | cells | records |
 *                                        waits | calls | refusals
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

#include "atomic.h"
#include "bounds.h"

#define BERTH_LAYOUT_VERSION 4

/* How many of a seq's, and of a bump's, bits are used. Fewer are for tests, which want them to be used
 * up; the fields keep their width. */
#ifndef BERTH_SEQ_BITS
#define BERTH_SEQ_BITS 42
#endif
#ifndef BERTH_BUMP_BITS
#define BERTH_BUMP_BITS 43
#endif

_Static_assert(BERTH_SEQ_BITS >= 8 && BERTH_SEQ_BITS <= 42, "a cycle needs 16, its end 129");
_Static_assert(BERTH_BUMP_BITS >= 8 && BERTH_BUMP_BITS <= 43, "the field has 43");

#define BERTH_RANGE       16u /* records are owned in ranges of so many */
#define BERTH_DIRTY_GROUP 64u /* cells that share one byte of the dirty summary */
#define BERTH_NAME_INLINE 32  /* longer names live in the names part, in blocks of 256 bytes */

/* -- seqs: the steps of a record, numbered ----------------------------------------------------- */

/* cycle:38 | step:4. A record makes steps in cycles, each the taking of one slot and its giving back. A
 * step is a change of one cell of its path: n = 1 … 8 is "n levels are charged, going up", 16 - n is
 * "n levels are left, going down". Step 0 of a cycle is where the cycle before ended: nothing is charged.
 * A record's seqs only grow, for as long as the segment is there. */
#define BERTH_CYCLE    16u
#define BERTH_SEQ_MASK ((UINT64_C(1) << 42) - 1)
/* No cycle begins above this; it has no bits but those of such a base. What has begun has room to end, to
 * be revoked, and to be opened. */
#define BERTH_SEQ_LAST ((UINT64_C(1) << (BERTH_SEQ_BITS - 1)) - BERTH_CYCLE)

static inline uint64_t seq_base(uint64_t seq) {
	return seq & ~(uint64_t)(BERTH_CYCLE - 1);
}
static inline uint32_t seq_step(uint64_t seq) {
	return seq & (BERTH_CYCLE - 1);
}
/* How many levels, from 0 up, are charged after this step. */
static inline uint32_t seq_charged(uint64_t seq) {
	uint32_t step = seq_step(seq);

	return step <= BERTH_LEVELS_MAX ? step : BERTH_CYCLE - step;
}
/* True from the first level that is given back to the last. */
static inline bool seq_goes_down(uint64_t seq) {
	return seq_step(seq) > BERTH_LEVELS_MAX;
}
/* Where the record rests once the cycle has ended, and the next one begins. */
static inline uint64_t seq_rest(uint64_t seq) {
	return seq_base(seq + BERTH_CYCLE - 1);
}
/* The steps that charge a level, and give it back. */
static inline uint64_t seq_up(uint64_t base, uint32_t level) {
	return base + level + 1;
}
static inline uint64_t seq_down(uint64_t base, uint32_t level) {
	return base + BERTH_CYCLE - level;
}

/* -- the cell: one account's count, and the tag of the step that changed it last --------------- */

/* count: count:20 | closed:1 | bumps:43   tag: record:22 | seq:42. One compare-and-swap changes the two
 * together; counter.c alone does. `closed`, `waiting`, `head` and `news` are for waiting, and 0. */
struct cell {
	_Alignas(16) _Atomic uint64_t count;
	_Atomic uint64_t tag;
	_Atomic uint64_t denied; /* at this level, since the account was made; more in denials.h */
	_Atomic uint32_t peak;   /* highest count seen */
	_Atomic uint32_t waiting;
	_Atomic uint32_t head;
	_Atomic uint32_t news;
	_Atomic uint64_t reserved[3];
};

_Static_assert(sizeof(struct cell) == 64, "a cell is one cache line");
_Static_assert(offsetof(struct cell, tag) == 8, "count and tag are one 16-byte word");

#define BERTH_COUNT_SHIFT 44
#define BERTH_COUNT_MASK  ((uint64_t)BERTH_COUNT_MAX << BERTH_COUNT_SHIFT)
#define BERTH_CLOSED      (UINT64_C(1) << 43)
#define BERTH_BUMPS_MASK  ((UINT64_C(1) << 43) - 1)
#define BERTH_BUMPS_LAST  ((UINT64_C(1) << BERTH_BUMP_BITS) - 1)

static inline uint64_t count_pack(uint32_t count, uint64_t bumps) {
	return (uint64_t)count << BERTH_COUNT_SHIFT | bumps;
}
static inline uint32_t count_of(uint64_t word) {
	return (uint32_t)(word >> BERTH_COUNT_SHIFT);
}
static inline uint64_t count_bumps(uint64_t word) {
	return word & BERTH_BUMPS_MASK;
}
static inline uint64_t tag_pack(uint32_t record, uint64_t seq) {
	return (uint64_t)record << 42 | seq;
}
static inline uint32_t tag_record(uint64_t tag) {
	return (uint32_t)(tag >> 42);
}
static inline uint64_t tag_seq(uint64_t tag) {
	return tag & BERTH_SEQ_MASK;
}
/* The tag first. A pair that is torn does no harm: what comes of it is a compare-and-swap of both words,
 * or needs the count that belonged to this tag (counter.c). */
static inline struct pair cell_load(const struct cell *cell) {
	uint64_t tag = load_acquire(&cell->tag);

	return (struct pair){load_acquire(&cell->count), tag};
}

/* -- the record: one slot ---------------------------------------------------------------------- */

/* CLOSED is 0, so that a page never written is a page of records that nobody may use. */
enum record_state {
	RECORD_CLOSED, /* belongs to no living session */
	RECORD_FREE,   /* its session may place it on a path */
	RECORD_PLACED, /* its session takes slots of this account with it, and gives them back */
	RECORD_SEIZED, /* the daemon takes back what it has charged */
};

/* place: state:3 | top:3 | weight:12 | account:24 | 0:22. Top is the highest level of the account's
 * path: level 0 is the account itself, level k its k-th ancestor. `noted` is a seq; if the record has
 * made a newer step, the tag of a cell tells of it. Changed by counter.c alone. */
struct record {
	_Alignas(16) _Atomic uint64_t place;
	_Atomic uint64_t noted;
	_Atomic uint64_t since; /* ms since 1970, when it was taken */
	_Atomic uint64_t label[BERTH_LABEL_SIZE / 8];
};

_Static_assert(sizeof(struct record) == 64, "a record is one cache line");
_Static_assert(offsetof(struct record, noted) == 8, "place and noted are one 16-byte word");

static inline uint64_t place_pack(
	enum record_state state, uint32_t top, uint32_t weight, uint32_t account) {
	return (uint64_t)state << 61 | (uint64_t)top << 58 | (uint64_t)weight << 46 |
	       (uint64_t)account << 22;
}
static inline enum record_state place_state(uint64_t place) {
	return (enum record_state)(place >> 61);
}
static inline uint32_t place_top(uint64_t place) {
	return place >> 58 & 7;
}
static inline uint32_t place_weight(uint64_t place) {
	return place >> 46 & 0xFFF;
}
static inline uint32_t place_account(uint64_t place) {
	return place >> 22 & 0xFFFFFF;
}

/* What a record says, and its newest step, noted or not. */
struct snapshot {
	uint64_t place, seq;
};

static inline bool snapshot_is_held(struct snapshot s) {
	return place_state(s.place) == RECORD_PLACED && seq_step(s.seq) == place_top(s.place) + 1;
}

/* -- sessions ---------------------------------------------------------------------------------- */

enum session_state {
	SESSION_NONE,
	SESSION_OPEN,
	SESSION_ENDING, /* every record is being closed; owners acquire nothing any more */
	SESSION_ENDED,  /* all closed, but the process lives: its ranges are nobody else's yet */
	SESSION_KEEPER, /* no process has it: it is for leases, to come */
};

#define BERTH_DENIALS 4

/* A ring of refused attempts for each session: laid out for work to come, and 0. */
#define BERTH_REFUSALS 8
struct refusal {
	_Atomic uint64_t time; /* ms since 1970 */
	_Atomic uint32_t account;
	_Atomic uint32_t level;
	_Atomic uint32_t limit;
	_Atomic uint32_t count;
	_Atomic uint32_t weight;
	_Atomic uint32_t reserved;
};

_Static_assert(sizeof(struct refusal) == 32, "no padding");

/* Written by the daemon alone, but for `denials`; owners read state and serial before they acquire. */
struct session_entry {
	union {
		struct {
			_Atomic uint32_t state;
			_Atomic uint32_t serial; /* differs for every session of the segment */
		};
		_Atomic uint64_t open; /* both, as an owner reads them before it acquires */
	};
	_Atomic uint32_t pid;
	_Atomic uint32_t uid;
	_Atomic uint64_t start_time; /* of the process, in clock ticks since boot; 0 unknown */
	_Atomic uint64_t image;      /* hash of AT_RANDOM: tells one exec image from the next */
	_Atomic uint64_t comm[2];
	_Atomic uint64_t opened;  /* ms since 1970 */
	_Atomic uint32_t lost;    /* an event found no room; for events to come, and 0 */
	_Atomic uint32_t refused; /* the next place in its ring of refusals, to come, and 0 */
	/* account:24 | count:40, which only grows. The owner's; the place is the session's, whichever it
	 * is. And what the daemon has collected of each (denials.h). */
	_Atomic uint64_t denials[BERTH_DENIALS];
	_Atomic uint64_t collected[BERTH_DENIALS];
};

_Static_assert(sizeof(struct session_entry) == 128, "a session entry is two cache lines");
_Static_assert(offsetof(struct session_entry, denials) == 64, "denials have a line of their own");
/* Every layout, whatever its version, lets berthd tell which processes have sessions. */
_Static_assert(offsetof(struct session_entry, pid) == 8 &&
		       offsetof(struct session_entry, start_time) == 16 &&
		       offsetof(struct session_entry, comm) == 32,
	"the same in all layouts");

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
	_Alignas(64) _Atomic uint32_t next_serial;
	_Atomic uint64_t repairs; /* the seq of the latest tag that is no record's (counter.c) */
	/* For waiting, to come, and 0: a second event count, the arbiter's thread, how often it has looked,
	 * tickets, a bit for each account number modulo 1024, and one for each 64 ranges modulo 4096. */
	_Alignas(64) _Atomic uint32_t calls_armed;
	_Atomic uint32_t calls_wakes;
	_Alignas(64) _Atomic uint32_t arbiter;
	_Atomic uint32_t turns;
	_Atomic uint64_t next_ticket;
	_Alignas(64) _Atomic uint64_t poked[16];
	_Atomic uint64_t called[64];
	uint8_t reserved2[4096 - 960];
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
	/* Laid out for work to come, and 0. */
	ENTRY_OBSERVE = 1 << 4,
	ENTRY_DRAINED = 1 << 5,
	ENTRY_GRANT = 1 << 6,
	ENTRY_ASK = 1 << 7,
	ENTRY_CUT = 1 << 8,
};

/* word: limit:24 | flags:12 | generation:28. Written by the daemon alone. The generation changes
 * whenever the entry begins or ceases to be what the name says; it only grows, and with the last one the
 * index rests for good. */
struct entry {
	_Atomic uint64_t word;
	_Atomic uint64_t hash;
	_Atomic uint32_t ancestry; /* parent:24 (0: none) | depth:8 (1: no ancestor) */
	_Atomic uint32_t shape; /* block of a long name:24 (block + 1 in the names part; 0: short) |
				    * length of the name:8 */
	_Atomic uint32_t limit; /* for the cluster, to come, and 0: the node's own limit, and the
				    * cluster's */
	_Atomic uint32_t cluster_limit;
	_Atomic uint64_t name[BERTH_NAME_INLINE / 8]; /* padded with zeros */
};

#define BERTH_GENERATION_LAST ((UINT32_C(1) << 28) - 1)

_Static_assert(sizeof(struct entry) == 64, "an entry is one cache line");

static inline uint64_t entry_pack(uint32_t limit, uint32_t flags, uint32_t generation) {
	return (uint64_t)limit << 40 | (uint64_t)flags << 28 | generation;
}
static inline uint32_t entry_limit(uint64_t word) {
	return (uint32_t)(word >> 40);
}
static inline uint32_t entry_flags(uint64_t word) {
	return word >> 28 & 0xFFF;
}
static inline uint32_t entry_generation(uint64_t word) {
	return word & BERTH_GENERATION_LAST;
}
static inline bool entry_is_usable(uint64_t word) {
	return (~entry_flags(word) & (ENTRY_LIVE | ENTRY_USABLE)) == 0;
}
static inline uint32_t ancestry_pack(uint32_t parent, uint32_t depth) {
	return parent << 8 | depth;
}
static inline uint32_t ancestry_parent(uint32_t ancestry) {
	return ancestry >> 8;
}
static inline uint32_t ancestry_depth(uint32_t ancestry) {
	return ancestry & 0xFF;
}
static inline uint32_t shape_pack(uint32_t length, uint32_t block) {
	return block << 8 | length;
}
static inline uint32_t shape_length(uint32_t shape) {
	return shape & 0xFF;
}
static inline uint32_t shape_block(uint32_t shape) {
	return shape >> 8;
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
	_Atomic uint32_t retired;  /* records that had used up their seqs when none was left */
	uint8_t reserved2[4096 - 104];
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
	uint64_t sessions, owners, dirty, cells, records, waits, calls, refusals, segment_size;
	uint64_t entries, tables, names, directory_size;
};

/* False if a capacity is 0 or above its maximum. */
bool layout_init(struct layout *l, uint32_t accounts, uint32_t slots, uint32_t sessions);
