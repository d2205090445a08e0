/* SPDX-License-Identifier: MIT */

/* Opens, reads, writes and verifies one LMDB environment, and turns LMDB's errors into errnos. The only
 * file that includes lmdb.h.
 *
 * Making the file
 *   Invariant: `data.mdb` is whole, and has its format and its table, whenever it exists.
 *   1. data.mdb.new is made with format and table, committed and synced;
 *   2. it is renamed to data.mdb; 3. the directory is synced.
 *   Death before 2 leaves a data.mdb.new, which the next start removes; nothing was stored yet.
 *   Death between 2 and 3 leaves one or the other. Thus a data.mdb that is no valid database is
 *   always damage and never a birth that was interrupted.
 *
 * Each later change is one LMDB transaction: new pages, a sync, then the meta page that refers to them,
 * written synchronously. A transaction never writes a page that the last two transactions use, so a
 * committed transaction stays.
 *
 * berthd of release 0.1.0 wrote a checksum ("seal") behind each of the two meta pages, where LMDB has
 * nothing. Its files are read as they are; LMDB doesn't look at these bytes. */

#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "array.h"
#include "bounds.h"
#include "dir.h"
#include "lmdb.h"
#include "util.h"

#define META_TABLE     "meta"
#define FORMAT_VERSION 1u
#define VALUE_SIZE_MAX 16
#define FORMAT_KEY     "format"

/* The map is address space, not memory or disk: so large that only the disk can be full. Where the
 * process may not have so much address space (RLIMIT_AS), a smaller map is tried. */
#define MAP_SIZE_MAX (UINT64_C(16) << 30)
#define MAP_SIZE_MIN (UINT64_C(256) << 20)

/* If the file system has less space than this, a short write most likely means that it is full. */
#define SPACE_MIN (UINT64_C(1) << 20)

/* A change of more entries than this closes the environment. */
#define LARGE_CHANGE 16384

struct lmdb {
	char *dir, *path;
	const char *table;
	size_t value_size;
	bool durable;
	MDB_env *env; /* NULL: closed */
	MDB_dbi values;
	MDB_txn *snapshot; /* NULL: none */
	MDB_cursor *snapshot_at;
	bool snapshot_begun; /* its cursor stands at the entry that was read last */
	bool close_wanted;   /* when the snapshot ends */
};

struct lmdb_txn {
	MDB_txn *txn;
	MDB_cursor *cursor; /* remembers its place, so that names in order are put quickly */
	const struct lmdb *lmdb;
	size_t changes;
};

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
		/* berthd's use of LMDB leads to no other code of its own (all are negative). */
		return code > 0 ? -code : code == MDB_SUCCESS ? 0 : -EUCLEAN;
	}
}

/* LMDB calls a short write EIO, which on a disk without errors means that it is full. */
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
		return "a later berthd wrote it; run that one, or restore an export by berthd "
		       "--restore "
		       "FILE";
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

static int format_write(const struct lmdb *l, MDB_txn *txn) {
	uint32_t version = FORMAT_VERSION;
	MDB_val key = {strlen(FORMAT_KEY), (char *)FORMAT_KEY};
	MDB_val value = {sizeof(version), &version};
	MDB_dbi meta, values;
	int r = mdb_dbi_open(txn, META_TABLE, MDB_CREATE, &meta);

	if (r == 0)
		r = mdb_put(txn, meta, &key, &value, 0);
	if (r == 0)
		r = mdb_dbi_open(txn, l->table, MDB_CREATE, &values);
	return translate(r);
}

static int format_entry_check(const MDB_val *key, const MDB_val *value) {
	uint32_t version;

	if (key->mv_size != strlen(FORMAT_KEY) ||
		memcmp(key->mv_data, FORMAT_KEY, key->mv_size) != 0 ||
		value->mv_size != sizeof(version))
		return -EUCLEAN;
	memcpy(&version, value->mv_data, sizeof(version));
	return version > FORMAT_VERSION ? -EPROTONOSUPPORT : version == 0 ? -EUCLEAN : 0;
}

/* berthd makes every environment with a format and a table. */
static int format_check(const struct lmdb *l, MDB_txn *txn, MDB_dbi *ret_values) {
	MDB_val key = {strlen(FORMAT_KEY), (char *)FORMAT_KEY}, value;
	MDB_dbi meta;
	int r = mdb_dbi_open(txn, META_TABLE, 0, &meta);

	if (r == 0)
		r = mdb_get(txn, meta, &key, &value);
	if (r != 0)
		return r == MDB_NOTFOUND ? -EUCLEAN : translate(r);
	r = format_entry_check(&key, &value);
	if (r < 0)
		return r;
	r = mdb_dbi_open(txn, l->table, 0, ret_values);
	return r == MDB_NOTFOUND ? -EUCLEAN : translate(r);
}

/* Step 1 of making the file. */
static int file_prepare(const struct lmdb *l, const char *path) {
	MDB_env *env;
	MDB_txn *txn;
	int r = env_open_size(path, MDB_NOSUBDIR, (size_t)MAP_SIZE_MIN, &env);

	if (r < 0)
		return r;
	r = translate(mdb_txn_begin(env, NULL, 0, &txn));
	if (r == 0) {
		r = format_write(l, txn);
		if (r == 0)
			r = translate(mdb_txn_commit(txn));
		else
			mdb_txn_abort(txn);
	}
	mdb_env_close(env);
	return explain_io_error(l, r);
}

static char *path_in(const struct lmdb *l, const char *name) {
	char *path;

	return asprintf(&path, "%s/%s", l->dir, name) < 0 ? NULL : path;
}

int lmdb_make(struct lmdb *l) {
	_cleanup_free_ char *new = path_in(l, "data.mdb.new");
	_cleanup_free_ char *lock = path_in(l, "data.mdb.new-lock");
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
	l->path = l->dir ? path_in(l, "data.mdb") : NULL;
	if (!l->path) {
		lmdb_free(l);
		return -ENOMEM;
	}
	*ret = l;
	return 0;
}

const char *lmdb_path(const struct lmdb *l) {
	return l->path;
}

static void snapshot_drop(struct lmdb *l) {
	if (!l->snapshot)
		return;
	mdb_cursor_close(l->snapshot_at);
	mdb_txn_abort(l->snapshot);
	l->snapshot = NULL;
}

void lmdb_close(struct lmdb *l) {
	snapshot_drop(l);
	if (l->env)
		mdb_env_close(l->env);
	l->env = NULL;
	l->close_wanted = false;
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

/* A handle that is opened in a transaction lasts if that is committed, even one that only reads. */
static int table_open(struct lmdb *l) {
	MDB_envinfo info;
	MDB_txn *txn;
	int r = translate(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn));

	if (r < 0)
		return r;
	/* While another process has the lock file open, LMDB goes by the transaction that it names. After
	 * a failed commit the file may have another one. */
	r = translate(mdb_env_info(l->env, &info));
	if (r == 0 && info.me_last_txnid != mdb_txn_id(txn))
		r = -EBUSY;
	if (r == 0)
		r = format_check(l, txn, &l->values);
	if (r < 0) {
		mdb_txn_abort(txn);
		return r;
	}
	return translate(mdb_txn_commit(txn));
}

int lmdb_open(struct lmdb *l) {
	struct stat st;
	int r;

	if (l->env)
		return 0;
	/* LMDB would begin a new file where there is none, or an empty one. berthd never leaves either. */
	if (stat(l->path, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return -EUCLEAN;
	r = env_open(l->dir, l->durable ? 0 : MDB_NOSYNC, &l->env);
	if (r < 0)
		return r;
	r = table_open(l);
	if (r < 0)
		lmdb_close(l);
	return r;
}

/* -- reading ----------------------------------------------------------------------------------- */

/* LMDB doesn't notice that a byte of a name or a value has changed on the disk, so each value is followed
 * by a checksum of both. */
static uint64_t entry_sum(const void *name, size_t name_size, const void *value, size_t size) {
	return XXH3_64bits_withSeed(value, size, XXH3_64bits(name, name_size));
}

/* Copies a key into a name of BERTH_NAME_MAX + 1 bytes. */
static int entry_check(
	const struct lmdb *l, const MDB_val *key, const MDB_val *value, char *ret_name) {
	uint64_t sum;

	if (key->mv_size == 0 || key->mv_size > BERTH_NAME_MAX ||
		memchr(key->mv_data, '\0', key->mv_size) ||
		value->mv_size != l->value_size + sizeof(sum))
		return -EUCLEAN;
	memcpy(&sum, (const char *)value->mv_data + l->value_size, sizeof(sum));
	if (sum != entry_sum(key->mv_data, key->mv_size, value->mv_data, l->value_size))
		return -EUCLEAN;
	memcpy(ret_name, key->mv_data, key->mv_size);
	ret_name[key->mv_size] = '\0';
	return 0;
}

size_t lmdb_count(struct lmdb *l) {
	MDB_stat st = {0};
	MDB_txn *txn;

	if (!l->env || mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn) != 0)
		return 0;
	(void)mdb_stat(txn, l->values, &st);
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

static int cursor_read(const struct lmdb *l, MDB_cursor *cursor, char *place, size_t most,
	lmdb_each each, void *data) {
	char name[2][BERTH_NAME_MAX + 1]; /* this one's, and that of the one before */
	MDB_val key, value;
	size_t n = 0;
	int error = 0, r = cursor_seek(cursor, place, &key, &value);

	while (r == 0 && n < most) {
		error = entry_check(l, &key, &value, name[n % 2]);
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

int lmdb_read_some(struct lmdb *l, char *place, size_t most, lmdb_each each, void *data) {
	MDB_cursor *cursor;
	MDB_txn *txn;
	int r;

	if (!l->env)
		return -ENODEV;
	r = translate(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &txn));
	if (r < 0)
		return r;
	r = translate(mdb_cursor_open(txn, l->values, &cursor));
	if (r == 0) {
		r = cursor_read(l, cursor, place, most, each, data);
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(txn);
	return r;
}

int lmdb_read(struct lmdb *l, lmdb_each each, void *data) {
	char place[BERTH_NAME_MAX + 1] = "";

	return lmdb_read_some(l, place, SIZE_MAX, each, data);
}

/* -- writing ----------------------------------------------------------------------------------- */

/* An entry as it is stored: `stored` has VALUE_SIZE_MAX + 8 bytes. */
static void entry_make(const struct lmdb *l, const char *name, const void *value, char *stored) {
	uint64_t sum = entry_sum(name, strlen(name), value, l->value_size);

	memcpy(stored, value, l->value_size);
	memcpy(stored + l->value_size, &sum, sizeof(sum));
}

int lmdb_put(struct lmdb_txn *txn, const char *name, const void *value) {
	char stored[VALUE_SIZE_MAX + sizeof(uint64_t)];
	MDB_val k = {strlen(name), (char *)name};
	MDB_val v = {txn->lmdb->value_size + sizeof(uint64_t), stored};

	if (k.mv_size > BERTH_NAME_MAX)
		return -EINVAL;
	txn->changes++;
	entry_make(txn->lmdb, name, value, stored);
	return translate(mdb_cursor_put(txn->cursor, &k, &v, 0));
}

int lmdb_delete(struct lmdb_txn *txn, const char *name) {
	MDB_val k = {strlen(name), (char *)name};
	int r = mdb_del(txn->txn, txn->lmdb->values, &k, NULL);

	txn->changes++;
	return r == MDB_NOTFOUND ? 0 : translate(r);
}

/* If LMDB fails to write the meta page, it puts the old one back into the page cache and refuses
 * everything (MDB_PANIC). The disk may have either. After an I/O error at an earlier step the old meta
 * page should be in force, but a disk with errors isn't trusted. */
static int txn_commit(const struct lmdb *l, MDB_txn *txn) {
	int r = explain_io_error(l, translate(mdb_txn_commit(txn)));
	MDB_txn *next;
	int next_result;

	if (r == 0 || !l->durable)
		return r;
	next_result = mdb_txn_begin(l->env, NULL, 0, &next);
	if (next_result == 0)
		mdb_txn_abort(next);
	return next_result == MDB_PANIC || r == -EIO ? -ENOTRECOVERABLE : r;
}

static int write_once(struct lmdb *l, lmdb_fill fill, void *data) {
	struct lmdb_txn t = {.lmdb = l};
	int r;

	/* The reader slot of a backup that was killed would keep pages from being used again for ever. */
	(void)mdb_reader_check(l->env, NULL);
	r = translate(mdb_txn_begin(l->env, NULL, 0, &t.txn));
	if (r < 0)
		return r;
	r = translate(mdb_cursor_open(t.txn, l->values, &t.cursor));
	if (r == 0) {
		r = fill(&t, data);
		mdb_cursor_close(t.cursor);
	}
	if (r < 0) {
		mdb_txn_abort(t.txn);
		return r;
	}
	l->close_wanted = l->close_wanted || t.changes > LARGE_CHANGE;
	return txn_commit(l, t.txn);
}

static void close_if_wanted(struct lmdb *l) {
	if (!l->close_wanted || l->snapshot)
		return;
	lmdb_close(l);
	(void)malloc_trim(0);
}

int lmdb_write(struct lmdb *l, lmdb_fill fill, void *data) {
	int r = lmdb_open(l);

	if (r == 0)
		r = write_once(l, fill, data);
	if (r < 0)
		lmdb_close(l);
	close_if_wanted(l);
	return explain_io_error(l, r);
}

int lmdb_sync(struct lmdb *l) {
	return l->env ? translate(mdb_env_sync(l->env, 1)) : 0;
}

/* -- snapshots --------------------------------------------------------------------------------- */

int lmdb_snapshot_begin(struct lmdb *l) {
	int r = lmdb_open(l);

	if (r == 0)
		r = translate(mdb_txn_begin(l->env, NULL, MDB_RDONLY, &l->snapshot));
	if (r < 0) {
		l->snapshot = NULL;
		return r;
	}
	l->snapshot_begun = false;
	r = translate(mdb_cursor_open(l->snapshot, l->values, &l->snapshot_at));
	if (r < 0) {
		mdb_txn_abort(l->snapshot);
		l->snapshot = NULL;
	}
	return r;
}

int lmdb_snapshot_read(struct lmdb *l, size_t most, lmdb_each each, void *data) {
	char name[BERTH_NAME_MAX + 1];
	MDB_val key, value;
	int r = 0;

	if (!l->snapshot)
		return -ESTALE;
	for (size_t n = 0; n < most; n++) {
		r = mdb_cursor_get(
			l->snapshot_at, &key, &value, l->snapshot_begun ? MDB_NEXT : MDB_FIRST);
		l->snapshot_begun = true;
		if (r != 0)
			return r == MDB_NOTFOUND ? 0 : translate(r);
		r = entry_check(l, &key, &value, name);
		if (r == 0)
			r = each(data, name, value.mv_data);
		if (r < 0)
			return r;
	}
	return 1;
}

void lmdb_snapshot_end(struct lmdb *l) {
	snapshot_drop(l);
	close_if_wanted(l);
}

/* -- verifying --------------------------------------------------------------------------------- */

/* LMDB's own trees: of the free pages, by the transaction that freed them; of the tables, by name. */
#define TREE_FREE   0
#define TREE_TABLES 1

/* A file that is being verified. */
struct verification {
	const struct lmdb *lmdb;
	struct lmdb_progress *progress;
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi values;
	MDB_envinfo info;
	size_t page_size;
	char *map;              /* page 0; NULL: unknown */
	unsigned char *is_free; /* a bit for each page */
};

/* Looks at an entry of a tree; the key is in the progress. */
typedef int (*verify_entry)(struct verification *v, const MDB_val *key, const MDB_val *value);

static int problem(struct verification *v, const char *text) {
	v->progress->problem = text;
	return -EUCLEAN;
}

static int progress_note(struct verification *v, const MDB_val *key) {
	if (key->mv_size == 0 || key->mv_size > LMDB_KEY_MAX)
		return problem(v, "the size of a key can't be right");
	v->progress->key_size = 0;
	memcpy(v->progress->key, key->mv_data, key->mv_size);
	v->progress->key_size = key->mv_size;
	return 0;
}

/* Whether the key that was noted last comes before this one. */
static bool key_is_next(const struct verification *v, MDB_dbi tree, const MDB_val *key) {
	const struct lmdb_progress *p = v->progress;
	int order;
	size_t a, b;

	if (tree == TREE_FREE && p->key_size == sizeof(a) && key->mv_size == sizeof(b)) {
		memcpy(&a, p->key, sizeof(a));
		memcpy(&b, key->mv_data, sizeof(b));
		return a < b;
	}
	order = memcmp(p->key, key->mv_data, MIN_OF(p->key_size, key->mv_size));
	return order < 0 || (order == 0 && p->key_size < key->mv_size);
}

static int cursor_verify(struct verification *v, MDB_dbi tree, MDB_cursor *cursor,
	verify_entry each, size_t *ret_entries) {
	MDB_val key, value;
	size_t n = 0;
	int r, error = 0;

	for (; (r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0; n++) {
		if (n > 0 && !key_is_next(v, tree, &key))
			return problem(v, "the next key doesn't come after this one");
		error = progress_note(v, &key);
		if (error == 0)
			error = each(v, &key, &value);
		if (error < 0)
			return error;
	}
	*ret_entries = n;
	return r == MDB_NOTFOUND ? 0 : translate(r);
}

/* Calls each for all entries of a tree. Their keys must ascend, and be as many as the tree says. */
static int tree_verify(struct verification *v, MDB_dbi tree, const char *part, verify_entry each) {
	MDB_cursor *cursor;
	MDB_stat stat;
	size_t entries = 0;
	int r = translate(mdb_cursor_open(v->txn, tree, &cursor));

	v->progress->part = part;
	v->progress->key_size = 0;
	if (r < 0)
		return r;
	r = cursor_verify(v, tree, cursor, each, &entries);
	mdb_cursor_close(cursor);
	if (r == -EUCLEAN && !*v->progress->problem)
		return problem(v, "LMDB finds the file damaged");
	if (r == 0)
		r = translate(mdb_stat(v->txn, tree, &stat));
	if (r == 0 && entries != stat.ms_entries)
		return problem(v, "the number of its entries is wrong");
	return r;
}

/* -- verifying: free pages ----------------------------------------------------------------------- */

static int page_note_free(struct verification *v, size_t page) {
	unsigned char bit = (unsigned char)(1u << page % 8);

	if (page < 2 || page > v->info.me_last_pgno)
		return problem(v, "a free page's number can't be right");
	if (v->is_free[page / 8] & bit)
		return problem(v, "a page is free twice");
	v->is_free[page / 8] |= bit;
	return 0;
}

/* The key is the transaction that freed the pages; the value has their count, then their numbers, from the
 * last to the first. */
static int free_entry(struct verification *v, const MDB_val *key, const MDB_val *value) {
	size_t txn, count, before = SIZE_MAX, page;
	int r = 0;

	if (key->mv_size != sizeof(txn) || value->mv_size < sizeof(count) ||
		value->mv_size % sizeof(count) != 0)
		return problem(v, "a list of free pages has the wrong size");
	memcpy(&txn, key->mv_data, sizeof(txn));
	memcpy(&count, value->mv_data, sizeof(count));
	if (txn == 0 || txn > v->info.me_last_txnid)
		return problem(v, "a list of free pages is of a transaction that there wasn't");
	if (count == 0 || count >= value->mv_size / sizeof(count))
		return problem(v, "a list of free pages has the wrong length");
	for (size_t i = 1; i <= count && r == 0; i++) {
		memcpy(&page, (const char *)value->mv_data + i * sizeof(page), sizeof(page));
		if (page >= before)
			return problem(v, "a list of free pages isn't sorted");
		before = page;
		r = page_note_free(v, page);
	}
	return r;
}

/* The last pages may be missing in the file if they were never written: then they are free. */
static int last_pages_verify(struct verification *v) {
	struct stat st;
	size_t page;

	if (stat(v->lmdb->path, &st) < 0)
		return -errno;
	page = (size_t)st.st_size / v->page_size;
	for (; page <= v->info.me_last_pgno; page++)
		if (!(v->is_free[page / 8] & 1u << page % 8))
			return problem(v, "the end of the file is missing");
	return 0;
}

/* Where LMDB has mapped the file, of which one byte is known. NULL if that can't be found out. */
static char *map_find(const void *inside) {
	FILE *maps = fopen("/proc/self/maps", "re");
	uintptr_t at = (uintptr_t)inside, begin, end, offset, found = 0;
	char line[512];

	while (maps && !found && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %" SCNxPTR, &begin, &end,
			    &offset) == 3 &&
			begin <= at && at < end)
			found = begin - offset;
	if (maps)
		(void)fclose(maps);
	return (char *)found;
}

/* Lets every access to a free page end in SIGSEGV: no tree may reach a free page, since the next change
 * writes over it. Pages beyond the number of mappings that the kernel allows stay accessible. */
static void free_pages_forbid(struct verification *v) {
	size_t first = 0, count = 0;

	if (!v->map || v->page_size != (size_t)sysconf(_SC_PAGESIZE))
		return;
	for (size_t page = 2; page <= v->info.me_last_pgno + 1; page++) {
		bool is_free = page <= v->info.me_last_pgno &&
			       (v->is_free[page / 8] & 1u << page % 8) != 0;

		if (is_free && count++ == 0)
			first = page;
		if (is_free || count == 0)
			continue;
		(void)mprotect(v->map + first * v->page_size, count * v->page_size, PROT_NONE);
		count = 0;
	}
}

/* -- verifying: tables --------------------------------------------------------------------------- */

static int table_entry(struct verification *v, const MDB_val *key, const MDB_val *value) {
	const char *table = v->lmdb->table;
	MDB_val name[] = {{strlen(META_TABLE), (char *)META_TABLE}, {strlen(table), (char *)table}};

	(void)value;
	if (!v->map)
		v->map = map_find(key->mv_data);
	for (size_t i = 0; i < ELEMENTS(name); i++)
		if (key->mv_size == name[i].mv_size &&
			memcmp(key->mv_data, name[i].mv_data, key->mv_size) == 0)
			return 0;
	return problem(v, "there is a table of that name");
}

static int format_entry(struct verification *v, const MDB_val *key, const MDB_val *value) {
	int r = format_entry_check(key, value);

	return r == -EUCLEAN ? problem(v, "it isn't the version of a format") : r;
}

static int value_entry(struct verification *v, const MDB_val *key, const MDB_val *value) {
	char name[BERTH_NAME_MAX + 1];

	if (entry_check(v->lmdb, key, value, name) < 0)
		return problem(v, "its checksum is wrong");
	v->progress->entries++;
	return 0;
}

static int table_flags_verify(struct verification *v, MDB_dbi table) {
	unsigned flags;
	int r = translate(mdb_dbi_flags(v->txn, table, &flags));

	return r < 0 ? r : flags == 0 ? 0 : problem(v, "a table has flags that berthd doesn't use");
}

static int tables_verify(struct verification *v) {
	MDB_dbi meta;
	int r = translate(mdb_dbi_open(v->txn, META_TABLE, 0, &meta));

	if (r == 0)
		r = table_flags_verify(v, meta);
	if (r == 0)
		r = tree_verify(v, meta, "the format", format_entry);
	if (r == 0)
		r = format_check(v->lmdb, v->txn, &v->values);
	if (r == 0)
		r = table_flags_verify(v, v->values);
	if (r == 0)
		r = tree_verify(v, v->values, LMDB_PART_ENTRIES, value_entry);
	return r == -ENOENT ? problem(v, "its table is missing") : r;
}

static int trees_verify(struct verification *v) {
	int r = translate(mdb_env_info(v->env, &v->info));

	if (r < 0)
		return r;
	if (v->info.me_last_pgno >= v->info.me_mapsize / v->page_size)
		return problem(v, "the number of its last page can't be right");
	v->is_free = calloc(v->info.me_last_pgno / 8 + 1, 1);
	if (!v->is_free)
		return -ENOMEM;
	r = tree_verify(v, TREE_FREE, "LMDB's list of free pages", free_entry);
	if (r == 0)
		r = last_pages_verify(v);
	if (r == 0)
		r = tree_verify(v, TREE_TABLES, "LMDB's list of tables", table_entry);
	if (r == 0)
		r = table_flags_verify(v, TREE_TABLES);
	if (r == 0)
		free_pages_forbid(v);
	return r < 0 ? r : tables_verify(v);
}

static int verification_open(struct verification *v, unsigned flags) {
	MDB_stat stat;
	int r = env_open(v->lmdb->dir, flags | MDB_NOLOCK, &v->env);

	if (r == 0)
		r = translate(mdb_env_stat(v->env, &stat));
	if (r == 0)
		v->page_size = stat.ms_psize;
	if (r == 0)
		r = translate(mdb_txn_begin(v->env, NULL, MDB_RDONLY, &v->txn));
	return r == -EUCLEAN ? problem(v, "LMDB doesn't take it for one of its files") : r;
}

static void verification_close(struct verification *v) {
	if (v->txn)
		mdb_txn_abort(v->txn);
	if (v->env)
		mdb_env_close(v->env);
	free(v->is_free);
}

static int verify(const struct lmdb *l, unsigned flags, struct lmdb_progress *progress) {
	struct verification v = {.lmdb = l, .progress = progress};
	struct stat st;
	int r;

	*progress = (struct lmdb_progress){.part = "LMDB's first pages", .problem = ""};
	if (stat(l->path, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return problem(&v, "the file is empty");
	r = verification_open(&v, flags | MDB_RDONLY);
	if (r == 0)
		r = trees_verify(&v);
	verification_close(&v);
	return r == -EUCLEAN && !*progress->problem ? problem(&v, "it isn't as berthd makes it")
						    : r;
}

int lmdb_verify(const struct lmdb *l, struct lmdb_progress *progress) {
	return verify(l, 0, progress);
}

/* -- trying changes ---------------------------------------------------------------------------- */

/* Probes that share a transaction: at most so many, and of few probes so few that there are several
 * transactions, which use the pages that earlier ones freed. */
#define TRIAL_BATCH        1024
#define TRIAL_TRANSACTIONS 8

/* A larger file isn't tried: its copy is in memory. */
#define TRIAL_SIZE_MAX (INT64_C(256) << 20)

/* Probes behind one name that are more than a page holds, so that LMDB splits it; and how many pages get
 * so many. Later ones get a single probe each, but for every 16th. */
#define SPLITTING_PROBES 32
#define SPLIT_PAGES      256

/* The length of probes: as much as a name may have, but even, so that LMDB puts no unused byte between
 * one entry and the next. */
#define PROBE_LENGTH (BERTH_NAME_MAX - 1)

/* Probes are names behind the last one of a leaf page, so that each leaf page is changed. They differ from
 * all other names by a control character. */
struct trial {
	struct lmdb copy;
	char (*probe)[BERTH_NAME_MAX + 1];
	size_t probes, capacity, pages, entries;
};

static int probes_add(struct trial *t, const MDB_val *last) {
	size_t page = t->pages++;
	size_t count = page < SPLIT_PAGES || page % 16 == 0 ? SPLITTING_PROBES : 1;
	int r = array_reserve(&t->probe, &t->capacity, t->probes + count);

	if (r < 0 || last->mv_size + 1 >= PROBE_LENGTH)
		return r;
	for (size_t i = 0; i < count; i++) {
		char *probe = t->probe[t->probes++];

		memset(probe, 'a' + (int)i, PROBE_LENGTH);
		memcpy(probe, last->mv_data, last->mv_size);
		probe[last->mv_size] = '\x01';
		probe[PROBE_LENGTH] = '\0';
	}
	return 0;
}

static int probes_walk(struct trial *t, MDB_cursor *cursor, size_t page_size) {
	MDB_val key, value, last = {1, (char *)"a"};
	uintptr_t page, last_page = 0;
	int r, error = 0;

	while (error == 0 && (r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		page = (uintptr_t)value.mv_data / page_size;
		if (t->entries > 0 && page != last_page)
			error = probes_add(t, &last);
		last = key;
		last_page = page;
		t->entries++;
	}
	return error < 0 ? error : probes_add(t, &last);
}

static int probes_choose(struct trial *t, const struct lmdb *l) {
	struct verification v = {.lmdb = l, .progress = &(struct lmdb_progress){0}};
	MDB_cursor *cursor;
	int r = verification_open(&v, MDB_RDONLY);

	if (r == 0)
		r = format_check(l, v.txn, &v.values);
	if (r == 0)
		r = translate(mdb_cursor_open(v.txn, v.values, &cursor));
	if (r == 0) {
		r = probes_walk(t, cursor, v.page_size);
		mdb_cursor_close(cursor);
	}
	verification_close(&v);
	return r;
}

/* Puts or deletes some of the probes. */
static int batch_change(struct trial *t, size_t from, size_t end, bool delete) {
	static const char value[VALUE_SIZE_MAX];
	struct lmdb_txn txn = {.lmdb = &t->copy};
	int r = translate(mdb_txn_begin(t->copy.env, NULL, 0, &txn.txn));

	if (r == 0)
		r = translate(mdb_cursor_open(txn.txn, t->copy.values, &txn.cursor));
	for (size_t i = from; i < end && r == 0; i++)
		r = delete ? lmdb_delete(&txn, t->probe[i]) : lmdb_put(&txn, t->probe[i], value);
	return r < 0 ? r : translate(mdb_txn_commit(txn.txn));
}

/* Puts or deletes all probes. Afterwards all entries must be there, and sound. */
static int trial_change(
	struct trial *t, size_t batch, bool delete, struct lmdb_progress *progress) {
	size_t want = t->entries + (delete ? 0 : t->probes);
	int r = env_open(t->copy.dir, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, &t->copy.env);

	if (r == 0)
		r = table_open(&t->copy);
	for (size_t i = 0; i < t->probes && r == 0; i += batch)
		r = batch_change(t, i, MIN_OF(i + batch, t->probes), delete);
	lmdb_close(&t->copy);
	if (r == 0)
		r = verify(&t->copy, MDB_NOSUBDIR, progress);
	return r == 0 && progress->entries != want ? -EUCLEAN : r;
}

/* A copy of the file in memory: a descriptor, or -1. */
static int copy_make(const struct lmdb *l) {
	_cleanup_close_ int from = open(l->path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	off_t at = 0;
	int to;

	if (from < 0 || fstat(from, &st) < 0 || st.st_size > TRIAL_SIZE_MAX)
		return -1;
	to = memfd_create("berthd-check", MFD_CLOEXEC);
	while (to >= 0 && at < st.st_size)
		if (sendfile(to, from, &at, (size_t)(st.st_size - at)) <= 0)
			close_cleanup(&to);
	return to;
}

/* Errors that say nothing about the file. Any other one comes from it: the copy is in memory. */
static bool is_want_of_resources(int error) {
	return error == -ENOMEM || error == -ENOSPC || error == -EDQUOT || error == -EMFILE ||
	       error == -ENFILE;
}

/* In many small transactions, then in few large ones: damage of the list of free pages shows in either. */
static int trial_run(struct trial *t, struct lmdb_progress *progress) {
	const size_t batch[] = {
		MIN_OF(t->probes / TRIAL_TRANSACTIONS + 1, (size_t)TRIAL_BATCH), TRIAL_BATCH};
	size_t rounds = batch[0] == batch[1] ? 1 : ELEMENTS(batch);
	int r = 0;

	for (size_t i = 0; i < rounds && r == 0; i++) {
		r = trial_change(t, batch[i], false, progress);
		if (r == 0)
			r = trial_change(t, batch[i], true, progress);
	}
	return r;
}

int lmdb_try_changes(const struct lmdb *l, struct lmdb_progress *progress) {
	_cleanup_close_ int fd = copy_make(l);
	struct trial t = {.copy = *l};
	char path[32];
	int r;

	*progress = (struct lmdb_progress){.part = "pages that a change reads", .problem = ""};
	if (fd < 0)
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	t.copy.dir = t.copy.path = path;
	r = probes_choose(&t, l);
	if (r == 0)
		r = trial_run(&t, progress);
	free(t.probe);
	if (r == 0 || is_want_of_resources(r))
		return 0;
	progress->part = "pages that a change reads";
	progress->problem = "LMDB damages the file when it changes it";
	return -EUCLEAN;
}
