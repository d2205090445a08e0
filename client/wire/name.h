/* SPDX-License-Identifier: MIT */
#pragma once

/* Checks and takes apart the names of accounts and templates, and escapes untrusted text. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Checks the name of an account: 1 to 255 bytes of UTF-8 without control characters, without `*`
 * and `?`; at most 8 levels, with a single `/` between two of them and none at either end. Returns
 * NULL if the name is valid, otherwise a static sentence that says what is wrong. */
const char *name_check(const char *name, size_t length);

/* Checks a name that has a wildcard as a template's name, and any other as an account's name. */
const char *name_check_any(const char *name, size_t length);

/* True if the name has a `*` or `?`. */
bool name_is_template(const char *name, size_t length);

/* The number of levels of a valid name: 1 more than it has `/`. */
uint32_t name_depth(const char *name, size_t length);

/* The length of the parent's name, which is the part before the last `/`; 0: there is no parent. */
size_t name_parent(const char *name, size_t length);

/* Copies text to `to`, so that a terminal and a log can show it: control characters, backslashes
 * and bytes that aren't UTF-8 become \xHH. The copy is cut at size - 1 bytes, between two
 * characters, and NUL-terminated. Returns `to`. */
char *name_escape(const char *text, size_t length, char *to, size_t size);
