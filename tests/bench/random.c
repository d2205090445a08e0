/* SPDX-License-Identifier: MIT */

/* Many accounts, chosen at random: what misses of the caches cost. And that ten million work. */

#include <berth.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contest.h"
#include "plot.h"
#include "report.h"
#include "works.h"

#define RANDOM_BATCH 256 /* names, which then are in the nearest cache */
#define MILLION      1000000u

static struct berth *handle;
static char names[RANDOM_BATCH][ACCOUNT_NAME_SIZE];

static void names_prepare(unsigned count, unsigned long n) {
	static uint64_t state = 88172645463325252;

	for (unsigned long i = 0; i < n; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		account_name((unsigned)((state >> 32) * count >> 32), names[i]);
	}
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

/* -- 10, 100, ... accounts ---------------------------------------------------------------------- */

/* The target is for as many accounts as are configured: a million. */
static void random_rows(const struct contender *c, unsigned points, bool million) {
	struct work *w = work_new(million ? "random" : "random-10m",
		million ? "Accounts chosen at random, of 1,000,000 configured ones"
			: "Accounts chosen at random, of 10,000,000 configured ones",
		"names are made before a batch is timed; every page was touched before");
	char number[NUMBER_SIZE], name[64];

	for (unsigned i = 0; i < points; i++) {
		bool last = million && i + 1 == points;
		struct row *r;

		(void)snprintf(name, sizeof(name), "of %s", count_text(c[i].object, number));
		r = work_row(w, name, "ns", &c[i].ns);
		if (i > 0)
			row_versus(r, "of 10", &c[0].ns, last ? BOUND_AT_MOST : BOUND_NONE, 6);
	}
	report_show(w);
}

static void random_plot(const struct contender *c, unsigned points) {
	struct plot p = {.title = "Cost and accounts",
		.x_label = "accounts, one of which is chosen at random each time",
		.y_label = "ns for acquire and release",
		.x_log = true};
	struct plot_line *line = plot_line_new(&p, "berth");

	for (unsigned i = 0; i < points; i++)
		plot_point(line, c[i].object, &c[i].ns, 1);
	plot_write(&p, "accounts.svg");
}

void random_measure(unsigned most, bool plot) {
	struct contender c[PLOT_POINTS] = {0};
	unsigned points = 0;

	for (unsigned count = 10; count <= most; count *= 10)
		c[points++] = (struct contender){.name = "berth",
			.object = count,
			.batch = RANDOM_BATCH,
			.open = names_open,
			.prepare = names_prepare,
			.run = names_pairs};
	contest(c, points, bench.rounds);
	random_rows(c, points, most == MILLION);
	if (plot)
		random_plot(c, points);
}

/* -- ten million -------------------------------------------------------------------------------- */

void works_ten_million(void) {
	struct berthd d;

	if (bench.quick)
		return;
	berthd_start(&d, 10 * MILLION + 1000, 100000);
	(void)berthd_import(accounts_file(10 * MILLION, 10));
	random_measure(10 * MILLION, true);
	berthd_end(&d);
}
