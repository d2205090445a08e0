/* SPDX-License-Identifier: MIT */

/*
 * The observer of the torture test. It reads counts out of the segment, again and again, and never
 * finds one that no limit allows.
 *
 * What is allowed. berth promises: once `set` has returned, no charge of that cell is made against
 * the old limit. So a count is at most the highest of the limits that were in force, or on their
 * way, since the cell was last seen at or below the one limit then in force. For each cell the
 * observer keeps `allowed`, no less than that: S1 reads how many limits have been acknowledged S2
 * reads the count S3 reads how many limits have been sent; takes those that it hasn't yet into
 * `allowed` S4 count > allowed is a violation S5 if S1 = S3, nothing was on its way from before S2
 * to after it, and the last limit, L, was in force alone: if moreover count <= L, `allowed` = L S3
 * takes in enough: a charge made against a limit comes after that limit was sent, and a charge that
 * S2 sees comes before S2; so S3 sees the limit as sent. S5 forgets no more than it may: charges
 * that come after S2 are made against L or against limits sent after S3, which are taken in later;
 * and up to S2 the count is at most L. Limits are never read from the directory: what is there now
 * says nothing about what was there when a charge was made.
 */

#include <stdio.h>
#include <string.h>

#include "torture.h"

/* A test that makes no progress for so long hangs. */
#define STALL_US 20000000

struct watch {
	struct cell *cell;
	const char *name;
	struct history *history;
	uint32_t seen; /* limits taken into `allowed` */
	uint32_t allowed;
};

static void watch_take_in(struct watch *w, uint32_t begun) {
	/* Overwritten ones could have been anything. */
	if (begun - w->seen > TORTURE_HISTORY / 2) {
		w->allowed = TORTURE_LIMIT_MAX;
		w->seen = begun;
	}
	for (; w->seen != begun; w->seen++) {
		uint32_t limit = load_relaxed(&w->history->limit[w->seen % TORTURE_HISTORY]);

		w->allowed = MAX_OF(w->allowed, limit);
	}
}

static void watch(struct torture *t, struct watch *w) {
	uint32_t acked = load_total(&w->history->acked); /* S1 */
	struct pair seen = cell_load(w->cell);           /* S2; the tag is for the message alone */
	uint32_t count = count_of(seen.first), begun, limit;

	fence_acquire();
	begun = load_total(&w->history->begun); /* S3 */
	watch_take_in(w, begun);
	if (count > w->allowed) { /* S4 */
		torture_fail(t,
			"'%s' holds %u, but no limit since it last obeyed one was over %u (tag %u, "
			"%llu; limits sent %u, acknowledged %u)",
			w->name, count, w->allowed, tag_record(seen.second),
			(unsigned long long)tag_seq(seen.second), begun, acked);
		return;
	}
	if (acked != begun) /* S5 */
		return;
	limit = load_relaxed(&w->history->limit[(begun - 1) % TORTURE_HISTORY]);
	if (count <= limit)
		w->allowed = limit;
}

static bool watch_init(struct torture *t, struct map *m, struct watch watches[]) {
	for (uint32_t i = 0; i < TORTURE_WATCHED; i++) {
		struct watch *w = &watches[i];
		uint32_t account = torture_account(m, torture_name[i]);

		w->name = torture_name[i];
		w->history = &t->history[i];
		w->cell = account ? map_cell(m, account) : NULL;
		if (!w->cell) {
			torture_fail(t, "the observer doesn't find '%s'", w->name);
			return false;
		}
	}
	return true;
}

/* What has to go up, be it slowly, while the test runs. */
struct progress {
	uint64_t operations;
	int64_t since;
};

static void progress_check(struct torture *t, struct progress *p) {
	uint64_t now = load_relaxed(&t->figures.operations);

	if (now != p->operations) {
		p->operations = now;
		p->since = torture_now_us();
	} else if (torture_now_us() - p->since > STALL_US && load_relaxed(&t->finish) == 0)
		torture_fail(t, "no client has done anything for %d s", STALL_US / 1000000);
}

void torture_observer(struct torture *t) {
	static struct watch watches[TORTURE_WATCHED];
	struct map *m = torture_map(t);
	struct progress progress = {.since = torture_now_us()};

	if (!watch_init(t, m, watches))
		_exit(1);
	while (load_relaxed(&t->finish) < 2 && !torture_failed(t)) {
		for (uint32_t round = 0; round < TORTURE_ROUND / TORTURE_WATCHED; round++)
			for (uint32_t i = 0; i < TORTURE_WATCHED; i++)
				watch(t, &watches[i]);
		(void)add_relaxed(&t->figures.samples, TORTURE_ROUND);
		progress_check(t, &progress);
		/* Leaves the processors to those who are to be observed, most of the time. */
		torture_sleep_us(300);
	}
	_exit(torture_failed(t) ? 1 : 0);
}
