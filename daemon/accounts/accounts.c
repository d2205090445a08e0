/* SPDX-License-Identifier: MIT */

/* Decides which accounts there are and what limits they have. */

#include <assert.h>
#include <string.h>

#include "array.h"
#include "accounts.h"
#include "counter.h"
#include "log.h"
#include "name.h"

/* Of the table, for accounts that nobody configured: strangers' names can't crowd out the others. */
#define UNCONFIGURED_NUMERATOR   3
#define UNCONFIGURED_DENOMINATOR 4

static uint32_t flags_of(struct accounts *a, uint32_t account) {
	return entry_flags(directory_word(a->directory, account));
}

uint32_t accounts_find(struct accounts *a, const char *name) {
	struct name n;

	return name_load(name, &n) == 0 ? directory_lookup(a->directory, &n) : 0;
}

void accounts_expect(struct accounts *a, const char *name) {
	struct name n;

	if (name_load(name, &n) == 0)
		directory_expect(a->directory, directory_hash(a->directory->map, &n));
}

bool accounts_is_below(struct accounts *a, uint32_t account, uint32_t of) {
	for (int k = 0; k < BERTH_LEVELS_MAX && account != 0; k++) {
		if (account == of)
			return true;
		account = directory_parent(a->directory, account);
	}
	return false;
}

/* -- removing --------------------------------------------------------------------------------- */

static void count_flags(struct accounts *a, uint32_t flags, int32_t by) {
	if (flags & ENTRY_CONFIGURED)
		a->configured += (uint32_t)by;
	if (flags & ENTRY_TEMPLATE)
		a->by_template += (uint32_t)by;
	if (flags & ENTRY_USABLE)
		a->usable += (uint32_t)by;
}

static int change(struct accounts *a, uint32_t account, uint32_t limit, uint32_t flags) {
	uint32_t before = flags_of(a, account);
	int r;

	/* A process that has found it usable must look again, and one that found it not, too. */
	if ((before ^ flags) & ENTRY_USABLE)
		r = directory_renew(a->directory, account, limit, flags);
	else
		r = directory_set(a->directory, account, limit, flags);
	if (r == -EOVERFLOW)
		return r;
	count_flags(a, before, -1);
	count_flags(a, flags, 1);
	return r;
}

static bool is_removable(struct accounts *a, uint32_t account) {
	return !(flags_of(a, account) & ENTRY_CONFIGURED) && (flags_of(a, account) & ENTRY_LIVE) &&
	       a->directory->account[account].children == 0 &&
	       a->directory->account[account].reserved == 0 &&
	       counter_count(a->directory->map, account) == 0;
}

static int take_out(struct accounts *a, uint32_t account) {
	const struct account had = a->directory->account[account];
	char name[256];
	int r = directory_name(a->directory->map, account, name);

	if (r >= 0)
		r = directory_remove(a->directory, account);
	if (r >= 0 && a->removed && (had.saved_count || had.saved_peak || had.saved_denied))
		a->removed(a->removed_data, name);
	return r;
}

static void leave(struct accounts *a, uint32_t account);

/* Removes it, and those of its ancestors that were there for its sake alone. */
static int remove_upwards(struct accounts *a, uint32_t account) {
	uint32_t parent = directory_parent(a->directory, account);
	uint32_t flags = flags_of(a, account);
	int r = take_out(a, account);

	if (r < 0)
		return r;
	count_flags(a, flags, -1);
	while (parent != 0 && is_removable(a, parent) && !(flags_of(a, parent) & ENTRY_USABLE)) {
		account = parent;
		parent = directory_parent(a->directory, account);
		if (take_out(a, account) < 0)
			break;
	}
	if (parent != 0 && !(flags_of(a, parent) & ENTRY_USABLE))
		leave(a, parent);
	return 0;
}

static void leave(struct accounts *a, uint32_t account) {
	if (is_removable(a, account) && remove_upwards(a, account) == 0)
		return;
	/* With accounts below it, it goes with the last of them: remove_upwards(). */
	if (a->directory->account[account].children > 0)
		return;
	/* Without memory it keeps its place until make_room() needs that. */
	if (array_reserve(&a->leaving, &a->leaving_capacity, a->leaving_count + 1) < 0)
		return;
	a->leaving[a->leaving_count++] = account;
}

void accounts_tidy(struct accounts *a) {
	uint32_t kept = 0;

	a->nothing_idle = false;
	for (uint32_t i = 0; i < a->leaving_count; i++) {
		uint32_t account = a->leaving[i];

		if (!(flags_of(a, account) & ENTRY_LIVE) || (flags_of(a, account) & ENTRY_USABLE))
			continue;
		if (!is_removable(a, account) || remove_upwards(a, account) < 0)
			a->leaving[kept++] = account;
	}
	a->leaving_count = kept;
}

/* Removes one account that nobody configured and nobody uses, but not `keep`. */
static int make_room(struct accounts *a, uint32_t keep) {
	uint32_t end = directory_end(a->directory);

	for (uint32_t i = 0; i < end && !a->nothing_idle; i++) {
		a->hand = a->hand + 1 < end ? a->hand + 1 : 1;
		if (a->hand != keep && is_removable(a, a->hand) && remove_upwards(a, a->hand) == 0)
			return 0;
	}
	a->nothing_idle = true;
	return -ENOSPC;
}

/* -- making ------------------------------------------------------------------------------------ */

static void say_full(struct accounts *a, int error) {
	if (a->said_full)
		return;
	a->said_full = true;
	if (error != -ENOSPC) {
		log_event(LOG_WARNING, EVENT_FULL, NULL,
			"No room for more accounts (%s): the file system of the runtime "
			"directory is full; new ones are refused with 8. Make room there",
			strerror(-error));
		return;
	}
	log_event(LOG_WARNING, EVENT_FULL, NULL,
		"The table of accounts is full (%u of %u used, %u of them by templates); new "
		"accounts are refused with 8. Raise --max-accounts, or delete accounts",
		a->directory->live, a->directory->map->layout.max_accounts, a->by_template);
}

static bool unconfigured_share_is_used(struct accounts *a) {
	uint64_t max = a->directory->map->layout.max_accounts;

	return (uint64_t)(a->directory->live - a->configured) * UNCONFIGURED_DENOMINATOR >=
	       max * UNCONFIGURED_NUMERATOR;
}

/* One entry, whose name `text` begins with; its parent is there. */
static int create(struct accounts *a, const struct name *name, const char *text, uint32_t parent,
	bool for_template, uint32_t *ret) {
	uint32_t limit = BERTH_LIMIT_NONE, flags = 0;
	char own[BERTH_NAME_MAX + 1];
	int r;

	memcpy(own, text, name->length);
	own[name->length] = '\0';
	if (templates_match(a->templates, own, &limit, NULL))
		flags = ENTRY_USABLE | ENTRY_TEMPLATE;
	else
		limit = BERTH_LIMIT_NONE;
	if (for_template && unconfigured_share_is_used(a)) {
		r = make_room(a, parent);
		if (r < 0)
			return r;
	}
	r = directory_create(a->directory, name, parent, limit, flags, ret);
	if (r == -ENOSPC && make_room(a, parent) == 0)
		r = directory_create(a->directory, name, parent, limit, flags, ret);
	if (r >= 0) {
		count_flags(a, flags, 1);
		a->said_full = false;
	}
	return r;
}

/* The account and all its ancestors, outermost first. */
static int ensure(struct accounts *a, const char *text, bool for_template, uint32_t *ret) {
	size_t length = strlen(text);
	uint32_t parent = 0;

	for (size_t end = 0; end < length; end++) {
		struct name name;
		uint32_t account;
		int r = 0;

		end = (size_t)(strchrnul(text + end, '/') - text);
		(void)name_load_length(text, end, &name);
		account = directory_lookup(a->directory, &name);
		if (account == 0)
			r = create(a, &name, text, parent, for_template, &account);
		if (r < 0) {
			say_full(a, r);
			/* Ancestors made for it go again. */
			if (parent != 0 && !(flags_of(a, parent) & ENTRY_USABLE))
				leave(a, parent);
			return r;
		}
		parent = account;
	}
	*ret = parent;
	return 0;
}

int accounts_resolve(struct accounts *a, const char *name, uint32_t *ret) {
	uint32_t account = accounts_find(a, name), limit;

	if (account != 0 && (flags_of(a, account) & ENTRY_USABLE)) {
		*ret = account;
		return 0;
	}
	if (!templates_match(a->templates, name, &limit, NULL))
		return -ENOENT;
	if (account == 0)
		return ensure(a, name, true, ret);
	*ret = account;
	return change(a, account, limit, ENTRY_USABLE | ENTRY_TEMPLATE);
}

int accounts_reserve(struct accounts *a, const char *name, uint32_t *ret) {
	uint32_t account;
	int r = ensure(a, name, false, &account);

	if (r < 0)
		return r;
	a->directory->account[account].reserved++;
	*ret = account;
	return 0;
}

void accounts_unreserve(struct accounts *a, uint32_t account) {
	assert(a->directory->account[account].reserved > 0);
	a->directory->account[account].reserved--;
	/* Nothing came of it. */
	if (!(flags_of(a, account) & ENTRY_USABLE))
		leave(a, account);
}

/* -- limits ------------------------------------------------------------------------------------ */

/* The store names it. */
static void note_named(struct accounts *a, uint32_t account) {
	uint64_t bit = UINT64_C(1) << account % 64;

	if (account < a->unnamed_end && (a->unnamed[account / 64] & bit)) {
		a->unnamed[account / 64] &= ~bit;
		a->unnamed_count--;
	}
}

int accounts_configure(struct accounts *a, uint32_t account, uint32_t limit) {
	note_named(a, account);
	return change(a, account, limit, ENTRY_USABLE | ENTRY_CONFIGURED);
}

/* A limit that is there already was written before directory_new bumped every cell. */
static int load_found(struct accounts *a, uint32_t account, uint32_t limit) {
	const uint32_t flags = ENTRY_LIVE | ENTRY_USABLE | ENTRY_CONFIGURED;
	uint64_t word = directory_word(a->directory, account);

	if (entry_flags(word) != flags || entry_limit(word) != limit)
		return accounts_configure(a, account, limit);
	note_named(a, account);
	return 0;
}

/* Whether the account stands below those that the text says: the ones that would be found. */
static bool has_ancestors(struct accounts *a, uint32_t account, const char *text, size_t length) {
	struct map *m = a->directory->map;

	for (;;) {
		struct name name;

		account = directory_parent(a->directory, account);
		length = name_parent(text, length);
		if (length == 0 || account == 0)
			return length == 0 && account == 0;
		if (!a->directory->one_each || name_load_length(text, length, &name) < 0 ||
			!directory_bears(m, account, &name, directory_hash(m, &name)))
			return false;
	}
}

int accounts_load_at(struct accounts *a, uint32_t account, const struct stored_limit *l) {
	int r;

	if (!a->directory->one_each ||
		!directory_bears(a->directory->map, account, &l->name, l->hash) ||
		!has_ancestors(a, account, l->text, l->name.length))
		return 0;
	r = load_found(a, account, l->limit);
	return r < 0 ? r : 1;
}

int accounts_load(struct accounts *a, const struct stored_limit *l, uint32_t *ret_found) {
	uint32_t account;
	uint64_t word;
	int r = directory_find_hash(a->directory->map, &l->name, l->hash, &account, &word);

	*ret_found = r == 0 ? account : 0;
	if (r < 0 || !has_ancestors(a, account, l->text, l->name.length))
		r = ensure(a, l->text, false, &account);
	return r < 0 ? r : load_found(a, account, l->limit);
}

/* Saves looking at a million, where nothing is damaged. */
static bool all_are(const struct accounts *a, uint32_t so_many) {
	return a->directory->unsound == 0 && a->directory->live == so_many;
}

/* What an account is without a limit of its own. */
static int cover(struct accounts *a, uint32_t account, const char *name) {
	uint32_t limit;
	int r;

	if (templates_match(a->templates, name, &limit, NULL))
		return change(a, account, limit, ENTRY_USABLE | ENTRY_TEMPLATE);
	r = change(a, account, BERTH_LIMIT_NONE, 0);
	leave(a, account);
	return r;
}

int accounts_unconfigure(struct accounts *a, const char *name) {
	uint32_t account = accounts_find(a, name);

	return account == 0 ? -ENOENT : cover(a, account, name);
}

/* True if covering would change nothing: saves a bump of a million cells for one new template. */
static bool is_covered_as_is(struct accounts *a, uint32_t account, const char *name) {
	uint64_t word = directory_word(a->directory, account);
	uint32_t limit;

	if (!templates_match(a->templates, name, &limit, NULL))
		return !(entry_flags(word) & ENTRY_USABLE);
	return (entry_flags(word) & ENTRY_TEMPLATE) && entry_limit(word) == limit;
}

/* After a crash between the store and the directory the value may be there and the bump not: a
 * template that is set again must bump, so `again` names what was set. */
static void cover_all(struct accounts *a, const char *again) {
	if (all_are(a, a->configured))
		return;
	for (uint32_t account = 1; account < directory_end(a->directory); account++) {
		char name[256];

		if (!(flags_of(a, account) & ENTRY_LIVE) ||
			(flags_of(a, account) & ENTRY_CONFIGURED) ||
			directory_name(a->directory->map, account, name) < 0)
			continue;
		if (is_covered_as_is(a, account, name) &&
			(!again || !template_matches(again, name)))
			continue;
		(void)cover(a, account, name);
	}
}

void accounts_cover_all(struct accounts *a) {
	cover_all(a, NULL);
}

int accounts_load_template(struct accounts *a, const char *pattern, uint32_t limit) {
	return templates_set(a->templates, pattern, limit);
}

static void leave_unusable(struct accounts *a) {
	const uint32_t mask = ENTRY_LIVE | ENTRY_USABLE | ENTRY_CONFIGURED;

	if (all_are(a, a->usable))
		return;
	for (uint32_t account = 1; account < directory_end(a->directory); account++)
		if ((flags_of(a, account) & mask) == ENTRY_LIVE)
			leave(a, account);
}

void accounts_configured_all(struct accounts *a) {
	leave_unusable(a);
	for (uint32_t account = 1; a->unnamed_count > 0 && account < a->unnamed_end; account++) {
		char name[256];

		if (!(a->unnamed[account / 64] & UINT64_C(1) << account % 64))
			continue;
		note_named(a, account);
		if ((flags_of(a, account) & ENTRY_CONFIGURED) &&
			directory_name(a->directory->map, account, name) == 0)
			(void)cover(a, account, name);
	}
	free(a->unnamed);
	a->unnamed = NULL;
	a->unnamed_end = 0;
}

int accounts_set_template(struct accounts *a, const char *pattern, uint32_t limit) {
	int r = templates_set(a->templates, pattern, limit);

	if (r >= 0)
		cover_all(a, pattern);
	return r;
}

int accounts_delete_template(struct accounts *a, const char *pattern) {
	int r = templates_delete(a->templates, pattern);

	if (r >= 0)
		cover_all(a, NULL);
	return r;
}

/* -- start ------------------------------------------------------------------------------------- */

static void on_found(void *data, uint32_t account, uint32_t flags) {
	struct accounts *a = data;

	count_flags(a, flags, 1);
	if (flags & ENTRY_CONFIGURED) {
		a->unnamed[account / 64] |= UINT64_C(1) << account % 64;
		a->unnamed_count++;
	}
}

int accounts_new(struct segment *s, struct accounts **ret) {
	struct accounts *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->unnamed_end = load_relaxed(&s->names->accounts);
	a->unnamed = calloc(a->unnamed_end / 64 + 1, sizeof(*a->unnamed));
	r = a->unnamed ? templates_new(&a->templates) : -ENOMEM;
	if (r >= 0)
		r = directory_new(s, on_found, a, &a->directory);
	if (r < 0) {
		accounts_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void accounts_free(struct accounts *a) {
	if (!a)
		return;
	directory_free(a->directory);
	templates_free(a->templates);
	free(a->unnamed);
	free(a->leaving);
	free(a);
}
