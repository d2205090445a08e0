/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Writing the directory, in place, while clients read it (client/directory.c). The only file that
 * does. What is written here is mechanism; which account has which limit is accounts.c's.
 */

#include "directory.h"
#include "segment.h"

/* What the daemon keeps of each account beside the shared words; rebuilt at start. */
struct account {
	uint32_t children;
	uint32_t saved_count; /* as in the store; UINT32_MAX: not known */
	uint32_t saved_peak;
	uint32_t reserved : 31; /* changes on their way through the store that will need it */
	/* Made while stored counts are loaded: those of its name aren't its own. */
	uint32_t young : 1;
	uint64_t saved_denied;
};

struct directory {
	struct segment *segment;
	struct map *map;
	struct account *account; /* by index, as many as are published */
	uint32_t account_size;
	uint32_t *free; /* stack of indices that bear no name */
	uint32_t free_count;
	size_t free_capacity;
	bool denials_remain; /* of an index that was freed, perhaps, in the words of sessions */
	uint32_t *free_block;
	uint32_t free_block_count;
	size_t free_block_capacity;
	uint32_t live;
	uint32_t unsound; /* damaged ones, that look as if they were, at the start */
	/* Whoever bears a name is the one that is found by it; false: that isn't known. */
	bool one_each;
	bool loading;         /* what is made is young */
	uint64_t expected[4]; /* hashes of names that are about to be looked up */
	uint32_t expected_next;
};

/* Told of each entry that is LIVE. */
typedef void (*directory_each)(void *data, uint32_t account, uint32_t flags);

/* Takes stock of what is in the segment's directory (nothing, in a new one), and mends what a death
 * in the middle of a write left. */
int directory_new(struct segment *s, directory_each each, void *data, struct directory **ret);
void directory_free(struct directory *d); /* NULL is fine */

/* Writes a new entry. -ENOSPC: the table is full; -ENOMEM. */
int directory_create(struct directory *d, const struct name *name, uint32_t parent, uint32_t limit,
	uint32_t flags, uint32_t *ret);

/* Changes limit and flags, then bumps the cell: once this has returned, no acquire is admitted against
 * the old limit. Never skipped because the value is there already. -EOVERFLOW: the cell has had its last
 * bump, or the entry its last generation, and nothing has changed. */
int directory_set(struct directory *d, uint32_t account, uint32_t limit, uint32_t flags);

/* The same with a new generation: whoever resolved the name before must look it up again. */
int directory_renew(struct directory *d, uint32_t account, uint32_t limit, uint32_t flags);

/* Takes an entry without children out, if its count is 0 once nobody can charge it any more.
 * -EBUSY: it isn't; the entry stays, with a new generation. */
int directory_remove(struct directory *d, uint32_t account);

/* Finds a name; 0 if there is none. */
uint32_t directory_lookup(struct directory *d, const struct name *name);

/* Among a million names a look-up is waiting for memory. Who has many to do says each name
 * DIRECTORY_AHEAD look-ups before, and finds it in the cache. */
#define DIRECTORY_AHEAD 8
void directory_expect(struct directory *d, uint64_t hash);

/* So many names are about to be looked up and, where they aren't there, created. */
void directory_expect_many(struct directory *d, uint32_t more);

uint64_t directory_word(struct directory *d, uint32_t account);
uint32_t directory_parent(struct directory *d, uint32_t account);
static inline uint32_t directory_end(const struct directory *d) {
	return load_relaxed(&d->segment->names->accounts);
}
