/* SPDX-License-Identifier: MIT */

/*
 * Keeps the limits.
 *
 * After a commit that failed in its last step, the disk may have the limits from before or after
 * the commit (lmdb.c). The next change could write over pages of the limits that the disk has. A
 * power failure could then leave no limits whole. So the file is opened again before the next
 * change, and the limits that LMDB finds are synced.
 */

#include <stdatomic.h>
#include <string.h>

#include "bounds.h"
#include "clock.h"
#include "database-format.h"
#include "limits.h"
#include "log.h"
#include "util.h"

#define REOPEN_MS 1000

struct limits {
	struct lmdb *lmdb;
	int logged_error;         /* 0: changes succeed */
	_Atomic int reopen_error; /* 0: the file needn't be opened again */
	int64_t reopen_at;        /* CLOCK_MONOTONIC ms; INT64_MAX: never */
};

int limits_new(const char *dir, struct limits **ret) {
	struct limits *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->reopen_at = INT64_MAX;
	r = lmdb_new(dir, LIMITS_TABLE, sizeof(struct limit_value), true, &l->lmdb);
	if (r < 0)
		free(l);
	else
		*ret = l;
	return r;
}

void limits_free(struct limits *l) {
	if (!l)
		return;
	lmdb_free(l->lmdb);
	free(l);
}

struct lmdb *limits_lmdb(struct limits *l) {
	return l->lmdb;
}

/* -- opening ----------------------------------------------------------------------------------- */

static int limits_log_opening(const struct limits *l, int error) {
	if (error < 0)
		log_error("can't open the limits in %s: %s; %s", lmdb_dir(l->lmdb),
			strerror(-error), lmdb_advice(error));
	return error;
}

int limits_make(struct limits *l) {
	return limits_log_opening(l, lmdb_make(l->lmdb));
}

int limits_open(struct limits *l) {
	return limits_log_opening(l, lmdb_open(l->lmdb));
}

int64_t limits_reopen_due(const struct limits *l) {
	return l->reopen_at;
}

int limits_reopen_error(const struct limits *l) {
	return l->reopen_error;
}

int limits_reopen(struct limits *l) {
	int r = lmdb_open(l->lmdb);

	if (r == 0)
		r = lmdb_sync(l->lmdb);
	if (r < 0) {
		lmdb_close(l->lmdb);
		l->reopen_error = r;
		l->reopen_at = clock_monotonic_ms() + REOPEN_MS;
		return r;
	}
	log_notice("opened the limits in %s again; changes are stored again", lmdb_dir(l->lmdb));
	l->reopen_error = l->logged_error = 0;
	l->reopen_at = INT64_MAX;
	return 0;
}

/* -- reading ----------------------------------------------------------------------------------- */

struct reader {
	store_each_limit each;
	void *data;
};

static int limit_read(void *data, const char *name, const void *value) {
	const struct reader *reader = data;
	struct limit_value v;

	memcpy(&v, value, sizeof(v));
	return reader->each(reader->data, name, v.limit);
}

int limits_read(struct limits *l, store_each_limit each, void *data) {
	struct reader reader = {.each = each, .data = data};
	char place[BERTH_NAME_MAX + 1] = "";

	return lmdb_read(l->lmdb, place, SIZE_MAX, limit_read, &reader);
}

/* -- writing ----------------------------------------------------------------------------------- */

struct changes {
	const struct limit_change *all;
	size_t count;
};

static int change_compare(const void *left, const void *right) {
	const struct limit_change *a = left, *b = right;
	int order = strcmp(a->name, b->name);

	return order ? order : a->order < b->order ? -1 : 1;
}

static int limits_fill(struct lmdb_txn *txn, void *data) {
	const struct changes *c = data;
	int r = 0;

	for (size_t i = 0; i < c->count && r == 0; i++) {
		const struct limit_change *change = &c->all[i];
		struct limit_value value = {.limit = change->limit};

		r = change->limit == STORE_DELETE ? lmdb_delete(txn, change->name)
						  : lmdb_put(txn, change->name, &value);
	}
	return r;
}

int limits_write(struct limits *l, struct limit_change *changes, size_t count) {
	struct changes c = {changes, count};
	int r = l->reopen_error ? limits_reopen(l) : 0;

	if (r < 0)
		return -ESTALE;
	/* LMDB is faster if it gets the names in sorted order. */
	qsort(changes, count, sizeof(*changes), change_compare);
	r = lmdb_write(l->lmdb, limits_fill, &c);
	if (r == -ENOTRECOVERABLE) {
		l->reopen_error = -EIO;
		l->reopen_at = clock_monotonic_ms() + REOPEN_MS;
	}
	return r;
}

void limits_log(struct limits *l, int error) {
	/* -EINVAL: a name can't be stored. -ESTALE: the failure that led to it was logged. */
	if (error == l->logged_error || error == -EINVAL || error == -ESTALE)
		return;
	l->logged_error = error;
	if (error == 0)
		log_notice("limits are stored in %s again", lmdb_dir(l->lmdb));
	else if (error == -ENOTRECOVERABLE)
		log_event(LOG_ERR, EVENT_UNSTORED, NULL,
			"can't store limits in %s: the disk failed during a commit, so the last "
			"change may or may not be there after a restart; check the disk. Refusing "
			"changes with FILE_CORRUPT (1392), and trying to open the limits again "
			"every second",
			lmdb_dir(l->lmdb));
	else
		log_event(LOG_ERR, EVENT_UNSTORED, NULL,
			"can't store limits in %s: %s; %s; refusing changes meanwhile",
			lmdb_dir(l->lmdb), strerror(-error), lmdb_advice(error));
}
