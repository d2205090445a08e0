/* SPDX-License-Identifier: MIT */

/*
 * The text format of import and export, without any I/O.
 *
 * A line is `ACCOUNT LIMIT`. The last word is the limit. The text before it is the account, without
 * the blanks (spaces and tabs) around it. A line whose first character is `#` is a comment, and an
 * empty line is ignored. A line ends with LF or CR LF. A byte order mark at the start of the text
 * is skipped.
 *
 * A name may contain every character except a tab. Some names can't be written this way: those that
 * begin or end with a space, or begin with `#` or a byte order mark. Such a name stands between two
 * tabs: TAB ACCOUNT TAB LIMIT. There, no blanks are removed from it. Escapes would be simpler to
 * explain, but each character that could introduce one (`\`, `%`) is common in names of accounts.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "array.h"
#include "import-format.h"
#include "name.h"
#include "number.h"
#include "protocol.h"
#include "util.h"

#define SHOWN_BYTES 100            /* of a bad line, in a message */
#define BOM         "\xEF\xBB\xBF" /* the byte order mark, in UTF-8 */

/* A part of a bad line, escaped. */
struct shown {
	char text[4 * SHOWN_BYTES + 1];
};

/* A piece of the text. */
struct piece {
	const char *at;
	size_t length;
};

static bool is_blank(char c) {
	return c == ' ' || c == '\t';
}

/* -- what is wrong ----------------------------------------------------------------------------- */

static __attribute__((format(printf, 3, 4))) int error_add(
	struct lines *l, uint32_t line, const char *format, ...) {
	va_list args;
	char *text;
	int n;

	if (l->error_count >= LINES_ERRORS_SHOWN) {
		l->error_count++;
		return 0;
	}
	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0)
		return -ENOMEM;
	l->error[l->error_count++] = (struct lines_error){line, text};
	return 0;
}

static const char *piece_show(struct piece p, struct shown *s) {
	return name_escape(p.at, MIN_OF(p.length, (size_t)SHOWN_BYTES), s->text, sizeof(s->text));
}

/* -- names seen before ------------------------------------------------------------------------- */

static uint32_t *table_place(const struct lines *l, const struct lines_entry *e) {
	size_t i = e->hash & (l->table_size - 1);

	for (; l->table[i] != 0; i = (i + 1) & (l->table_size - 1)) {
		const struct lines_entry *other = &l->entry[l->table[i] - 1];

		if (other->hash == e->hash && other->length == e->length &&
			memcmp(other->name, e->name, e->length) == 0)
			break;
	}
	return &l->table[i];
}

static int account_add(struct lines *l, uint32_t line, struct piece name, uint32_t limit) {
	struct lines_entry e = {
		.name = name.at,
		.limit = limit,
		.line = line,
		.hash = (uint32_t)XXH3_64bits_withSeed(name.at, name.length, l->seed),
		.length = (uint32_t)name.length,
	};
	struct shown shown;
	uint32_t *place;

	/* The table is never more than half full. */
	if (l->count * 2 >= l->table_size) {
		size_t size = l->table_size ? l->table_size * 2 : 1024;
		uint32_t *table = calloc(size, sizeof(*table));

		if (!table)
			return -ENOMEM;
		free(l->table);
		l->table = table;
		l->table_size = size;
		for (size_t i = 0; i < l->count; i++)
			*table_place(l, &l->entry[i]) = (uint32_t)i + 1;
	}
	if (array_reserve(&l->entry, &l->capacity, l->count + 1) < 0)
		return -ENOMEM;
	place = table_place(l, &e);
	if (*place != 0)
		return error_add(l, line,
			"'%s' is on line %" PRIu32 " already; keep one of the two",
			piece_show(name, &shown), l->entry[*place - 1].line);
	l->entry[l->count++] = e;
	*place = (uint32_t)l->count;
	return 0;
}

/* -- a line ------------------------------------------------------------------------------------ */

static int line_parse(struct lines *l, uint32_t line, struct piece p) {
	struct shown shown;
	struct piece name, word;
	char text[32] = ""; /* longer than any limit */
	const char *wrong;
	uint32_t limit;

	while (p.length > 0 && is_blank(p.at[p.length - 1]))
		p.length--;
	if (p.length == 0 || p.at[0] == '#')
		return 0;

	name = p;
	while (name.length > 0 && !is_blank(name.at[name.length - 1]))
		name.length--;
	word = (struct piece){p.at + name.length, p.length - name.length};
	/* No blanks are removed from a name that stands between two tabs. */
	if (name.length >= 3 && name.at[0] == '\t' && name.at[name.length - 1] == '\t') {
		name = (struct piece){name.at + 1, name.length - 2};
		wrong = name_check_any(name.at, name.length);
	} else {
		for (; name.length > 0 && is_blank(name.at[0]); name.length--)
			name.at++;
		while (name.length > 0 && is_blank(name.at[name.length - 1]))
			name.length--;
		if (name.length == 0)
			return error_add(l, line, "'%s' stands alone; a line is ACCOUNT LIMIT",
				piece_show(word, &shown));
		wrong = name.at[0] != '#'
				? name_check_any(name.at, name.length)
				: "a comment's '#' must be the first character of its line, and an "
				  "account that begins with '#' must stand between two tabs";
	}
	if (wrong)
		return error_add(l, line, "'%s': %s", piece_show(name, &shown), wrong);
	/* A NUL inside the word would hide the bytes after it. `text` then stays empty, which isn't
	 * a limit. */
	if (word.length < sizeof(text) && !memchr(word.at, '\0', word.length))
		memcpy(text, word.at, word.length);
	if (limit_parse(text, &limit) < 0)
		return error_add(l, line, "the limit '%s': " LIMIT_FORMS, piece_show(word, &shown));
	return account_add(l, line, name, message_limit(limit));
}

/* -- all lines --------------------------------------------------------------------------------- */

int lines_parse(struct lines *l, const char *text, size_t length) {
	struct piece rest = {text, length};

	if (length >= strlen(BOM) && memcmp(text, BOM, strlen(BOM)) == 0)
		rest = (struct piece){text + strlen(BOM), length - strlen(BOM)};
	/* Without a random seed, names that an attacker chose may collide. That is slow, but not
	 * wrong. */
	if (getrandom(&l->seed, sizeof(l->seed), GRND_NONBLOCK) != sizeof(l->seed))
		l->seed = (uintptr_t)l;
	for (uint32_t line = 1; rest.length > 0; line++) {
		const char *end = memchr(rest.at, '\n', rest.length);
		struct piece p = {rest.at, end ? (size_t)(end - rest.at) : rest.length};
		size_t taken = p.length + (end ? 1 : 0);
		int r;

		if (p.length > 0 && p.at[p.length - 1] == '\r')
			p.length--;
		r = line_parse(l, line, p);
		if (r < 0)
			return r;
		rest = (struct piece){rest.at + taken, rest.length - taken};
	}
	return 0;
}

void lines_deinit(struct lines *l) {
	for (size_t i = 0; i < MIN_OF(l->error_count, (size_t)LINES_ERRORS_SHOWN); i++)
		free(l->error[i].text);
	free(l->entry);
	free(l->table);
	*l = (struct lines){0};
}

void line_write(FILE *out, const char *name, uint32_t limit) {
	size_t length = strlen(name);
	bool plain = name[0] != '#' && name[0] != ' ' && length > 0 && name[length - 1] != ' ' &&
		     strncmp(name, BOM, strlen(BOM)) != 0;
	char text[LIMIT_TEXT_SIZE];

	fprintf(out, "%s%s%s", plain ? "" : "\t", name, plain ? " " : "\t");
	fprintf(out, "%s\n", limit_format(limit_of_message(limit), text));
}
