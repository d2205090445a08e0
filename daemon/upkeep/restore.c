/* SPDX-License-Identifier: MIT */

/*
 * Puts the stored limits in force.
 *
 * They come in the order of their names. Accounts that were made in that order, as all are by an
 * import of sorted names, or by the start that followed a boot, are found where the one before was;
 * for any other its name is looked up, which is waiting for memory, unless said long before.
 */

#include <string.h>

#include "restore.h"
#include "log.h"
#include "name.h"

#define GAP_MAX    4u /* accounts that are passed over: some were removed */
#define MISSED_MAX 8u /* names in a row that were somewhere else */

/* Limits on their way from the store, whose accounts are expected. */
struct loading {
	struct accounts *accounts;
	struct {
		struct stored_limit limit;
		char text[BERTH_NAME_MAX + 1];
	} ahead[DIRECTORY_AHEAD];
	size_t read, loaded;
	uint32_t next, missed; /* where the next one is thought to be; 0: nobody knows */
	uint32_t last;         /* that was looked up */
};

/* Two that follow each other: so may those that wait, and the one that is read next. */
static void guess_from(struct loading *l, uint32_t found) {
	if (l->next == 0 && found > 1 && found == l->last + 1) {
		l->next = found + 1 + (uint32_t)(l->read - l->loaded);
		l->missed = 0;
	}
	l->last = found;
}

/* 1: it was there. */
static int load_guessed(struct loading *l, const struct stored_limit *limit) {
	for (uint32_t k = 0; l->next != 0 && k < GAP_MAX; k++) {
		int r = accounts_load_at(l->accounts, l->next + k, limit);

		if (r > 0) {
			l->next += k + 1;
			l->missed = 0;
		}
		if (r != 0)
			return r;
	}
	if (++l->missed > MISSED_MAX)
		l->next = 0;
	return 0;
}

static int load_next(struct loading *l) {
	const struct stored_limit *limit = &l->ahead[l->loaded++ % DIRECTORY_AHEAD].limit;
	uint32_t found = 0;
	int r = name_is_template(limit->text, limit->name.length)
			? accounts_load_template(l->accounts, limit->text, limit->limit)
			: accounts_load(l->accounts, limit, &found);

	if (r >= 0)
		guess_from(l, found);
	return r;
}

static void say_failed(const char *name, int error) {
	log_error("Can't put the limit of '%s' in force: %s%s", name, strerror(-error),
		error == -ENOSPC ? "; raise --max-accounts" : "");
}

static int load_first(struct loading *l) {
	const char *name = l->ahead[l->loaded % DIRECTORY_AHEAD].text;
	int r = load_next(l);

	if (r < 0)
		say_failed(name, r);
	return r;
}

static int load_limit(void *data, const char *name, uint32_t limit) {
	struct loading *l = data;
	struct directory *d = l->accounts->directory;
	int r = l->read - l->loaded == DIRECTORY_AHEAD ? load_first(l) : 0;
	struct stored_limit *to = &l->ahead[l->read % DIRECTORY_AHEAD].limit;

	if (r >= 0)
		r = name_load(name, &to->name);
	if (r < 0)
		return r;
	to->hash = directory_hash(d->map, &to->name);
	to->limit = limit;
	to->text = name;
	r = load_guessed(l, to);
	if (r < 0)
		say_failed(name, r);
	if (r != 0)
		return r < 0 ? r : 0;
	to->text = strcpy(l->ahead[l->read % DIRECTORY_AHEAD].text, name);
	l->read++;
	directory_expect(d, to->hash);
	return 0;
}

int load_limits(struct accounts *a, struct store *s) {
	struct loading l = {.accounts = a};
	int r;

	directory_expect_many(a->directory, store_count_limits(s));
	r = store_read_limits(s, load_limit, &l);
	while (r >= 0 && l.loaded < l.read)
		r = load_first(&l);
	if (r < 0)
		return r;
	accounts_configured_all(a);
	accounts_cover_all(a);
	return 0;
}
