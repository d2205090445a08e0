/* SPDX-License-Identifier: MIT */

/* Measures how much memory an idle berthd keeps resident, and how often it wakes up. The idle
 * berthd is started first, is idle while all other works run, and is measured at the end. */

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
static double since;    /* when idle_watch() began to count; 0: not yet */
static double switches; /* context switches before `since` */

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

static struct row *row_bytes(struct work *w, const char *name, const char *field) {
	double bytes = process_bytes(berthd.instance.berthd, field);

	return work_row(w, "MB", SERIES_ONE(bytes / 1e6), "%s", name);
}

void idle_end(void) {
	struct work *w = work_new("idle", "Idle berthd with 1,000 accounts",
		"wake-ups: voluntary context switches of all its threads");
	double seconds, woken;

	/* Waits until berthd has been watched for long enough. */
	while (!bench.quick && (since == 0 || bench_now() - since < SLEEP_NS)) {
		(void)usleep(100000);
		bench_continue();
		idle_watch();
	}
	woken = process_switches(berthd.instance.berthd) - switches;
	seconds = (bench_now() - since) / NS_OF_S;
	if (since == 0 || seconds < SHORT_S)
		work_missing(
			w, "wake-ups", "berthd had hardly settled when all other works were done");
	else
		row_at_most(
			work_row(w, "times", SERIES_ONE(woken), "wake-ups in %.0f s", seconds), 0);
	row_at_most(row_bytes(w, "resident (RSS)", "VmRSS:"), 4);
	(void)row_bytes(w, "of that: its own memory", "RssAnon:");
	(void)row_bytes(w, "of that: files, libraries", "RssFile:");
	(void)row_bytes(w, "of that: segment, directory", "RssShmem:");
	row_bytes(w, "its share (PSS)", "Pss:")->remark =
		"memory that several processes share is divided among them";
	w->why =
		"the code of libc, of libsystemd and of the libraries that it needs is resident as "
		"well, though shared with other processes";
	report_show(w);
	berthd_end(&berthd);
}
