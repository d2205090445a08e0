/* SPDX-License-Identifier: MIT */

/*
 * What a changed limit takes: one by one, each synced before it is acknowledged, and many in one
 * commit. And what it is worth: a limit that has been set is in force for the next acquire.
 */

#include <berth.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin.h"
#include "bench.h"
#include "report.h"
#include "works.h"

#define BATCH     20000
#define ACCOUNT   "changed@example.com"
#define SYNC_SIZE 4096

static struct berthd berthd;
static struct berth *handle;

/* Sets the limit and acquires: true if what happened is what the new limit says. */
static bool limit_holds(uint32_t limit) {
	berth_slot slot;
	int code;

	admin_set(ACCOUNT, limit);
	code = berth_acquire(handle, ACCOUNT, &slot);
	if (code == BERTH_SUCCESS)
		bench_must(berth_release(handle, slot), "berth_release");
	return limit > 0 ? code == BERTH_SUCCESS : code == BERTH_CONNECTION_COUNT_LIMIT;
}

/* -- rounds ------------------------------------------------------------------------------------ */

struct changes {
	struct series set, sync, batch;
	double late, looked; /* acquires that met an old limit; of so many */
};

static void round_set(struct changes *c, unsigned times) {
	double start = bench_now(), own = 0;

	for (unsigned i = 0; i < times; i++) {
		start = bench_now();
		c->late += !limit_holds(i % 2);
		own += bench_now() - start;
		c->looked++;
	}
	series_add(&c->set, own / times);
}

/* What the disk takes by itself: a page written over, and synced. */
static void round_sync(struct changes *c, int fd, unsigned times) {
	static char page[SYNC_SIZE];
	double start = bench_now();

	for (unsigned i = 0; i < times; i++) {
		page[0]++;
		bench_check(pwrite(fd, page, sizeof(page), 0) == (ssize_t)sizeof(page), "pwrite");
		bench_check(fdatasync(fd) == 0, "fdatasync");
	}
	series_add(&c->sync, (bench_now() - start) / times);
}

static void changes_measure(struct changes *c) {
	unsigned times = bench.quick ? 10 : 50;
	char path[600], *files[2];
	int fd;

	(void)snprintf(path, sizeof(path), "%.500s/synced", bench.disk);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bench_check(fd >= 0, path);
	files[0] = strdup(accounts_file(BATCH, 7));
	files[1] = strdup(accounts_file(BATCH + 1, 8)); /* another name */
	(void)berthd_import(files[1]);
	for (unsigned round = 0; round < (bench.quick ? 3u : 15u); round++) {
		bench_continue();
		round_sync(c, fd, times);
		round_set(c, times);
		series_add(&c->batch, BATCH / berthd_import(files[round % 2]) * NS_OF_S);
	}
	free(files[0]);
	free(files[1]);
	(void)close(fd);
}

static void rows_make(const struct changes *c) {
	struct work *w = work_new("limits", "Changing limits",
		"set and seen by the next acquire, over one connection; a batch is berthctl "
		"import, its start included");
	struct series late = series_one(c->late);
	char name[64];

	(void)snprintf(name, sizeof(name), "old limits met, in %.0f", c->looked);
	row_bound(work_row(w, name, "times", &late), BOUND_AT_MOST, 0);
	(void)work_row(w, "fdatasync of a page", "ns", &c->sync);
	row_versus(work_row(w, "set, one by one", "ns", &c->set), "fdatasync", &c->sync,
		machine_describe()->syncs ? BOUND_AT_MOST : BOUND_NONE, 3);
	row_bound(work_row(w, "set, 20,000 in a batch", "a second", &c->batch), BOUND_AT_LEAST,
		BATCH);
	report_show(w);
}

void works_limits(void) {
	static struct changes c;

	berthd_start(&berthd, 100000, 1000);
	berthd_set(ACCOUNT, "1");
	bench_must(berth_open(NULL, &handle), "berth_open");
	admin_open(&berthd);
	changes_measure(&c);
	rows_make(&c);
	admin_close();
	berth_close(handle);
	berthd_end(&berthd);
}
