/* SPDX-License-Identifier: MIT */

/*
 * Measures a million accounts: how long it takes to import them, to start with them, and to adopt
 * them from a berthd that was killed; what accounts chosen at random cost; and how much memory and
 * disk they need.
 *
 * Each pass starts a new berthd, imports the accounts, kills berthd while a process holds a slot of
 * every account, and starts berthd again ("adopt"). Then the pass stops berthd, removes the shared
 * files as a reboot does, and starts berthd a last time ("cold").
 */

#include <berth.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "report.h"
#include "works.h"

#define PASSES 3

/* One figure a pass. */
struct figures {
	struct series import, cold, adopt;              /* ns */
	struct series memory_import, memory_cold, disk; /* bytes an account */
};

static unsigned accounts;

/* -- sizes ------------------------------------------------------------------------------------- */

static double bytes_of_file(const char *dir, const char *name) {
	char path[700];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%.600s/%s", dir, name);
	bench_check(stat(path, &st) == 0, path);
	return (double)st.st_blocks * 512;
}

/* The files that berthd shares with clients, and its private memory. The mapped store isn't
 * counted: the kernel can drop it at any time. */
static double bytes_in_memory(const struct berthd *d) {
	return bytes_of_file(d->instance.runtime_dir, "segment") +
	       bytes_of_file(d->instance.runtime_dir, "directory") +
	       process_bytes(d->instance.berthd, "RssAnon:");
}

/* -- a pass ------------------------------------------------------------------------------------ */

/* Starts berthd. Returns how long it takes until a new client has acquired a slot. */
static double start_timed(struct berthd *d) {
	double start = bench_now(), end;
	char name[ACCOUNT_NAME_SIZE];
	berth_slot slot;

	instance_restart(&d->instance);
	handle_open(0);
	account_name(accounts / 2, name);
	bench_must(berth_acquire(handle, name, &slot), "berth_acquire");
	end = bench_now();
	bench_must(berth_release(handle, slot), "berth_release");
	berth_close(handle);
	return end - start;
}

static void measure_import(struct berthd *d, struct figures *f, const char *file) {
	double before = bytes_in_memory(d);

	series_add(&f->import, berthd_import(file));
	/* When berthd is idle, it frees the memory that only the import needed. */
	sleep(2);
	series_add(&f->memory_import, (bytes_in_memory(d) - before) / accounts);
	series_add(&f->disk, bytes_of_file(d->state_dir, "limits/data.mdb") / accounts);
}

/* Starts berthd as after a reboot. */
static void measure_cold(struct berthd *d, struct figures *f, double empty) {
	char path[700];
	int fd;

	(void)instance_kill(&d->instance, SIGTERM);
	for (int i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "%.600s/%s", d->instance.runtime_dir,
			i ? "segment" : "directory");
		bench_check(unlink(path) == 0, path);
		/* Makes the kernel read the store from the disk again. */
		(void)snprintf(path, sizeof(path), "%.600s/%s/data.mdb", d->state_dir,
			i ? "limits" : "counts");
		fd = open(path, O_RDONLY | O_CLOEXEC);
		bench_check(fd >= 0, path);
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		(void)close(fd);
	}
	series_add(&f->cold, start_timed(d));
	series_add(&f->memory_cold, (bytes_in_memory(d) - empty) / accounts);
}

/* -- rows -------------------------------------------------------------------------------------- */

static void rows_time(const struct figures *f) {
	struct work *w = work_new("scale", "1,000,000 accounts: import, start, adopt",
		"until a new client has a slot; at a cold start, limits and counts come from the "
		"disk");

	w->why =
		"berthd checks every page of the stored limits before it uses one, then looks each "
		"name up in the directory, which for a million names isn't in the CPU's cache; it "
		"serves no client before all limits are in force";
	row_at_most(work_row(w, "ns", &f->import, "import, one synced commit"), 3 * NS_OF_S);
	row_at_most(work_row(w, "ns", &f->cold, "cold start, after a reboot"), 1 * NS_OF_S);
	row_at_most(work_row(w, "ns", &f->adopt, "adopting 1,000,000 held slots"), 0.3 * NS_OF_S);
	report_show(w);
}

static void rows_memory(const struct figures *f) {
	struct work *w = work_new("memory", "Memory and disk for 1,000,000 accounts",
		"in memory: segment and directory as allocated, and berthd's own (RssAnon); on "
		"disk: limits/data.mdb as allocated; names have 21 bytes");

	row_at_most(
		work_row(w, "bytes", &f->memory_import, "in memory, 2 s after the import"), 200);
	row_at_most(work_row(w, "bytes", &f->memory_cold, "in memory, after a cold start"), 200);
	row_at_most(work_row(w, "bytes", &f->disk, "in LMDB"), 128);
	report_show(w);
}

void works_scale(void) {
	unsigned passes = bench.quick ? 1 : PASSES;
	static struct figures f;
	char *file;

	accounts = 1000000;
	file = strdup(accounts_file(accounts, 10));
	for (unsigned i = 0; i < passes; i++) {
		struct berthd d;
		pid_t holder;
		double empty;

		cpus_pin_servers(false);
		berthd_start(&d, accounts + 100000, accounts + 100000);
		empty = bytes_in_memory(&d);
		measure_import(&d, &f, file);
		if (i == 0)
			random_measure(accounts);
		holder = holder_start(NULL, accounts);
		(void)instance_kill(&d.instance, SIGKILL);
		series_add(&f.adopt, start_timed(&d));
		bench_kill(holder);
		measure_cold(&d, &f, empty);
		berthd_end(&d);
		cpus_pin_servers(true);
	}
	rows_time(&f);
	rows_memory(&f);
	free(file);
}
