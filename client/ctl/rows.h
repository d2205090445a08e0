/* SPDX-License-Identifier: MIT */
#pragma once

/* Accounts and templates, as get, list and export need them. */

#include <stddef.h>
#include <stdint.h>

struct json;
struct message_row;

/* A row of a message without its unused bytes, which are nine tenths of the row. */
struct row {
	char *name;
	uint32_t limit; /* MESSAGE_UNLIMITED: none */
	uint32_t current;
	uint32_t peak;
	uint32_t flags; /* enum row_flag */
	uint64_t denied;
};

struct rows {
	struct row *row; /* their names are allocated */
	size_t count, capacity;
};

/* Reads the row of a message. The name is borrowed from the message. -EBADMSG: the name lacks a
 * NUL. */
int row_read(struct message_row *m, struct row *ret);

/* Where the limit comes from: "account", "template" or "none". */
const char *row_source(const struct row *row);

/* Writes a struct row as an object, for struct table. */
void row_print_json(struct json *j, const void *row);

/* Fetches all accounts and templates that the pattern matches ("": all). flags is 0 or
 * MESSAGE_LIST_CONFIGURED. The rows are sorted by the bytes of their names, templates last. Returns
 * an exit status, after reporting any error; *ret is written on success only. */
int rows_fetch(const char *pattern, uint32_t flags, struct rows *ret);
void rows_deinit(struct rows *rows);
