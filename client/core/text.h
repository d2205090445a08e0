/* SPDX-License-Identifier: MIT */
#pragma once

/* Texts as words of eight bytes, the first of which is the lowest, whatever the machine. */

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "util.h"

static inline uint64_t load8(const char *text) {
	uint64_t word;

	memcpy(&word, text, 8);
	return le64toh(word);
}

static inline uint64_t load4(const char *text) {
	uint32_t half;

	memcpy(&half, text, 4);
	return le32toh(half);
}

/* A text of 1 to 7 bytes: first and last half, or first, middle and last byte, which may overlap. */
static _always_inline_ uint64_t short_load(const char *text, size_t length) {
	const unsigned char *byte = (const unsigned char *)text;
	size_t last = length - 1;

	if (length >= 4)
		return load4(text) | load4(text + length - 4) << 8 * (length - 4);
	return byte[0] | (uint64_t)byte[length / 2] << 8 * (length / 2) |
	       (uint64_t)byte[last] << 8 * last;
}

/* The last 1 to 8 bytes of a text. Those before them are loaded, too, and shifted out. */
static inline uint64_t tail_load(const char *text, size_t length, size_t tail) {
	return length < 8 ? short_load(text, length) : load8(text + length - 8) >> 8 * (8 - tail);
}
