/* SPDX-License-Identifier: MIT */

/*
 * Writes JSON. Each element of an array is on a line of its own, so that grep finds whole elements.
 *
 * libsmartcols has a JSON mode, but as of 2.38 it passes invalid UTF-8 through (labels and names of
 * commands may have any bytes), can't print an object without a table around it, and keeps every
 * cell of a million lines in memory.
 */

#include <inttypes.h>
#include <string.h>

#include "json.h"
#include "protocol.h"
#include "show.h"
#include "utf8.h"

/* Writes a string in quotes, with U+FFFD for each byte that isn't UTF-8. */
static void text_write(FILE *out, const char *text) {
	const char *end = text + strlen(text);
	uint32_t c;
	size_t n;

	putc('"', out);
	for (; text < end; text += n) {
		n = utf8_decode(text, (size_t)(end - text), &c);
		if (n == 0) {
			fputs("\\ufffd", out);
			n = 1;
		} else if (c == '"' || c == '\\') {
			fprintf(out, "\\%c", (int)c);
		} else if (c < 0x20 || (c >= 0x7F && c < 0xA0)) {
			/* A terminal would obey control characters. */
			fprintf(out, "\\u%04x", c);
		} else {
			fwrite(text, 1, n, out);
		}
	}
	putc('"', out);
}

/* Writes the comma, the line break and the key before a value. */
static void value_begin(struct json *j, const char *key) {
	if (j->follows)
		putc(',', j->out);
	if (!key && j->depth > 0)
		putc('\n', j->out);
	j->follows = true;
	if (!key)
		return;
	text_write(j->out, key);
	putc(':', j->out);
}

void json_open(struct json *j, const char *key, char bracket) {
	value_begin(j, key);
	putc(bracket, j->out);
	j->follows = false;
	j->depth++;
}

void json_close(struct json *j, char bracket) {
	if (bracket == ']' && j->follows)
		putc('\n', j->out);
	putc(bracket, j->out);
	j->follows = true;
	j->depth--;
	if (j->depth == 0)
		putc('\n', j->out);
}

void json_string(struct json *j, const char *key, const char *text) {
	value_begin(j, key);
	if (text)
		text_write(j->out, text);
	else
		fputs("null", j->out);
}

void json_number(struct json *j, const char *key, uint64_t n) {
	value_begin(j, key);
	fprintf(j->out, "%" PRIu64, n);
}

void json_true(struct json *j, const char *key) {
	value_begin(j, key);
	fputs("true", j->out);
}

void json_limit(struct json *j, const char *key, uint32_t limit) {
	if (limit == MESSAGE_UNLIMITED)
		json_string(j, key, NULL);
	else
		json_number(j, key, limit);
}

void json_time(struct json *j, const char *key, uint64_t ms) {
	struct shown shown;

	json_string(j, key, ms > 0 ? show_time(&shown, ms) : NULL);
}
