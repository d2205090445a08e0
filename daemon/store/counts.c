/* SPDX-License-Identifier: MIT */

/* Keeps the counts of the last checkpoint, and notices when they may be damaged.
 *
 *   Invariant: `boot` is a file with a boot id. If it is missing, data.mdb is whole on the disk.
 *   If it names this boot, data.mdb is whole in the page cache, but perhaps not on the disk.
 *   1. boot.new is written and synced; 2. it is renamed to boot; 3. the directory is synced;
 *   4. any number of transactions are committed without a sync;
 *   5. data.mdb is synced; 6. boot is removed; 7. the directory is synced.
 *   If berthd dies between any two steps, data.mdb is whole in the page cache, since LMDB writes a
 *   page after the pages that it refers to. So the next start keeps data.mdb.
 *   After a power failure before 2 or after 7, data.mdb is whole. After one between 2 and 7, the
 *   disk may lack some of the pages, and LMDB may crash. Nothing in data.mdb shows that, but `boot`
 *   names an earlier boot, so the next start removes data.mdb. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "clock.h"
#include "counts.h"
#include "database-format.h"
#include "dir.h"
#include "lmdb.h"
#include "log.h"
#include "procfs.h"
#include "util.h"

/* How long written counts may stay unsynced. */
#define SYNC_MS 30000

struct counts {
	struct lmdb *lmdb;
	char boot_id[BOOT_ID_TEXT_SIZE]; /* empty: unknown */
	bool marked;                     /* `boot` is there and names this boot */
	bool spoilt;                     /* data.mdb must be removed before it is opened */
	bool incomplete;                 /* begun afresh; the next counts_write says so */
	int64_t written;                 /* first write since the last sync, CLOCK_MONOTONIC ms */
	int last_error;                  /* the last error that was logged */
	char read[BERTH_NAME_MAX + 1];   /* the last name that counts_read() took */
};

/* -- opening ----------------------------------------------------------------------------------- */

static const char *damage(int error) {
	return error == -EUCLEAN           ? "are damaged"
	       : error == -EPROTONOSUPPORT ? "were written by a later berthd"
					   : "can't be checked";
}

/* Closes the counts, and has them removed before the next opening, since LMDB may crash if it opens
 * damaged counts. `where` says where the damage is; it may be "". */
static void counts_spoil(struct counts *c, const char *why, const char *where) {
	log_warning("the counts in %s %s%s%s; beginning afresh: peaks and denials so far are lost, "
		    "limits and live slots are not concerned",
		lmdb_dir(c->lmdb), why, *where ? ", " : "", where);
	lmdb_close(c->lmdb);
	c->spoilt = c->incomplete = true;
}

static int counts_remove(const struct counts *c, const char *name) {
	_cleanup_free_ char *path = dir_path(lmdb_dir(c->lmdb), name);

	if (!path)
		return -ENOMEM;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int counts_open(struct counts *c) {
	const char *dir = lmdb_dir(c->lmdb);
	int r;

	if (lmdb_is_open(c->lmdb))
		return 0;
	if (c->spoilt) {
		r = dir_make(dir, 0700);
		if (r == 0)
			r = counts_remove(c, "data.mdb");
		if (r == 0)
			r = counts_remove(c, "lock.mdb");
		/* `boot` is removed last. Until then, each start removes the files again. */
		if (r == 0)
			r = dir_sync(dir);
		if (r == 0)
			r = counts_remove(c, "boot");
		if (r < 0)
			return r;
		c->spoilt = c->marked = false;
	}
	r = lmdb_make(c->lmdb);
	return r < 0 ? r : lmdb_open(c->lmdb);
}

/* Opens the counts, or begins them afresh if LMDB finds them damaged. */
static int counts_open_or_begin(struct counts *c) {
	int r = counts_open(c);

	if (r != -EUCLEAN && r != -EPROTONOSUPPORT)
		return r;
	counts_spoil(c, damage(r), "");
	return counts_open(c);
}

/* Logs one line when writing begins to fail, when it fails with another error, and when it works
 * again. */
static void counts_log(struct counts *c, int error) {
	if (error == c->last_error)
		return;
	c->last_error = error;
	if (error == 0)
		log_notice("counts are written to %s again", lmdb_dir(c->lmdb));
	else
		log_error("can't write counts to %s: %s; %s; trying again at the next checkpoint",
			lmdb_dir(c->lmdb), strerror(-error), lmdb_advice(error));
}

void counts_begin(struct counts *c, int check_error, const char *check_text) {
	_cleanup_free_ char *path = dir_path(lmdb_dir(c->lmdb), "boot");
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	bool has_no_marker = path && fd < 0 && (errno == ENOENT || errno == ENOTDIR);
	char line[BOOT_ID_TEXT_SIZE + 2] = "";

	if (boot_id_read_text(c->boot_id) < 0)
		log_warning("can't read the boot id; counts will be lost if berthd is killed");
	if (fd >= 0)
		(void)!read(fd, line, sizeof(line) - 1);
	line[strcspn(line, "\n")] = '\0';
	c->marked = line[0] && strcmp(line, c->boot_id) == 0;
	/* If `boot` is of another boot, or unreadable, the counts may not be whole on the disk. */
	if (!c->marked && !has_no_marker)
		counts_spoil(c, "were not synced before the last shutdown", "");
	else if (check_error < 0 && check_error != -ENOENT)
		counts_spoil(c, damage(check_error), check_text);
	c->written = c->marked && !c->spoilt ? clock_monotonic_ms() : INT64_MAX;
	counts_log(c, counts_open_or_begin(c));
	c->incomplete = false;
}

int counts_new(const char *dir, struct counts **ret) {
	struct counts *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->written = INT64_MAX;
	r = lmdb_new(dir, COUNTS_TABLE, sizeof(struct count_value), false, &c->lmdb);
	if (r < 0)
		free(c);
	else
		*ret = c;
	return r;
}

void counts_free(struct counts *c) {
	if (!c)
		return;
	(void)counts_sync(c);
	lmdb_free(c->lmdb);
	free(c);
}

/* -- writing and reading ----------------------------------------------------------------------- */

struct batch {
	const struct store_count *counts;
	size_t count;
	const char *names;
};

static int count_compare(const void *left, const void *right, void *names) {
	const struct store_count *a = left, *b = right;
	int order = strcmp((char *)names + a->name_offset, (char *)names + b->name_offset);

	/* If two counts have the same name, the later count is written last. */
	return order ? order : a->name_offset < b->name_offset ? -1 : 1;
}

static int counts_fill(struct lmdb_txn *txn, void *data) {
	const struct batch *b = data;

	for (size_t i = 0; i < b->count; i++) {
		const struct store_count *n = &b->counts[i];
		const char *name = b->names + n->name_offset;
		struct count_value value = {n->count, n->peak, n->denied};
		bool zero = !n->count && !n->peak && !n->denied;
		int r = zero ? lmdb_delete(txn, name) : lmdb_put(txn, name, &value);

		if (r < 0)
			return r;
	}
	return 0;
}

static int counts_try_write(struct counts *c, struct batch *b) {
	const char *dir = lmdb_dir(c->lmdb);
	int r = counts_open_or_begin(c);

	if (r < 0)
		return r;
	if (!c->marked) {
		_cleanup_free_ char *path = dir_path(dir, "boot");
		_cleanup_free_ char *new = dir_path(dir, "boot.new");

		if (!path || !new)
			return -ENOMEM;
		r = dir_write_file(new, c->boot_id, strlen(c->boot_id)); /* 1 */
		if (r < 0)
			return r;
		if (rename(new, path) < 0) /* 2 */
			return -errno;
		r = dir_sync(dir); /* 3 */
		if (r < 0)
			return r;
		c->marked = true;
	}
	return lmdb_write(c->lmdb, counts_fill, b); /* 4 */
}

int counts_write(struct counts *c, struct store_count *counts, size_t count, const char *names) {
	struct batch b = {.counts = counts, .count = count, .names = names};
	int r;

	/* LMDB takes half the time if it gets the names in sorted order. */
	qsort_r(counts, count, sizeof(*counts), count_compare, (char *)names);
	r = counts_try_write(c, &b);
	if (r == -EUCLEAN) {
		counts_spoil(c, damage(-EUCLEAN), "");
		r = counts_try_write(c, &b);
	}
	if (c->marked && c->written == INT64_MAX)
		c->written = clock_monotonic_ms();
	counts_log(c, r);
	if (r < 0 || !c->incomplete)
		return r;
	c->incomplete = false;
	return -EUCLEAN;
}

int counts_sync(struct counts *c) {
	int r;

	c->written = INT64_MAX;
	/* If the counts are spoilt, `boot` stays until counts_open() has removed them. */
	if (!c->marked || c->spoilt)
		return 0;
	r = lmdb_open(c->lmdb);
	if (r < 0 && r != -EUCLEAN) {
		/* The counts are still in the page cache, so a later sync may succeed. */
		c->written = clock_monotonic_ms();
		counts_log(c, r);
		return r;
	}
	if (r == 0)
		r = lmdb_sync(c->lmdb); /* 5 */
	if (r < 0) {
		/* The kernel forgets the pages that it couldn't write, so the next sync would
		 * succeed without them. */
		counts_spoil(c, "can't be synced", "");
		return r;
	}
	r = counts_remove(c, "boot"); /* 6 */
	if (r < 0)
		return r;
	c->marked = false;
	return dir_sync(lmdb_dir(c->lmdb)); /* 7 */
}

int64_t counts_sync_due(const struct counts *c) {
	return c->written == INT64_MAX ? INT64_MAX : c->written + SYNC_MS;
}

struct lmdb *counts_lmdb(struct counts *c) {
	return c->lmdb;
}

struct reader {
	store_each_count each;
	void *data;
};

static int count_read(void *data, const char *name, const void *value) {
	const struct reader *reader = data;
	struct count_value v;

	memcpy(&v, value, sizeof(v));
	return reader->each(reader->data, name, v.count, v.peak, v.denied);
}

int counts_read(struct counts *c, size_t most, store_each_count each, void *data) {
	struct reader reader = {.each = each, .data = data};
	int r = counts_open(c);

	if (r == 0)
		r = lmdb_read(c->lmdb, c->read, most, count_read, &reader);
	if (r == -EUCLEAN) {
		counts_spoil(c, damage(-EUCLEAN), "");
		c->incomplete = false;
	}
	return r;
}
