/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Decodes the character that `text` begins with. Returns how many bytes it has. 0: the text is empty, or
 * doesn't begin with valid UTF-8 (an overlong form, a surrogate, above U+10FFFF, cut off). */
size_t utf8_decode(const char *text, size_t length, uint32_t *ret);
