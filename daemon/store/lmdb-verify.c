/* SPDX-License-Identifier: MIT */

/* Has LMDB read a whole file, and checks the list of free pages, the version of the format, and all
 * entries. If that succeeds, LMDB doesn't crash when berthd reads the same pages.
 *
 * Some damage shows only when LMDB changes a page: wrong numbers of free bytes in a page, or a page
 * that is used but listed as free. This check doesn't find such damage. */

#include <string.h>
#include <sys/stat.h>

#include "lmdb.h"
#include "lmdb-file.h"
#include "util.h"

/* The handle of LMDB's list of free pages. */
#define FREE_LIST 0

/* The smallest pages of LMDB have 512 bytes. */
#define PAGES_MAX (MAP_SIZE_MAX / 512)

struct verification {
	const struct lmdb *lmdb;
	struct lmdb_progress *progress;
	MDB_txn *txn;
	size_t last_page;
	bool *is_free; /* of each page up to last_page */
};

typedef int (*verify_entry)(struct verification *v, const MDB_val *key, const MDB_val *value);

/* Calls `each` for all entries of a table, and compares their number with the number that the table
 * states. */
static int table_verify(struct verification *v, MDB_dbi table, verify_entry each) {
	MDB_val key, value;
	MDB_cursor *cursor;
	MDB_stat stat;
	size_t entries = 0;
	int error = 0, r = mdb_cursor_open(v->txn, table, &cursor);

	if (r != 0)
		return lmdb_translate(r);
	while (error == 0 && (r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		error = each(v, &key, &value);
		entries++;
	}
	mdb_cursor_close(cursor);
	if (error < 0 || r != MDB_NOTFOUND)
		return error < 0 ? error : lmdb_translate(r);
	r = lmdb_translate(mdb_stat(v->txn, table, &stat));
	return r == 0 && stat.ms_entries != entries ? -EUCLEAN : r;
}

/* The value has the number of pages that one transaction freed, and then the numbers of these pages
 * in descending order. */
static int free_pages_verify(struct verification *v, const MDB_val *key, const MDB_val *value) {
	size_t count, page, before = v->last_page + 1;

	if (key->mv_size != sizeof(size_t) || value->mv_size < sizeof(count))
		return -EUCLEAN;
	memcpy(&count, value->mv_data, sizeof(count));
	if (count >= value->mv_size / sizeof(page))
		return -EUCLEAN;
	for (size_t i = 1; i <= count; i++, before = page) {
		memcpy(&page, (const char *)value->mv_data + i * sizeof(page), sizeof(page));
		/* Pages 0 and 1 are the meta pages. */
		if (page < 2 || page >= before || v->is_free[page])
			return -EUCLEAN;
		v->is_free[page] = true;
	}
	return 0;
}

static int named_entry_verify(struct verification *v, const MDB_val *key, const MDB_val *value) {
	struct lmdb_progress *p = v->progress;
	char name[BERTH_NAME_MAX + 1];

	if (lmdb_check_entry(v->lmdb, key, value, name) < 0 || strcmp(name, p->name) <= 0)
		return -EUCLEAN;
	strcpy(p->name, name);
	p->entries++;
	return 0;
}

int lmdb_verify(const struct lmdb *l, struct lmdb_progress *progress) {
	struct verification v = {.lmdb = l, .progress = progress};
	MDB_envinfo info;
	MDB_dbi values;
	struct stat st;
	MDB_env *env;
	int r;

	*progress = (struct lmdb_progress){.part = LMDB_METAS};
	if (stat(l->path, &st) < 0)
		return -errno;
	/* LMDB would take an empty file for a new one. */
	if (st.st_size == 0)
		return -EUCLEAN;
	r = lmdb_open_env(l->dir, MDB_RDONLY | MDB_NOLOCK, MAP_SIZE_MAX, &env);
	/* berthd's own parameters are valid, so -EINVAL comes from a page size in the file. */
	if (r < 0)
		return r == -EINVAL ? -EUCLEAN : r;
	r = lmdb_translate(mdb_txn_begin(env, NULL, MDB_RDONLY, &v.txn));
	if (r < 0) {
		mdb_env_close(env);
		return r;
	}
	(void)mdb_env_info(env, &info);
	v.last_page = info.me_last_pgno;
	if (v.last_page > PAGES_MAX)
		r = -EUCLEAN;
	if (r == 0) {
		progress->part = LMDB_FREE_LIST;
		v.is_free = calloc(v.last_page + 1, sizeof(*v.is_free));
		r = v.is_free ? table_verify(&v, FREE_LIST, free_pages_verify) : -ENOMEM;
		free(v.is_free);
	}
	if (r == 0) {
		progress->part = LMDB_FORMAT;
		r = lmdb_check_format(l, v.txn, &values);
	}
	if (r == 0) {
		progress->part = LMDB_ENTRIES;
		r = table_verify(&v, values, named_entry_verify);
	}
	mdb_txn_abort(v.txn);
	mdb_env_close(env);
	return r;
}
