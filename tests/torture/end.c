/* SPDX-License-Identifier: MIT */

/* Checks the shared files, the store and berthd's log after the torture. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "harness.h"
#include "store-new.h"
#include "torture.h"

static void check_log(struct torture *t, const struct instance *i) {
	static const char *const bad[] = {"contradicted", "damaged", "Can't ", "AddressSanitizer",
		"refused with 8", "NO_SYSTEM_RESOURCES", "while it wrote the table",
		"differed from the held slots"};
	const char *log = instance_log(i);

	for (size_t k = 0; k < ELEMENTS(bad); k++) {
		const char *at = strstr(log, bad[k]);

		if (!at)
			continue;
		while (at > log && at[-1] != '\n')
			at--;
		torture_fail(t, "berthd logged: %.*s", (int)strcspn(at, "\n"), at);
	}
}

static void check_peaks(struct torture *t, struct map *m) {
	for (uint32_t i = 0; i < TORTURE_WATCHED; i++) {
		uint32_t account = torture_account(m, torture_name[i]);
		struct cell *cell = account ? map_cell(m, account) : NULL;

		if (!cell || load_relaxed(&cell->peak) > TORTURE_LIMIT_MAX)
			torture_fail(t, "'%s' doesn't exist, or its peak is over all its limits",
				torture_name[i]);
	}
}

static int each_count(
	void *data, const char *name, uint32_t count, uint32_t peak, uint64_t denied) {
	(void)peak, (void)denied;
	if (count != 0)
		torture_fail(data, "the store has a count of %u for '%s'", count, name);
	return 0;
}

struct found {
	struct torture *t;
	uint32_t limits;
};

static int each_limit(void *data, const char *name, uint32_t limit) {
	struct found *found = data;
	struct torture *t = found->t;

	for (uint32_t i = 0; i < TORTURE_WATCHED; i++) {
		struct history *h = &t->history[i];
		uint32_t last = load_relaxed(&h->limit[(h->begun - 1) % TORTURE_HISTORY]);

		if (strcmp(name, torture_name[i]) != 0)
			continue;
		found->limits++;
		if (limit != last)
			torture_fail(t, "the store has a limit of %u for '%s', but %u was set",
				limit, name, last);
	}
	return 0;
}

static void check_store(struct torture *t, const struct instance *i) {
	struct store *store;
	struct found found = {.t = t};
	int r = store_new(i->state_dir, &store);

	if (r < 0) {
		torture_fail(t, "can't open the store: %s", strerror(-r));
		return;
	}
	r = store_read_counts(store, SIZE_MAX, each_count, t);
	if (r >= 0)
		r = store_read_limits(store, each_limit, &found);
	if (r < 0 || found.limits != TORTURE_WATCHED)
		torture_fail(t, "the store has %u of %u limits (%s)", found.limits, TORTURE_WATCHED,
			strerror(-r));
	store_free(store);
}

void torture_judge_end(struct torture *t, struct map *m, struct instance *i) {
	int fd = torture_open(t->runtime_dir, "/segment", O_RDONLY);
	struct stat st;

	/* berthd must still use the segment that the test has mapped. */
	if (fstat(fd, &st) < 0 || st.st_ino != m->segment.ino)
		torture_fail(t, "berthd made a new segment");
	(void)close(fd);
	check_peaks(t, m);
	if (instance_kill(i, SIGTERM) != 0)
		torture_fail(t, "berthd didn't stop cleanly");
	check_store(t, i);
	check_log(t, i);
}
