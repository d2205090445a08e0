/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Templates: limits for names that nobody configured. `*` stands for any run of characters (none,
 * too) but `/`; `?` for one character (a UTF-8 sequence) but `/`.
 *
 * Of those that match, the one with the most literal characters wins; among equals the one with
 * fewer `*`, then the one whose bytes sort first.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct templates;

int templates_new(struct templates **ret);
void templates_free(struct templates *t);

/* Adds, or changes the limit. The name must be valid (name_check_template). */
int templates_set(struct templates *t, const char *pattern, uint32_t limit);
/* -ENOENT if there is none such. */
int templates_delete(struct templates *t, const char *pattern);

/* The limit for a name; false if nothing covers it. ret_pattern (may be NULL) is borrowed until the
 * next change. */
bool templates_match(
	const struct templates *t, const char *name, uint32_t *ret_limit, const char **ret_pattern);

/* In the order of specificity, most specific first. */
size_t templates_count(const struct templates *t);
const char *templates_at(const struct templates *t, size_t i, uint32_t *ret_limit);

/* Whether one pattern matches one name. Linear in pattern × name, whatever strangers send. */
bool template_matches(const char *pattern, const char *name);
