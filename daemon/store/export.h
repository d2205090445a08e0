/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Writes the export: all limits and templates as text, in a file beside the store. If the store is
 * damaged, berthd --restore can restore the limits from this file. Part of the store (store.h).
 * Only one thread at a time may use it.
 *
 * The file has the format of import-format.h. Its last line is a comment with the number of limits
 * and a checksum of all lines before it.
 */

#include <stddef.h>
#include <stdint.h>

#include "limits.h"

#define EXPORT_NAME     "limits.export"
#define EXPORT_PREVIOUS "limits.export.1"

struct export;

/* Writes nothing yet. The only error is -ENOMEM. `limits` is borrowed. */
int export_new(const char *state_dir, struct limits *limits, struct export **ret);
/* NULL is fine. */
void export_free(struct export *e);

/* Makes export_write due, since the file may lack a change. To be called after each commit, and
 * once after the limits were opened. */
void export_note_change(struct export *e);
/* When export_write should be called (CLOCK_MONOTONIC, ms). INT64_MAX: the file lacks nothing. */
int64_t export_due(const struct export *e);
/* Replaces the file, unless it has the same limits already. With 1,000,000 limits, this takes a
 * second. If the write fails, berthd logs that, and export_write becomes due again. */
void export_write(struct export *e);

/* The path of the newest export in the directory; the caller frees it. NULL: there is no export, or
 * no memory. */
char *export_newest(const char *state_dir);

/* Checks the last line of an export. NULL: the line is right. Otherwise returns a sentence that
 * says what is wrong. *ret_line: the line's number. *ret_count: how many limits the line states. */
const char *export_objection(const char *text, size_t length, size_t *ret_line, size_t *ret_count);
