/* SPDX-License-Identifier: MIT */

/* What several processes pay: on one account, on one each, being denied; and whether one of them
 * starves. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"
#include "contest.h"
#include "report.h"
#include "works.h"

static struct peer *const fast_peers[] = {
	&peer_berth, &peer_sem, &peer_floor, &peer_mutex, &peer_named};
#define FAST_PEERS 5

/* On a machine with one CPU two processes take turns, and measure the scheduler. */
static const char *too_few_cpus(void) {
	return cpus_count() < 2 ? "there is one CPU only" : NULL;
}

/* -- the distance of two CPUs ------------------------------------------------------------------ */

#define BALL_PATIENCE (1u << 16)

/* A word that two processes write in turn: the line goes there and back. */
static _Atomic unsigned *ball;

static void ball_make(void) {
	ball = mmap(NULL, sizeof(*ball), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bench_check(ball != MAP_FAILED, "mmap");
}

/* Whoever has nobody to play with any more gives up. */
static void ball_play(unsigned side, unsigned long n) {
	while (n-- > 0) {
		unsigned patience = BALL_PATIENCE;

		while (*ball % 2 != side && --patience > 0)
			;
		*ball = !side;
	}
}

/* -- one account ------------------------------------------------------------------------------- */

static void work_same(void) {
	struct contender c[FAST_PEERS + 1] = {0};
	struct work *w = work_new("same-account", "2 processes, same account",
		"each on a CPU of its own; what one of them pays for a pair. How far from each "
		"other two CPUs are a virtual machine's host changes at will: the last row");

	w->why = "whoever changes the account first notes the other's last step in its record, a "
		 "line of that one's: more lines travel than a semaphore has, and a CPU far away "
		 "keeps a semaphore's for several pairs";
	for (unsigned i = 0; i < FAST_PEERS; i++)
		c[i] = (struct contender){.name = fast_peers[i]->name,
			.peer = fast_peers[i],
			.processes = 2,
			.object = OBJECT_ROOMY,
			.run = fast_peers[i]->pairs};
	ball_make();
	c[FAST_PEERS] = (struct contender){.name = "a cache line, there and back",
		.processes = 2,
		.apart = true,
		.run = ball_play};
	contest(c, FAST_PEERS + 1, bench.rounds);
	for (unsigned i = 0; i <= FAST_PEERS; i++) {
		struct row *r = work_row(w, c[i].name, "ns", &c[i].ns);

		if (i == 0)
			row_versus(r, c[1].name, &c[1].ns, BOUND_AT_MOST, 6);
		else
			row_versus(r, c[0].name, &c[0].ns, BOUND_NONE, 0);
	}
	report_show(w);
}

static void times_row(struct work *w, const char *peer, const char *what, const char *unit,
	const struct series *s) {
	char name[64];

	(void)snprintf(name, sizeof(name), "%s, %s", peer, what);
	(void)work_row(w, name, unit, s);
}

/* No operation may be starved: each is timed. */
static void work_same_times(void) {
	struct contender c[3] = {0};
	struct work *w = work_new("same-account-times",
		"2 processes, same account: the longest operations",
		"each pair timed by itself, 20 ns for the clock included; without those in which "
		"the scheduler took the CPU away");

	for (unsigned i = 0; i < 3; i++) {
		struct peer *p = fast_peers[i < 2 ? i : 3];

		c[i] = (struct contender){.name = p->name,
			.peer = p,
			.processes = 2,
			.object = OBJECT_ROOMY,
			.timed = true,
			.run = p->pairs};
	}
	contest(c, 3, bench.rounds);
	for (unsigned i = 0; i < 3; i++) {
		struct series percent = series_scale(&c[i].share, 100);

		times_row(w, c[i].name, "99 %", "ns", &c[i].p99);
		times_row(w, c[i].name, "99.9 %", "ns", &c[i].p999);
		times_row(w, c[i].name, "longest", "ns", &c[i].longest);
		times_row(w, c[i].name, "slower one's share", "%", &percent);
	}
	report_show(w);
}

/* -- accounts of their own, and denials -------------------------------------------------------- */

/* One process, two, one again, in each round; two against the mean of the ones. */
static void scaling(struct work *w, const struct peer *const list[], unsigned count, bool denials,
	double target) {
	struct contender c[3 * 3] = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++)
		for (unsigned turn = 0; turn < 3; turn++)
			c[n++] = (struct contender){.name = list[i]->name,
				.peer = (struct peer *)(uintptr_t)list[i],
				.processes = turn == 1 ? 2 : 1,
				.object = denials ? OBJECT_FULL : OBJECT_OWN,
				.apart = !denials,
				.run = denials ? list[i]->denials : list[i]->pairs};
	contest(c, n, bench.rounds);
	for (unsigned i = 0; i < n; i += 3) {
		struct series one = {0}, two = series_scale(&c[i + 1].rate, 1e-6);
		char name[64];

		for (unsigned k = 0; k < c[i].rate.count; k++)
			series_add(&one, (c[i].rate.value[k] + c[i + 2].rate.value[k]) / 2e6);
		(void)snprintf(name, sizeof(name), "%s, 1 process", c[i].name);
		(void)work_row(w, name, "M/s", &one);
		(void)snprintf(name, sizeof(name), "%s, 2 processes", c[i].name);
		row_versus(work_row(w, name, "M/s", &two), "one", &one,
			i == 0 ? BOUND_AT_LEAST : BOUND_NONE, target);
	}
}

#define STEPS 175u /* of four instructions: in all as many as a pair of berth's */

static void nothing(void) {}

static void arithmetic(unsigned object, unsigned long n) {
	uint64_t a = object, b = n, c = 1, d = 2;

	while (n-- > 0)
		for (unsigned i = 0; i < STEPS; i++) {
			a += n;
			b += n;
			c += n;
			d += n;
			/* Or it would all be done at once. */
			__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
		}
}

/* Shares nothing, and keeps a core busy: what it doesn't gain by a second CPU nobody can, as where the
 * host of a virtual machine has both on one core. */
static const struct peer peer_arithmetic = {
	.name = "arithmetic alone", .open = nothing, .pairs = arithmetic};

static void work_apart(void) {
	static const struct peer *const list[] = {&peer_berth, &peer_sem, &peer_arithmetic};
	struct work *w = work_new("own-accounts", "2 processes, different accounts",
		"pairs a second, all together; one process, two, one again. Arithmetic shares "
		"nothing, and shows what the CPUs themselves have in common");

	w->why =
		"as far as arithmetic doesn't double either, that is the machine's, whose host may "
		"have both CPUs on one core";
	scaling(w, list, 3, false, 1.9);
	report_show(w);
}

static void work_denied_together(void) {
	static const struct peer *const list[] = {&peer_berth, &peer_sem};
	struct work *w = work_new("denied-together", "2 processes, denied by the same account",
		"denials a second, all together; two share a cache line that nobody writes, or "
		"they don't scale");

	scaling(w, list, 2, true, 1.9);
	report_show(w);
}

void works_shared(void) {
	if (too_few_cpus()) {
		struct work *w = work_new("shared", "2 processes", NULL);

		work_missing(w, "all", too_few_cpus());
		report_show(w);
		return;
	}
	peers_start();
	peers_fill();
	work_same();
	work_same_times();
	work_apart();
	work_denied_together();
}
