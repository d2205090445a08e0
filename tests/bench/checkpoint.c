/* SPDX-License-Identifier: MIT */

/*
 * Measures how much berthd slows a server down by storing counts, when all of a million accounts
 * have changed since the last checkpoint.
 *
 * A client goes through all accounts again and again. For each account it releases its slot and
 * acquires one of another weight, so that every count differs from the stored one. The client's
 * speed is measured in windows of some seconds, in turn while berthd runs and while berthd is
 * stopped (SIGSTOP) and so stores nothing. Speed is operations per second of the client's own CPU
 * time, so that other programs on the machine don't matter.
 */

#include <berth.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "report.h"
#include "works.h"

#define REPORT_EVERY 256 /* operations */
#define WEIGHTS      4000

/* The client's progress; shared with the driver. */
struct progress {
	_Atomic uint64_t operations, cpu_ns;
};

static struct berthd berthd;
static struct progress *progress;
static unsigned accounts;

/* -- the client -------------------------------------------------------------------------------- */

static void client_run(void) {
	char name[ACCOUNT_NAME_SIZE];
	struct berth_request request = {.size = sizeof(request), .account = name};
	berth_slot *slots = calloc(accounts, sizeof(*slots));
	uint64_t operations = 0;

	bench_check(slots != NULL, "memory");
	cpus_pin_worker(0);
	handle_open(0);
	for (uint32_t sweep = 0;; sweep++)
		for (unsigned i = 0; i < accounts; i++) {
			account_name(i, name);
			request.weight = sweep % WEIGHTS + 1;
			if (slots[i])
				bench_must(berth_release(handle, slots[i]), "berth_release");
			bench_must(berth_acquire_req(handle, &request, &slots[i]),
				"berth_acquire_req");
			if (++operations % REPORT_EVERY == 0) {
				progress->cpu_ns = (uint64_t)bench_cpu_now();
				progress->operations = operations;
			}
		}
}

static pid_t client_start(void) {
	pid_t pid = bench_fork();

	if (pid == 0)
		client_run();
	/* After two passes the client has all its slots, and has touched all pages. */
	while (progress->operations < 2ul * accounts) {
		bench_continue();
		bench_check(waitpid(pid, NULL, WNOHANG) == 0, "the client of checkpoints died");
		(void)usleep(10000);
	}
	return pid;
}

/* -- windows ----------------------------------------------------------------------------------- */

/* Operations in a second of the client's CPU time. */
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
	double stored; /* windows during which berthd stored counts */
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

void works_checkpoint(void) {
	unsigned count = bench.quick ? 2 : 7;
	static struct windows w;
	pid_t client;
	struct work *work = work_new("checkpoint",
		bench.quick ? "Counts of 100,000 accounts are stored, all changed"
			    : "Counts of 1,000,000 accounts are stored, all changed",
		"pairs in a second of the client's CPU time; while berthd is stopped, it stores "
		"nothing");

	accounts = bench.quick ? 100000 : 1000000;
	progress = bench_share(sizeof(*progress));
	berthd_start(&berthd, accounts + 1000, accounts + 100000);
	(void)berthd_import(accounts_file(accounts, WEIGHTS));
	admin_open(&berthd);
	client = client_start();
	windows_measure(&w, count, bench.quick ? 1.2 : 3);
	(void)work_row(work, "M/s", &w.without, "berthd stopped");
	(void)work_row(work, "M/s", &w.with, "berthd storing, in %.0f of %u", w.stored, count);
	row_at_most(work_row(work, "%", &w.cost, "what storing costs"), 3);
	report_show(work);
	bench_kill(client);
	admin_close();
	berthd_end(&berthd);
	(void)munmap(progress, sizeof(*progress));
}
