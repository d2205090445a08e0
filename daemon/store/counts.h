/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Keeps the store's counts in an LMDB environment that is quick and disposable. Part of the store
 * (store.h). Only one thread at a time may use it.
 */

#include <stddef.h>
#include <stdint.h>

#include "lmdb.h"
#include "store-types.h"

struct counts;

/* Opens nothing yet. The only error is -ENOMEM. */
int counts_new(const char *dir, struct counts **ret);

/* The environment, for check.h. */
struct lmdb *counts_lmdb(struct counts *c);

/* To be called once, before all functions below. Opens the counts if the check (check_error,
 * check_text) found them sound, and no reboot has left them unsynced. Otherwise begins them afresh.
 * The service doesn't depend on the counts: if they can't be opened, berthd logs that and tries
 * again at the next write. */
void counts_begin(struct counts *c, int check_error, const char *check_text);
/* Syncs and closes. NULL is fine. */
void counts_free(struct counts *c);

/* Sorts counts by name and writes them in one transaction. -EUCLEAN: they are written, but what was
 * stored before is lost. */
int counts_write(struct counts *c, struct store_count *counts, size_t count, const char *names);
/* Reads the next counts, at most `most` of them, in the order of their names. 1: there are more.
 * -EUCLEAN: the counts are damaged, and will be begun afresh; other errors: try again. */
int counts_read(struct counts *c, size_t most, store_each_count each, void *data);

/* Makes the counts durable: until the next write, they outlive a power failure. */
int counts_sync(struct counts *c);
/* When counts_sync should be called (CLOCK_MONOTONIC, ms). INT64_MAX: nothing is unsynced. */
int64_t counts_sync_due(const struct counts *c);
