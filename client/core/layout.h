/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The layout of the two files that the daemon and the library share, byte by byte.
 *
 * segment (clients map it read-write):   header | sessions | owners | dirty | cells | records |
 *                                        waits | calls | refusals
 * directory (clients map it read-only):  header | entries | tables | names
 *
 * The offset of each part follows from the three capacities in the directory's header. Both files
 * have their full length from the start, and are sparse. The daemon allocates some pages of a part,
 * and then publishes in the directory's header the new size of the part (`accounts`, `slots`,
 * `sessions`). No process touches what isn't published, so no process touches a hole of a file.
 *
 * The directory holds what a client must be able to trust: capacities, published sizes, names and
 * limits. A client can't write to it. Any client may have written anything to the segment, so the
 * code checks each value from the segment against its bounds at each use.
 *
 * A field that is described as "reserved for X; 0" belongs to a feature that doesn't exist yet: no
 * code writes it, so it is 0.
 */

#include <stddef.h>

#include "atomic.h"
#include "bounds.h"

#define BERTH_LAYOUT_VERSION 4

/* How many bits of a seq, and of a cell's bumps (both below), are used. Tests set fewer bits, so
 * that seqs and bumps run out soon; the fields keep their width. */
#ifndef BERTH_SEQ_BITS
#define BERTH_SEQ_BITS 42
#endif
#ifndef BERTH_BUMP_BITS
#define BERTH_BUMP_BITS 43
#endif

_Static_assert(BERTH_SEQ_BITS >= 8 && BERTH_SEQ_BITS <= 42,
	"8 bits leave room for some cycles, and the field has 42");
_Static_assert(BERTH_BUMP_BITS >= 8 && BERTH_BUMP_BITS <= 43, "the field has 43");

#define BERTH_RANGE       16u /* records of a range; a session owns whole ranges */
#define BERTH_DIRTY_GROUP 64u /* cells that share one byte of the part `dirty` */
#define BERTH_NAME_INLINE 32  /* longer names are in the part `names`, in blocks of 256 bytes */

/* -- seqs: the numbers of a record's steps ----------------------------------------------------- */

/* cycle:38 | step:4. A record makes its steps in cycles. In a cycle the record takes one slot, and
 * releases that slot. A step changes one cell of the record's path. A step up charges a level: it
 * adds the record's weight to the cell's count. A step down discharges a level. Step n of 1 … 8 is
 * a step up, after which n levels are charged. Step 16 - n is a step down, after which n levels are
 * still charged. Step 0 of a cycle ends the cycle before: no level is charged, and the record
 * rests. A record's seqs only grow, for as long as the segment exists. */
#define BERTH_CYCLE    16u
#define BERTH_SEQ_MASK ((UINT64_C(1) << 42) - 1)
/* The highest base, that is the highest seq at which a cycle begins. It has every bit that a base
 * can have. Above it are enough seqs to end that cycle, revoke its slot, and open the record. */
#define BERTH_SEQ_LAST ((UINT64_C(1) << (BERTH_SEQ_BITS - 1)) - BERTH_CYCLE)

static inline uint64_t seq_base(uint64_t seq) {
	return seq & ~(uint64_t)(BERTH_CYCLE - 1);
}
static inline uint32_t seq_step(uint64_t seq) {
	return seq & (BERTH_CYCLE - 1);
}
/* How many levels are charged after this step: levels 0 … n-1. */
static inline uint32_t seq_charged(uint64_t seq) {
	uint32_t step = seq_step(seq);

	return step <= BERTH_LEVELS_MAX ? step : BERTH_CYCLE - step;
}
/* True after every step of a release but the last one, which is step 0 of the next cycle. */
static inline bool seq_goes_down(uint64_t seq) {
	return seq_step(seq) > BERTH_LEVELS_MAX;
}
/* The seq at which the record rests when the seq's cycle has ended: step 0 of the next cycle, or
 * the seq itself if the seq is a step 0. */
static inline uint64_t seq_rest(uint64_t seq) {
	return seq_base(seq + BERTH_CYCLE - 1);
}
/* The seqs of the steps that charge a level, and discharge it, in the cycle that begins at
 * `base`. */
static inline uint64_t seq_up(uint64_t base, uint32_t level) {
	return base + level + 1;
}
static inline uint64_t seq_down(uint64_t base, uint32_t level) {
	return base + BERTH_CYCLE - level;
}

/* -- the cell: one account's count, and the tag of the step that changed it last --------------- */

/* count: count:20 | closed:1 | bumps:43   tag: record:22 | seq:42.
 * One compare-and-swap changes both words together. Only counter.c and counter-fast.h do that. A
 * bump is a change of `bumps` alone, by which berthd makes the cell differ from all its earlier
 * values. `closed`, `waiting`, `head` and `news` are reserved for waiting; 0. */
struct cell {
	_Alignas(16) _Atomic uint64_t count;
	_Atomic uint64_t tag;
	_Atomic uint64_t denied; /* denials at this level since the account was made, as far as they
				  * are collected (denials.h) */
	_Atomic uint32_t peak;   /* the highest count so far */
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
/* Reads the tag first, then the count. If the pair is torn (tag and count of two moments), a
 * compare-and-swap of both words fails. Any other use must be correct with each word alone ("Order"
 * in counter.c). */
static inline struct pair cell_load(const struct cell *cell) {
	uint64_t tag = load_acquire(&cell->tag);

	return (struct pair){load_acquire(&cell->count), tag};
}

/* -- the record: one slot ---------------------------------------------------------------------- */

/* CLOSED is 0, so that no process may use the records of a page that was never written. */
enum record_state {
	RECORD_CLOSED, /* belongs to no living session */
	RECORD_FREE,   /* its session may place it on a path */
	RECORD_PLACED, /* on an account's path: its session acquires and releases slots with it */
	RECORD_SEIZED, /* the daemon discharges the levels that the record charged */
};

/* place: state:3 | top:3 | weight:12 | account:24 | 0:22. Level 0 of a path is the account itself,
 * level k its k-th ancestor; `top` is the highest level. `noted` is a seq; if the record has made a
 * newer step, the tag of a cell tells of that step. Only counter.c and counter-step.c change these
 * two words. */
struct record {
	_Alignas(16) _Atomic uint64_t place;
	_Atomic uint64_t noted;
	_Atomic uint64_t since; /* when the slot was acquired: ms since 1970 */
	_Atomic uint64_t label[BERTH_LABEL_SIZE / 8]; /* of the slot; ends with a NUL */
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

/* A record's place, and the seq of its newest step, which may be noted or not. */
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
	SESSION_ENDING, /* the daemon closes its records; its process acquires no more slots */
	SESSION_ENDED,  /* all its records are closed, but its process lives and keeps its ranges */
	SESSION_KEEPER, /* reserved for leases, which no process holds; not used */
};

#define BERTH_DENIALS 4 /* words in which a session counts denials (denials.h) */

/* A ring of the last refused acquires of each session. Reserved for a verb `explain`; 0. */
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

/* Only the daemon writes the members of a session entry other than `denials`. The session's process
 * reads state and serial before each acquire. */
struct session_entry {
	union {
		struct {
			_Atomic uint32_t state;
			_Atomic uint32_t serial; /* different for each session of a segment */
		};
		_Atomic uint64_t open; /* state and serial, which are read at once */
	};
	_Atomic uint32_t pid;
	_Atomic uint32_t uid;
	_Atomic uint64_t start_time; /* of the process, in clock ticks since boot; 0: unknown */
	_Atomic uint64_t image;      /* hash of AT_RANDOM, which differs after each exec */
	_Atomic uint64_t comm[2];    /* name of the command, padded with zeros */
	_Atomic uint64_t opened;     /* ms since 1970 */
	_Atomic uint32_t lost;       /* reserved for events; 0 */
	_Atomic uint32_t refused;    /* reserved for the ring of refusals; 0 */
	/* account:24 | count:40. The session's process writes `denials`, whose counts only grow;
	 * the daemon writes `collected`: how much of each word it has added to the cell
	 * (denials.h). When the entry goes to another session, the words stay as they are. */
	_Atomic uint64_t denials[BERTH_DENIALS];
	_Atomic uint64_t collected[BERTH_DENIALS];
};

_Static_assert(sizeof(struct session_entry) == 128, "a session entry is two cache lines");
_Static_assert(
	offsetof(struct session_entry, denials) == 64, "denials have a cache line of their own");
/* These offsets are the same in every version of the layout, so that berthd can tell which
 * processes have sessions in a segment of another version. */
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
	_Alignas(64) _Atomic uint32_t armed; /* not 0: the daemon wants to be woken (wake.h) */
	_Atomic uint32_t wakes;              /* the word on which the daemon sleeps (wake.h) */
	_Alignas(64) _Atomic uint32_t next_serial; /* of the next session */
	_Atomic uint64_t repairs; /* the seq of the latest tag of record 0 (counter.c) */
	/* The members from here to `called` are reserved for waiting; 0. They are for a second
	 * event count; the arbiter's thread and how often that thread has looked; tickets; a bit
	 * for each account number modulo 1024; and a bit for each 64 ranges modulo 4096. */
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
	ENTRY_LIVE = 1 << 0,       /* the entry bears a name */
	ENTRY_USABLE = 1 << 1,     /* slots may be acquired: the account has a limit */
	ENTRY_CONFIGURED = 1 << 2, /* an administrator has set its limit */
	ENTRY_TEMPLATE = 1 << 3,   /* a template has set its limit */
	/* Reserved; 0. */
	ENTRY_OBSERVE = 1 << 4,
	ENTRY_DRAINED = 1 << 5,
	ENTRY_GRANT = 1 << 6,
	ENTRY_ASK = 1 << 7,
	ENTRY_CUT = 1 << 8,
};

/* word: limit:24 | flags:12 | generation:28. Only the daemon writes an entry. The generation grows
 * whenever the entry gets or loses a name, and whenever the account becomes usable or ceases to be
 * usable. The index of an entry with the last generation isn't used again. */
struct entry {
	_Atomic uint64_t word;
	_Atomic uint64_t hash;     /* of the name, with the seed of the header (directory_hash()) */
	_Atomic uint32_t ancestry; /* parent:24 (0: none) | depth:8 (1: no ancestor) */
	_Atomic uint32_t shape; /* block:24 | length of the name:8. Block 0: the name is in `name`.
				    * Block n > 0: it is in the n-th block of the part `names` */
	_Atomic uint32_t limit; /* reserved for the cluster: the node's own limit; 0 */
	_Atomic uint32_t cluster_limit; /* reserved for the cluster: the cluster's limit; 0 */
	_Atomic uint64_t name[BERTH_NAME_INLINE / 8]; /* a short name, padded with zeros */
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

/* An element of the hash table: highest bits of the hash:8 | account:24; 0: empty. The table of 2^k
 * elements stands 2^k * 4 bytes from the start of the part `tables`. So the daemon can build a
 * larger table beside the table in use. */
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
	_Atomic uint32_t accounts; /* published: cells and entries 0 … accounts-1 */
	_Atomic uint32_t slots; /* published: records 0 … slots-1, and the owners of their ranges */
	_Atomic uint32_t sessions;   /* published: session entries 0 … sessions-1 */
	_Atomic uint32_t table_bits; /* the table in use has 2^table_bits elements */
	_Atomic uint32_t blocks;     /* published: blocks 1 … blocks of the part `names` */
	_Atomic uint32_t restored; /* 1: the peaks and denials from before the boot are restored */
	_Atomic uint32_t retired;  /* retired records, as counted when no free range was left */
	uint8_t reserved2[4096 - 104];
};

_Static_assert(sizeof(struct directory_header) == 4096, "the directory's header is one page");

/* A library and a daemon with the same fingerprint have the same layout. If a field moves or
 * changes its meaning, and no size below changes, raise BERTH_LAYOUT_VERSION. */
#define BERTH_FINGERPRINT                                                                    \
	((uint64_t)BERTH_LAYOUT_VERSION << 48 | (uint64_t)BERTH_SEQ_BITS << 40 |             \
		(uint64_t)sizeof(struct cell) << 32 | (uint64_t)sizeof(struct entry) << 24 | \
		(uint64_t)sizeof(struct record) << 16 |                                      \
		(uint64_t)sizeof(struct session_entry) << 8 | BERTH_RANGE)

/* The offset of each part, and the length of both files, in bytes. */
struct layout {
	uint32_t max_accounts, max_slots, max_sessions;
	uint32_t accounts_end, records_end; /* indices are 1 … end-1; index 0 isn't used */
	uint64_t sessions, owners, dirty, cells, records, waits, calls, refusals, segment_size;
	uint64_t entries, tables, names, directory_size;
};

/* False if a capacity is 0 or above its maximum. */
bool layout_init(struct layout *l, uint32_t accounts, uint32_t slots, uint32_t sessions);
