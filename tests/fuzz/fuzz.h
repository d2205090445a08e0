/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Functions for all fuzzers. A fuzzer is a file fuzz-NAME.c with the function that libFuzzer calls.
 * `make check` links it with replay.c instead of libFuzzer and runs the files of seeds/NAME once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts if the condition is false, so that libFuzzer saves the input. */
#define must(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, NULL, 0))
/* The same with a text for the message. */
#define must_for(condition, text, length) \
	((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, (text), (length)))

void fuzz_fail(const char *file, int line, const char *condition, const char *text, size_t length)
	__attribute__((noreturn));

/* -- reading an input; beyond its end there are zeros ------------------------------------------ */

struct input {
	const uint8_t *at, *end;
};

static inline bool input_is_over(const struct input *in) {
	return in->at == in->end;
}
uint8_t input_byte(struct input *in);
uint64_t input_number(struct input *in, unsigned bytes);
/* Copies up to `length` bytes; returns their number. */
size_t input_bytes(struct input *in, void *to, size_t length);
/* Reads a length of one byte and that many bytes, and adds a NUL. Returns the length, at most
 * 255. */
size_t input_text(struct input *in, char to[256]);

/* Decodes a character without the code under test. Refuses overlong forms, surrogates, and codes
 * above U+10FFFF. Returns the length of the character, 0 if it is invalid. */
size_t reference_utf8(const char *text, size_t length, uint32_t *ret);
/* True if the text is UTF-8 without control characters, and so is safe on a terminal. */
bool reference_is_printable(const char *text, size_t length);
