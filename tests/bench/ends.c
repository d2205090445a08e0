/* SPDX-License-Identifier: MIT */

/* Measures how soon the slots of a killed process are free, and how much other processes are slowed
 * down until then. */

#include <berth.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "report.h"
#include "works.h"

#define MANY         100000
#define BEFORE_NS    (50 * NS_OF_MS)
#define TIMEOUT_NS   (10 * NS_OF_S)
#define PAIRS        32   /* between two queries of the killed process's slots */
#define PAIRS_ENOUGH 1000 /* for a 99th percentile */
#define KILLED       "many@example.com"
#define OTHER        "other@example.com"

static struct berthd berthd;

/* What the observer measured for one kill; shared with the driver. */
struct observation {
	struct histogram before, during; /* of the observer's own pairs */
	double free_ns;                  /* from the report of the death until no slot is held */
};

static unsigned held(const char *account) {
	struct berth_usage usage = {.size = sizeof(usage)};

	bench_must(berth_query(handle, account, &usage), "berth_query");
	return usage.current;
}

/* Makes pairs on another account, and times each of them. */
static void pairs_time(struct histogram *h) {
	double before = bench_now(), now;

	for (unsigned i = 0; i < PAIRS; i++) {
		handle_pairs(OTHER, 1);
		now = bench_now();
		histogram_add(h, (uint64_t)(now - before));
		before = now;
	}
}

/* Kills the process, and returns when the kernel reports the death. */
static void holder_kill(pid_t pid) {
	struct pollfd dead = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	int n;

	bench_check(dead.fd >= 0, "pidfd_open");
	(void)kill(pid, SIGKILL);
	do
		n = poll(&dead, 1, 0);
	while (n == 0 || (n < 0 && errno == EINTR));
	bench_check(n == 1, "poll of a pidfd");
	(void)close(dead.fd);
}

/* Runs in a worker. */
static void observe(struct observation *o, pid_t holder) {
	double start;

	cpus_pin_worker(0);
	handle_open(0);
	start = bench_now();
	while (bench_now() - start < BEFORE_NS)
		pairs_time(&o->before);
	holder_kill(holder);
	start = bench_now();
	while (held(KILLED) > 0) {
		bench_check(bench_now() - start < TIMEOUT_NS, "a dead holder's slots stay held");
		pairs_time(&o->during);
	}
	o->free_ns = bench_now() - start;
	_exit(EXIT_SUCCESS);
}

struct kills {
	struct series free, before, during;
};

static struct kills kills_measure(unsigned slots, unsigned times) {
	struct kills k = {0};
	struct observation *o = bench_share(sizeof(*o));

	for (unsigned i = 0; i < times; i++) {
		pid_t holder = holder_start(KILLED, slots), observer;

		memset(o, 0, sizeof(*o));
		observer = bench_fork();
		if (observer == 0)
			observe(o, holder);
		bench_wait(observer);
		bench_kill(holder);
		bench_continue();
		series_add(&k.free, o->free_ns);
		if (o->during.total < PAIRS_ENOUGH)
			continue;
		series_add(&k.before, histogram_quantile(&o->before, 0.99));
		series_add(&k.during, histogram_quantile(&o->during, 0.99));
	}
	(void)munmap(o, sizeof(*o));
	return k;
}

void works_ends(void) {
	struct kills one, many;
	struct work *w = work_new("deaths", "A process is killed: its slots are free again",
		"from the report of its death by a pidfd; meanwhile another process acquires and "
		"releases, each pair timed");
	struct row *r;

	berthd_start(&berthd, 1000, MANY + 100000);
	berthd_set(KILLED, "unlimited");
	berthd_set(OTHER, "5");
	one = kills_measure(1, bench.rounds);
	many = kills_measure(MANY, bench.quick ? 3 : 11);
	(void)work_row(w, "ns", &one.free, "1 slot");
	row_at_most(work_row(w, "ns", &many.free, "100,000 slots"), 50 * NS_OF_MS);
	if (many.during.count == 0) {
		work_missing(
			w, "others' 99 %", "the slots were free before enough pairs were made");
	} else {
		(void)work_row(w, "ns", &many.before, "others' 99 %%, before");
		r = work_row(w, "ns", &many.during, "others' 99 %%, while it lasts");
		row_versus(r, "before", &many.before);
		row_at_most(r, 1.5);
	}
	report_show(w);
	berthd_end(&berthd);
}
