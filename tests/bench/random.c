/* SPDX-License-Identifier: MIT */

/*
 * Many accounts, chosen at random: what misses of the caches cost. And that ten million work.
 *
 * Beside them as many semaphores, a cache line each: chosen by their index in an array, where it is
 * one miss; and found by the hash of their name, where it is one, too, but for the name.
 */

#include <berth.h>

#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>

#include "bench.h"
#include "contest.h"
#include "named.h"
#include "report.h"
#include "works.h"

#define RANDOM_BATCH      256 /* names, which then are in the nearest cache */
#define MILLION           1000000u
#define TEN_MILLION_BYTES 6e9
#define KINDS             3 /* berth, sem_t by index, semaphores by name */
#define POINTS_MAX        7 /* 10, 100, ... ten million */

static struct berth *handle;
static char names[RANDOM_BATCH][ACCOUNT_NAME_SIZE];

/* Below count. */
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

/* Every account once, so that every page is there. */
static void names_open(unsigned count) {
	bench_must(berth_open(NULL, &handle), "berth_open");
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

static void semaphores_make(unsigned count) {
	semaphores = mmap(NULL, count * sizeof(*semaphores), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bench_check(semaphores != MAP_FAILED, "mmap");
	for (unsigned i = 0; i < count; i++)
		bench_check(sem_init(&semaphores[i].semaphore, 1, 10) == 0, "sem_init");
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

/* The target is for as many accounts as are configured: a million. */
static void random_rows(struct work *w, const struct contender *c, unsigned points, bool target) {
	char number[NUMBER_SIZE], name[64];

	for (unsigned i = 0; i < points; i++) {
		bool last = target && i + 1 == points;
		struct row *r;

		(void)snprintf(name, sizeof(name), "%s, of %s", c[i].name,
			count_text(c[i].object, number));
		r = work_row(w, name, "ns", &c[i].ns);
		if (i > 0)
			row_versus(r, "of 10", &c[0].ns, last ? BOUND_AT_MOST : BOUND_NONE, 6);
	}
}

static unsigned contenders_make(struct contender *c, unsigned most) {
	unsigned points = 0;

	for (unsigned count = 10; count <= most; count *= 10)
		c[points++] = (struct contender){.name = "berth",
			.object = count,
			.batch = RANDOM_BATCH,
			.open = names_open,
			.prepare = names_prepare,
			.run = names_pairs};
	for (unsigned i = 0; i < points; i++) {
		c[points + i] = (struct contender){.name = "sem_t",
			.object = c[i].object,
			.batch = RANDOM_BATCH,
			.open = indices_open,
			.prepare = indices_prepare,
			.run = indices_pairs};
		c[2 * points + i] = (struct contender){.name = "by name",
			.object = c[i].object,
			.batch = RANDOM_BATCH,
			.open = table_open,
			.prepare = names_prepare,
			.run = table_pairs};
	}
	return points;
}

void random_measure(unsigned most) {
	struct contender c[KINDS * POINTS_MAX] = {0};
	unsigned points = contenders_make(c, most);
	/* A table of ten million names would take 2 GB. */
	unsigned kinds = most > MILLION ? KINDS - 1 : KINDS;
	struct work *w = work_new(most > MILLION ? "random-10m" : "random",
		most > MILLION ? "Accounts chosen at random, of 10,000,000 configured ones"
			       : "Accounts chosen at random, of 1,000,000 configured ones",
		"names and indices are made before a batch is timed; every page was touched "
		"before; a sem_t is found by its index, a semaphore by name by a hash; each is one "
		"cache line");

	w->why = "a million accounts don't fit into the caches, and berth's table of names, "
		 "entry and cell are three lines, where a semaphore is one";
	semaphores_make(most);
	if (kinds == KINDS)
		table_make(most);
	contest(c, kinds * points, bench.rounds);
	random_rows(w, c, points, most == MILLION);
	for (unsigned k = 1; k < kinds; k++)
		random_rows(w, c + k * points, points, false);
	report_show(w);
	if (kinds == KINDS)
		named_free(table);
	(void)munmap(semaphores, most * sizeof(*semaphores));
}

/* -- ten million ------------------------------------------------------------------------------- */

static void ten_million_measure(void) {
	struct work *w = work_new("import-10m", "10,000,000 accounts", NULL);
	struct series imported;
	struct berthd d;

	if (!machine_has(TEN_MILLION_BYTES)) {
		work_missing(w, "all", "it takes 6 GB of memory, /dev/shm and disk");
		report_show(w);
		return;
	}
	berthd_start(&d, 10 * MILLION + 1000, 100000);
	imported = series_one(berthd_import(accounts_file(10 * MILLION, 10)));
	(void)work_row(w, "import, one synced commit", "ns", &imported);
	report_show(w);
	random_measure(10 * MILLION);
	berthd_end(&d);
}

void works_ten_million(void) {
	if (!bench.quick)
		ten_million_measure();
}
