/* SPDX-License-Identifier: MIT */
#pragma once

/* The parts of lmdb.c that lmdb-verify.c needs, too. Only these two files include it,
 * and LMDB's lmdb.h. */

#include <lmdb.h>

#include "lmdb.h"

/* The map is address space, not memory or disk. It is so large that only the disk can be full. */
#define MAP_SIZE_MAX (UINT64_C(16) << 30)

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

/* Opens the environment in the directory. Where the process may not have so much address space
 * (RLIMIT_AS), the map is smaller. */
int lmdb_open_env(const struct lmdb *l, unsigned flags, MDB_env **ret);

/* Checks the version of the format, and opens the table. */
int lmdb_check_format(const struct lmdb *l, MDB_txn *txn, MDB_dbi *ret_values);

/* Checks an entry's size and checksum, and copies its key into a name of BERTH_NAME_MAX + 1
 * bytes. */
int lmdb_check_entry(
	const struct lmdb *l, const MDB_val *key, const MDB_val *value, char *ret_name);
