/* SPDX-License-Identifier: MIT */

/*
 * Restores limits and counts from the store.
 *
 * Counts are restored in time slices:
 *   1 each slice adds peaks and denials to the cells;
 *   2 after the last slice, the directory says `restored`.
 * If berthd dies between two slices, the next berthd goes through all stored counts again, and
 * takes the larger of the cell's number and the stored number. Then denials that were counted
 * between the boot and berthd's death may be lost.
 */

#include <string.h>

#include "log.h"
#include "name.h"
#include "restore.h"
#include "util.h"

/* How many counts one time slice restores. This takes a millisecond or two. */
#define SLICE 8192u

/* -- limits ------------------------------------------------------------------------------------ */

/* Limits that were read, but aren't in force yet. */
struct loading {
	struct accounts *accounts;
	uint32_t count;
	struct name names[DIRECTORY_PREFETCH];
	uint32_t limits[DIRECTORY_PREFETCH];
};

static int limits_load(struct loading *l) {
	struct accounts *a = l->accounts;
	int r = 0;

	directory_prefetch(accounts_directory(a), l->names, l->count);
	for (uint32_t i = 0; r >= 0 && i < l->count; i++) {
		char name[BERTH_NAME_MAX + 1];

		memcpy(name, l->names[i].word, l->names[i].length);
		name[l->names[i].length] = '\0';
		r = name_is_template(name, l->names[i].length)
			    ? accounts_load_template(a, name, l->limits[i])
			    : accounts_load(a, name, l->limits[i]);
		if (r < 0)
			log_error("Can't put the limit of '%s' in force: %s%s", name, strerror(-r),
				r == -ENOSPC ? "; raise --max-accounts" : "");
	}
	l->count = 0;
	return r;
}

static int on_limit(void *data, const char *name, uint32_t limit) {
	struct loading *l = data;
	int r = name_load(name, &l->names[l->count]);

	l->limits[l->count++] = limit;
	if (r >= 0 && l->count == DIRECTORY_PREFETCH)
		r = limits_load(l);
	return r;
}

int restore_limits(struct accounts *a, struct store *s) {
	struct loading l = {.accounts = a};
	int r;

	accounts_expect(a, store_count_limits(s));
	r = store_read_limits(s, on_limit, &l);
	if (r >= 0)
		r = limits_load(&l);
	if (r < 0)
		return r;
	accounts_loaded(a);
	(void)accounts_apply_templates(a);
	return 0;
}

/* -- counts ------------------------------------------------------------------------------------ */

/* What on_count() does with stored peaks and denials. */
enum mode {
	MODE_SKIP,   /* nothing: the cells have them already */
	MODE_ADD,    /* adds them to the cells, which don't have them */
	MODE_LARGER, /* takes the larger number, since the cells may have them already */
};

struct restore {
	struct accounts *accounts;
	struct directory *directory;
	struct store *store;
	enum mode mode;
	struct batch *stale; /* of the running slice */
	bool running;
	bool failure_logged;
};

int restore_new(struct accounts *a, struct store *s, bool adopted, struct restore **ret) {
	struct restore *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->accounts = a;
	r->directory = accounts_directory(a);
	r->store = s;
	if (!adopted)
		r->mode = MODE_ADD;
	else
		r->mode = directory_is_restored(r->directory) ? MODE_SKIP : MODE_LARGER;
	r->running = true;
	directory_set_loading(r->directory, true);
	*ret = r;
	return 0;
}

void restore_free(struct restore *r) {
	free(r);
}

bool restore_is_running(const struct restore *r) {
	return r->running;
}

static int on_count(void *data, const char *name, uint32_t count, uint32_t peak, uint64_t denied) {
	const struct restore *r = data;
	uint32_t number = accounts_find(r->accounts, name), has_peak;
	struct account *account = directory_account(r->directory, number);
	struct cell *cell;
	uint64_t has_denied;

	if (number == 0 || account->is_newer_than_counts)
		return batch_add(r->stale, name, &(struct store_count){0});
	account->saved_count = count;
	account->saved_peak = peak;
	account->saved_denied = denied;
	cell = map_cell(directory_map(r->directory), number);
	if (r->mode == MODE_SKIP || !cell)
		return 0;
	/* Clients may change both numbers meanwhile. */
	has_denied = load_relaxed(&cell->denied);
	has_peak = load_relaxed(&cell->peak);
	if (r->mode == MODE_ADD)
		(void)add_relaxed(&cell->denied, denied);
	else if (has_denied < denied)
		(void)add_relaxed(&cell->denied, denied - has_denied);
	while (has_peak < peak && !cas32(&cell->peak, has_peak, peak))
		has_peak = load_relaxed(&cell->peak);
	return 0;
}

static void restore_end(struct restore *r) {
	r->running = false;
	directory_set_loading(r->directory, false);
	directory_set_restored(r->directory); /* 2 */
}

int restore_slice(struct restore *r, struct batch *stale, bool *ret_unknown) {
	int e;

	r->stale = stale;
	e = store_read_counts(r->store, SLICE, on_count, r); /* 1 */
	if (e == 0) {
		if (r->failure_logged)
			log_notice("The stored counts can be read again");
		restore_end(r);
	} else if (e == -EUCLEAN || (e < 0 && r->mode == MODE_SKIP)) {
		/* -EUCLEAN: the file was damaged, and the store has begun a new one. MODE_SKIP: the
		 * cells have the numbers already. */
		*ret_unknown = true;
		restore_end(r);
	} else if (e < 0 && !r->failure_logged) {
		log_warning("Can't read the stored counts: %s; trying again, and storing none "
			    "meanwhile. Limits and live counts are not affected",
			strerror(-e));
		r->failure_logged = true;
	}
	return e;
}
