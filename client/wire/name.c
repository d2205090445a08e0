/* SPDX-License-Identifier: MIT */

/* Checks names of accounts and templates, and escapes untrusted text so that it can be shown. */

#include <stdio.h>
#include <string.h>

#include "bounds.h"
#include "name.h"
#include "utf8.h"
#include "util.h"

static bool is_control(uint32_t c) {
	return c < 0x20 || (c >= 0x7F && c <= 0x9F);
}

/* A name with a wildcard is a template's, and any other is an account's. So a name of either kind
 * can only break the rules that both have in common. */
const char *name_check_any(const char *name, size_t length) {
	/* The sentences below contain these numbers. */
	_Static_assert(BERTH_NAME_MAX == 255, "255 bytes");
	_Static_assert(BERTH_LEVELS_MAX == 8, "8 levels");
	if (!name || length == 0)
		return "the name is empty; 1 to 255 bytes are allowed";
	if (length > BERTH_NAME_MAX)
		return "the name is longer than 255 bytes; 1 to 255 bytes are allowed";
	for (size_t i = 0, n; i < length; i += n) {
		uint32_t c;

		n = utf8_decode(name + i, length - i, &c);
		if (n == 0)
			return "the name is not valid UTF-8; escape or convert bytes of another "
			       "encoding";
		if (is_control(c))
			return "the name contains a control character (U+0000 to U+001F, or U+007F "
			       "to U+009F); leave it out or escape it";
	}
	if (name[0] == '/')
		return "the name begins with '/'; '/' only stands between two levels";
	if (name[length - 1] == '/')
		return "the name ends with '/'; '/' only stands between two levels";
	if (memmem(name, length, "//", 2))
		return "the name contains '//'; every level needs at least one character";
	if (name_depth(name, length) > BERTH_LEVELS_MAX)
		return "the name has more than 8 levels; at most 7 '/' are allowed";
	return NULL;
}

const char *name_check(const char *name, size_t length) {
	const char *wrong = name_check_any(name, length);

	if (!wrong && name_is_template(name, length))
		return "the name contains '*' or '?', which belong to templates; an account's name "
		       "has neither";
	return wrong;
}

bool name_is_template(const char *name, size_t length) {
	return length > 0 && (memchr(name, '*', length) || memchr(name, '?', length));
}

uint32_t name_depth(const char *name, size_t length) {
	uint32_t depth = 1;

	for (size_t i = 0; i < length; i++)
		depth += name[i] == '/';
	return depth;
}

size_t name_parent(const char *name, size_t length) {
	const char *slash = length > 0 ? memrchr(name, '/', length) : NULL;

	return slash ? (size_t)(slash - name) : 0;
}

char *name_escape(const char *text, size_t length, char *to, size_t size) {
	size_t used = 0;

	if (size == 0)
		return to;
	/* Cuts between characters, so that the copy is valid UTF-8 and ends with no half escape. */
	for (size_t i = 0, n; i < length; i += n) {
		uint32_t c = 0;
		bool plain;

		n = utf8_decode(text + i, length - i, &c);
		plain = n > 0 && !is_control(c) && c != '\\';
		/* A control character of two bytes is escaped byte by byte, since its second byte
		 * isn't UTF-8 by itself. */
		if (!plain)
			n = 1;
		if (used + (plain ? n : 4) > size - 1)
			break;
		if (plain)
			memcpy(to + used, text + i, n);
		else
			(void)snprintf(to + used, 5, "\\x%02x", (unsigned char)text[i]);
		used += plain ? n : 4;
	}
	to[used] = '\0';
	return to;
}
