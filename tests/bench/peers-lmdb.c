/* SPDX-License-Identifier: MIT */

/* A peer with a database: a transaction of LMDB reads a counter by name, compares it with its
 * limit, and writes it. MDB_NOSYNC, MDB_WRITEMAP and tmpfs make LMDB as fast as it can be. */

#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "peer.h"

#define MAP_SIZE (UINT64_C(16) << 20)

struct value {
	uint32_t count, limit;
};

static MDB_env *env;
static MDB_dbi dbi;

static void must(int code, const char *what) {
	if (__builtin_expect(code == MDB_SUCCESS, 1))
		return;
	fprintf(stderr, "bench: %s: %s\n", what, mdb_strerror(code));
	bench_check(false, what);
}

static void lmdb_open(void) {
	char path[128];
	MDB_txn *txn;

	(void)snprintf(path, sizeof(path), "%s/lmdb", bench.dir);
	must(mdb_env_create(&env), "mdb_env_create");
	must(mdb_env_set_mapsize(env, MAP_SIZE), "mdb_env_set_mapsize");
	must(mdb_env_open(env, path, MDB_NOSYNC | MDB_WRITEMAP, 0600), "mdb_env_open");
	must(mdb_txn_begin(env, NULL, 0, &txn), "mdb_txn_begin");
	must(mdb_dbi_open(txn, NULL, 0, &dbi), "mdb_dbi_open");
	must(mdb_txn_commit(txn), "mdb_txn_commit");
}

static MDB_val key_of(unsigned object) {
	const char *name = object_name(object);

	return (MDB_val){.mv_data = (void *)(uintptr_t)name, .mv_size = strlen(name)};
}

static const char *lmdb_start(void) {
	char path[128];
	MDB_txn *txn;
	pid_t pid;

	(void)snprintf(path, sizeof(path), "%s/lmdb", bench.dir);
	bench_check(mkdir(path, 0700) == 0, path);
	/* An LMDB environment can't be used after fork(), so a child writes the limits. */
	pid = bench_fork();
	if (pid > 0) {
		bench_wait(pid);
		return NULL;
	}
	lmdb_open();
	must(mdb_txn_begin(env, NULL, 0, &txn), "mdb_txn_begin");
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct value value = {0, object_limit(i)};
		MDB_val key = key_of(i), data = {.mv_data = &value, .mv_size = sizeof(value)};

		must(mdb_put(txn, dbi, &key, &data, 0), "mdb_put");
	}
	must(mdb_txn_commit(txn), "mdb_txn_commit");
	mdb_env_close(env);
	_exit(EXIT_SUCCESS);
}

static inline bool count_change(unsigned object, bool up) {
	MDB_val key = key_of(object), data;
	struct value value;
	MDB_txn *txn;

	must(mdb_txn_begin(env, NULL, 0, &txn), "mdb_txn_begin");
	must(mdb_get(txn, dbi, &key, &data), "mdb_get");
	memcpy(&value, data.mv_data, sizeof(value));
	if (up && value.count >= value.limit) {
		mdb_txn_abort(txn);
		return false;
	}
	value.count += up ? 1 : -1u;
	data.mv_data = &value;
	must(mdb_put(txn, dbi, &key, &data, 0), "mdb_put");
	must(mdb_txn_commit(txn), "mdb_txn_commit");
	return true;
}

static inline bool lmdb_take(unsigned object) {
	return count_change(object, true);
}

static inline void lmdb_give(unsigned object) {
	(void)count_change(object, false);
}

PEER_LOOPS(lmdb)

struct peer peer_lmdb = {
	.name = "LMDB",
	.operations = "two transactions, NOSYNC, WRITEMAP",
	.loses = "its slots, for good",
	.open = lmdb_open,
	PEER_FUNCTIONS(lmdb),
};
