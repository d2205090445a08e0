/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Writes the directory, in place, while clients read it (client/core/directory.c). No other file
 * writes it. daemon/accounts decides which account has which limit.
 */

#include "directory.h"
#include "segment.h"

struct directory;

#define DIRECTORY_PREFETCH 16u /* how many names directory_prefetch() takes at most */

/* berthd's own data of an account, beside the shared words. berthd makes it anew at each start. */
struct account {
	uint32_t children;
	/* The numbers that the store has. saved_count UINT32_MAX: the numbers aren't known. */
	uint32_t saved_count;
	uint32_t saved_peak;
	uint32_t reserved : 31; /* pending changes that will need the account */
	/* The account was created while stored counts were loaded, so the counts that are stored
	 * under its name belong to an earlier account. */
	uint32_t is_newer_than_counts : 1;
	uint64_t saved_denied;
};

/* Called with each entry that is LIVE. */
typedef void (*directory_each)(void *data, uint32_t account, uint32_t flags);

/* Reads the whole directory, which is empty if it is new, and completes the writes that a dead
 * berthd left unfinished. */
int directory_new(struct segment *s, directory_each each, void *data, struct directory **ret);
void directory_free(struct directory *d); /* NULL is fine */

struct map *directory_map(const struct directory *d);

/* Writes a new entry. -ENOSPC: the table is full; -ENOMEM. */
int directory_create(struct directory *d, const struct name *name, uint32_t parent, uint32_t limit,
	uint32_t flags, uint32_t *ret);

/* Writes limit and flags, and then bumps the cell (counter.c, B1), even if limit and flags are the
 * same as before. Once the function has returned 0, no acquire is admitted by the old limit.
 * -EOVERFLOW: the cell has no bump left; nothing has changed. */
int directory_set(struct directory *d, uint32_t account, uint32_t limit, uint32_t flags);

/* Does directory_set() with a new generation, so that clients look the name up again. -EOVERFLOW:
 * the entry has no generation left, or the cell no bump. */
int directory_renew(struct directory *d, uint32_t account, uint32_t limit, uint32_t flags);

/* Stops clients from charging the account, and then removes the entry. -EBUSY: the entry has
 * children, or its count isn't 0; the entry stays, perhaps with a new generation. */
int directory_remove(struct directory *d, uint32_t account);

/* Finds the account with this name; 0: there is none. */
uint32_t directory_lookup(struct directory *d, const struct name *name);

/* Announces that `more` names are about to be created, so that the table of names grows only
 * once. */
void directory_expect(struct directory *d, uint32_t more);

/* Announces that these names are about to be looked up. A look-up waits for memory twice: for a
 * word of the table, and for an entry. If several names are announced, these waits overlap. */
void directory_prefetch(struct directory *d, const struct name *names, uint32_t count);

/* The entry's word. Without ENTRY_LIVE in the word, there is no such account. */
uint64_t directory_word(const struct directory *d, uint32_t account);
uint32_t directory_parent(const struct directory *d, uint32_t account);

/* How many entries are LIVE, and how many of the LIVE entries were damaged at the start. */
uint32_t directory_live(const struct directory *d);
uint32_t directory_unsound(const struct directory *d);

/* All accounts have indices below this number. */
uint32_t directory_end(const struct directory *d);
/* `account` must be below directory_accounts_end(). If there is no memory, directory_accounts_end()
 * stays below directory_end() for a while; no account has an index between the two. */
struct account *directory_account(const struct directory *d, uint32_t account);
uint32_t directory_accounts_end(const struct directory *d);

/* Tells the directory whether stored counts are being loaded. While they are, new accounts get
 * is_newer_than_counts. */
void directory_set_loading(struct directory *d, bool loading);
/* Writes into the directory that the cells have the peaks and denials from before the boot. */
void directory_set_restored(struct directory *d);
bool directory_is_restored(const struct directory *d);
