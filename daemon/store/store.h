/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The store: limits and templates, and counts as of the last checkpoint, in LMDB. Once berthd
 * serves, only the worker thread of store.c waits for a disk.
 *
 * In the state directory (database-format.h has the format of the two databases):
 *   limits/          name → limit, an LMDB environment. Every commit is synced before its job is
 *                    done.
 *   limits.export    the same as text, some seconds old (export.h); limits.export.1: the export
 *                    before it.
 *   counts/          name → count, peak, denied, an LMDB environment with MDB_NOSYNC. It is synced
 *                    now and then, and when the store is closed. If it is damaged, or wasn't
 *                    synced before a reboot, it is begun afresh.
 *
 * Jobs are done in the order in which they were handed over; several limit jobs that wait together
 * share one commit. A job belongs to the store until its done() is called. store_dispatch calls
 * done() in the event loop's thread, in the order in which the jobs were handed over.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store-types.h"

struct store;

/* error: 0, or a negative errno. After an error nothing is stored, unless store_is_unsure(error),
 * or a job of counts got -EUCLEAN. */
typedef void (*store_done)(void *data, int error);

/* Makes the directories and files that aren't there, and starts the child that checks them. The
 * caller must be the only thread of its process. On failure the log says why. */
int store_begin(const char *state_dir, struct store **ret);

/* Waits until the check of the limits ends, and opens them if they are sound. Then
 * store_read_limits may be called. -EUCLEAN: the limits are damaged, and left alone;
 * -EPROTONOSUPPORT: a later berthd wrote them. On failure the log says why. */
int store_wait(struct store *s);

/* Starts the worker. store_count_limits and store_read_limits may be called only before this,
 * store_free before or after, the other functions below only after. On failure the log says why. */
int store_start(struct store *s);

/* Does the jobs that are waiting, writes the export if it lacks a change, syncs both environments,
 * and stops the worker; done() is called for all jobs. NULL is fine. */
void store_free(struct store *s);

/* A descriptor of the store that is readable when store_dispatch has something to do. */
int store_fd(const struct store *s);
void store_dispatch(struct store *s);

/* Stores and deletes limits in one synced transaction: all or none. -ENOMEM: the job wasn't handed
 * over. */
int store_put_limits(struct store *s, const struct store_limit *limits, size_t count,
	store_done done, void *data);

/* Writes counts; `counts` and `names` (NUL-terminated, one after another) are freed with free()
 * when the job is done, also when it fails or can't be handed over. If all numbers of an account
 * are 0, the account is deleted from the store. -EUCLEAN: these counts are written, but all others
 * are lost. */
int store_put_counts(struct store *s, struct store_count *counts, size_t count, char *names,
	store_done done, void *data);

/* True if the disk failed during the commit: the change isn't in force, but may be there after a
 * restart. All further changes fail with -ESTALE until the limits can be opened again. */
bool store_is_unsure(int error);
#define STORE_UNSURE "the change may or may not be there after a restart of berthd"

/* Writes to `to` why a change failed, for a reply. Returns `to`. */
const char *store_explain(const struct store *s, int error, char *to, size_t size);

/* store_count_limits returns how many limits and templates there were at the start.
 * store_read_limits calls `each` for all of them, in the order of their names' bytes. If `each`
 * returns a negative value, store_read_limits stops and returns that value. */
uint32_t store_count_limits(const struct store *s);
int store_read_limits(struct store *s, store_each_limit each, void *data);

/* Reads the next counts, at most `most` of them; 1: there are more. A call begins after the last
 * name for which `each` succeeded in the call before. If jobs have changed counts since then, the
 * new values are read. May wait for the worker. -EUCLEAN: the counts were damaged, and are begun
 * afresh with the next job; other errors: try again. */
int store_read_counts(struct store *s, size_t most, store_each_count each, void *data);
