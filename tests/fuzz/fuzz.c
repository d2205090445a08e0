/* SPDX-License-Identifier: MIT */

/* Functions for all fuzzers: reading inputs, failing, and a reference for UTF-8. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

void fuzz_fail(const char *file, int line, const char *condition, const char *text, size_t length) {
	fprintf(stderr, "%s:%d: failed: %s\n", file, line, condition);
	if (text) {
		fputs("    '", stderr);
		for (size_t i = 0; i < length; i++)
			fprintf(stderr, text[i] >= ' ' && text[i] < 0x7F ? "%c" : "\\x%02x",
				(unsigned char)text[i]);
		fputs("'\n", stderr);
	}
	abort();
}

size_t input_bytes(struct input *in, void *to, size_t length) {
	size_t left = (size_t)(in->end - in->at);
	size_t n = length < left ? length : left;

	if (n > 0)
		memcpy(to, in->at, n);
	in->at += n;
	return n;
}

uint8_t input_byte(struct input *in) {
	return input_is_over(in) ? 0 : *in->at++;
}

uint64_t input_number(struct input *in, unsigned bytes) {
	uint64_t n = 0;

	(void)input_bytes(in, &n, bytes);
	return n;
}

size_t input_text(struct input *in, char to[256]) {
	size_t n = input_bytes(in, to, input_byte(in));

	to[n] = '\0';
	return n;
}

/* Decodes a character and encodes it again, which must give the same bytes. */
size_t reference_utf8(const char *text, size_t length, uint32_t *ret) {
	const unsigned char *p = (const unsigned char *)text;
	unsigned char again[4];
	uint32_t c;
	size_t n;

	if (length == 0)
		return 0;
	n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
	if (n == 0 || n > length)
		return 0;
	c = n == 1 ? p[0] : p[0] & (0x7Fu >> n);
	for (size_t i = 1; i < n; i++)
		c = c << 6 | (p[i] & 0x3F);
	if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
		return 0;
	again[0] = (unsigned char)c;
	if (n > 1)
		again[0] = (unsigned char)((0xF00 >> n & 0xFF) | (c >> 6 * (n - 1)));
	for (size_t i = 1; i < n; i++)
		again[i] = 0x80 | (c >> 6 * (n - 1 - i) & 0x3F);
	if (memcmp(again, p, n) != 0 || n != 1u + (c > 0x7F) + (c > 0x7FF) + (c > 0xFFFF))
		return 0;
	*ret = c;
	return n;
}

bool reference_is_printable(const char *text, size_t length) {
	for (size_t i = 0; i < length;) {
		uint32_t c = 0;
		size_t n = reference_utf8(text + i, length - i, &c);

		if (n == 0 || c < 0x20 || (c >= 0x7F && c < 0xA0))
			return false;
		i += n;
	}
	return true;
}
