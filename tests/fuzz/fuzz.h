/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the fuzzers share. Each is one fuzz-NAME.c with the function that libFuzzer calls; linked
 * with replay.c instead of libFuzzer it runs the files of seeds/NAME once, in `make check`.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program, so that the input is kept. */
#define must(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, NULL, 0))
/* The same with a text that shows what it was about. */
#define must_for(condition, text, length) \
	((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, (text), (length)))

void fuzz_fail(const char *file, int line, const char *condition, const char *text, size_t length)
	__attribute__((noreturn));

/* -- an input, taken apart: past its end there are zeros --------------------------------------- */

struct input {
	const uint8_t *at, *end;
};

static inline bool input_is_over(const struct input *in) {
	return in->at == in->end;
}
uint8_t input_byte(struct input *in);
uint64_t input_number(struct input *in, unsigned bytes);
/* Copies up to `length` bytes, as many as there are; returns how many. */
size_t input_bytes(struct input *in, void *to, size_t length);
/* A length of one byte, then so many; NUL-terminated. Returns the length, at most 255. */
size_t input_text(struct input *in, char to[256]);

/* Strict: no overlong form, no surrogate, nothing above U+10FFFF. Returns the length of the
 * character, 0 if there is none; not the code that is tested. */
size_t reference_utf8(const char *text, size_t length, uint32_t *ret);
/* UTF-8 without control characters: may be shown on a terminal. */
bool reference_is_printable(const char *text, size_t length);
