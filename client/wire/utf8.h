/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Decodes the first character of a text, and returns its length in bytes. 0: the text is empty, or
 * doesn't begin with valid UTF-8. An overlong form, a surrogate, a character above U+10FFFF and a
 * character that is cut off aren't valid. */
size_t utf8_decode(const char *text, size_t length, uint32_t *ret);
