/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One LMDB environment in a directory of its own, with one table from names to values of one size.
 * Part of the store (store.h). Not thread-safe: one thread at a time.
 *
 * Errors are negative errnos. -EUCLEAN: the file is damaged; -EPROTONOSUPPORT: a later berthd wrote it;
 * -ENOSPC: the disk is full; -ENOTRECOVERABLE: a commit failed so late that the disk may have it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lmdb;
struct lmdb_txn;

typedef int (*lmdb_fill)(struct lmdb_txn *txn, void *data);
typedef int (*lmdb_each)(void *data, const char *name, const void *value);

/* Opens nothing yet. value_size: 16 at most. durable: every commit is synced before lmdb_write
 * returns. table is borrowed. */
int lmdb_new(
	const char *dir, const char *table, size_t value_size, bool durable, struct lmdb **ret);
/* Closes without a sync. NULL is fine. */
void lmdb_free(struct lmdb *l);

/* The path of the file. */
const char *lmdb_path(const struct lmdb *l);

/* Makes directory and file if they aren't there. A power failure at any instant leaves no file, or a
 * whole empty one. */
int lmdb_make(struct lmdb *l);

int lmdb_open(struct lmdb *l);
void lmdb_close(struct lmdb *l);
bool lmdb_is_open(const struct lmdb *l);

/* Calls fill, then commits the entries that fill put and deleted: all or nothing. Opens the environment
 * if it is closed. A failure, and a large change, close it: LMDB keeps a page of memory for each page
 * of its largest change, and after some failures it refuses everything. */
int lmdb_write(struct lmdb *l, lmdb_fill fill, void *data);
int lmdb_put(struct lmdb_txn *txn, const char *name, const void *value);
int lmdb_delete(struct lmdb_txn *txn, const char *name); /* 0, too, if there is no such name */

/* How many names there are; 0 if the environment isn't open. */
size_t lmdb_count(struct lmdb *l);

/* In the order of the names' bytes; a negative return of each ends it and is returned. */
int lmdb_read(struct lmdb *l, lmdb_each each, void *data);
/* At most `most` entries after the name in `place`, which has BERTH_NAME_MAX + 1 bytes, is "" at first,
 * and becomes the last name that each took. 1: there are more. */
int lmdb_read_some(struct lmdb *l, char *place, size_t most, lmdb_each each, void *data);

/* A state of the table, to be read in pieces while changes go on. At most one at a time. lmdb_close
 * ends it; lmdb_snapshot_read then returns -ESTALE. */
int lmdb_snapshot_begin(struct lmdb *l);
int lmdb_snapshot_read(struct lmdb *l, size_t most, lmdb_each each, void *data); /* 1: more */
void lmdb_snapshot_end(struct lmdb *l);

int lmdb_sync(struct lmdb *l);

/* The advice for an error, as the end of a log message. */
const char *lmdb_advice(int error);

#define LMDB_KEY_MAX 511

/* The part of the file in which keys are names of accounts and templates. */
#define LMDB_PART_ENTRIES "the entries"

/* How far lmdb_verify has come. A signal handler may read it at any instant. */
struct lmdb_progress {
	const char *part; /* that is being looked at */
	const char *problem;
	size_t key_size; /* 0: no key yet */
	unsigned char key[LMDB_KEY_MAX];
	size_t entries; /* that were found sound */
};

/* Both may crash or loop if the file is damaged, since LMDB trusts it: call them in a process that may
 * die of it (check.h), for an environment that isn't open. -EUCLEAN: progress says what is wrong, and at
 * which key. Neither writes to the file. */

/* Reads the whole file with LMDB. If it returns 0, reading is safe. */
int lmdb_verify(const struct lmdb *l, struct lmdb_progress *progress);

/* Has LMDB change each leaf page of a copy in memory, which exercises what reading doesn't: free space,
 * free pages, page numbers. 0 also if the copy can't be made. For a file that lmdb_verify finds sound. */
int lmdb_try_changes(const struct lmdb *l, struct lmdb_progress *progress);
