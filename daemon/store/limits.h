/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Keeps the store's limits in an LMDB environment that is durable, and never begun afresh. Part of
 * the store (store.h). Only one thread at a time may use it.
 */

#include <stddef.h>
#include <stdint.h>

#include "lmdb.h"
#include "store-types.h"

struct limits;

struct limit_change {
	const char *name;
	uint32_t limit; /* STORE_DELETE: delete it */
	uint32_t order; /* of two changes of a name, the one with the larger order counts */
};

/* Opens nothing yet. The only error is -ENOMEM. */
int limits_new(const char *dir, struct limits **ret);
/* NULL is fine. */
void limits_free(struct limits *l);

/* Makes directory and file, if they aren't there. On failure logs why. */
int limits_make(struct limits *l);
/* On failure logs why. */
int limits_open(struct limits *l);

/* The environment, for check.h. */
struct lmdb *limits_lmdb(struct limits *l);

/* Calls `each` for all limits, in the order of their names' bytes. If `each` returns a negative
 * value, limits_read stops and returns that value. */
int limits_read(struct limits *l, store_each_limit each, void *data);

/* Sorts the changes by name and commits them in one synced transaction: all or none.
 * -ENOTRECOVERABLE: the disk failed during the commit, so the changes may or may not be there after
 * a restart. Then the environment is closed, and each later call first tries to open and sync it.
 * -ESTALE: that failed, so nothing was written. */
int limits_write(struct limits *l, struct limit_change *changes, size_t count);

/* When limits_reopen should be called (CLOCK_MONOTONIC, ms). INT64_MAX: the environment needn't be
 * opened again. */
int64_t limits_reopen_due(const struct limits *l);
int limits_reopen(struct limits *l);
/* The error that keeps the environment closed; 0: none. Any thread may call this function. */
int limits_reopen_error(const struct limits *l);

/* Logs the outcome of a change, unless the change before had the same outcome. */
void limits_log(struct limits *l, int error);
