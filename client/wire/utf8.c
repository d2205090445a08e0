/* SPDX-License-Identifier: MIT */

/* Decodes valid UTF-8 only. */

#include "utf8.h"

size_t utf8_decode(const char *text, size_t length, uint32_t *ret) {
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	static const unsigned char first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
	const unsigned char *p = (const unsigned char *)text;
	size_t n;
	uint32_t c;

	/* No character begins with a byte from 0x80 to 0xBF. 0xC0, 0xC1 and 0xF5 to 0xFF could only
	 * begin overlong forms, or characters above U+10FFFF. */
	if (length == 0 || (p[0] >= 0x80 && p[0] < 0xC2) || p[0] > 0xF4)
		return 0;
	n = 1 + (p[0] >= 0xC2) + (p[0] >= 0xE0) + (p[0] >= 0xF0);
	if (n > length)
		return 0;
	c = p[0] & first_bits[n];
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xC0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3F);
	}
	if (c < smallest[n] || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF)
		return 0;
	*ret = c;
	return n;
}
