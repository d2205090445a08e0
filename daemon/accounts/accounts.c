/* SPDX-License-Identifier: MIT */

/* Decides which accounts there are, and which limit each has. */

#include <assert.h>
#include <string.h>

#include "accounts.h"
#include "array.h"
#include "counter.h"
#include "log.h"
#include "name.h"
#include "util.h"

/* Accounts that aren't configured get at most this part of the table. Clients choose the names of
 * these accounts, so without this bound clients could leave no room for configured accounts. */
#define UNCONFIGURED_NUMERATOR   3
#define UNCONFIGURED_DENOMINATOR 4

struct accounts {
	struct directory *directory;
	struct templates *templates;
	uint32_t configured;  /* accounts with a limit of their own */
	uint32_t by_template; /* accounts with a template's limit */
	/* A bit for each account that is configured in the directory at the start. The bit is
	 * cleared once the store is found to have the account's limit. */
	uint64_t *unconfirmed;
	uint32_t unconfirmed_end, unconfirmed_count;
	uint32_t clock_hand; /* where the next search for an idle account begins */
	bool none_idle;      /* since accounts_tidy(), a whole search has found none */
	/* Accounts without a limit, to be removed once their count is 0. */
	uint32_t *deferred;
	uint32_t deferred_count;
	size_t deferred_capacity;
	bool full_logged;
	void (*removed)(void *data, const char *name);
	void *removed_data;
};

/* -- looking ----------------------------------------------------------------------------------- */

struct accounts_totals accounts_totals(const struct accounts *a) {
	return (struct accounts_totals){
		.accounts = directory_live(a->directory),
		.configured = a->configured,
		.by_template = a->by_template,
	};
}

const struct templates *accounts_templates(const struct accounts *a) {
	return a->templates;
}

struct directory *accounts_directory(const struct accounts *a) {
	return a->directory;
}

uint32_t accounts_end(const struct accounts *a) {
	return directory_end(a->directory);
}

uint64_t accounts_word(const struct accounts *a, uint32_t account) {
	return directory_word(a->directory, account);
}

static uint32_t flags_of(const struct accounts *a, uint32_t account) {
	return entry_flags(directory_word(a->directory, account));
}

bool accounts_has_children(const struct accounts *a, uint32_t account) {
	return directory_account(a->directory, account)->children > 0;
}

uint32_t accounts_find(struct accounts *a, const char *name) {
	struct name n;

	return name_load(name, &n) == 0 ? directory_lookup(a->directory, &n) : 0;
}

bool accounts_is_below(const struct accounts *a, uint32_t account, uint32_t ancestor) {
	for (int k = 0; k < BERTH_LEVELS_MAX && account != 0; k++) {
		if (account == ancestor)
			return true;
		account = directory_parent(a->directory, account);
	}
	return false;
}

/* -- entries ----------------------------------------------------------------------------------- */

static void totals_add(struct accounts *a, uint32_t flags, int32_t by) {
	if (flags & ENTRY_CONFIGURED)
		a->configured += (uint32_t)by;
	if (flags & ENTRY_TEMPLATE)
		a->by_template += (uint32_t)by;
}

static int entry_change(struct accounts *a, uint32_t account, uint32_t limit, uint32_t flags) {
	uint32_t before = flags_of(a, account);
	int r;

	/* Clients remember whether an account is usable; a new generation makes them look the
	 * account up again. */
	if ((before ^ flags) & ENTRY_USABLE)
		r = directory_renew(a->directory, account, limit, flags);
	else
		r = directory_set(a->directory, account, limit, flags);
	if (r == -EOVERFLOW)
		return r;
	totals_add(a, before, -1);
	totals_add(a, flags, 1);
	return r;
}

static int entry_remove(struct accounts *a, uint32_t account) {
	const struct account had = *directory_account(a->directory, account);
	char name[BERTH_NAME_MAX + 1];
	int r = directory_name(directory_map(a->directory), account, name);

	if (r >= 0)
		r = directory_remove(a->directory, account);
	if (r >= 0 && a->removed && (had.saved_count || had.saved_peak || had.saved_denied))
		a->removed(a->removed_data, name);
	return r;
}

/* -- removing ---------------------------------------------------------------------------------- */

/* True if the account isn't configured, and nothing uses it. */
static bool is_idle(const struct accounts *a, uint32_t account) {
	const struct account *own = directory_account(a->directory, account);
	uint32_t flags = flags_of(a, account);

	return (flags & ENTRY_LIVE) && !(flags & ENTRY_CONFIGURED) && own->children == 0 &&
	       own->reserved == 0 && counter_count(directory_map(a->directory), account) == 0;
}

static void remove_or_defer(struct accounts *a, uint32_t account);

/* Removes the account, and those of its ancestors that no other account needs. */
static int account_remove(struct accounts *a, uint32_t account) {
	uint32_t parent = directory_parent(a->directory, account);
	uint32_t flags = flags_of(a, account);
	int r = entry_remove(a, account);

	if (r < 0)
		return r;
	totals_add(a, flags, -1);
	while (parent != 0 && is_idle(a, parent) && !(flags_of(a, parent) & ENTRY_USABLE)) {
		account = parent;
		parent = directory_parent(a->directory, account);
		if (entry_remove(a, account) < 0)
			break;
	}
	if (parent != 0 && !(flags_of(a, parent) & ENTRY_USABLE))
		remove_or_defer(a, parent);
	return 0;
}

/* Removes an account that has no limit. If it can't be removed now, accounts_tidy() removes it
 * later. */
static void remove_or_defer(struct accounts *a, uint32_t account) {
	if (is_idle(a, account) && account_remove(a, account) == 0)
		return;
	/* An account with children is removed with the last of them (account_remove()). */
	if (accounts_has_children(a, account))
		return;
	/* If there is no memory, the account stays until evict_idle() needs its place. */
	if (array_reserve(&a->deferred, &a->deferred_capacity, a->deferred_count + 1) < 0)
		return;
	a->deferred[a->deferred_count++] = account;
}

void accounts_tidy(struct accounts *a) {
	uint32_t kept = 0;

	a->none_idle = false;
	for (uint32_t i = 0; i < a->deferred_count; i++) {
		uint32_t account = a->deferred[i];

		if (!(flags_of(a, account) & ENTRY_LIVE) || (flags_of(a, account) & ENTRY_USABLE))
			continue;
		if (!is_idle(a, account) || account_remove(a, account) < 0)
			a->deferred[kept++] = account;
	}
	a->deferred_count = kept;
}

/* Removes one account, other than `keep`, that isn't configured and that nothing uses. -ENOSPC:
 * there is no such account. */
static int evict_idle(struct accounts *a, uint32_t keep) {
	uint32_t end = accounts_end(a);

	for (uint32_t i = 0; i < end && !a->none_idle; i++) {
		a->clock_hand = a->clock_hand + 1 < end ? a->clock_hand + 1 : 1;
		if (a->clock_hand != keep && is_idle(a, a->clock_hand) &&
			account_remove(a, a->clock_hand) == 0)
			return 0;
	}
	a->none_idle = true;
	return -ENOSPC;
}

/* -- creating ---------------------------------------------------------------------------------- */

static void log_full(struct accounts *a, int error) {
	if (a->full_logged)
		return;
	a->full_logged = true;
	if (error != -ENOSPC) {
		log_event(LOG_WARNING, EVENT_FULL, NULL,
			"No room for more accounts (%s): the file system of the runtime "
			"directory is full; refusing new accounts with NO_SYSTEM_RESOURCES (8). "
			"Make room there",
			strerror(-error));
		return;
	}
	log_event(LOG_WARNING, EVENT_FULL, NULL,
		"The table of accounts is full (%u of %u used, %u of them by templates); refusing "
		"new accounts with NO_SYSTEM_RESOURCES (8). Raise --max-accounts, or delete "
		"accounts",
		directory_live(a->directory), directory_map(a->directory)->layout.max_accounts,
		a->by_template);
}

/* Creates one account. Its parent exists already. */
static int account_create(struct accounts *a, const struct name *name, uint32_t parent,
	bool for_template, uint32_t *ret) {
	uint64_t max = directory_map(a->directory)->layout.max_accounts;
	uint64_t unconfigured = directory_live(a->directory) - a->configured;
	uint32_t limit = BERTH_LIMIT_NONE, flags = 0;
	char text[BERTH_NAME_MAX + 1];
	int r;

	memcpy(text, name->word, name->length);
	text[name->length] = '\0';
	if (templates_match(a->templates, text, &limit))
		flags = ENTRY_USABLE | ENTRY_TEMPLATE;
	else
		limit = BERTH_LIMIT_NONE;
	if (for_template &&
		unconfigured * UNCONFIGURED_DENOMINATOR >= max * UNCONFIGURED_NUMERATOR) {
		r = evict_idle(a, parent);
		if (r < 0)
			return r;
	}
	r = directory_create(a->directory, name, parent, limit, flags, ret);
	if (r == -ENOSPC && evict_idle(a, parent) == 0)
		r = directory_create(a->directory, name, parent, limit, flags, ret);
	if (r >= 0) {
		totals_add(a, flags, 1);
		a->full_logged = false;
	}
	return r;
}

/* Finds or creates the account and all its ancestors, the outermost first. */
static int find_or_create(struct accounts *a, const char *text, bool for_template, uint32_t *ret) {
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
			r = account_create(a, &name, parent, for_template, &account);
		if (r < 0) {
			log_full(a, r);
			/* Ancestors that were created only for this account aren't needed. */
			if (parent != 0 && !(flags_of(a, parent) & ENTRY_USABLE))
				remove_or_defer(a, parent);
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
	if (!templates_match(a->templates, name, &limit))
		return -ENOENT;
	if (account == 0)
		return find_or_create(a, name, true, ret);
	*ret = account;
	return entry_change(a, account, limit, ENTRY_USABLE | ENTRY_TEMPLATE);
}

int accounts_reserve(struct accounts *a, const char *name, uint32_t *ret) {
	uint32_t account;
	int r = find_or_create(a, name, false, &account);

	if (r < 0)
		return r;
	directory_account(a->directory, account)->reserved++;
	*ret = account;
	return 0;
}

void accounts_unreserve(struct accounts *a, uint32_t account) {
	struct account *own = directory_account(a->directory, account);

	assert(own->reserved > 0);
	own->reserved--;
	/* If the change failed and the account was created only for that change, it has no
	 * limit. */
	if (!(flags_of(a, account) & ENTRY_USABLE))
		remove_or_defer(a, account);
}

/* -- limits ------------------------------------------------------------------------------------ */

static void confirm(struct accounts *a, uint32_t account) {
	uint64_t bit = UINT64_C(1) << account % 64;

	if (account < a->unconfirmed_end && (a->unconfirmed[account / 64] & bit)) {
		a->unconfirmed[account / 64] &= ~bit;
		a->unconfirmed_count--;
	}
}

int accounts_configure(struct accounts *a, uint32_t account, uint32_t limit) {
	confirm(a, account);
	return entry_change(a, account, limit, ENTRY_USABLE | ENTRY_CONFIGURED);
}

/* Gives an account a template's limit. If no template matches, removes limit and account. */
static int apply_templates(struct accounts *a, uint32_t account, const char *name) {
	uint32_t limit;
	int r;

	if (templates_match(a->templates, name, &limit))
		return entry_change(a, account, limit, ENTRY_USABLE | ENTRY_TEMPLATE);
	r = entry_change(a, account, BERTH_LIMIT_NONE, 0);
	remove_or_defer(a, account);
	return r;
}

int accounts_unconfigure(struct accounts *a, const char *name) {
	uint32_t account = accounts_find(a, name);

	return account == 0 ? -ENOENT : apply_templates(a, account, name);
}

/* True if there are exactly `count` accounts, and none is damaged. Then all are of the kind that
 * `count` counts, and a loop over perhaps a million accounts is needless. */
static bool are_all(const struct accounts *a, uint32_t count) {
	return directory_unsound(a->directory) == 0 && directory_live(a->directory) == count;
}

/* Bumping a million cells for one new template would be slow, so accounts that have the right limit
 * already are left alone. Accounts that match the template `changed` (NULL: none) are always set:
 * an earlier call may have written the word of an entry, and failed to bump its cell. */
static int apply_templates_to_all(struct accounts *a, const char *changed) {
	struct map *m = directory_map(a->directory);
	int result = 0;

	if (are_all(a, a->configured))
		return 0;
	for (uint32_t account = 1; account < accounts_end(a); account++) {
		uint64_t word = directory_word(a->directory, account);
		uint32_t flags = entry_flags(word), limit;
		char name[BERTH_NAME_MAX + 1];
		bool is_right;
		int r = 0;

		if ((flags & (ENTRY_LIVE | ENTRY_CONFIGURED)) != ENTRY_LIVE ||
			directory_name(m, account, name) < 0)
			continue;
		if (templates_match(a->templates, name, &limit))
			is_right = (flags & ENTRY_TEMPLATE) && entry_limit(word) == limit;
		else
			is_right = !(flags & ENTRY_USABLE);
		if (!is_right || (changed && template_matches(changed, name)))
			r = apply_templates(a, account, name);
		result = r < 0 ? r : result;
	}
	return result;
}

int accounts_set_template(struct accounts *a, const char *pattern, uint32_t limit) {
	int r = templates_set(a->templates, pattern, limit);

	return r < 0 ? r : apply_templates_to_all(a, pattern);
}

int accounts_delete_template(struct accounts *a, const char *pattern) {
	int r = templates_delete(a->templates, pattern);

	return r < 0 ? r : apply_templates_to_all(a, NULL);
}

/* -- at start, and for imports ----------------------------------------------------------------- */

void accounts_expect(struct accounts *a, size_t more) {
	directory_expect(a->directory, (uint32_t)MIN_OF(more, (size_t)BERTH_ACCOUNTS_MAX));
}

int accounts_load(struct accounts *a, const char *name, uint32_t limit) {
	const uint32_t flags = ENTRY_LIVE | ENTRY_USABLE | ENTRY_CONFIGURED;
	uint32_t account;
	uint64_t word;
	int r = find_or_create(a, name, false, &account);

	if (r < 0)
		return r;
	word = directory_word(a->directory, account);
	if (entry_flags(word) != flags || entry_limit(word) != limit)
		return accounts_configure(a, account, limit);
	/* The entry had this limit at the start, and directory_new() has bumped every cell. */
	confirm(a, account);
	return 0;
}

int accounts_load_template(struct accounts *a, const char *pattern, uint32_t limit) {
	return templates_set(a->templates, pattern, limit);
}

int accounts_apply_templates(struct accounts *a) {
	return apply_templates_to_all(a, NULL);
}

void accounts_loaded(struct accounts *a) {
	const uint32_t mask = ENTRY_LIVE | ENTRY_USABLE | ENTRY_CONFIGURED;
	bool all_are_usable = are_all(a, a->configured + a->by_template);

	for (uint32_t account = 1; !all_are_usable && account < accounts_end(a); account++)
		if ((flags_of(a, account) & mask) == ENTRY_LIVE)
			remove_or_defer(a, account);
	for (uint32_t account = 1; a->unconfirmed_count > 0 && account < a->unconfirmed_end;
		account++) {
		char name[BERTH_NAME_MAX + 1];

		if (!(a->unconfirmed[account / 64] & UINT64_C(1) << account % 64))
			continue;
		confirm(a, account);
		if ((flags_of(a, account) & ENTRY_CONFIGURED) &&
			directory_name(directory_map(a->directory), account, name) == 0)
			(void)apply_templates(a, account, name);
	}
	free(a->unconfirmed);
	a->unconfirmed = NULL;
	a->unconfirmed_end = 0;
}

/* -- begin and end ----------------------------------------------------------------------------- */

static void on_found(void *data, uint32_t account, uint32_t flags) {
	struct accounts *a = data;

	totals_add(a, flags, 1);
	if (flags & ENTRY_CONFIGURED) {
		a->unconfirmed[account / 64] |= UINT64_C(1) << account % 64;
		a->unconfirmed_count++;
	}
}

int accounts_new(struct segment *s, struct accounts **ret) {
	struct accounts *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->unconfirmed_end = load_relaxed(&s->names->accounts);
	a->unconfirmed = calloc(a->unconfirmed_end / 64 + 1, sizeof(*a->unconfirmed));
	r = a->unconfirmed ? templates_new(&a->templates) : -ENOMEM;
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
	free(a->unconfirmed);
	free(a->deferred);
	free(a);
}

void accounts_on_removed(
	struct accounts *a, void (*removed)(void *data, const char *name), void *data) {
	a->removed = removed;
	a->removed_data = data;
}
