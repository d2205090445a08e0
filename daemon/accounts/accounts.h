/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which account has which limit: those that an administrator configured, those that a template
 * covers, and ancestors that are there because accounts below them are.
 *
 * The store is written first (admin.c), then what it said is applied here; at start everything that
 * it holds is applied once.
 */

#include "directory-write.h"
#include "templates.h"

struct accounts {
	struct directory *directory;
	struct templates *templates;
	uint32_t configured;  /* entries with a limit of their own */
	uint32_t by_template; /* entries with a template's limit */
	uint32_t usable;      /* both; the others are there for those below them */
	/* At the start: a bit for each that was found configured, and not yet in the store. */
	uint64_t *unnamed;
	uint32_t unnamed_end, unnamed_count;
	uint32_t hand;     /* where the search for an idle account goes on */
	uint32_t *leaving; /* no longer usable, to be removed when their count is 0 */
	uint32_t leaving_count;
	size_t leaving_capacity;
	bool nothing_idle; /* a whole search found none since accounts_tidy */
	bool said_full;    /* the log has it already */
	/* Told of every account that is taken out and had counts in the store. */
	void (*removed)(void *data, const char *name);
	void *removed_data;
};

/* A limit as the store has it. */
struct stored_limit {
	const char *text;
	struct name name;
	uint64_t hash;
	uint32_t limit;
};

int accounts_new(struct segment *s, struct accounts **ret);
void accounts_free(struct accounts *a); /* NULL is fine */

/* Finds the account that a client wants, making it if a template covers it. -ENOENT: nothing
 * covers it; -ENOSPC, -ENOMEM: no room. */
int accounts_resolve(struct accounts *a, const char *name, uint32_t *ret);

/* Makes room for an account that is about to be configured, so that applying can't fail once the
 * store has committed, and keeps it, under the index returned, until accounts_unreserve. -ENOSPC,
 * -ENOMEM. */
int accounts_reserve(struct accounts *a, const char *name, uint32_t *ret);
/* The store has answered, and what it committed was applied. */
void accounts_unreserve(struct accounts *a, uint32_t account);

/* Applies what the store has committed, to an account that is reserved. limit: BERTH_LIMIT_NONE for
 * unlimited. */
int accounts_configure(struct accounts *a, uint32_t account, uint32_t limit);
int accounts_unconfigure(struct accounts *a, const char *name);

/* Likewise for templates; every account that nobody configured gets its limit anew. */
int accounts_set_template(struct accounts *a, const char *pattern, uint32_t limit);
int accounts_delete_template(struct accounts *a, const char *pattern);
/* At start accounts are found or made, and templates put in without that; then all are looked at
 * once. ret_found: the account, if it was there; else 0. */
int accounts_load(struct accounts *a, const struct stored_limit *l, uint32_t *ret_found);
/* The same if it is this account; 0: it isn't, 1: it is. */
int accounts_load_at(struct accounts *a, uint32_t account, const struct stored_limit *l);
int accounts_load_template(struct accounts *a, const char *pattern, uint32_t limit);
void accounts_cover_all(struct accounts *a);

/* Once everything that the store holds has been configured at start: what was configured before and
 * wasn't named since is configured no more, and what is of no use goes. */
void accounts_configured_all(struct accounts *a);

/* Removes accounts that are no longer usable and have come to rest; now and then. */
void accounts_tidy(struct accounts *a);

/* A name that will be found, reserved or loaded DIRECTORY_AHEAD names later. */
void accounts_expect(struct accounts *a, const char *name);

/* The account with this name, or 0. */
uint32_t accounts_find(struct accounts *a, const char *name);

/* Whether it is `of` or below it. */
bool accounts_is_below(struct accounts *a, uint32_t account, uint32_t of);
