/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Templates: limits for accounts that have none of their own. `*` matches zero or more characters
 * other than `/`; `?` matches one character (a UTF-8 sequence) other than `/`.
 *
 * If several templates match a name, the one with the most literal characters wins. Of those with
 * equally many, the one with the fewest `*` wins. Of several such templates, the one whose bytes
 * sort first wins.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct templates;

int templates_new(struct templates **ret);
void templates_free(struct templates *t);

/* Adds a template, or changes its limit. The caller has checked the pattern (name_check_any()). */
int templates_set(struct templates *t, const char *pattern, uint32_t limit);
/* -ENOENT: there is no such template. */
int templates_delete(struct templates *t, const char *pattern);

/* The limit of the template that wins for a name; false: none matches. */
bool templates_match(const struct templates *t, const char *name, uint32_t *ret_limit);

/* The templates by index, in the order in which they win. The pattern is borrowed until the next
 * change. */
size_t templates_count(const struct templates *t);
const char *templates_at(const struct templates *t, size_t i, uint32_t *ret_limit);

/* True if the pattern matches the name. Takes at most (length of pattern × length of name)
 * steps. */
bool template_matches(const char *pattern, const char *name);
