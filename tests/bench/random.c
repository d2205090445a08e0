/* SPDX-License-Identifier: MIT */

/*
 * Measures accounts that are chosen at random among many, which shows what cache misses cost. Also
 * shows that ten million accounts work.
 *
 * berth is compared with as many semaphores, each in a cache line of its own. They are found by
 * their index in an array, or by the hash of their name. Either way a pair has one cache miss.
 */

#include <berth.h>

#include <semaphore.h>
#include <sys/mman.h>

#include "bench.h"
#include "contest.h"
#include "named.h"
#include "report.h"
#include "util.h"
#include "works.h"

#define RANDOM_BATCH      256 /* few enough names to stay in the first-level cache */
#define MILLION           1000000u
#define TEN_MILLION_BYTES 6e9
#define POINTS_MAX        7 /* 10, 100, ... 10,000,000 accounts */

static char names[RANDOM_BATCH][ACCOUNT_NAME_SIZE];

static unsigned random_below(unsigned count) {
	static uint64_t state = 88172645463325252;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)((state >> 32) * count >> 32);
}

static void names_prepare(unsigned count, unsigned long n) {
	for (unsigned long i = 0; i < n; i++)
		account_name(random_below(count), names[i]);
}

static void names_pairs(unsigned count, unsigned long n) {
	berth_slot slot;

	(void)count;
	for (unsigned long i = 0; i < n; i++) {
		bench_must(berth_acquire(handle, names[i], &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

/* Uses every account once, so that every page is mapped. */
static void names_open(unsigned count) {
	handle_open(count);
	for (unsigned i = 0; i < count; i++) {
		account_name(i, names[0]);
		names_pairs(count, 1);
	}
}

/* -- semaphores -------------------------------------------------------------------------------- */

static struct { _Alignas(64) sem_t semaphore; } * semaphores;
static unsigned indices[RANDOM_BATCH];

static void indices_prepare(unsigned count, unsigned long n) {
	for (unsigned long i = 0; i < n; i++)
		indices[i] = random_below(count);
}

static void indices_pairs(unsigned count, unsigned long n) {
	(void)count;
	for (unsigned long i = 0; i < n; i++) {
		sem_t *s = &semaphores[indices[i]].semaphore;

		bench_check(sem_trywait(s) == 0, "sem_trywait");
		bench_check(sem_post(s) == 0, "sem_post");
	}
}

static void indices_open(unsigned count) {
	for (unsigned i = 0; i < count; i++) {
		indices[0] = i;
		indices_pairs(count, 1);
	}
}

/* -- semaphores by name ------------------------------------------------------------------------ */

static struct named *table;

static void table_pairs(unsigned count, unsigned long n) {
	(void)count;
	for (unsigned long i = 0; i < n; i++) {
		struct named_entry *e = named_take(table, names[i]);

		bench_check(e != NULL, "a semaphore is full");
		named_give(e);
	}
}

static void table_make(unsigned count) {
	table = named_new(count, NAMED_ATOMIC);
	for (unsigned i = 0; i < count; i++) {
		account_name(i, names[0]);
		named_add(table, names[0], 10);
	}
}

static void table_open(unsigned count) {
	for (unsigned i = 0; i < count; i++) {
		account_name(i, names[0]);
		table_pairs(count, 1);
	}
}

/* -- 10, 100, ... accounts --------------------------------------------------------------------- */

static const struct contender kinds[] = {
	{.name = "berth", .open = names_open, .prepare = names_prepare, .run = names_pairs},
	{.name = "sem_t", .open = indices_open, .prepare = indices_prepare, .run = indices_pairs},
	{.name = "by name", .open = table_open, .prepare = names_prepare, .run = table_pairs},
};
#define KINDS ELEMENTS(kinds)

void random_measure(unsigned most) {
	struct contender c[KINDS * POINTS_MAX] = {0};
	/* A hash table of ten million names would take 2 GB. */
	unsigned count = most > MILLION ? KINDS - 1 : KINDS, n = 0;
	struct work *w = work_new(most > MILLION ? "random-10m" : "random",
		most > MILLION ? "Accounts chosen at random, of 10,000,000 configured ones"
			       : "Accounts chosen at random, of 1,000,000 configured ones",
		"names and indices are made before a batch is timed; every page was touched "
		"before; a sem_t is found by its index, a semaphore by name by a hash; each is one "
		"cache line");

	w->why = "a million accounts don't fit into the caches, and berth reads three cache lines, "
		 "one each of the table of names, the entries and the cells, where a semaphore is "
		 "one";
	for (unsigned k = 0; k < count; k++)
		for (unsigned accounts = 10; accounts <= most; accounts *= 10) {
			c[n] = kinds[k];
			c[n].object = accounts;
			c[n++].batch = RANDOM_BATCH;
		}
	semaphores = bench_share(most * sizeof(*semaphores));
	for (unsigned i = 0; i < most; i++)
		bench_check(sem_init(&semaphores[i].semaphore, 1, 10) == 0, "sem_init");
	if (count == KINDS)
		table_make(most);
	contest(c, n, bench.rounds);
	contest_rows(w, c, n, "of 10");
	if (most == MILLION)
		row_at_most(&w->row[n / KINDS - 1], 6); /* berth, of 1,000,000 */
	report_show(w);
	if (count == KINDS)
		named_free(table);
	(void)munmap(semaphores, most * sizeof(*semaphores));
}

/* -- ten million ------------------------------------------------------------------------------- */

void works_ten_million(void) {
	const char *key = "import-10m", *title = "10,000,000 accounts";
	struct berthd d;
	struct work *w;

	if (bench.quick)
		return;
	if (!machine_has(TEN_MILLION_BYTES)) {
		work_skip(key, title, "it takes 6 GB of memory, /dev/shm and disk");
		return;
	}
	w = work_new(key, title, NULL);
	berthd_start(&d, 10 * MILLION + 1000, 100000);
	(void)work_row(w, "ns", SERIES_ONE(berthd_import(accounts_file(10 * MILLION, 10))),
		"import, one synced commit");
	report_show(w);
	random_measure(10 * MILLION);
	berthd_end(&d);
}
