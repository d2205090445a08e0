/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The store: limits and templates, and counts as last checkpointed, in LMDB. Only database.c and
 * database-check.c use LMDB, and only the worker thread of store.c waits for a disk.
 *
 * Two environments in the state directory:
 *   limits/   name → limit. Every commit is synced before its job is done.
 *   counts/   name → count, peak, denied. MDB_NOSYNC: disposable; synced now and then, and at the
 *             end; made anew if a reboot left it damaged.
 *
 * Jobs are done in the order in which they were handed over; several limit jobs that wait together
 * share one commit. A job is the store's until its done() is called, which happens in
 * store_dispatch, in the event loop's thread, in the order handed over.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

/* One limit to be put or taken away. Names are those of accounts or templates. */
struct store_limit {
	const char *name; /* NUL-terminated; borrowed until done() */
	uint32_t limit;   /* BERTH_LIMIT_NONE: unlimited; STORE_DELETE: take it away */
};
#define STORE_DELETE UINT32_MAX

/* What a checkpoint writes of one account. */
struct store_count {
	uint32_t count;
	uint32_t peak;
	uint64_t denied;
	uint64_t name_offset; /* into the job's names */
};

typedef void (*store_done)(void *data, int error); /* 0, or a negative errno: nothing was stored */
typedef int (*store_each_limit)(void *data, const char *name, uint32_t limit);
typedef int (*store_each_count)(
	void *data, const char *name, uint32_t count, uint32_t peak, uint64_t denied);

/* Makes what isn't there (0700), and starts the worker, which reads the files through and opens them.
 * -EBUSY: another store has them open; else as errno says. */
int store_begin(const char *state_dir, struct store **ret);

/* Waits until the limits can be read; before anything else is asked of the store. -EUCLEAN: they are
 * damaged (says so in the log, and leaves them alone); -EPROTONOSUPPORT: written by a later berthd. */
int store_wait(struct store *s);

/* Does the jobs that are waiting, syncs both environments, stops the worker; done() is called for
 * all of them. NULL is fine. */
void store_free(struct store *s);

/* Both, for whoever has nothing else to do meanwhile. */
static inline int store_new(const char *state_dir, struct store **ret) {
	struct store *s;
	int r = store_begin(state_dir, &s);

	if (r < 0)
		return r;
	r = store_wait(s);
	if (r < 0)
		store_free(s);
	else
		*ret = s;
	return r;
}

/* Readable when store_dispatch has something to do. Owned by the store. */
int store_fd(const struct store *s);
void store_dispatch(struct store *s);

/* Puts and takes away limits in one synced transaction: all or none. -ENOMEM: not handed over. */
int store_put_limits(struct store *s, const struct store_limit *limits, size_t count,
	store_done done, void *data);

/* Writes counts; `counts` and `names` (NUL-terminated, one after another) are freed with free()
 * when done, also when it fails or can't be handed over. An account all of whose numbers are 0 is
 * taken out. -EUCLEAN: these are written, but all others are lost. */
int store_put_counts(struct store *s, struct store_count *counts, size_t count, char *names,
	store_done done, void *data);

/* True if a change was refused and the disk wouldn't take back what it had of it already: then the
 * next start may find it. */
static inline bool store_is_open(int error) {
	return error == -ENOTRECOVERABLE;
}
#define STORE_OPEN                                                                                \
	"nor be sure that the next start of berthd doesn't find it: make room on that disk, and " \
	"make the change again"

/* Before the first job only: how many limits and templates there are; then all of them, in the order
 * of their bytes. Reading stops at a negative return of each and returns it. */
uint32_t store_count_limits(struct store *s);
int store_read_limits(struct store *s, store_each_limit each, void *data);

/* The next counts, as many at most; 1: there are more. Each call goes on after the name that each took
 * last; what jobs have changed since is read as changed. May wait for the worker. -EUCLEAN: they were
 * damaged, and are begun afresh with the next job; other errors: try again. */
int store_read_counts(struct store *s, size_t most, store_each_count each, void *data);

/* Ends the reading: lets go of what so many took in memory. */
void store_read_done(struct store *s);
