/* SPDX-License-Identifier: MIT */

/* Opens LMDB's file, checks its format and its entries, and turns LMDB's errors into errnos.
 *
 * berthd 0.1.0 wrote a checksum ("seal") behind each of the two meta pages, where LMDB
 * stores nothing. LMDB doesn't look at these bytes, so berthd reads such files as they are. */

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bounds.h"
#include "database-format.h"
#include "lmdb-file.h"
#include "util.h"

int lmdb_translate(int code) {
	switch (code) {
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
	case MDB_CURSOR_FULL:
	case MDB_PANIC:
		return -EUCLEAN;
	case MDB_MAP_FULL:
		return -ENOSPC;
	case MDB_TXN_FULL:
		return -E2BIG;
	case MDB_BAD_VALSIZE:
		return -EINVAL;
	case MDB_READERS_FULL:
		return -EAGAIN;
	default:
		/* LMDB's own codes are negative. The way berthd uses LMDB leads to no negative
		 * codes but those above. */
		return code > 0 ? -code : code == MDB_SUCCESS ? 0 : -EUCLEAN;
	}
}

int lmdb_open_env(const char *path, unsigned flags, uint64_t map_size, MDB_env **ret) {
	size_t size = (size_t)MIN_OF(map_size, SIZE_MAX / 4);
	int r;

	do {
		MDB_env *env = NULL;

		r = mdb_env_create(&env);
		if (r == 0)
			r = mdb_env_set_maxdbs(env, 4);
		if (r == 0)
			r = mdb_env_set_mapsize(env, size);
		if (r == 0)
			r = mdb_env_open(env, path, flags | MDB_NOTLS, 0600);
		if (r == 0) {
			*ret = env;
			return 0;
		}
		mdb_env_close(env);
		size /= 2;
	} while (r == ENOMEM && size >= MAP_SIZE_MIN);
	return lmdb_translate(r);
}

/* berthd makes each environment with a format and a table; one without them is damaged. */
int lmdb_check_format(const struct lmdb *l, MDB_txn *txn, MDB_dbi *ret_values) {
	MDB_val key = {strlen(FORMAT_KEY), (char *)FORMAT_KEY}, value;
	uint32_t version = 0;
	MDB_dbi meta;
	int r = mdb_dbi_open(txn, META_TABLE, 0, &meta);

	if (r == 0)
		r = mdb_get(txn, meta, &key, &value);
	if (r == 0 && value.mv_size == sizeof(version))
		memcpy(&version, value.mv_data, sizeof(version));
	if (r == 0 && version > FORMAT_VERSION)
		return -EPROTONOSUPPORT;
	if (r == 0)
		r = version == 0 ? MDB_NOTFOUND : mdb_dbi_open(txn, l->table, 0, ret_values);
	return r == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(r);
}

/* LMDB doesn't notice if a byte of a name or a value changes on the disk. So each value is followed
 * by a checksum of name and value. */
uint64_t lmdb_sum_entry(const MDB_val *key, const void *value, size_t size) {
	return XXH3_64bits_withSeed(value, size, XXH3_64bits(key->mv_data, key->mv_size));
}

int lmdb_check_entry(
	const struct lmdb *l, const MDB_val *key, const MDB_val *value, char *ret_name) {
	uint64_t sum;

	if (key->mv_size == 0 || key->mv_size > BERTH_NAME_MAX ||
		memchr(key->mv_data, '\0', key->mv_size) ||
		value->mv_size != l->value_size + sizeof(sum))
		return -EUCLEAN;
	memcpy(&sum, (const char *)value->mv_data + l->value_size, sizeof(sum));
	if (sum != lmdb_sum_entry(key, value->mv_data, l->value_size))
		return -EUCLEAN;
	memcpy(ret_name, key->mv_data, key->mv_size);
	ret_name[key->mv_size] = '\0';
	return 0;
}
