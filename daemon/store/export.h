/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The export: all limits and templates as text, beside the store, for the day on which the store is
 * damaged. Part of the store (store.h). One thread at a time.
 *
 * A file of the format of import-format.h. Its last line is a comment with the number of limits and
 * a checksum of all lines before it.
 */

#include <stddef.h>
#include <stdint.h>

#include "limits.h"

#define EXPORT_NAME     "limits.export"
#define EXPORT_PREVIOUS "limits.export.1"

struct export;

/* Does nothing yet. The only error is -ENOMEM. `limits` is borrowed. */
int export_new(const char *state_dir, struct limits *limits, struct export **ret);
/* NULL is fine. */
void export_free(struct export *e);

/* The file may lack a change, so export_write becomes due: to be called after each commit, and once
 * after the limits were opened. */
void export_note_change(struct export *e);
/* CLOCK_MONOTONIC in ms when export_write should be called; INT64_MAX: the file lacks nothing. */
int64_t export_due(const struct export *e);
/* Replaces the file, unless it is of the same limits. With 1,000,000 limits, this takes a second.
 * If it fails, it logs that and becomes due again. */
void export_write(struct export *e);

/* The path of the newest export in the directory; to be freed. NULL: there is none, or no
 * memory. */
char *export_newest(const char *state_dir);

/* Checks the last line of an export. NULL: it is right; else what is wrong, with the number of that
 * line. *ret_count: how many limits it says there are. */
const char *export_objection(const char *text, size_t length, size_t *ret_line, size_t *ret_count);
