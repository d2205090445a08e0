/* SPDX-License-Identifier: MIT */

/* Opens, reads and writes one LMDB environment, and turns its errors into errnos.
 *
 * Making the file
 *   Invariant: `data.mdb` is whole, and has its format and its table, whenever it exists.
 *   1. data.mdb.new is made with format and table, committed and synced;
 *   2. it is renamed to data.mdb; 3. the directory is synced.
 *   Death before 2 leaves a data.mdb.new, which the next start removes; nothing was stored yet.
 *   Death between 2 and 3 leaves one or the other. Thus a data.mdb that is no valid database is
 *   always damage and never a birth that was interrupted.
 *
 * Each later change is one LMDB transaction: new pages, (sync,) then the meta page that refers to
 * them, which is sealed (database-meta.c). It never writes a page that the last two transactions
 * use, so what was committed stays. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "database-lmdb.h"
#include "database-meta.h"
#include "bounds.h"
#include "util.h"

#define FORMAT_VERSION 1u
#define VALUE_SIZE_MAX 16
#define FORMAT_KEY     "format"

/* The map is address space, not memory or disk: so large that only the disk can be full. Where so
 * much address space isn't to be had (RLIMIT_AS), a smaller one is tried. */
#define MAP_SIZE_MAX (UINT64_C(16) << 30)
#define MAP_SIZE_MIN (UINT64_C(256) << 20)

/* A file system with less room than this is the likely cause of a short write. */
#define ROOM_MIN (UINT64_C(1) << 20)

/* -- errors ------------------------------------------------------------------------------------ */

static int translate(int code) {
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
		return code > 0 ? -code : code == MDB_SUCCESS ? 0 : -EIO;
	}
}

/* LMDB calls a short write EIO, which on a disk without errors means that it is full. */
static int explain_io_error(const struct database *d, int error) {
	struct statvfs st;

	if (error != -EIO || statvfs(d->dir, &st) < 0)
		return error;
	return (uint64_t)st.f_bavail * st.f_frsize < ROOM_MIN ? -ENOSPC : error;
}

const char *database_advice(int error) {
	switch (-error) {
	case EACCES:
	case EPERM:
		return "check that it belongs to the user that berthd runs as";
	case EROFS:
		return "mount the file system writable";
	case ENOSPC:
	case EDQUOT:
		return "make room on that file system";
	case ENOTRECOVERABLE:
		return "the disk took neither all of the change nor back what was there before; "
		       "make "
		       "room on that file system, or replace the disk, and make the change again";
	case EUCLEAN:
		return "the file is damaged: restore a backup, or move the directory away to begin "
		       "without it";
	case EPROTONOSUPPORT:
		return "a later berthd wrote it: run that one, or restore a backup of this one's";
	case ENOENT:
		return "put it back, or restart berthd to begin without it";
	case EBUSY:
		return "another berthd uses it: stop that one, or set $BERTH_STATE_DIR";
	case ENOMEM:
		return "allow the process more memory and address space";
	case EMFILE:
	case ENFILE:
		return "allow the process, or the system, more open files";
	case EIO:
		return "check the disk";
	default:
		return "correct that";
	}
}

/* -- files ------------------------------------------------------------------------------------- */

int dir_sync(const char *path) {
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

int dir_make(const char *path) {
	_cleanup_free_ char *parent = NULL;

	if (mkdir(path, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	if (asprintf(&parent, "%s/..", path) < 0) {
		parent = NULL;
		return -ENOMEM;
	}
	return dir_sync(parent);
}

char *database_path(const struct database *d, const char *name) {
	char *path;

	return asprintf(&path, "%s/%s", d->dir, name) < 0 ? NULL : path;
}

/* -- opening ----------------------------------------------------------------------------------- */

static int env_open_size(const char *path, unsigned flags, size_t map_size, MDB_env **ret) {
	MDB_env *env;
	int r = mdb_env_create(&env);

	if (r != 0)
		return translate(r);
	r = mdb_env_set_maxdbs(env, 4);
	if (r == 0)
		r = mdb_env_set_mapsize(env, map_size);
	if (r == 0)
		r = mdb_env_open(env, path, flags | MDB_NOTLS, 0600);
	if (r != 0) {
		mdb_env_close(env);
		return translate(r);
	}
	*ret = env;
	return 0;
}

static int env_open(const char *path, unsigned flags, MDB_env **ret) {
	uint64_t size = MIN_OF(MAP_SIZE_MAX, SIZE_MAX / 4);
	int r;

	do {
		r = env_open_size(path, flags, (size_t)size, ret);
		size /= 2;
	} while (r == -ENOMEM && size >= MAP_SIZE_MIN);
	return r;
}

static int format_write(const struct database *d, MDB_txn *txn) {
	uint32_t version = FORMAT_VERSION;
	MDB_val key = {strlen(FORMAT_KEY), (char *)FORMAT_KEY};
	MDB_val value = {sizeof(version), &version};
	MDB_dbi meta, values;
	int r = mdb_dbi_open(txn, META_TABLE, MDB_CREATE, &meta);

	if (r == 0)
		r = mdb_put(txn, meta, &key, &value, 0);
	if (r == 0)
		r = mdb_dbi_open(txn, d->table, MDB_CREATE, &values);
	return translate(r);
}

int database_format_entry_check(const MDB_val *key, const MDB_val *value) {
	uint32_t version;

	if (key->mv_size != strlen(FORMAT_KEY) ||
		memcmp(key->mv_data, FORMAT_KEY, key->mv_size) != 0 ||
		value->mv_size != sizeof(version))
		return -EUCLEAN;
	memcpy(&version, value->mv_data, sizeof(version));
	return version > FORMAT_VERSION ? -EPROTONOSUPPORT : version == 0 ? -EUCLEAN : 0;
}

/* A database without a format, or without its table, is none of ours, or no longer. */
static int format_check(const struct database *d, MDB_txn *txn, MDB_dbi *ret_values) {
	MDB_val key = {strlen(FORMAT_KEY), (char *)FORMAT_KEY}, value;
	MDB_dbi meta;
	int r = mdb_dbi_open(txn, META_TABLE, 0, &meta);

	if (r == 0)
		r = mdb_get(txn, meta, &key, &value);
	if (r != 0)
		return r == MDB_NOTFOUND ? -EUCLEAN : translate(r);
	r = database_format_entry_check(&key, &value);
	if (r < 0)
		return r;
	r = mdb_dbi_open(txn, d->table, 0, ret_values);
	return r == MDB_NOTFOUND ? -EUCLEAN : translate(r);
}

/* What an open file begins with, sealed. */
static int metas_seal(MDB_env *env) {
	struct metas metas;
	int fd, r = translate(mdb_env_get_fd(env, &fd));

	if (r == 0)
		r = metas_read(fd, &metas);
	for (unsigned n = 0; n < META_PAGES && r == 0; n++)
		r = meta_seal(fd, metas.page_size, n);
	return r;
}

/* Step 1 of making the file. */
static int file_prepare(const struct database *d, const char *path) {
	MDB_env *env;
	MDB_txn *txn;
	int r = env_open_size(path, MDB_NOSUBDIR, (size_t)MAP_SIZE_MIN, &env);

	if (r < 0)
		return r;
	r = translate(mdb_txn_begin(env, NULL, 0, &txn));
	if (r == 0) {
		r = format_write(d, txn);
		if (r == 0)
			r = translate(mdb_txn_commit(txn));
		else
			mdb_txn_abort(txn);
	}
	if (r == 0)
		r = metas_seal(env);
	if (r == 0)
		r = translate(mdb_env_sync(env, 1));
	mdb_env_close(env);
	return explain_io_error(d, r);
}

int database_make(struct database *d) {
	_cleanup_free_ char *path = database_path(d, "data.mdb");
	_cleanup_free_ char *new = database_path(d, "data.mdb.new");
	_cleanup_free_ char *lock = database_path(d, "data.mdb.new-lock");
	struct stat st;
	int r;

	if (!path || !new || !lock)
		return -ENOMEM;
	r = dir_make(d->dir);
	if (r < 0)
		return r;
	(void)unlink(new);
	/* LMDB takes an empty file for a new one, but we never leave any. */
	if (stat(path, &st) == 0)
		return st.st_size > 0 ? 0 : -EUCLEAN;
	if (errno != ENOENT)
		return -errno;

	r = file_prepare(d, new); /* 1 */
	(void)unlink(lock);
	if (r < 0) {
		(void)unlink(new);
		return r;
	}
	if (rename(new, path) < 0) /* 2 */
		return -errno;
	return dir_sync(d->dir); /* 3 */
}

int database_new(const char *dir, const char *table, size_t value_size, bool durable,
	struct database **ret) {
	struct database *d = calloc(1, sizeof(*d));
	char *copy = strdup(dir);

	assert(value_size <= VALUE_SIZE_MAX);
	if (!d || !copy) {
		free(copy);
		free(d);
		return -ENOMEM;
	}
	*d = (struct database){
		.dir = copy, .table = table, .value_size = value_size, .durable = durable};
	*ret = d;
	return 0;
}

void database_close(struct database *d) {
	if (d->env)
		mdb_env_close(d->env);
	d->env = NULL;
}

bool database_is_open(const struct database *d) {
	return d->env;
}

void database_free(struct database *d) {
	if (!d)
		return;
	database_close(d);
	free(d->dir);
	free(d);
}

/* A handle that is opened in a transaction lasts if that is committed, even one that only reads. */
static int database_open_table(struct database *d) {
	MDB_envinfo info;
	MDB_txn *txn;
	int r = translate(mdb_txn_begin(d->env, NULL, MDB_RDONLY, &txn));

	if (r < 0)
		return r;
	/* LMDB goes by what its lock file says as long as another process has that open; but we may
	 * have taken a transaction back since. */
	r = translate(mdb_env_info(d->env, &info));
	if (r == 0 && info.me_last_txnid != mdb_txn_id(txn))
		r = -EBUSY;
	if (r == 0)
		r = format_check(d, txn, &d->values);
	if (r < 0) {
		mdb_txn_abort(txn);
		return r;
	}
	return translate(mdb_txn_commit(txn));
}

/* LMDB begins a new file where there is none, and goes by what a damaged one says. */
static int file_check(const struct database *d) {
	_cleanup_free_ char *path = database_path(d, "data.mdb");
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct metas metas;

	if (fd < 0)
		return path ? -errno : -ENOMEM;
	return metas_read(fd, &metas);
}

int database_open(struct database *d) {
	int r;

	if (d->env)
		return 0;
	r = file_check(d);
	if (r < 0)
		return r;
	r = env_open(d->dir, d->durable ? MDB_NOMETASYNC : MDB_NOSYNC, &d->env);
	if (r < 0)
		return r;
	r = database_open_table(d);
	if (r == 0)
		r = metas_seal(d->env);
	if (r < 0)
		database_close(d);
	return r;
}

/* -- reading ----------------------------------------------------------------------------------- */

/* LMDB notices nothing when a byte of a name or a value changes on the disk: each value is followed by
 * the sum of both. */
static uint64_t entry_sum(const void *name, size_t name_size, const void *value, size_t size) {
	return XXH3_64bits_withSeed(value, size, XXH3_64bits(name, name_size));
}

/* Copies a key into a name of BERTH_NAME_MAX + 1 bytes. */
int database_entry_check(
	const struct database *d, const MDB_val *key, const MDB_val *value, char *ret_name) {
	uint64_t sum;

	if (key->mv_size == 0 || key->mv_size > BERTH_NAME_MAX ||
		memchr(key->mv_data, '\0', key->mv_size) ||
		value->mv_size != d->value_size + sizeof(sum))
		return -EUCLEAN;
	memcpy(&sum, (const char *)value->mv_data + d->value_size, sizeof(sum));
	if (sum != entry_sum(key->mv_data, key->mv_size, value->mv_data, d->value_size))
		return -EUCLEAN;
	memcpy(ret_name, key->mv_data, key->mv_size);
	ret_name[key->mv_size] = '\0';
	return 0;
}

size_t database_count(struct database *d) {
	MDB_stat st = {0};
	MDB_txn *txn;

	if (!d->env || mdb_txn_begin(d->env, NULL, MDB_RDONLY, &txn) != 0)
		return 0;
	(void)mdb_stat(txn, d->values, &st);
	mdb_txn_abort(txn);
	return st.ms_entries;
}

/* The first entry whose name comes after that one. */
static int cursor_seek(MDB_cursor *cursor, const char *after, MDB_val *key, MDB_val *value) {
	const MDB_val passed = {strlen(after), (char *)after};
	int r;

	if (!*after)
		return mdb_cursor_get(cursor, key, value, MDB_FIRST);
	*key = passed;
	r = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
	if (r == 0 && key->mv_size == passed.mv_size &&
		memcmp(key->mv_data, after, passed.mv_size) == 0)
		r = mdb_cursor_get(cursor, key, value, MDB_NEXT);
	return r;
}

static int cursor_read(const struct database *d, MDB_cursor *cursor, char *place, size_t most,
	database_each each, void *data) {
	char name[2][BERTH_NAME_MAX + 1]; /* this one's, and that of the one before */
	MDB_val key, value;
	size_t n = 0;
	int error = 0, r = cursor_seek(cursor, place, &key, &value);

	while (r == 0 && n < most) {
		error = database_entry_check(d, &key, &value, name[n % 2]);
		if (error == 0)
			error = each(data, name[n % 2], value.mv_data);
		if (error < 0)
			break;
		n++;
		r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	if (n > 0)
		strcpy(place, name[(n - 1) % 2]);
	if (error < 0)
		return error;
	return r == 0 ? 1 : r == MDB_NOTFOUND ? 0 : translate(r);
}

int database_read_some(
	struct database *d, char *place, size_t most, database_each each, void *data) {
	MDB_cursor *cursor;
	MDB_txn *txn;
	int r;

	if (!d->env)
		return -ENODEV;
	r = translate(mdb_txn_begin(d->env, NULL, MDB_RDONLY, &txn));
	if (r < 0)
		return r;
	r = translate(mdb_cursor_open(txn, d->values, &cursor));
	if (r == 0) {
		r = cursor_read(d, cursor, place, most, each, data);
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(txn);
	return r;
}

int database_read(struct database *d, database_each each, void *data) {
	char place[BERTH_NAME_MAX + 1] = "";

	return database_read_some(d, place, SIZE_MAX, each, data);
}

/* -- writing ----------------------------------------------------------------------------------- */

int database_put(struct database_txn *txn, const char *name, const void *value) {
	const size_t size = txn->database->value_size;
	char stored[VALUE_SIZE_MAX + sizeof(uint64_t)];
	MDB_val k = {strlen(name), (char *)name};
	MDB_val v = {size + sizeof(uint64_t), stored};
	uint64_t sum = entry_sum(name, k.mv_size, value, size);

	if (k.mv_size > BERTH_NAME_MAX)
		return -EINVAL;
	memcpy(stored, value, size);
	memcpy(stored + size, &sum, sizeof(sum));
	return translate(mdb_cursor_put(txn->cursor, &k, &v, 0));
}

int database_delete(struct database_txn *txn, const char *name) {
	MDB_val k = {strlen(name), (char *)name};
	int r = mdb_del(txn->txn, txn->database->values, &k, NULL);

	return r == MDB_NOTFOUND ? 0 : translate(r);
}

static int txn_fill(struct database *d, MDB_txn *txn, database_fill fill, void *data) {
	struct database_txn t = {.txn = txn, .database = d};
	int r = translate(mdb_cursor_open(txn, d->values, &t.cursor));

	if (r < 0)
		return r;
	r = fill(&t, data);
	mdb_cursor_close(t.cursor);
	return r;
}

/* LMDB syncs the pages, and leaves their meta page to us, to be synced with its seal. */
static int commit_sealed(
	const struct database *d, MDB_txn *txn, int fd, size_t page_size, unsigned n) {
	int r = translate(mdb_txn_commit(txn));

	if (r == 0)
		r = meta_seal(fd, page_size, n);
	if (r == 0 && d->durable && fdatasync(fd) < 0)
		r = -errno;
	return r;
}

static int commit(const struct database *d, MDB_txn *txn) {
	unsigned n = mdb_txn_id(txn) % META_PAGES;
	struct meta_bytes before;
	MDB_stat stat;
	int fd, r = translate(mdb_env_get_fd(d->env, &fd));

	if (r == 0)
		r = translate(mdb_env_stat(d->env, &stat));
	if (r == 0)
		r = meta_save(fd, stat.ms_psize, n, &before);
	if (r < 0) {
		mdb_txn_abort(txn);
		return r;
	}
	r = commit_sealed(d, txn, fd, stat.ms_psize, n);
	if (r == 0)
		return 0;
	/* What can't be synced must not be found by the next start; nor may the disk have kept it when
	 * the next transaction writes over its pages. */
	if (meta_restore(fd, stat.ms_psize, n, &before) < 0)
		return -ENOTRECOVERABLE;
	if (d->durable)
		(void)fdatasync(fd);
	return r;
}

static int database_write_once(struct database *d, database_fill fill, void *data) {
	MDB_txn *txn;
	int r;

	/* A backup that was killed would keep pages from being used again for ever. */
	(void)mdb_reader_check(d->env, NULL);
	r = translate(mdb_txn_begin(d->env, NULL, 0, &txn));
	if (r < 0)
		return r;
	r = txn_fill(d, txn, fill, data);
	if (r < 0) {
		mdb_txn_abort(txn);
		return r;
	}
	return commit(d, txn);
}

int database_write(struct database *d, database_fill fill, void *data) {
	int r = database_open(d);

	if (r == 0)
		r = database_write_once(d, fill, data);
	/* After some failures LMDB refuses everything until it is opened again. Which ones is its
	 * own business, and opening is cheap. */
	if (r < 0)
		database_close(d);
	return explain_io_error(d, r);
}

int database_sync(struct database *d) {
	return d->env ? translate(mdb_env_sync(d->env, 1)) : 0;
}
