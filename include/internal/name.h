/* SPDX-License-Identifier: MIT */
#pragma once

/* What an account may be called, and how a limit and other numbers are written. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL if an account may be called so, else one sentence that says what is wrong with it: 1 to 255
 * bytes of UTF-8 without control characters, at most 8 levels divided by single `/`, none at either
 * end, no `*` or `?`. */
const char *name_check(const char *name, size_t length);

/* Likewise for a template: at least one `*` or `?`, else as an account's name. */
const char *name_check_template(const char *name, size_t length);

bool name_is_template(const char *name, size_t length);

/* Levels of a valid name: 1 without `/`. */
uint32_t name_depth(const char *name, size_t length);

/* Length of the parent's name, or 0. */
size_t name_parent(const char *name, size_t length);

/* Decimal digits alone, at most max. -EINVAL, or -ERANGE above max; nothing written then. */
int number_parse(const char *text, uint64_t max, uint64_t *ret);

/* A limit as people write it: 0 to 1048575, or `unlimited` (ret: BERTH_LIMIT_NONE). */
int limit_parse(const char *text, uint32_t *ret);
#define LIMIT_FORMS "a limit is a whole number from 0 to 1048575, or 'unlimited'"

/* Copies text so that a terminal and a log can show it: control characters, backslashes and bytes
 * that are no UTF-8 become \xHH. Cuts at size-1 bytes. Returns to. */
char *name_escape(const char *text, size_t length, char *to, size_t size);
