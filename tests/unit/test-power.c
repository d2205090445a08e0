/* SPDX-License-Identifier: MIT */

/* Makes the files that the disk may have after a kill or a power failure at any instant of storing
 * limits. Each file must have all acknowledged changes, and must not be taken for damaged.
 *
 * This program replaces the functions with which LMDB and the store write and sync, and makes a
 * note of each call. After a power failure, a file has all that was written before the last sync.
 * If a sector was written after the sync, it may be as it was at any instant since the sync. */

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "disk.h"
#include "lmdb.h"
#include "random.h"
#include "run.h"
#include "util.h"

#define SECTOR    512
#define COMMITS   40
#define NAMES     60
#define CUTS      12 /* random power failures after each note */
#define NOTES_MAX 4096

#define EXPORTED __attribute__((visibility("default")))

/* -- notes ------------------------------------------------------------------------------------- */

enum kind { WRITE, SYNC, ACKNOWLEDGE };

struct note {
	enum kind kind;
	size_t at, size;
	char *bytes;
};

static bool noting;
static struct note notes[NOTES_MAX];
static size_t notes_count;

static void note(enum kind kind, const void *bytes, size_t size, off_t at) {
	struct note *n = &notes[notes_count];

	if (!noting)
		return;
	ck_assert_uint_lt(notes_count, NOTES_MAX);
	notes_count++;
	*n = (struct note){kind, (size_t)at, size, malloc(size + 1)};
	if (size > 0)
		memcpy(n->bytes, bytes, size);
}

static bool meta_write_fails; /* if set, the next write of a meta page fails, but may be on disk */

EXPORTED ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
	ssize_t (*real)(int, const void *, size_t, off_t) = NULL;
	ssize_t n;

	*(void **)&real = dlsym(RTLD_NEXT, "pwrite");
	note(WRITE, bytes, size, at);
	n = real(fd, bytes, size, at);
	if (!(fcntl(fd, F_GETFL) & O_DSYNC))
		return n;
	if (meta_write_fails) {
		meta_write_fails = false;
		errno = EIO;
		return -1;
	}
	note(SYNC, NULL, 0, 0);
	return n;
}

EXPORTED ssize_t writev(int fd, const struct iovec *parts, int count) {
	ssize_t (*real)(int, const struct iovec *, int) = NULL;
	off_t at = lseek(fd, 0, SEEK_CUR);

	*(void **)&real = dlsym(RTLD_NEXT, "writev");
	for (int i = 0; i < count; at += (off_t)parts[i++].iov_len)
		note(WRITE, parts[i].iov_base, parts[i].iov_len, at);
	return real(fd, parts, count);
}

static bool sync_fails; /* if set, the next sync fails */

EXPORTED int fdatasync(int fd) {
	(void)fd;
	if (sync_fails) {
		sync_fails = false;
		errno = EIO;
		return -1;
	}
	note(SYNC, NULL, 0, 0);
	return 0;
}

/* -- what is stored ---------------------------------------------------------------------------- */

/* values[n] has the value of each name after n commits; 0 if the name has none. */
static uint64_t values[COMMITS + 1][NAMES];
/* refused[n] has the values after n commits if a further commit, which failed, were also made. */
static uint64_t refused[COMMITS + 1][NAMES];

static int fill(struct lmdb_txn *txn, void *data) {
	uint64_t *now = data;
	char name[96];
	int r = 0;

	for (unsigned i = 0; i < NAMES && r == 0; i++) {
		if (random_below(3))
			continue;
		(void)snprintf(name, sizeof(name), "customer-%03u-%0*d", i, (int)(i % 8 * 10), 0);
		now[i] = random_below(3) ? random_below(1000) + 1 : 0;
		r = now[i] ? lmdb_put(txn, name, &now[i]) : lmdb_delete(txn, name);
	}
	return r;
}

/* Before every third commit, makes one during which the disk fails: in the sync of its pages, or in
 * the write of its meta page. Then opens LMDB again and syncs it, as limits.c does. */
static void commit_refuse(struct lmdb *l, unsigned i) {
	memcpy(refused[i], values[i], sizeof(refused[i]));
	if (i % 3 != 0)
		return;
	sync_fails = i % 2 == 0;
	meta_write_fails = !sync_fails;
	ck_assert_int_eq(lmdb_write(l, fill, refused[i]), -ENOTRECOVERABLE);
	ck_assert(!sync_fails && !meta_write_fails);
	ck_assert_int_eq(lmdb_open(l), 0);
	ck_assert_int_eq(lmdb_sync(l), 0);
}

static void commits_make(struct lmdb *d) {
	for (unsigned i = 1; i <= COMMITS; i++) {
		memcpy(values[i], values[i - 1], sizeof(values[i]));
		/* Close LMDB. The next commit opens it again, as after a restart. */
		if (i % 7 == 0)
			lmdb_close(d);
		commit_refuse(d, i - 1);
		ck_assert_int_eq(lmdb_write(d, fill, values[i]), 0);
		note(ACKNOWLEDGE, NULL, 0, 0);
	}
}

struct reader {
	uint64_t found[NAMES];
	unsigned strange;
};

static int value_read(void *data, const char *name, const void *value) {
	struct reader *r = data;
	unsigned i = (unsigned)strtoul(name + strlen("customer-"), NULL, 10);

	if (i >= NAMES)
		r->strange++;
	else
		memcpy(&r->found[i], value, sizeof(r->found[i]));
	return 0;
}

/* -- what the disk has ------------------------------------------------------------------------- */

struct disk {
	char *bytes;
	size_t size;
};

static void disk_write(struct disk *d, const struct note *n, size_t from, size_t size) {
	size_t end = n->at + from + size;

	if (end > d->size) {
		d->bytes = realloc(d->bytes, end);
		memset(d->bytes + d->size, 0, end - d->size);
		d->size = end;
	}
	memcpy(d->bytes + n->at + from, n->bytes + from, size);
}

/* The notes from `from` to `end` - 1, of whose writes the disk may lack some. For each sector,
 * `salt` chooses a number from `from` to `end`. The disk has only the writes of notes below this
 * number. */
struct pending {
	size_t from, end;
	uint64_t salt;
};

static void disk_take(struct disk *d, const struct pending *p) {
	for (size_t k = p->from; k < p->end; k++) {
		const struct note *n = &notes[k];
		size_t size;

		for (size_t at = 0; at < n->size; at += size) {
			size_t sector = (n->at + at) / SECTOR;
			uint64_t hash = (p->salt ^ sector) * UINT64_C(0x9E3779B97F4A7C15);

			size = MIN_OF(SECTOR - (n->at + at) % SECTOR, n->size - at);
			/* The number that is chosen for the sector is above this note's. */
			if (k < p->from + (hash >> 32) % (p->end - p->from + 1))
				disk_write(d, n, at, size);
		}
	}
}

/* Opens the store as berthd does when it starts. The store must have all acknowledged commits, and
 * at most one more: the next commit, or a commit that failed. */
static void judge(const struct disk *disk, unsigned acknowledged, const char *what, size_t at) {
	static struct lmdb_progress progress;
	char place[BERTH_NAME_MAX + 1] = "";
	struct reader r = {{0}, 0};
	struct lmdb *d = NULL;
	bool right;

	file_write(dir_path("cut/data.mdb").text, disk->bytes, disk->size);
	ck_assert_int_eq(lmdb_new(dir_path("cut").text, "limits", sizeof(uint64_t), true, &d), 0);
	ck_assert_msg(lmdb_verify(d, &progress) == 0, "%s at %zu: taken for damaged after '%s'",
		what, at, progress.name);
	ck_assert_msg(lmdb_open(d) == 0, "%s at %zu: can't be opened", what, at);
	ck_assert_int_eq(lmdb_read(d, place, SIZE_MAX, value_read, &r), 0);
	lmdb_free(d);
	(void)unlink(dir_path("cut/lock.mdb").text);
	right = memcmp(r.found, values[acknowledged], sizeof(r.found)) == 0 ||
		memcmp(r.found, refused[acknowledged], sizeof(r.found)) == 0 ||
		(acknowledged < COMMITS &&
			memcmp(r.found, values[acknowledged + 1], sizeof(r.found)) == 0);
	ck_assert_msg(right && r.strange == 0, "%s at %zu: not what %u commits left", what, at,
		acknowledged);
}

/* -- tests ------------------------------------------------------------------------------------- */

static void setup(void) {
	random_init();
	dir_make();
	ck_assert_int_eq(mkdir(dir_path("cut").text, 0700), 0);
}

/* Makes commits in an empty store, and notes their writes. Returns the file before the commits. */
static struct disk record(void) {
	struct lmdb *d = NULL;
	struct disk disk;

	ck_assert_int_eq(lmdb_new(dir_path("all").text, "limits", sizeof(uint64_t), true, &d), 0);
	ck_assert_int_eq(lmdb_make(d), 0);
	disk.bytes = file_read(dir_path("all/data.mdb").text, &disk.size);
	noting = true;
	commits_make(d);
	noting = false;
	lmdb_free(d);
	return disk;
}

START_TEST(a_kill_between_any_two_writes_leaves_a_sound_store) {
	struct disk disk = record();
	unsigned acknowledged = 0, writes = 0;

	for (size_t i = 0; i < notes_count; i++) {
		acknowledged += notes[i].kind == ACKNOWLEDGE;
		if (notes[i].kind != WRITE)
			continue;
		disk_write(&disk, &notes[i], 0, notes[i].size);
		judge(&disk, acknowledged, "a kill after the write", i);
		writes++;
	}
	printf("%u commits, killed after each of %u writes\n", acknowledged, writes);
	ck_assert_uint_eq(acknowledged, COMMITS);
	ck_assert_uint_gt(writes, 3 * COMMITS);
	free(disk.bytes);
}
END_TEST

START_TEST(a_power_failure_at_any_instant_leaves_a_sound_store) {
	struct disk disk = record();
	unsigned acknowledged = 0, cuts = 0;
	size_t synced = 0; /* notes that the disk has for certain */

	for (size_t i = 0; i < notes_count; i++) {
		acknowledged += notes[i].kind == ACKNOWLEDGE;
		for (int n = 0; n < CUTS; n++, cuts++) {
			struct pending p = {synced, i + 1,
				(uint64_t)random_below(UINT32_MAX) << 32 |
					random_below(UINT32_MAX)};
			struct disk cut = {malloc(disk.size), disk.size};

			memcpy(cut.bytes, disk.bytes, disk.size);
			disk_take(&cut, &p);
			judge(&cut, acknowledged, "a power failure", i);
			free(cut.bytes);
		}
		if (notes[i].kind != SYNC)
			continue;
		for (; synced < i; synced++)
			disk_write(&disk, &notes[synced], 0, notes[synced].size);
	}
	printf("%u power failures in %u commits\n", cuts, acknowledged);
	ck_assert_uint_eq(acknowledged, COMMITS);
	free(disk.bytes);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_kill_between_any_two_writes_leaves_a_sound_store},
		{a_power_failure_at_any_instant_leaves_a_sound_store},
		{NULL},
	};

	return run_suites({"power", tests, .setup = setup, .teardown = dir_remove});
}
