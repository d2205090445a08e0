/* SPDX-License-Identifier: MIT */
#pragma once

/* What lmdb.c and lmdb-verify.c both need: opening LMDB's file, and checking its format and its
 * entries (database-format.h). Only these two files and lmdb-file.c include LMDB's lmdb.h. */

#include <lmdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The map is only address space. It is so large that the disk gets full before the map does. */
#define MAP_SIZE_MAX (UINT64_C(16) << 30)
/* The smallest map that is tried. */
#define MAP_SIZE_MIN (UINT64_C(256) << 20)

struct lmdb {
	char *dir, *path;
	const char *table;
	size_t value_size;
	bool durable;
	bool has_changed_much;
	MDB_env *env; /* NULL: closed */
	MDB_dbi values;
};

/* LMDB's code as a negative errno; 0 for success. */
int lmdb_translate(int code);

/* Opens an environment. If the process may not have map_size bytes of address space (RLIMIT_AS),
 * the map is smaller. */
int lmdb_open_env(const char *path, unsigned flags, uint64_t map_size, MDB_env **ret);

/* Checks the version of the format, and opens the table. */
int lmdb_check_format(const struct lmdb *l, MDB_txn *txn, MDB_dbi *ret_values);

/* The checksum of an entry. `size` is that of the value alone. */
uint64_t lmdb_sum_entry(const MDB_val *key, const void *value, size_t size);
/* Checks an entry's size and checksum, and copies its key to ret_name, which has BERTH_NAME_MAX + 1
 * bytes. */
int lmdb_check_entry(
	const struct lmdb *l, const MDB_val *key, const MDB_val *value, char *ret_name);
