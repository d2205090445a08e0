/* SPDX-License-Identifier: MIT */

/*
 * The observer of the torture test reads counts in the segment again and again. No count may be
 * larger than the limits allow.
 *
 * berth promises that no charge is made against the old limit once `set` has returned. Consider the
 * last moment at which only one limit was in force, and the count was seen at or below this limit.
 * Since then the count is at most the highest limit that was in force or had been sent. The
 * observer keeps a bound for each cell, `allowed`, which is at least this highest limit:
 *
 *   S1  Read how many limits have been acknowledged.
 *   S2  Read the count.
 *   S3  Read how many limits have been sent. Raise `allowed` to the highest new limit, if that
 *       is higher.
 *   S4  A count over `allowed` is a failure.
 *   S5  If S1 and S3 have read the same number, no limit was under way during S2, and only the
 *       last limit L was in force. If the count is at most L, set `allowed` to L.
 *
 * S3 raises `allowed` enough: a charge against a limit comes after the limit was sent, and a charge
 * that S2 sees comes before S2. So S3 sees the limit as sent. S5 doesn't lower `allowed` too much:
 * at S2 the count is at most L. Charges after S2 are made against L, or against limits that are
 * sent after S3 and that a later S3 sees. The observer doesn't read limits in the directory, since
 * the present limit says nothing about the limit at the time of a charge.
 */

#include <stdio.h>
#include <string.h>

#include "torture.h"

/* If no client does an operation for this time, the test hangs. */
#define STALL_US 20000000

struct watch {
	struct cell *cell;
	const char *name;
	struct history *history;
	uint32_t seen; /* the number of limits that `allowed` includes */
	uint32_t allowed;
};

static void watch_raise_allowed(struct watch *w, uint32_t begun) {
	/* Limits that the history no longer has may have been the highest possible. */
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
	struct pair seen = cell_load(w->cell);           /* S2; the tag is for the message only */
	uint32_t count = count_of(seen.first), begun, limit;

	fence_acquire();
	begun = load_total(&w->history->begun); /* S3 */
	watch_raise_allowed(w, begun);
	if (count > w->allowed) { /* S4 */
		torture_fail(t,
			"'%s' counts %u, but its limits allow %u (tag %u, %llu; limits sent %u, "
			"acknowledged %u)",
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

void torture_observer(struct torture *t) {
	static struct watch watches[TORTURE_WATCHED];
	struct map *m = torture_map(t);
	uint64_t operations = 0;
	int64_t progress_at = torture_now_us();

	for (uint32_t i = 0; i < TORTURE_WATCHED; i++) {
		uint32_t account = torture_account(m, torture_name[i]);

		watches[i] = (struct watch){.cell = account ? map_cell(m, account) : NULL,
			.name = torture_name[i],
			.history = &t->history[i]};
		if (!watches[i].cell)
			torture_fail(t, "the observer doesn't find '%s'", torture_name[i]);
	}
	while (load_relaxed(&t->finish) < 2 && !torture_failed(t)) {
		for (uint32_t round = 0; round < TORTURE_ROUND / TORTURE_WATCHED; round++)
			for (uint32_t i = 0; i < TORTURE_WATCHED; i++)
				watch(t, &watches[i]);
		(void)add_relaxed(&t->figures.samples, TORTURE_ROUND);
		/* The number of operations must grow while the test runs. */
		if (load_relaxed(&t->figures.operations) != operations) {
			operations = load_relaxed(&t->figures.operations);
			progress_at = torture_now_us();
		} else if (torture_now_us() - progress_at > STALL_US &&
			   load_relaxed(&t->finish) == 0) {
			torture_fail(
				t, "no client has done an operation for %d s", STALL_US / 1000000);
		}
		/* Leaves the processor to the clients most of the time. */
		torture_sleep_us(300);
	}
	_exit(torture_failed(t) ? 1 : 0);
}
