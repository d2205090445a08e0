/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The store's environment of counts: quick, and disposable. Part of the store (store.h). One thread
 * at a time.
 */

#include <stddef.h>
#include <stdint.h>

#include "store.h"

struct counts;

/* Opens nothing yet. The only error is -ENOMEM. */
int counts_new(const char *state_dir, struct counts **ret);
/* Before the first write: checks and opens what a clean stop, or a death of berthd since this boot,
 * left behind, and else begins afresh. The service doesn't depend on it: if it can't be opened, that
 * is logged, and tried again at the next write. Once only. */
void counts_begin(struct counts *c);
/* Syncs and closes. NULL is fine. */
void counts_free(struct counts *c);

/* Sorts counts by name and writes them in one transaction. -EUCLEAN: they are written, but what was
 * stored before is lost. */
int counts_write(struct counts *c, struct store_count *counts, size_t count, const char *names);
/* The next ones, in the order of their names. 1: there are more. -EUCLEAN: they are damaged, and there
 * are none any more; other errors: try again. */
int counts_read(struct counts *c, size_t most, store_each_count each, void *data);

/* Lets go of the memory that writing took; what is written later opens it again. */
void counts_rest(struct counts *c);

/* Makes what was written durable, after which it outlives a power failure until the next write. */
int counts_sync(struct counts *c);
/* CLOCK_MONOTONIC in ms when counts_sync should be called; INT64_MAX: nothing to sync. */
int64_t counts_sync_due(const struct counts *c);
