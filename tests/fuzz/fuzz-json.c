/* SPDX-License-Identifier: MIT */

/*
 * Any user may choose labels and names of programs, and berthctl prints them as strings of JSON. A
 * strict reader must get valid UTF-8: the valid characters of the text, and U+FFFD for other bytes.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "json.h"
#include "show.h"

static uint32_t hex4(const char *p) {
	uint32_t n = 0;

	for (int i = 0; i < 4; i++) {
		const char *digits = "0123456789abcdef";
		const char *digit = p[i] ? strchr(digits, p[i]) : NULL;

		must(digit);
		n = n << 4 | (uint32_t)(digit - digits);
	}
	return n;
}

/* Reads the next character of a JSON string (RFC 8259). */
static uint32_t json_character(const char **at) {
	const char *p = *at;
	uint32_t c = 0;
	size_t n;

	if (*p == '\\' && p[1] == 'u') {
		*at = p + 6;
		c = hex4(p + 2);
		must(c < 0xD800 || c > 0xDFFF);
		return c;
	}
	if (*p == '\\') {
		must(p[1] == '"' || p[1] == '\\');
		*at = p + 2;
		return (unsigned char)p[1];
	}
	n = reference_utf8(p, strlen(p), &c);
	must_for(n > 0 && c >= 0x20 && !(c >= 0x7F && c < 0xA0), p, strlen(p));
	*at = p + n;
	return c;
}

static void try_string(const char *text) {
	size_t length = strlen(text), written_size = 0;
	char *written = NULL;
	FILE *f = open_memstream(&written, &written_size);
	struct json j = {.out = f};
	const char *p;

	must(f);
	json_open(&j, NULL, '{');
	json_string(&j, "k", text);
	json_close(&j, '}');
	must(fclose(f) == 0);
	must_for(strncmp(written, "{\"k\":\"", 6) == 0, written, written_size);
	p = written + 6;
	for (size_t i = 0; i < length;) {
		uint32_t want = 0xFFFD;
		size_t n = reference_utf8(text + i, length - i, &want);

		must_for(*p != '"', written, written_size);
		must_for(json_character(&p) == (n ? want : 0xFFFD), text, length);
		i += n ? n : 1;
	}
	must_for(strcmp(p, "\"}\n") == 0, written, written_size);
	free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	char *copy = strndup(size ? (const char *)data : "", size);
	struct shown shown;
	struct input in = {data, data + size};
	const char *at;

	must(copy);
	try_string(copy);
	free(copy);
	/* Times come from shared memory, too, and so may have any value. */
	at = show_time(&shown, input_number(&in, 8));
	must_for(strlen(at) == 20 && at[4] == '-' && at[19] == 'Z', at, strlen(at));
	return 0;
}
