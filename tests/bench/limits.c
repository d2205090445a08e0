/* SPDX-License-Identifier: MIT */

/*
 * Measures how long it takes to change limits: one by one, where each is synced before it is
 * acknowledged, and many in one commit. Also checks that the next acquire obeys a new limit.
 */

#include <berth.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "report.h"
#include "works.h"

#define BATCH     20000
#define ACCOUNT   "changed@example.com"
#define SYNC_SIZE 4096

static struct berthd berthd;

/* Sets the limit and acquires. Returns true if the result is what the new limit demands. */
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
	double late, tried; /* acquires that met an old limit; all acquires */
};

/* Measures how long the disk alone takes to write a page and sync it. */
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
	double start;
	int fd;

	(void)snprintf(path, sizeof(path), "%.500s/synced", bench.disk);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bench_check(fd >= 0, path);
	files[0] = strdup(accounts_file(BATCH, 7));
	files[1] = strdup(accounts_file(BATCH + 1, 8)); /* + 1 gives the file another name */
	(void)berthd_import(files[1]);
	for (unsigned round = 0; round < (bench.quick ? 3u : 15u); round++) {
		bench_continue();
		round_sync(c, fd, times);
		start = bench_now();
		for (unsigned i = 0; i < times; i++)
			c->late += !limit_holds(i % 2);
		series_add(&c->set, (bench_now() - start) / times);
		c->tried += times;
		series_add(&c->batch, BATCH / berthd_import(files[round % 2]) * NS_OF_S);
	}
	free(files[0]);
	free(files[1]);
	(void)close(fd);
}

void works_limits(void) {
	static struct changes c;
	struct work *w = work_new("limits", "Changing limits",
		"set and seen by the next acquire, over one connection; a batch is berthctl "
		"import, its start included");
	struct row *set;

	berthd_start(&berthd, 100000, 1000);
	berthd_set(ACCOUNT, "1");
	handle_open(0);
	admin_open(&berthd);
	changes_measure(&c);
	row_at_most(
		work_row(w, "times", SERIES_ONE(c.late), "old limits met, in %.0f", c.tried), 0);
	(void)work_row(w, "ns", &c.sync, "fdatasync of a page");
	set = work_row(w, "ns", &c.set, "set, one by one");
	row_versus(set, "fdatasync", &c.sync);
	if (machine_describe()->syncs)
		row_at_most(set, 3);
	row_at_least(work_row(w, "a second", &c.batch, "set, 20,000 in a batch"), BATCH);
	report_show(w);
	admin_close();
	berth_close(handle);
	berthd_end(&berthd);
}
