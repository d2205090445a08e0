/* SPDX-License-Identifier: MIT */

/* Measures what several processes pay for slots of one account, for slots of an account each, and
 * for denials; and whether one of the processes starves. */

#include "bench.h"
#include "contest.h"
#include "report.h"
#include "util.h"
#include "works.h"

static struct peer *const fast_peers[] = {
	&peer_berth, &peer_sem, &peer_floor, &peer_mutex, &peer_named};
#define FAST_PEERS ELEMENTS(fast_peers)

/* -- the distance between two CPUs ------------------------------------------------------------- */

#define SPINS_MAX (1u << 16)

/* Two processes write this word in turn, so that its cache line travels from one CPU to the other
 * and back. */
static _Atomic unsigned *ball;

/* A process stops waiting after SPINS_MAX reads, since the other one may have ended its slice. */
static void ball_play(unsigned side, unsigned long n) {
	while (n-- > 0) {
		unsigned spins = SPINS_MAX;

		while (*ball % 2 != side && --spins > 0)
			;
		*ball = !side;
	}
}

/* -- one account ------------------------------------------------------------------------------- */

static void work_same(void) {
	struct contender c[FAST_PEERS + 1] = {0};
	struct work *w = work_new("same-account", "2 processes, same account",
		"each on a CPU of its own; what one of them pays for a pair. The last row shows "
		"how "
		"far the two CPUs are from each other, which the host of a virtual machine may "
		"change at any time");

	w->why = "the process that changes the account first writes the other's last step into the "
		 "other's record. So more cache lines travel than for a semaphore; and where the "
		 "CPUs are far from each other, each keeps a semaphore's line for several pairs";
	for (unsigned i = 0; i < FAST_PEERS; i++)
		c[i] = contender_of(fast_peers[i], 2, OBJECT_FREE);
	ball = bench_share(sizeof(*ball));
	c[FAST_PEERS] = (struct contender){.name = "a cache line, there and back",
		.processes = 2,
		.apart = true,
		.run = ball_play};
	contest(c, ELEMENTS(c), bench.rounds);
	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		const struct contender *other = &c[i == 0 ? 1 : 0];
		struct row *r = work_row(w, "ns", &c[i].ns, "%s", c[i].name);

		row_versus(r, other->name, &other->ns);
		if (i == 0)
			row_at_most(r, 6);
	}
	report_show(w);
}

static void work_same_times(void) {
	struct contender c[3] = {0};
	struct work *w = work_new("same-account-times",
		"2 processes, same account: the longest operations",
		"each pair timed by itself, with 20 ns for the clock; without those during which "
		"the scheduler took the CPU away");

	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		c[i] = contender_of(fast_peers[i < 2 ? i : 3], 2, OBJECT_FREE);
		c[i].timed = true;
	}
	contest(c, ELEMENTS(c), bench.rounds);
	for (unsigned i = 0; i < ELEMENTS(c); i++) {
		(void)work_row(w, "ns", &c[i].p99, "%s, 99 %%", c[i].name);
		(void)work_row(w, "ns", &c[i].p999, "%s, 99.9 %%", c[i].name);
		(void)work_row(w, "ns", &c[i].longest, "%s, longest", c[i].name);
		(void)work_row(w, "%", &c[i].percent, "%s, slower one's share", c[i].name);
	}
	report_show(w);
}

/* -- accounts of their own, and denials -------------------------------------------------------- */

/* Compares two processes with one. In each round one process runs, then two, then one again. The
 * rate of two processes is divided by the mean of the two rates of one process. */
static void work_scaling(
	struct work *w, struct peer *const list[], unsigned count, unsigned object) {
	struct contender c[3 * 3] = {0};
	unsigned n = 3 * count;

	for (unsigned i = 0; i < n; i++)
		c[i] = contender_of(list[i / 3], i % 3 == 1 ? 2 : 1, object);
	contest(c, n, bench.rounds);
	for (unsigned i = 0; i < n; i += 3) {
		struct series one = {0};
		struct row *two;

		for (unsigned k = 0; k < c[i].rate.count; k++)
			series_add(&one, (c[i].rate.value[k] + c[i + 2].rate.value[k]) / 2);
		(void)work_row(w, "M/s", &one, "%s, 1 process", c[i].name);
		two = work_row(w, "M/s", &c[i + 1].rate, "%s, 2 processes", c[i].name);
		row_versus(two, "one", &one);
		if (i == 0)
			row_at_least(two, 1.9);
	}
	report_show(w);
}

#define STEPS 175u /* of four instructions: together as many as a pair of berth */

static void arithmetic(unsigned object, unsigned long n) {
	uint64_t a = object, b = n, c = 1, d = 2;

	while (n-- > 0)
		for (unsigned i = 0; i < STEPS; i++) {
			a += n;
			b += n;
			c += n;
			d += n;
			/* Keeps the compiler from computing the sums at once. */
			__asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
		}
}

/* This peer shares no memory and keeps a core busy. If a second CPU doesn't make even this peer
 * twice as fast, the host of a virtual machine probably runs both CPUs on one core. */
static struct peer peer_arithmetic = {.name = "arithmetic alone", .pairs = arithmetic};

static void work_own(void) {
	static struct peer *const list[] = {&peer_berth, &peer_sem, &peer_arithmetic};
	struct work *w = work_new("own-accounts", "2 processes, different accounts",
		"pairs a second, all together; one process, two, one again. Arithmetic shares "
		"nothing, and shows what the CPUs themselves have in common");

	w->why = "if arithmetic doesn't double either, the machine is the reason: its host may run "
		 "both CPUs on one core";
	work_scaling(w, list, ELEMENTS(list), OBJECT_OWN);
}

static void work_denied_together(void) {
	static struct peer *const list[] = {&peer_berth, &peer_sem};
	struct work *w = work_new("denied-together", "2 processes, denied by the same account",
		"denials a second, all together; they scale only if no process writes the cache "
		"line that both read");

	work_scaling(w, list, ELEMENTS(list), OBJECT_FULL);
}

void works_shared(void) {
	/* On one CPU two processes alternate, and would measure the scheduler. */
	if (cpus_count() < 2) {
		work_skip("shared", "2 processes", "there is one CPU only");
		return;
	}
	peers_start();
	peers_fill();
	work_same();
	work_same_times();
	work_own();
	work_denied_together();
}
