/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reads the directory: finds an account by its name, and its limit and ancestors by its number.
 * Every process may read at any time, from any thread and without a lock, while the daemon writes
 * (daemon/shared/directory-write.c).
 *
 * An entry's word holds limit, flags and generation, so that one load reads all three. A reader
 * loads the word, reads the name, and loads the word again. If the generation is the same, the name
 * belongs to the word. A reader may miss a name while the daemon moves it in the table. This does
 * no harm, since a library that finds no account asks the daemon.
 *
 * All functions return 0 or a negative errno. -ENOMEM: a window can't be mapped; -EUCLEAN: the
 * directory is damaged.
 */

#include "map.h"

struct name {
	uint32_t length;
	uint64_t word[256 / 8]; /* the bytes; the last word that has any is padded with zeros */
};

/* A level of an account's path: level 0 is the account itself, and the last level is its outermost
 * ancestor. */
struct level {
	uint32_t account;
	uint32_t generation;
	/* The account's parts in this process's memory. They are valid until map_free(). */
	struct entry *entry;
	struct cell *cell;
	_Atomic uint8_t *dirty;
};

struct path {
	uint32_t depth;
	struct level level[BERTH_LEVELS_MAX];
};

/* Copies a name. -EINVAL: its length is 0 or above 255. The bytes aren't checked. */
int name_load(const char *text, struct name *ret);
int name_load_length(const char *text, size_t length, struct name *ret);

/* The hash of a name, with this directory's secret seed. */
uint64_t directory_hash(const struct map *m, const struct name *name);

/* Finds the account of a name. *ret_word: the entry's word that was read together with the name.
 * -ENOENT: no account has the name, or the daemon is just moving it; -ENOMEM; -EUCLEAN. Prefetches
 * the account's cell. */
int directory_find(
	struct map *m, const struct name *name, uint32_t *ret_account, uint64_t *ret_word);

/* Finds the levels of an account's path. -ESTALE: the account no longer has this generation;
 * -ENOMEM; -EUCLEAN. */
int directory_path(struct map *m, uint32_t account, uint32_t generation, struct path *ret);

/* Reads how many levels the account's path has. -ENOENT: the account isn't published; -ENOMEM. */
int directory_depth(struct map *m, uint32_t account, uint32_t *ret);

/* Copies the account's name, NUL-terminated. -ENOENT: there is no such account; -ESTALE: the entry
 * changed while it was read; -ENOMEM; -EUCLEAN. After an error the buffer may have been written. */
int directory_name(struct map *m, uint32_t account, char ret[256]);
