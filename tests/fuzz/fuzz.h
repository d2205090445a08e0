/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Functions for all fuzzers. A fuzzer is a file fuzz-NAME.c with the function that libFuzzer calls.
 * `make check` links the fuzzer with replay.c instead of libFuzzer. Then each file of seeds/NAME is
 * an input once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts if the condition is false, so that libFuzzer saves the input. */
#define must(condition) ((condition) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #condition, NULL, 0))
/* Like must(), but the message shows the text. */
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
/* Copies up to `length` bytes. Returns the number of copied bytes. */
size_t input_bytes(struct input *in, void *to, size_t length);
/* Reads one byte, the length of a text, and then the text, and adds a NUL. Returns the length of
 * the text, at most 255. */
size_t input_text(struct input *in, char to[256]);

/* Decodes a character without the code under test. Returns the length of the character. Returns 0
 * for an overlong form, a surrogate, a code above U+10FFFF, and for other invalid bytes. */
size_t reference_utf8(const char *text, size_t length, uint32_t *ret);
/* True if the text is UTF-8 without control characters, and so is safe on a terminal. */
bool reference_is_printable(const char *text, size_t length);
