/* SPDX-License-Identifier: MIT */

/* What one process pays: for a slot, for a denial, for levels; beside every peer. */

#include <berth.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "contest.h"
#include "report.h"
#include "works.h"

#define PEERS_MAX 16

/* How many times as fast as the peer berth is to be; 0: not said. */
static const struct {
	const struct peer *peer;
	double times;
} faster[] = {{&peer_undo, 30}, {&peer_lmdb, 20}, {&peer_redis, 1500}};

static double times_faster(const struct peer *p) {
	for (size_t i = 0; i < sizeof(faster) / sizeof(faster[0]); i++)
		if (faster[i].peer == p)
			return faster[i].times;
	return 0;
}

/* -- every peer -------------------------------------------------------------------------------- */

static unsigned contenders_make(struct contender *c, bool denials) {
	unsigned count = 0;

	for (unsigned i = 0; peers[i]; i++) {
		if (denials && !peers[i]->denials)
			continue;
		c[count++] = (struct contender){
			.name = peers[i]->name,
			.peer = peers[i],
			.object = denials ? OBJECT_FULL : OBJECT_ROOMY,
			.run = denials ? peers[i]->denials : peers[i]->pairs,
		};
	}
	return count;
}

/* The first is berth, the second sem_t. */
static void rows_make(struct work *w, const struct contender *c, unsigned count, double target,
	bool others_have_targets) {
	for (unsigned i = 0; i < count; i++) {
		double times = others_have_targets ? times_faster(c[i].peer) : 0;
		struct row *r;

		if (c[i].peer->missing) {
			work_missing(w, c[i].name, c[i].peer->missing);
			continue;
		}
		r = work_row(w, c[i].name, "ns", &c[i].ns);
		if (i == 0)
			row_versus(r, c[1].name, &c[1].ns, BOUND_AT_MOST, target);
		else
			row_versus(r, c[0].name, &c[0].ns, times > 0 ? BOUND_AT_LEAST : BOUND_NONE,
				times);
		r->remark = others_have_targets ? c[i].peer->operations : NULL;
	}
}

static void work_pair(void) {
	struct contender c[PEERS_MAX] = {0};
	unsigned count = contenders_make(c, false);
	struct work *w = work_new("pair", "Acquire and release, one process, warm",
		"a process on a CPU of its own; daemons and Redis on the others");

	w->why = "a semaphore is one word, found by its address, that nobody's name is on; berth "
		 "finds the account by name, looks at its limit, and leaves evidence of who holds "
		 "what: some 190 instructions, and as many compare-and-swaps as a semaphore has";
	contest(c, count, bench.rounds);
	rows_make(w, c, count, 4, true);
	report_show(w);
}

static void work_denied(void) {
	struct contender c[PEERS_MAX] = {0};
	unsigned count = contenders_make(c, true);
	struct work *w = work_new("denied", "Denied: the limit is reached, one process", NULL);

	w->why = "a semaphore that is empty is only read; berth finds the account by name first, "
		 "about half of the time, and counts the denial";
	contest(c, count, bench.rounds);
	rows_make(w, c, count, 2, false);
	report_show(w);
}

/* -- levels ------------------------------------------------------------------------------------ */

static struct berth *handle;

static const char *const level_names[] = {"a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e",
	"a/b/c/d/e/f", "a/b/c/d/e/f/g", "a/b/c/d/e/f/g/h"};

static void handle_open(unsigned object) {
	(void)object;
	bench_must(berth_open(NULL, &handle), "berth_open");
}

static void level_pairs(unsigned level, unsigned long n) {
	berth_slot slot;

	while (n-- > 0) {
		bench_must(berth_acquire(handle, level_names[level], &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

static void work_levels(void) {
	struct contender c[8] = {0};
	struct work *w = work_new("levels", "Levels: a slot counts against every ancestor, too",
		"every level has a limit");

	for (unsigned i = 0; i < 8; i++) {
		berthd_set(level_names[i], "100");
		c[i] = (struct contender){.name = level_names[i],
			.object = i,
			.open = handle_open,
			.run = level_pairs};
	}
	contest(c, 8, bench.rounds);
	for (unsigned i = 0; i < 8; i++) {
		char name[32];
		struct row *r;

		(void)snprintf(name, sizeof(name), "%u level%s", i + 1, i ? "s" : "");
		r = work_row(w, name, "ns", &c[i].ns);
		if (i > 0)
			row_versus(r, "1 level", &c[0].ns, i == 2 ? BOUND_AT_MOST : BOUND_NONE, 3);
	}
	report_show(w);
}

/* -- deaths ------------------------------------------------------------------------------------ */

static void work_killed(void) {
	struct work *w = work_new("killed", "A process is killed while it holds a slot",
		"kill -9, then another process tries to take the slot for half a second");

	for (unsigned i = 0; peers[i]; i++) {
		const struct peer *p = peers[i];
		struct series lost;

		if (p->missing || !p->take)
			continue;
		lost = series_one(peer_gives_back(p) ? 0 : 1);
		work_row(w, p->name, "lost", &lost)->remark = p->loses;
	}
	row_bound(&w->row[0], BOUND_AT_MOST, 0);
	report_show(w);
}

static void work_counter_killed(void) {
	struct work *w = work_new("counter-killed",
		"The process that counts is killed, and started again",
		"kill -9 while another process holds the only slot; then a third one tries to take "
		"it for half a second");

	for (unsigned i = 0; peers[i]; i++) {
		const struct peer *p = peers[i];
		struct series forgotten;

		if (p->missing || !p->restart)
			continue;
		forgotten = series_one(peer_remembers(p) ? 0 : 1);
		work_row(w, p->name, "forgotten", &forgotten)->remark = p->forgets;
	}
	row_bound(&w->row[0], BOUND_AT_MOST, 0);
	report_show(w);
}

void works_fast(void) {
	peers_start();
	work_killed();
	work_counter_killed();
	peers_fill();
	work_pair();
	work_denied();
	work_levels();
}
