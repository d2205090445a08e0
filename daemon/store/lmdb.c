/* SPDX-License-Identifier: MIT */

/* Makes, opens, reads and writes one LMDB environment.
 *
 * Making the file
 *   Invariant: `data.mdb` is whole, and has its format and its table, whenever it exists.
 *   1. data.mdb.new is made with format and table, committed and synced;
 *   2. it is renamed to data.mdb; 3. the directory is synced.
 *   If berthd dies before 2, data.mdb.new is left, and the next start removes it; nothing was
 *   stored yet. If berthd dies, or the power fails, between 2 and 3, data.mdb.new or data.mdb is
 *   there.
 *   So a data.mdb that is no valid database is always damaged, and never half made.
 *
 * Each later change is one LMDB transaction: LMDB writes new pages, syncs them, and then writes the
 * meta page that refers to them, synchronously. A transaction never writes a page that the last two
 * transactions use, so a committed transaction stays. */

#include <assert.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "bounds.h"
#include "database-format.h"
#include "dir.h"
#include "lmdb.h"
#include "lmdb-file.h"
#include "util.h"

/* If the file system has less space than this, a short write is reported as a full disk. */
#define SPACE_MIN (UINT64_C(1) << 20)

/* After a change of more entries than this, the environment is closed. */
#define LARGE_CHANGE 16384

struct lmdb_txn {
	MDB_txn *txn;
	MDB_cursor *cursor; /* remembers its place, so that names in order are put quickly */
	const struct lmdb *lmdb;
	size_t changes;
};

/* -- errors ------------------------------------------------------------------------------------ */

/* LMDB reports a short write as EIO. On a disk without errors, a short write means that the disk is
 * full. */
static int explain_io_error(const struct lmdb *l, int error) {
	struct statvfs st;

	if (error != -EIO || statvfs(l->dir, &st) < 0)
		return error;
	return (uint64_t)st.f_bavail * st.f_frsize < SPACE_MIN ? -ENOSPC : error;
}

const char *lmdb_advice(int error) {
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
	case EIO:
		return "check the disk";
	case EUCLEAN:
		return "the file is damaged; restore an export by berthd --restore FILE";
	case EPROTONOSUPPORT:
		return "a later berthd wrote it; run that one, or restore an export by "
		       "berthd --restore FILE";
	case ENOENT:
		return "put it back, or restart berthd to begin without it";
	case EBUSY:
		return "another process uses it; stop that one, or set $BERTH_STATE_DIR";
	case ENOMEM:
		return "allow the process more memory and address space";
	case EMFILE:
	case ENFILE:
		return "allow the process, or the system, more open files";
	default:
		return "correct that";
	}
}

/* -- making and opening ------------------------------------------------------------------------ */

/* Step 1 of making the file. */
static int file_prepare(const struct lmdb *l, const char *path) {
	uint32_t version = FORMAT_VERSION;
	MDB_val key = {strlen(FORMAT_KEY), (char *)FORMAT_KEY};
	MDB_val value = {sizeof(version), &version};
	MDB_dbi meta, values;
	MDB_env *env;
	MDB_txn *txn;
	int r = lmdb_open_env(path, MDB_NOSUBDIR, MAP_SIZE_MIN, &env);

	if (r < 0)
		return r;
	r = mdb_txn_begin(env, NULL, 0, &txn);
	if (r == 0) {
		r = mdb_dbi_open(txn, META_TABLE, MDB_CREATE, &meta);
		if (r == 0)
			r = mdb_put(txn, meta, &key, &value, 0);
		if (r == 0)
			r = mdb_dbi_open(txn, l->table, MDB_CREATE, &values);
		if (r == 0)
			r = mdb_txn_commit(txn);
		else
			mdb_txn_abort(txn);
	}
	mdb_env_close(env);
	return explain_io_error(l, lmdb_translate(r));
}

int lmdb_make(struct lmdb *l) {
	_cleanup_free_ char *new = dir_path(l->dir, "data.mdb.new");
	_cleanup_free_ char *lock = dir_path(l->dir, "data.mdb.new-lock");
	struct stat st;
	int r = !new || !lock ? -ENOMEM : dir_make(l->dir, 0700);

	if (r < 0)
		return r;
	(void)unlink(new);
	if (stat(l->path, &st) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;

	r = file_prepare(l, new); /* 1 */
	(void)unlink(lock);
	if (r < 0) {
		(void)unlink(new);
		return r;
	}
	if (rename(new, l->path) < 0) /* 2 */
		return -errno;
	return dir_sync(l->dir); /* 3 */
}

int lmdb_new(
	const char *dir, const char *table, size_t value_size, bool durable, struct lmdb **ret) {
	struct lmdb *l = calloc(1, sizeof(*l));

	assert(value_size <= VALUE_SIZE_MAX);
	if (!l)
		return -ENOMEM;
	*l = (struct lmdb){.table = table, .value_size = value_size, .durable = durable};
	l->dir = strdup(dir);
	l->path = l->dir ? dir_path(l->dir, "data.mdb") : NULL;
	if (!l->path) {
		lmdb_free(l);
		return -ENOMEM;
	}
	*ret = l;
	return 0;
}

const char *lmdb_dir(const struct lmdb *l) {
	return l->dir;
}

const char *lmdb_path(const struct lmdb *l) {
	return l->path;
}

void lmdb_close(struct lmdb *l) {
	if (l->env)
		mdb_env_close(l->env);
	l->env = NULL;
	l->has_changed_much = false;
}

bool lmdb_is_open(const struct lmdb *l) {
	return l->env;
}

void lmdb_free(struct lmdb *l) {
	if (!l)
		return;
	lmdb_close(l);
	free(l->path);
	free(l->dir);
	free(l);
}

int lmdb_open(struct lmdb *l) {
	MDB_envinfo info;
	struct stat st;
	MDB_txn *txn;
	int r;

	if (l->env)
		return 0;
	/* If the file is missing or empty, LMDB would make a new one. Here that is an error, since
	 * berthd never leaves the file missing or empty. */
	if (stat(l->path, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return -EUCLEAN;
	r = lmdb_open_env(l->dir, l->durable ? 0 : MDB_NOSYNC, MAP_SIZE_MAX, &l->env);
	if (r < 0)
		return r;
	r = lmdb_translate(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn));
	if (r < 0) {
		lmdb_close(l);
		return r;
	}
	/* While another process has the lock file open, LMDB takes the number of the last
	 * transaction from the lock file. After a failed commit, data.mdb may have another. */
	r = lmdb_translate(mdb_env_info(l->env, &info));
	if (r == 0 && info.me_last_txnid != mdb_txn_id(txn))
		r = -EBUSY;
	if (r == 0)
		r = lmdb_check_format(l, txn, &l->values);
	/* The table's handle lasts only if the transaction that opened it commits. So this one
	 * commits, although it only reads. */
	if (r == 0)
		r = lmdb_translate(mdb_txn_commit(txn));
	else
		mdb_txn_abort(txn);
	if (r < 0)
		lmdb_close(l);
	return r;
}

/* -- reading ----------------------------------------------------------------------------------- */

int lmdb_read(struct lmdb *l, char *place, size_t most, lmdb_each each, void *data) {
	MDB_val key = {strlen(place), place}, value;
	char name[BERTH_NAME_MAX + 1];
	MDB_cursor *cursor;
	MDB_txn *txn;
	int found, r = lmdb_open(l);

	if (r == 0)
		r = lmdb_translate(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn));
	if (r < 0)
		return r;
	r = lmdb_translate(mdb_cursor_open(txn, l->values, &cursor));
	if (r < 0) {
		mdb_txn_abort(txn);
		return r;
	}
	/* If there is no entry with the name `place`, MDB_SET_RANGE finds the next one. */
	found = mdb_cursor_get(cursor, &key, &value, *place ? MDB_SET_RANGE : MDB_FIRST);
	if (found == 0 && *place && key.mv_size == strlen(place) &&
		memcmp(key.mv_data, place, key.mv_size) == 0)
		found = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	for (size_t n = 0; found == 0 && n < most; n++) {
		r = lmdb_check_entry(l, &key, &value, name);
		if (r == 0)
			r = each(data, name, value.mv_data);
		if (r < 0)
			break;
		strcpy(place, name);
		found = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	mdb_txn_abort(txn);
	if (r < 0)
		return r;
	return found == 0 ? 1 : found == MDB_NOTFOUND ? 0 : lmdb_translate(found);
}

/* -- writing ----------------------------------------------------------------------------------- */

int lmdb_put(struct lmdb_txn *txn, const char *name, const void *value) {
	const size_t size = txn->lmdb->value_size;
	char stored[VALUE_SIZE_MAX + sizeof(uint64_t)];
	MDB_val k = {strlen(name), (char *)name}, v = {size + sizeof(uint64_t), stored};
	uint64_t sum = lmdb_sum_entry(&k, value, size);

	if (k.mv_size > BERTH_NAME_MAX)
		return -EINVAL;
	txn->changes++;
	memcpy(stored, value, size);
	memcpy(stored + size, &sum, sizeof(sum));
	return lmdb_translate(mdb_cursor_put(txn->cursor, &k, &v, 0));
}

int lmdb_delete(struct lmdb_txn *txn, const char *name) {
	MDB_val k = {strlen(name), (char *)name};
	int r = mdb_del(txn->txn, txn->lmdb->values, &k, NULL);

	txn->changes++;
	return r == MDB_NOTFOUND ? 0 : lmdb_translate(r);
}

/* Fills and commits one transaction. */
static int write_once(struct lmdb *l, lmdb_fill fill, void *data) {
	struct lmdb_txn t = {.lmdb = l};
	MDB_txn *next;
	int next_result, r;

	/* If a process that made a backup was killed, this call removes it from LMDB's table of
	 * readers. As long as it is in the table, LMDB doesn't use old pages again. */
	(void)mdb_reader_check(l->env, NULL);
	r = lmdb_translate(mdb_txn_begin(l->env, NULL, 0, &t.txn));
	if (r < 0)
		return r;
	r = lmdb_translate(mdb_cursor_open(t.txn, l->values, &t.cursor));
	if (r == 0) {
		r = fill(&t, data);
		mdb_cursor_close(t.cursor);
	}
	if (r < 0) {
		mdb_txn_abort(t.txn);
		return r;
	}
	l->has_changed_much = t.changes > LARGE_CHANGE;
	r = explain_io_error(l, lmdb_translate(mdb_txn_commit(t.txn)));
	if (r == 0 || !l->durable)
		return r;
	/* If LMDB fails to write the meta page, it puts the old one back into the page cache and
	 * refuses everything (MDB_PANIC). The disk may have either page. After an I/O error at an
	 * earlier step the old meta page should be in force, but a disk with errors isn't
	 * trusted. */
	next_result = mdb_txn_begin(l->env, NULL, 0, &next);
	if (next_result == 0)
		mdb_txn_abort(next);
	return next_result == MDB_PANIC || r == -EIO ? -ENOTRECOVERABLE : r;
}

int lmdb_write(struct lmdb *l, lmdb_fill fill, void *data) {
	int r = lmdb_open(l);

	if (r == 0)
		r = write_once(l, fill, data);
	if (r < 0 || l->has_changed_much) {
		lmdb_close(l);
		(void)malloc_trim(0);
	}
	return explain_io_error(l, r);
}

int lmdb_sync(struct lmdb *l) {
	return l->env ? lmdb_translate(mdb_env_sync(l->env, 1)) : 0;
}
