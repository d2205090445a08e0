/* SPDX-License-Identifier: MIT */

/* Keeps the templates in the order in which they win, and finds the first that matches a name. The
 * search is linear. This is fast enough, since there are few templates, and only a new name needs a
 * search. */

#include <assert.h>
#include <string.h>

#include "array.h"
#include "templates.h"
#include "util.h"

struct template {
	char *pattern;
	uint32_t limit;
	uint32_t literals; /* characters, not bytes */
	uint32_t stars;
};

struct templates {
	struct template *all;
	size_t count, capacity;
};

/* The character after the one that p points to. Both pattern and name are valid UTF-8. */
static const char *next_character(const char *p) {
	for (p++; ((unsigned char)*p & 0xC0) == 0x80; p++)
		;
	return p;
}

/* At first, a `*` matches no character. If the part of the pattern after the `*` then doesn't
 * match, the `*` takes one more character of the name, and that part is tried again. Only the last
 * `*` has to take more: the pattern before it has matched as early in the name as possible, so the
 * largest part of the name is left for the pattern after it. Neither `*` nor `?` matches `/`, so
 * the k-th `/` of the pattern can only match the k-th `/` of the name. So once a `/` has matched,
 * the pattern before that `/` needn't be tried again. The search takes at most (length of pattern ×
 * length of name) steps. */
bool template_matches(const char *pattern, const char *name) {
	const char *after_star = NULL, *taken = NULL;

	while (*name) {
		if (*pattern == '*') {
			after_star = ++pattern;
			taken = name;
		} else if (*pattern == '?' && *name != '/') {
			pattern++;
			name = next_character(name);
		} else if (*pattern == *name) {
			if (*name == '/')
				after_star = NULL;
			pattern++;
			name++;
		} else if (after_star && *taken != '/') {
			pattern = after_star;
			name = taken = next_character(taken);
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static void template_measure(struct template *t) {
	for (const char *p = t->pattern; *p; p = next_character(p)) {
		if (*p == '*')
			t->stars++;
		else if (*p != '?')
			t->literals++;
	}
}

/* Negative: a wins over b. 0: both have the same pattern. */
static int template_compare(const struct template *a, const struct template *b) {
	if (a->literals != b->literals)
		return a->literals > b->literals ? -1 : 1;
	if (a->stars != b->stars)
		return a->stars < b->stars ? -1 : 1;
	return strcmp(a->pattern, b->pattern);
}

/* The index of the wanted template. If *ret_found is false, it would be inserted there. */
static size_t templates_find(
	const struct templates *t, const struct template *wanted, bool *ret_found) {
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (template_compare(&t->all[middle], wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = low < t->count && template_compare(&t->all[low], wanted) == 0;
	return low;
}

int templates_new(struct templates **ret) {
	struct templates *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	*ret = t;
	return 0;
}

void templates_free(struct templates *t) {
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		free(t->all[i].pattern);
	free(t->all);
	free(t);
}

int templates_set(struct templates *t, const char *pattern, uint32_t limit) {
	_cleanup_free_ char *copy = strdup(pattern);
	struct template new = {.pattern = copy, .limit = limit};
	bool found;
	size_t i;

	if (!copy)
		return -ENOMEM;
	template_measure(&new);
	i = templates_find(t, &new, &found);
	if (found) {
		t->all[i].limit = limit;
		return 0;
	}
	if (array_reserve(&t->all, &t->capacity, t->count + 1) < 0)
		return -ENOMEM;
	memmove(t->all + i + 1, t->all + i, (t->count - i) * sizeof(*t->all));
	t->all[i] = new;
	t->count++;
	copy = NULL;
	return 0;
}

int templates_delete(struct templates *t, const char *pattern) {
	struct template wanted = {.pattern = (char *)pattern};
	bool found;
	size_t i;

	template_measure(&wanted);
	i = templates_find(t, &wanted, &found);
	if (!found)
		return -ENOENT;
	free(t->all[i].pattern);
	t->count--;
	memmove(t->all + i, t->all + i + 1, (t->count - i) * sizeof(*t->all));
	return 0;
}

bool templates_match(const struct templates *t, const char *name, uint32_t *ret_limit) {
	for (size_t i = 0; i < t->count; i++)
		if (template_matches(t->all[i].pattern, name)) {
			*ret_limit = t->all[i].limit;
			return true;
		}
	return false;
}

size_t templates_count(const struct templates *t) {
	return t->count;
}

const char *templates_at(const struct templates *t, size_t i, uint32_t *ret_limit) {
	assert(i < t->count);
	*ret_limit = t->all[i].limit;
	return t->all[i].pattern;
}
