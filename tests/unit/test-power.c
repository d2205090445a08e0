/* SPDX-License-Identifier: MIT */

/* Files that the disk may have when the power fails, or berthd is killed, at any instant of storing
 * limits: each has all acknowledged changes and isn't taken for damaged.
 *
 * LMDB's and the store's writes go through this program's functions of the same names, which note
 * them. From the notes come the files that a power failure may leave: what was written before the
 * last sync is there; of what came after, each sector as it was at any instant since. */

#include <check.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "lmdb.h"
#include "run.h"
#include "util.h"

#define SECTOR    512
#define COMMITS   40
#define NAMES     60
#define CUTS      12 /* of each state, random ones */
#define NOTES_MAX 4096

#define EXPORTED __attribute__((visibility("default")))

static char dir[] = "/dev/shm/berth-test-power-XXXXXX";
static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 33) % n);
}

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

static bool is_synchronous(int fd) {
	return (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
}

static bool meta_write_fails; /* the next one, of which the disk may have everything or nothing */

EXPORTED ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
	ssize_t (*real)(int, const void *, size_t, off_t) = NULL;
	ssize_t n;

	*(void **)&real = dlsym(RTLD_NEXT, "pwrite");
	note(WRITE, bytes, size, at);
	n = real(fd, bytes, size, at);
	if (!is_synchronous(fd))
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

static bool sync_fails; /* the next one */

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

/* The value of each name after n commits; 0: none. */
static uint64_t values[COMMITS + 1][NAMES];
/* The same with a commit behind them that failed. */
static uint64_t refused[COMMITS + 1][NAMES];

static void name_of(unsigned i, char to[96]) {
	(void)snprintf(to, 96, "customer-%03u-%.*s", i, (int)(i % 8 * 10),
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
}

static int fill(struct lmdb_txn *txn, void *data) {
	uint64_t *now = data;
	char name[96];
	int r = 0;

	for (unsigned i = 0; i < NAMES && r == 0; i++) {
		if (random_below(3))
			continue;
		name_of(i, name);
		now[i] = random_below(3) ? random_below(1000) + 1 : 0;
		r = now[i] ? lmdb_put(txn, name, &now[i]) : lmdb_delete(txn, name);
	}
	return r;
}

/* The disk fails in the sync of the pages, or in the write of their meta page. Then the environment
 * is opened again and synced, as limits.c does. */
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
		/* As after a restart. */
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

/* Notes from one to before another, of which the disk took each sector at an instant of its own. */
struct pending {
	size_t from, end;
	uint64_t salt;
};

/* Whether the sector was taken after the note's write. */
static bool is_taken(const struct pending *p, size_t k, size_t sector) {
	uint64_t hash = (p->salt ^ sector) * UINT64_C(0x9E3779B97F4A7C15);

	return k < p->from + (hash >> 32) % (p->end - p->from + 1);
}

static void disk_take(struct disk *d, const struct pending *p) {
	for (size_t k = p->from; k < p->end; k++) {
		const struct note *n = &notes[k];
		size_t size;

		for (size_t at = 0; at < n->size; at += size) {
			size = MIN_OF(SECTOR - (n->at + at) % SECTOR, n->size - at);
			if (is_taken(p, k, (n->at + at) / SECTOR))
				disk_write(d, n, at, size);
		}
	}
}

static struct disk disk_copy(const struct disk *d) {
	struct disk copy = {malloc(d->size), d->size};

	memcpy(copy.bytes, d->bytes, d->size);
	return copy;
}

static void disk_store(const struct disk *d) {
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/cut/data.mdb", dir);
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(d->bytes, 1, d->size, f), d->size);
	ck_assert_int_eq(fclose(f), 0);
}

/* As berthd starts: it must find what was acknowledged, or one commit more, be it one that
 * failed. */
static void judge(const struct disk *disk, unsigned acknowledged, const char *what, size_t at) {
	static struct lmdb_progress progress;
	struct reader r = {{0}, 0};
	struct lmdb *d = NULL;
	char path[128], place[BERTH_NAME_MAX + 1] = "";
	bool right;

	disk_store(disk);
	(void)snprintf(path, sizeof(path), "%s/cut", dir);
	ck_assert_int_eq(lmdb_new(path, "limits", sizeof(uint64_t), true, &d), 0);
	ck_assert_msg(lmdb_verify(d, &progress) == 0, "%s at %zu: taken for damaged after '%s'",
		what, at, progress.name);
	ck_assert_msg(lmdb_open(d) == 0, "%s at %zu: can't be opened", what, at);
	ck_assert_int_eq(lmdb_read(d, place, SIZE_MAX, value_read, &r), 0);
	lmdb_free(d);
	(void)snprintf(path, sizeof(path), "%s/cut/lock.mdb", dir);
	(void)unlink(path);
	right = memcmp(r.found, values[acknowledged], sizeof(r.found)) == 0 ||
		memcmp(r.found, refused[acknowledged], sizeof(r.found)) == 0 ||
		(acknowledged < COMMITS &&
			memcmp(r.found, values[acknowledged + 1], sizeof(r.found)) == 0);
	ck_assert_msg(right && r.strange == 0, "%s at %zu: not what %u commits left", what, at,
		acknowledged);
}

/* -- tests ------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void dir_begin(void) {
	const char *seed = getenv("SEED");
	struct timespec now;
	char path[128];

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	random_state =
		seed && strtoull(seed, NULL, 0) ? strtoull(seed, NULL, 0) : (uint64_t)now.tv_nsec;
	printf("SEED=%llu\n", (unsigned long long)random_state);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/cut", dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void dir_end(void) {
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* An empty store's file, then notes of how it went on. */
static struct disk record(void) {
	struct disk disk = {malloc(1 << 20), 0};
	struct lmdb *d = NULL;
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/all", dir);
	ck_assert_int_eq(lmdb_new(path, "limits", sizeof(uint64_t), true, &d), 0);
	ck_assert_int_eq(lmdb_make(d), 0);
	(void)snprintf(path, sizeof(path), "%s/all/data.mdb", dir);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	disk.size = fread(disk.bytes, 1, 1 << 20, f);
	(void)fclose(f);
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
			struct disk cut = disk_copy(&disk);

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

	return run_suites({"power", tests, .setup = dir_begin, .teardown = dir_end});
}
