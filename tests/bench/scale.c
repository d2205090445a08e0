/* SPDX-License-Identifier: MIT */

/*
 * A million accounts: to import them, to start with them, to adopt them from a berthd that died, to
 * use them at random, and what they cost in memory and on disk.
 *
 * All of it is one life of a berthd, lived several times: it imports, is killed while a process
 * holds a slot of every account, comes back; is stopped, loses what it shares as in a reboot, comes back.
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

#define LIVES 3

/* Of each life. */
struct lives {
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

/* What it shares with clients, and its own memory; not what it maps of the store, which the kernel
 * drops when it wants to. */
static double bytes_in_memory(const struct berthd *d) {
	return bytes_of_file(d->instance.runtime_dir, "segment") +
	       bytes_of_file(d->instance.runtime_dir, "directory") +
	       process_bytes(d->instance.berthd, "RssAnon:");
}

/* -- a life ------------------------------------------------------------------------------------ */

/* The kernel shall read the store from the disk, as after a reboot. */
static void forget_cached(const struct berthd *d, const char *name) {
	char path[700];
	int fd;

	(void)snprintf(path, sizeof(path), "%.600s/%s/data.mdb", d->state_dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bench_check(fd >= 0, path);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	(void)close(fd);
}

/* Until a new client has got a slot, and released it. */
static double start_timed(struct berthd *d) {
	double start = bench_now(), end;
	char name[ACCOUNT_NAME_SIZE];
	struct berth *b;
	berth_slot slot;

	instance_restart(&d->instance);
	bench_must(berth_open(NULL, &b), "berth_open");
	account_name(accounts / 2, name);
	bench_must(berth_acquire(b, name, &slot), "berth_acquire");
	end = bench_now();
	bench_must(berth_release(b, slot), "berth_release");
	berth_close(b);
	return end - start;
}

static void shared_remove(const struct berthd *d) {
	static const char *const names[] = {"segment", "directory"};
	char path[700];

	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "%.600s/%s", d->instance.runtime_dir, names[i]);
		bench_check(unlink(path) == 0, path);
	}
}

static void live_imported(struct berthd *d, struct lives *l, const char *file) {
	double before = bytes_in_memory(d);

	series_add(&l->import, berthd_import(file));
	/* What the import itself took is given back when there is nothing more to do. */
	sleep(2);
	series_add(&l->memory_import, (bytes_in_memory(d) - before) / accounts);
	series_add(&l->disk, bytes_of_file(d->state_dir, "limits/data.mdb") / accounts);
}

static void live_adopted(struct berthd *d, struct lives *l) {
	pid_t holder = holder_start(NULL, accounts);

	(void)instance_kill(&d->instance, SIGKILL);
	series_add(&l->adopt, start_timed(d));
	bench_kill(holder);
}

static void live_cold(struct berthd *d, struct lives *l, double empty) {
	(void)instance_kill(&d->instance, SIGTERM);
	shared_remove(d);
	forget_cached(d, "limits");
	forget_cached(d, "counts");
	series_add(&l->cold, start_timed(d));
	series_add(&l->memory_cold, (bytes_in_memory(d) - empty) / accounts);
}

/* -- rows -------------------------------------------------------------------------------------- */

static void rows_time(const struct lives *l) {
	struct work *w = work_new("scale", "1,000,000 accounts: import, start, adopt",
		"until a new client has a slot; started cold, limits and counts come from the "
		"disk");

	w->why = "a start looks at every page of the stored limits before it believes one, then "
		 "finds "
		 "each name in the directory, which is far away for a million of them; nobody is "
		 "served before all limits are in force";
	row_bound(work_row(w, "import, one synced commit", "ns", &l->import), BOUND_AT_MOST,
		3 * NS_OF_S);
	row_bound(work_row(w, "cold start, after a reboot", "ns", &l->cold), BOUND_AT_MOST,
		1 * NS_OF_S);
	row_bound(work_row(w, "adopting 1,000,000 held slots", "ns", &l->adopt), BOUND_AT_MOST,
		0.3 * NS_OF_S);
	report_show(w);
}

static void rows_memory(const struct lives *l) {
	struct work *w = work_new("memory", "Memory and disk for 1,000,000 accounts",
		"in memory: segment and directory as allocated, and berthd's own (RssAnon); on "
		"disk: limits/data.mdb as allocated; names have 21 bytes");

	row_bound(work_row(w, "in memory, 2 s after the import", "bytes", &l->memory_import),
		BOUND_AT_MOST, 200);
	row_bound(work_row(w, "in memory, after a cold start", "bytes", &l->memory_cold),
		BOUND_AT_MOST, 200);
	row_bound(work_row(w, "in LMDB", "bytes", &l->disk), BOUND_AT_MOST, 128);
	report_show(w);
}

void works_scale(void) {
	unsigned lives = bench.quick ? 1 : LIVES;
	static struct lives l;
	char *file;

	accounts = 1000000;
	file = strdup(accounts_file(accounts, 10));
	for (unsigned i = 0; i < lives; i++) {
		struct berthd d;
		double empty;

		cpus_pin_servers(false);
		berthd_start(&d, accounts + 100000, accounts + 100000);
		empty = bytes_in_memory(&d);
		live_imported(&d, &l, file);
		if (i == 0)
			random_measure(accounts);
		live_adopted(&d, &l);
		live_cold(&d, &l, empty);
		berthd_end(&d);
		cpus_pin_servers(true);
	}
	rows_time(&l);
	rows_memory(&l);
	free(file);
}
