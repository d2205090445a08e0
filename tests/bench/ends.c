/* SPDX-License-Identifier: MIT */

/* How soon a killed process's slots are free, and what that costs the others meanwhile. */

#include <berth.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"
#include "report.h"
#include "works.h"

#define MANY       100000
#define BEFORE_NS  (50 * NS_OF_MS)
#define PATIENT_NS (10 * NS_OF_S)
#define LOOK_EVERY 32 /* pairs */
#define FEW        1000

static struct berthd berthd;
static struct berth *handle;

/* What the observer saw of one death; shared with the driver. */
struct seen {
	struct histogram before, during;
	double free_ns;
};

static unsigned held(const char *account) {
	struct berth_usage usage = {.size = sizeof(usage)};

	bench_must(berth_query(handle, account, &usage), "berth_query");
	return usage.current;
}

/* Pairs on an account of its own, timed one by one. */
static void observe(struct histogram *h, unsigned pairs) {
	double before = bench_now(), now;
	berth_slot slot;

	while (pairs-- > 0) {
		bench_must(berth_acquire(handle, "other@example.com", &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
		now = bench_now();
		histogram_add(h, (uint64_t)(now - before));
		before = now;
	}
}

/* Returns when the kernel reports the death. */
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

/* The observer: in a process of its own, pinned as every worker. */
static void death_observe(struct seen *s, const char *account, pid_t holder) {
	double start;

	cpus_pin_worker(0);
	bench_must(berth_open(NULL, &handle), "berth_open");
	start = bench_now();
	while (bench_now() - start < BEFORE_NS)
		observe(&s->before, LOOK_EVERY);
	holder_kill(holder);
	start = bench_now();
	while (held(account) > 0) {
		bench_check(bench_now() - start < PATIENT_NS, "a dead holder's slots stay taken");
		observe(&s->during, LOOK_EVERY);
	}
	s->free_ns = bench_now() - start;
	_exit(EXIT_SUCCESS);
}

static void death_once(struct seen *s, const char *account, unsigned slots) {
	pid_t holder = holder_start(account, slots), observer;

	memset(s, 0, sizeof(*s));
	observer = bench_fork();
	if (observer == 0)
		death_observe(s, account, holder);
	bench_wait(observer);
	bench_kill(holder);
	bench_continue();
}

struct deaths {
	struct series free, before, during;
};

static struct deaths deaths_measure(const char *account, unsigned slots, unsigned times) {
	struct deaths d = {0};
	struct seen *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	bench_check(s != MAP_FAILED, "mmap");
	for (unsigned i = 0; i < times; i++) {
		death_once(s, account, slots);
		series_add(&d.free, s->free_ns);
		if (s->during.total < FEW) /* it was over before anybody looked */
			continue;
		series_add(&d.before, histogram_quantile(&s->before, 0.99));
		series_add(&d.during, histogram_quantile(&s->during, 0.99));
	}
	(void)munmap(s, sizeof(*s));
	return d;
}

static void rows_make(const struct deaths *one, const struct deaths *many) {
	struct work *w = work_new("deaths", "A process is killed: its slots are free again",
		"from the report of its death by a pidfd; meanwhile another process acquires and "
		"releases, each pair timed");
	struct row *r;

	(void)work_row(w, "1 slot", "ns", &one->free);
	row_bound(work_row(w, "100,000 slots", "ns", &many->free), BOUND_AT_MOST, 50 * NS_OF_MS);
	if (many->during.count == 0) {
		work_missing(w, "others' 99 %", "it was over each time before anybody looked");
		report_show(w);
		return;
	}
	(void)work_row(w, "others' 99 %, before", "ns", &many->before);
	r = work_row(w, "others' 99 %, while it lasts", "ns", &many->during);
	row_versus(r, "before", &many->before, BOUND_AT_MOST, 1.5);
	report_show(w);
}

void works_ends(void) {
	struct deaths one, many;

	berthd_start(&berthd, 1000, MANY + 100000);
	berthd_set("many@example.com", "unlimited");
	berthd_set("other@example.com", "5");
	one = deaths_measure("many@example.com", 1, bench.rounds);
	many = deaths_measure("many@example.com", MANY, bench.quick ? 3 : 11);
	rows_make(&one, &many);
	berthd_end(&berthd);
}
