/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The export: all limits and templates as text, beside the store, for the day on which the store is
 * damaged. Part of the store (store.h). One thread at a time.
 *
 * A file of the format of lines.h. Its last line is a comment with the number of limits and a checksum
 * of all lines before it.
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

/* The limits are open: has the file compared with them, and written if it isn't of them. */
void export_begin(struct export *e);
/* A change was committed. */
void export_note_change(struct export *e);

/* CLOCK_MONOTONIC in ms when export_step should be called; INT64_MAX: there is nothing to do. */
int64_t export_due(const struct export *e);
/* Does a piece of the work: a few milliseconds. */
void export_step(struct export *e);
/* At a stop: writes the file if it lacks a change. */
void export_finish(struct export *e);

/* The path of the newest export in the directory; to be freed. NULL: there is none, or no memory. */
char *export_newest(const char *state_dir);

/* Checks the last line of an export. NULL: it is right; else what is wrong, with the number of that
 * line. *ret_count: how many limits it says there are. */
const char *export_objection(const char *text, size_t length, size_t *ret_line, size_t *ret_count);
