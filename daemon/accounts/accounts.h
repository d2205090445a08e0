/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which accounts there are, and which limit each has. An account is configured (an administrator
 * gave it a limit of its own), or has the limit of a template, or exists because it is the ancestor
 * of another account.
 *
 * A change is stored first (daemon/server/admin-limits.c); then the functions here put it in force.
 * At start, everything that the store holds is put in force once.
 */

#include "directory-write.h"
#include "templates.h"

struct accounts;

/* Takes over the accounts that are in the directory. */
int accounts_new(struct segment *s, struct accounts **ret);
void accounts_free(struct accounts *a); /* NULL is fine */

/* Sets the function that is called with each account that is removed and has counts in the store.
 * NULL: no function is called any more. */
void accounts_on_removed(
	struct accounts *a, void (*removed)(void *data, const char *name), void *data);

/* -- looking ----------------------------------------------------------------------------------- */

struct accounts_totals {
	uint32_t accounts; /* all, also those that are only ancestors */
	uint32_t configured;
	uint32_t by_template;
};

struct accounts_totals accounts_totals(const struct accounts *a);
const struct templates *accounts_templates(const struct accounts *a);
struct directory *accounts_directory(const struct accounts *a);

/* The account with this name; 0: there is none. */
uint32_t accounts_find(struct accounts *a, const char *name);

/* Accounts are numbered from 1; all numbers are below this one. */
uint32_t accounts_end(const struct accounts *a);
/* The word of the account's entry (layout.h): limit, flags, generation. Without ENTRY_LIVE in the
 * word, there is no such account. */
uint64_t accounts_word(const struct accounts *a, uint32_t account);
bool accounts_has_children(const struct accounts *a, uint32_t account);
/* True if the account is `ancestor` or a descendant of it. */
bool accounts_is_below(const struct accounts *a, uint32_t account, uint32_t ancestor);

/* -- changing ---------------------------------------------------------------------------------- */

/* Finds the account that a client wants to use, and creates it if a template matches its name.
 * -ENOENT: no limit applies to it; -ENOSPC: the table is full; -ENOMEM. */
int accounts_resolve(struct accounts *a, const char *name, uint32_t *ret);

/* Finds or creates an account that is about to be configured. The account stays until
 * accounts_unreserve(). So after the store has committed, accounts_configure() can't fail for lack
 * of room. -ENOSPC, -ENOMEM. */
int accounts_reserve(struct accounts *a, const char *name, uint32_t *ret);
void accounts_unreserve(struct accounts *a, uint32_t account);

/* Puts a limit in force that the store has committed. The caller has reserved the account.
 * BERTH_LIMIT_NONE: unlimited. */
int accounts_configure(struct accounts *a, uint32_t account, uint32_t limit);
/* Takes away the account's own limit. -ENOENT: there is no such account. */
int accounts_unconfigure(struct accounts *a, const char *name);

/* Each changes the templates, and gives every account that isn't configured the limit that the
 * templates now define for it. -ENOENT: there is no such template. -ENOMEM: the templates or some
 * accounts didn't change. -EOVERFLOW: some accounts didn't change. An account that should have
 * changed, but didn't, may still admit acquires by its old limit. */
int accounts_set_template(struct accounts *a, const char *pattern, uint32_t limit);
int accounts_delete_template(struct accounts *a, const char *pattern);

/* Removes the accounts that have lost their limit and whose slots are all released. To be called
 * now and then. */
void accounts_tidy(struct accounts *a);

/* -- at start, and for imports ----------------------------------------------------------------- */

/* Announces that `more` accounts are about to be found or created, so that the table of names grows
 * only once. */
void accounts_expect(struct accounts *a, size_t more);

/* Configures an account, and creates it if it doesn't exist. */
int accounts_load(struct accounts *a, const char *name, uint32_t limit);
/* Adds a template, which takes effect with accounts_apply_templates(). */
int accounts_load_template(struct accounts *a, const char *pattern, uint32_t limit);
int accounts_apply_templates(struct accounts *a);

/* To be called when everything that the store holds was loaded. Accounts that are configured in the
 * directory but not in the store stop being configured. Accounts without a limit are removed,
 * unless they have descendants. */
void accounts_loaded(struct accounts *a);
