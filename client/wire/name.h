/* SPDX-License-Identifier: MIT */
#pragma once

/* Which names accounts and templates may have, and how to show text that a stranger wrote. */

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

/* Copies text so that a terminal and a log can show it: control characters, backslashes and bytes
 * that are no UTF-8 become \xHH. Cuts at size-1 bytes. Returns to. */
char *name_escape(const char *text, size_t length, char *to, size_t size);
