/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One LMDB environment in a directory of its own, with one table from names to values of one size
 * (database-format.h). Part of the store (store.h). Not thread-safe: one thread at a time.
 *
 * Errors are negative errnos. -EUCLEAN: the file is damaged; -EPROTONOSUPPORT: a later berthd wrote
 * it; -ENOSPC: the disk is full; -ENOTRECOVERABLE: a commit failed so late that the disk may have
 * the change.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"

struct lmdb;
struct lmdb_txn;

typedef int (*lmdb_fill)(struct lmdb_txn *txn, void *data);
typedef int (*lmdb_each)(void *data, const char *name, const void *value);

/* Opens nothing yet. value_size: VALUE_SIZE_MAX at most. durable: every commit is synced before
 * lmdb_write returns. table is borrowed. */
int lmdb_new(
	const char *dir, const char *table, size_t value_size, bool durable, struct lmdb **ret);
/* Closes without a sync. NULL is fine. */
void lmdb_free(struct lmdb *l);

/* The directory, and the path of the file. */
const char *lmdb_dir(const struct lmdb *l);
const char *lmdb_path(const struct lmdb *l);

/* Makes directory and file if they aren't there. A power failure at any instant leaves no file, or
 * a whole file without entries. */
int lmdb_make(struct lmdb *l);

int lmdb_open(struct lmdb *l);
void lmdb_close(struct lmdb *l);
bool lmdb_is_open(const struct lmdb *l);

/* Calls `fill`, and then commits all that `fill` has put and deleted, or nothing. Opens the
 * environment if it is closed. Closes it after a failure or a large change: LMDB keeps a page of
 * memory for each page of its largest change, and after some failures it refuses everything. */
int lmdb_write(struct lmdb *l, lmdb_fill fill, void *data);
int lmdb_put(struct lmdb_txn *txn, const char *name, const void *value);
int lmdb_delete(struct lmdb_txn *txn, const char *name); /* no such name: 0 */

/* Reads the entries after the name in `place`: calls `each` for at most `most` of them, in the
 * order of the names' bytes, as of one instant. `place` has BERTH_NAME_MAX + 1 bytes and is "" at
 * first; it becomes the last name for which `each` succeeded. Opens the environment if it is
 * closed. 1: there are more. If `each` returns a negative value, lmdb_read returns it at once. */
int lmdb_read(struct lmdb *l, char *place, size_t most, lmdb_each each, void *data);

int lmdb_sync(struct lmdb *l);

/* The advice for an error, as the end of a log message. */
const char *lmdb_advice(int error);

/* How far lmdb_verify has come. A signal handler may read it at any instant. */
struct lmdb_progress {
	enum { LMDB_METAS, LMDB_FREE_LIST, LMDB_FORMAT, LMDB_ENTRIES } part; /* being checked */
	size_t entries;                /* the number of sound entries so far */
	char name[BERTH_NAME_MAX + 1]; /* of the last sound entry */
};

/* Has LMDB read every entry of an environment that isn't open. 0: the file can be read; -EUCLEAN:
 * it is damaged, at the place that `progress` has. LMDB trusts the file, and may crash or loop if
 * it is damaged: call this in a process that may die (check.h). Doesn't write to the file. */
int lmdb_verify(const struct lmdb *l, struct lmdb_progress *progress);
