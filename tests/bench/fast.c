/* SPDX-License-Identifier: MIT */

/* Compares berth with every peer: what one process pays for a slot, for a denial and for levels;
 * and what each peer loses when a process is killed. */

#include "bench.h"
#include "contest.h"
#include "report.h"
#include "util.h"
#include "works.h"

#define PEERS_MAX 16

/* berth should be this many times as fast as the peer; 0: there is no target. */
static double target_of(const struct peer *p) {
	return p == &peer_undo ? 30 : p == &peer_lmdb ? 20 : p == &peer_redis ? 1500 : 0;
}

/* Adds a row for every peer; the first is berth, the second sem_t. */
static void peers_contest(struct work *w, bool denials, double target) {
	struct contender c[PEERS_MAX] = {0};
	unsigned count = 0;

	for (unsigned i = 0; peers[i]; i++)
		if (!denials || peers[i]->denials)
			c[count++] = contender_of(peers[i], 1, denials ? OBJECT_FULL : OBJECT_FREE);
	contest(c, count, bench.rounds);
	for (unsigned i = 0; i < count; i++) {
		const struct contender *other = &c[i == 0 ? 1 : 0];
		struct row *r;

		if (c[i].peer->missing) {
			work_missing(w, c[i].name, c[i].peer->missing);
			continue;
		}
		r = work_row(w, "ns", &c[i].ns, "%s", c[i].name);
		row_versus(r, other->name, &other->ns);
		if (i == 0)
			row_at_most(r, target);
		else if (!denials && target_of(c[i].peer) > 0)
			row_at_least(r, target_of(c[i].peer));
		r->remark = denials ? NULL : c[i].peer->operations;
	}
	report_show(w);
}

static void work_pair(void) {
	struct work *w = work_new("pair", "Acquire and release, one process, warm",
		"a process on a CPU of its own; daemons and Redis on the other CPUs");

	w->why = "a semaphore is one word that the program finds by its address; berth finds the "
		 "account by its name, looks at its limit and records the holder: some 190 "
		 "instructions, with as many compare-and-swaps as a semaphore has";
	peers_contest(w, false, 4);
}

static void work_denied(void) {
	struct work *w = work_new("denied", "Denied: the limit is reached, one process", NULL);

	w->why = "a semaphore that is 0 is only read; berth spends half of the time on finding the "
		 "account by its name, and counts the denial";
	peers_contest(w, true, 2);
}

/* -- levels ------------------------------------------------------------------------------------ */

static const char *const level_names[] = {"a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e",
	"a/b/c/d/e/f", "a/b/c/d/e/f/g", "a/b/c/d/e/f/g/h"};
#define LEVELS ELEMENTS(level_names)

static void level_pairs(unsigned level, unsigned long n) {
	handle_pairs(level_names[level], n);
}

static void work_levels(void) {
	struct contender c[LEVELS] = {0};
	struct work *w = work_new("levels", "Levels: a slot counts against every ancestor, too",
		"every level has a limit");

	for (unsigned i = 0; i < LEVELS; i++) {
		berthd_set(level_names[i], "100");
		c[i] = (struct contender){.name = level_names[i],
			.object = i,
			.open = handle_open,
			.run = level_pairs};
	}
	contest(c, LEVELS, bench.rounds);
	for (unsigned i = 0; i < LEVELS; i++) {
		struct row *r = work_row(w, "ns", &c[i].ns, "%u level%s", i + 1, i ? "s" : "");

		if (i > 0)
			row_versus(r, "1 level", &c[0].ns);
		if (i == 2)
			row_at_most(r, 3);
	}
	report_show(w);
}

/* -- kills ------------------------------------------------------------------------------------- */

static void work_killed(void) {
	struct work *w = work_new("killed", "A process is killed while it holds a slot",
		"kill -9, then another process tries to take the slot for half a second");

	for (unsigned i = 0; peers[i]; i++)
		if (!peers[i]->missing && peers[i]->take)
			work_row(w, "lost", SERIES_ONE(!peer_frees_slot(peers[i])), "%s",
				peers[i]->name)
				->remark = peers[i]->loses;
	row_at_most(&w->row[0], 0);
	report_show(w);
}

static void work_counter_killed(void) {
	struct work *w = work_new("counter-killed",
		"The process that counts is killed, and started again",
		"kill -9 while another process holds the only slot; then a third one tries to take "
		"it for half a second");

	for (unsigned i = 0; peers[i]; i++)
		if (!peers[i]->missing && peers[i]->restart)
			work_row(w, "forgotten", SERIES_ONE(!peer_remembers(peers[i])), "%s",
				peers[i]->name)
				->remark = peers[i]->forgets;
	row_at_most(&w->row[0], 0);
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
