/* SPDX-License-Identifier: MIT */
#pragma once

/* Writes JSON to a stream. Strings become valid UTF-8 whatever bytes they have. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Set `out` and leave the rest zero. */
struct json {
	FILE *out;
	bool follows; /* the current object or array has an element already */
	unsigned depth;
};

/* Each function but json_close() writes a value, or its beginning. `key` is NULL for an element of
 * an array, and for the outermost value. */
void json_open(struct json *j, const char *key, char bracket);       /* '{' or '[' */
void json_close(struct json *j, char bracket);                       /* '}' or ']' */
void json_string(struct json *j, const char *key, const char *text); /* NULL: null */
void json_number(struct json *j, const char *key, uint64_t n);
void json_true(struct json *j, const char *key);
void json_limit(struct json *j, const char *key, uint32_t limit); /* MESSAGE_UNLIMITED: null */
void json_time(struct json *j, const char *key, uint64_t ms);     /* since 1970; 0: null */
