/* SPDX-License-Identifier: MIT */
#pragma once

/* What database.c and database-check.c share: LMDB itself, which nothing else includes. */

#include <lmdb.h>
#include <stdint.h>

#include "database.h"

#define META_TABLE "meta"

struct database {
	char *dir;
	const char *table;
	size_t value_size;
	bool durable;
	MDB_env *env; /* NULL: closed */
	MDB_dbi values;
};

struct database_txn {
	MDB_txn *txn;
	MDB_cursor *cursor; /* remembers its place, so that names in order are put quickly */
	const struct database *database;
};

/* LMDB's error, or an errno, as a negative errno. */
int database_translate(int code);

/* A file in the database's directory; to be freed. NULL: no memory. */
char *database_path(const struct database *d, const char *name);

/* With a map of this size. */
int database_env_open(const char *path, unsigned flags, size_t map_size, MDB_env **ret);

/* Whether the file has our format; then its table of values. */
int database_format_check(const struct database *d, MDB_txn *txn, MDB_dbi *ret_values);

/* Copies a key into a name of BERTH_NAME_MAX + 1 bytes, if key and value are whole. */
int database_entry_check(
	const struct database *d, const MDB_val *key, const MDB_val *value, char *ret_name);
