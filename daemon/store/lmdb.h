/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One LMDB environment in a directory of its own, with one table from names to values of one size.
 * Part of the store (store.h); nothing else uses it. Not thread-safe: one thread at a time.
 *
 * Errors are negative errnos: -EUCLEAN the file is damaged, -EPROTONOSUPPORT a later berthd wrote
 * it, -ENOSPC the disk is full.
 */

#include <stdbool.h>
#include <stddef.h>

struct database;
struct database_txn;

typedef int (*database_fill)(struct database_txn *txn, void *data);
typedef int (*database_each)(void *data, const char *name, const void *value);

/* Opens nothing yet. value_size: 16 at most. durable: every commit is synced before database_write
 * returns. table is borrowed. */
int database_new(
	const char *dir, const char *table, size_t value_size, bool durable, struct database **ret);
/* Closes without a sync. NULL is fine. */
void database_free(struct database *d);

/* Makes directory and file if they aren't there, so that a power failure at any instant leaves
 * either none or a whole empty one. */
int database_make(struct database *d);

/* Reads everything without LMDB, which trusts its pages: a truncated or scribbled file may well kill
 * whoever has it read that. -EUCLEAN says that it is damaged; -EPROTONOSUPPORT as above; other
 * errors, that nothing is known. For one that isn't open. */
int database_check(const struct database *d);

int database_open(struct database *d);
void database_close(struct database *d);
bool database_is_open(const struct database *d);

/* Calls fill, then commits what it put and deleted: all or nothing. Opens the database again if an
 * earlier failure closed it. Any failure closes it. */
int database_write(struct database *d, database_fill fill, void *data);
int database_put(struct database_txn *txn, const char *name, const void *value);
int database_delete(struct database_txn *txn, const char *name); /* none such: fine */

/* How many names there are; 0 if that can't be told. */
size_t database_count(struct database *d);

/* In the order of the names' bytes; a negative return of each ends it and is returned. */
int database_read(struct database *d, database_each each, void *data);
/* As many at most, after the name in `place`, which has BERTH_NAME_MAX + 1 bytes, is "" at first, and
 * becomes that of the last one that each took. 1: there are more. */
int database_read_some(
	struct database *d, char *place, size_t most, database_each each, void *data);

/* For one that isn't durable. */
int database_sync(struct database *d);

/* What to do about an error, to stand at the end of a message. */
const char *database_advice(int error);

/* Makes a directory of mode 0700, if it isn't there, and its entry durable. */
int dir_make(const char *path);
/* Makes durable what was created, renamed and removed in it. */
int dir_sync(const char *path);
