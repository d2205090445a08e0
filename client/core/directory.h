/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reading the directory: names to accounts, accounts to limits. Anybody may, at any time, without a
 * lock, while the daemon writes (daemon/directory-write.c).
 *
 * An entry's word bears limit, flags and generation at once. A reader loads the word, reads the
 * name, then loads the word again: the same generation means that what it read belonged together.
 * Missing a name that the daemon is just moving is allowed, since whoever misses asks the daemon.
 */

#include "map.h"

struct name {
	uint32_t length;
	uint64_t word[256 / 8]; /* the bytes, padded with zeros to whole words */
};

/* One step of an account's path, from the account (0) to its outermost ancestor. */
struct level {
	uint32_t account;
	uint32_t generation;
	/* The same in memory, valid as long as the map. */
	struct entry *entry;
	struct cell *cell;
	_Atomic uint8_t *dirty;
};

struct path {
	uint32_t depth;
	struct level level[BERTH_LEVELS_MAX];
};

/* -EINVAL for a length of 0 or above 255; doesn't check what the bytes are. */
int name_load(const char *text, struct name *ret);
int name_load_length(const char *text, size_t length, struct name *ret);

uint64_t directory_hash(const struct map *m, const struct name *name);

/* -ENOENT: not there (or just being moved); -ENOMEM, -EUCLEAN. ret_word as loaded with the name. */
int directory_find(
	struct map *m, const struct name *name, uint32_t *ret_account, uint64_t *ret_word);

/* The same for whoever has the name's hash, and wants nothing of the cell. */
int directory_find_hash(struct map *m, const struct name *name, uint64_t hash,
	uint32_t *ret_account, uint64_t *ret_word);
/* True if the account bears the name. */
bool directory_has_name(struct map *m, uint32_t account, const struct name *name, uint64_t hash);

/* The path of an account whose generation is known. -ESTALE if it isn't the same any more;
 * -ENOMEM, -EUCLEAN. */
int directory_path(struct map *m, uint32_t account, uint32_t generation, struct path *ret);

/* The account at a level above `account` (0: itself). -ENOENT: there is none; -ENOMEM. */
int directory_ancestor(struct map *m, uint32_t account, uint32_t level, uint32_t *ret);

/* How many levels the account's path has. -ENOENT, -ENOMEM. */
int directory_depth(struct map *m, uint32_t account, uint32_t *ret);

/* The account's name, NUL-terminated; -ENOENT, or -ESTALE if it changed while it was read. */
int directory_name(struct map *m, uint32_t account, char ret[256]);
