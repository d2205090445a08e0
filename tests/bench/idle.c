/* SPDX-License-Identifier: MIT */

/* An idle berthd: what it keeps resident, and that it sleeps. It is idle while the rest of the
 * bench runs, and looked at again at the end. */

#include <stdio.h>
#include <unistd.h>

#include "bench.h"
#include "report.h"
#include "works.h"

#define ACCOUNTS  1000
#define SLEEP_NS  (60 * NS_OF_S)
#define SETTLE_NS (40 * NS_OF_S) /* counts are synced 30 s after they have changed */
#define SHORT_S   10

static struct berthd berthd;
static double begun;
static double since, switches; /* watched from when, and what there had been then */

void idle_begin(void) {
	berthd_start(&berthd, 1048576, 1048576);
	(void)berthd_import(accounts_file(ACCOUNTS, 10));
	begun = bench_now();
}

void idle_watch(void) {
	if (since > 0 || bench_now() - begun < SETTLE_NS)
		return;
	since = bench_now();
	switches = process_switches(berthd.instance.berthd);
}

/* What is left of the time that it shall sleep. */
static void sleep_on(void) {
	while (since == 0 || bench_now() - since < SLEEP_NS) {
		(void)usleep(100000);
		bench_continue();
		idle_watch();
	}
}

static void row_sleep(struct work *w) {
	struct series s = series_one(process_switches(berthd.instance.berthd) - switches);
	double seconds = (bench_now() - since) / NS_OF_S;
	char name[64];

	if (since == 0 || seconds < SHORT_S) {
		work_missing(w, "wake-ups", "it had hardly come to rest when all else was done");
		return;
	}
	(void)snprintf(name, sizeof(name), "wake-ups in %.0f s", seconds);
	row_bound(work_row(w, name, "times", &s), BOUND_AT_MOST, 0);
}

static struct row *row_bytes(struct work *w, const char *name, const char *field) {
	struct series s = series_one(process_bytes(berthd.instance.berthd, field) / 1e6);

	return work_row(w, name, "MB", &s);
}

void idle_end(void) {
	struct work *w = work_new("idle", "Idle berthd with 1,000 accounts",
		"wake-ups: voluntary context switches of all its threads");

	if (!bench.quick)
		sleep_on();
	row_sleep(w);
	row_bound(row_bytes(w, "resident (RSS)", "VmRSS:"), BOUND_AT_MOST, 4);
	(void)row_bytes(w, "of that: its own memory", "RssAnon:");
	(void)row_bytes(w, "of that: files, libraries", "RssFile:");
	(void)row_bytes(w, "of that: segment, directory", "RssShmem:");
	row_bytes(w, "its share (PSS)", "Pss:")->remark =
		"what it has in common with other processes, divided among them";
	w->why = "the code of libc and libsystemd, with what that needs, is resident as well, "
		 "though "
		 "shared with other processes";
	report_show(w);
	berthd_end(&berthd);
}
