/* SPDX-License-Identifier: MIT */

/*
 * Tests names, templates, numbers, and the escaping of text. Compares each result with that of a
 * second implementation (the reference), which is so simple that it hardly has the same errors.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "layout.h"
#include "name.h"
#include "number.h"
#include "templates.h"

/* -- valid names ------------------------------------------------------------------------------- */

static bool reference_is_name(const char *text, size_t length, bool *ret_template) {
	unsigned slashes = 0;

	*ret_template = false;
	if (length == 0 || length > 255 || !reference_is_printable(text, length))
		return false;
	for (size_t i = 0; i < length; i++) {
		*ret_template |= text[i] == '*' || text[i] == '?';
		slashes += text[i] == '/';
		if (text[i] == '/' && (i == 0 || i == length - 1 || text[i - 1] == '/'))
			return false;
	}
	return slashes <= 7;
}

static void try_name(const char *text, size_t length) {
	bool template, valid = reference_is_name(text, length, &template);
	const char *slash = NULL;
	uint32_t depth = 1;

	must_for((name_check(text, length) == NULL) == (valid && !template), text, length);
	must_for((name_check_any(text, length) == NULL) == valid, text, length);
	if (!valid)
		return;
	must_for(name_is_template(text, length) == template, text, length);
	for (const char *p = text; p < text + length; p++)
		if (*p == '/') {
			slash = p;
			depth++;
		}
	must_for(name_depth(text, length) == depth, text, length);
	must_for(name_parent(text, length) == (slash ? (size_t)(slash - text) : 0), text, length);
}

/* -- escaped text ------------------------------------------------------------------------------ */

static int hex(char c) {
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Escapes the text into `size` bytes, and undoes the escapes. The result must be the beginning of
 * the text, and as much of the text as fits. */
static void try_escape(const char *text, size_t length, size_t size) {
	char *shown = malloc(size);
	size_t at = 0, n = 0;

	must(shown);
	must(name_escape(text, length, shown, size) == shown);
	if (size > 0) {
		n = strlen(shown);
		must_for(n < size && reference_is_printable(shown, n), shown, n);
	}
	for (size_t i = 0; i < n; at++) {
		int byte = (unsigned char)shown[i++];

		if (byte == '\\') {
			must_for(i + 3 <= n && shown[i] == 'x' && hex(shown[i + 1]) >= 0 &&
					 hex(shown[i + 2]) >= 0,
				shown, n);
			byte = hex(shown[i + 1]) << 4 | hex(shown[i + 2]);
			i += 3;
		}
		must_for(at < length && (unsigned char)text[at] == byte, text, length);
	}
	must_for(at == length || size < 4 * length + 1, text, length);
	must_for(at == length || n + 4 >= size - (size > 0), text, length);
	free(shown);
}

/* -- numbers ----------------------------------------------------------------------------------- */

static void try_number(const char *text) {
	uint64_t got = 42, want = 0, max = BERTH_COUNT_MAX;
	bool digits = *text != '\0', large = false;
	int r = number_parse(text, max, &got);
	uint32_t limit = 7;

	for (const char *p = text; *p; p++) {
		digits &= *p >= '0' && *p <= '9';
		want = want * 10 + (uint64_t)(*p - '0');
		if (want > max) {
			large = true;
			want = max; /* so that the next digit can't overflow `want` */
		}
	}
	must_for(r == (!digits ? -EINVAL : large ? -ERANGE : 0), text, strlen(text));
	must_for(got == (r == 0 ? want : 42), text, strlen(text));
	if (strcmp(text, "unlimited") == 0)
		must(limit_parse(text, &limit) == 0 && limit == BERTH_LIMIT_NONE);
	else
		must_for(limit_parse(text, &limit) == r && limit == (r == 0 ? got : 7), text,
			strlen(text));
}

/* -- templates --------------------------------------------------------------------------------- */

static size_t step(const char *p) {
	uint32_t c;

	return reference_utf8(p, strlen(p), &c);
}

/* Fills a table: match[i][k] is true if the pattern from its character i on matches the name from
 * its character k on. */
static bool reference_matches(const char *pattern, const char *name) {
	static bool match[257][257];
	const char *p_at[257], *n_at[257];
	size_t ps = 0, ns = 0;

	for (const char *p = pattern; *p; p += step(p))
		p_at[ps++] = p;
	for (const char *p = name; *p; p += step(p))
		n_at[ns++] = p;
	p_at[ps] = pattern + strlen(pattern);
	n_at[ns] = name + strlen(name);
	for (size_t i = ps + 1; i-- > 0;)
		for (size_t k = ns + 1; k-- > 0;) {
			bool some = k < ns && *n_at[k] != '/';

			if (i == ps)
				match[i][k] = k == ns;
			else if (*p_at[i] == '*')
				match[i][k] = match[i + 1][k] || (some && match[i][k + 1]);
			else if (*p_at[i] == '?')
				match[i][k] = some && match[i + 1][k + 1];
			else
				match[i][k] =
					k < ns && p_at[i + 1] - p_at[i] == n_at[k + 1] - n_at[k] &&
					memcmp(p_at[i], n_at[k], (size_t)(p_at[i + 1] - p_at[i])) ==
						0 &&
					match[i + 1][k + 1];
		}
	return match[0][0];
}

static uint32_t literals(const char *pattern, uint32_t *ret_stars) {
	uint32_t n = 0;

	*ret_stars = 0;
	for (const char *p = pattern; *p; p += step(p)) {
		*ret_stars += *p == '*';
		n += *p != '*' && *p != '?';
	}
	return n;
}

/* Compares two templates in the order that templates.h defines. */
static bool is_more_specific(const char *a, const char *b) {
	uint32_t a_stars, b_stars, a_literals = literals(a, &a_stars),
				   b_literals = literals(b, &b_stars);

	if (a_literals != b_literals)
		return a_literals > b_literals;
	return a_stars != b_stars ? a_stars < b_stars : strcmp(a, b) < 0;
}

#define PATTERNS 8

static void try_templates(char pattern[PATTERNS][256], size_t count, const char *name) {
	const char *best = NULL;
	struct templates *t;
	uint32_t limit;

	must(templates_new(&t) == 0);
	for (size_t i = 0; i < count; i++) {
		must_for(template_matches(pattern[i], name) == reference_matches(pattern[i], name),
			pattern[i], strlen(pattern[i]));
		must(templates_set(t, pattern[i], (uint32_t)i) == 0);
		if (reference_matches(pattern[i], name) &&
			(!best || is_more_specific(pattern[i], best)))
			best = pattern[i];
	}
	must_for(templates_match(t, name, &limit) == (best != NULL), name, strlen(name));
	must_for(!best || strcmp(pattern[limit], best) == 0, name, strlen(name));
	for (size_t i = 1; i < templates_count(t); i++)
		must(is_more_specific(templates_at(t, i - 1, &limit), templates_at(t, i, &limit)));
	for (size_t i = 0; i < count; i++)
		(void)templates_delete(t, pattern[i]);
	must(templates_count(t) == 0);
	templates_free(t);
}

/* The input is a name and patterns. Before each of them, one byte has its length. */
static void try_split(struct input in) {
	static char pattern[PATTERNS][256];
	size_t count = 0, n;
	char name[256];
	bool template;

	n = input_text(&in, name);
	if (!reference_is_name(name, n, &template) || template)
		return;
	while (count < PATTERNS && !input_is_over(&in)) {
		n = input_text(&in, pattern[count]);
		count += reference_is_name(pattern[count], n, &template) && template;
	}
	try_templates(pattern, count, name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	const char *text = (const char *)data;
	struct input in = {data, data + size};
	char *copy = strndup(text ? text : "", size);

	must(copy);
	try_name(text, size);
	try_escape(text, size, size > 0 ? data[0] : 64);
	try_escape(text, size, 4 * size + 1);
	try_number(copy);
	try_split(in);
	free(copy);
	return 0;
}
