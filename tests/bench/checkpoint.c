/* SPDX-License-Identifier: MIT */

/*
 * What it costs a server that berthd stores counts, with every account of a million changed since
 * the last time.
 *
 * A client goes through all accounts again and again; of each it releases a slot and acquires one
 * of another weight, so that no count is ever what was stored. Windows take turns: berthd runs, and
 * berthd is stopped (SIGSTOP), when nobody stores anything. The client's speed is per second of its
 * own CPU time: who else uses the machine doesn't count.
 */

#include <berth.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "admin.h"
#include "bench.h"
#include "report.h"
#include "works.h"

#define REPORT_EVERY 256 /* operations */
#define WEIGHTS      4000

/* How far the client is; shared with the driver. */
struct progress {
	_Atomic uint64_t operations, cpu_ns;
};

static struct berthd berthd;
static struct progress *progress;
static unsigned accounts;

/* -- the client -------------------------------------------------------------------------------- */

static void progress_report(uint64_t operations) {
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	progress->cpu_ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
	progress->operations = operations;
}

static void client_change(struct berth *b, berth_slot *slot, unsigned account, uint32_t weight) {
	char name[ACCOUNT_NAME_SIZE];
	struct berth_request request = {.size = sizeof(request), .account = name, .weight = weight};

	account_name(account, name);
	if (*slot)
		bench_must(berth_release(b, *slot), "berth_release");
	bench_must(berth_acquire_req(b, &request, slot), "berth_acquire_req");
}

static void client_run(void) {
	berth_slot *slots = calloc(accounts, sizeof(*slots));
	uint64_t operations = 0;
	struct berth *b;

	bench_check(slots != NULL, "memory");
	cpus_pin_worker(0);
	bench_must(berth_open(NULL, &b), "berth_open");
	for (uint32_t sweep = 0;; sweep++)
		for (unsigned i = 0; i < accounts; i++) {
			client_change(b, &slots[i], i, sweep % WEIGHTS + 1);
			if (++operations % REPORT_EVERY == 0)
				progress_report(operations);
		}
}

static pid_t client_start(void) {
	pid_t pid = bench_fork();

	if (pid == 0)
		client_run();
	/* Once through all, so that it has all its slots and pages. */
	while (progress->operations < 2ul * accounts) {
		bench_continue();
		bench_check(waitpid(pid, NULL, WNOHANG) == 0, "the client of checkpoints died");
		(void)usleep(10000);
	}
	return pid;
}

/* -- windows ----------------------------------------------------------------------------------- */

/* Operations in a second of the client's time. */
static double window_rate(double seconds) {
	uint64_t operations = progress->operations, cpu_ns = progress->cpu_ns;

	(void)usleep((useconds_t)(seconds * 1e6));
	bench_continue();
	return (double)(progress->operations - operations) / (double)(progress->cpu_ns - cpu_ns) *
	       NS_OF_S;
}

static double window_stopped(double seconds) {
	double rate;

	(void)instance_kill(&berthd.instance, SIGSTOP);
	rate = window_rate(seconds);
	(void)instance_kill(&berthd.instance, SIGCONT);
	return rate;
}

struct windows {
	struct series with, without, cost;
	double stored; /* windows in which counts were stored */
};

static void windows_measure(struct windows *w, unsigned count, double seconds) {
	double before = window_stopped(seconds), after;

	for (unsigned i = 0; i < count; i++) {
		uint64_t stored = admin_checkpointed();
		double with = window_rate(seconds);

		w->stored += admin_checkpointed() != stored;
		after = window_stopped(seconds);
		series_add(&w->with, with / 1e6);
		series_add(&w->without, (before + after) / 2e6);
		series_add(&w->cost, (1 - with / ((before + after) / 2)) * 100);
		before = after;
	}
}

static void rows_make(const struct windows *w, unsigned count) {
	struct work *work = work_new("checkpoint",
		bench.quick ? "Counts of 100,000 accounts are stored, all changed"
			    : "Counts of 1,000,000 accounts are stored, all changed",
		"pairs in a second of the client's CPU time; stopped: berthd can't store anything");
	char name[64];
	struct row *r;

	(void)work_row(work, "berthd stopped", "M/s", &w->without);
	(void)snprintf(name, sizeof(name), "berthd storing, in %.0f of %u", w->stored, count);
	(void)work_row(work, name, "M/s", &w->with);
	r = work_row(work, "what storing costs", "%", &w->cost);
	row_bound(r, BOUND_AT_MOST, 3);
	report_show(work);
}

void works_checkpoint(void) {
	unsigned count = bench.quick ? 2 : 7;
	static struct windows w;
	pid_t client;

	accounts = bench.quick ? 100000 : 1000000;
	progress = mmap(
		NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bench_check(progress != MAP_FAILED, "mmap");
	berthd_start(&berthd, accounts + 1000, accounts + 100000);
	(void)berthd_import(accounts_file(accounts, WEIGHTS));
	admin_open(&berthd);
	client = client_start();
	windows_measure(&w, count, bench.quick ? 1.2 : 3);
	rows_make(&w, count);
	bench_kill(client);
	admin_close();
	berthd_end(&berthd);
	(void)munmap(progress, sizeof(*progress));
}
