/* SPDX-License-Identifier: MIT */
#pragma once

/* What database.c and database-check.c share: LMDB itself, which nothing else includes. */

#include <lmdb.h>
#include <stdint.h>

#include "lmdb.h"

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

/* A file in the database's directory; to be freed. NULL: no memory. */
char *database_path(const struct database *d, const char *name);

/* Whether an entry of the table META_TABLE says a format that is ours. */
int database_format_entry_check(const MDB_val *key, const MDB_val *value);

/* Copies a key into a name of BERTH_NAME_MAX + 1 bytes, if key and value are whole. */
int database_entry_check(
	const struct database *d, const MDB_val *key, const MDB_val *value, char *ret_name);
