/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Functions for the tests that kill a process at every point. They read the segment, the directory
 * and the store's files without the library, and send requests to admin.sock without waiting for
 * the replies. layout.h defines the states of records, such as SEIZED.
 */

#include <stdbool.h>
#include <stdint.h>

#include "map.h"

/* Maps the segment writable and the directory read-only. Opens the files of both for writing, which
 * only their owner may do. Returns NULL if this fails. */
struct map *kill_map(const char *runtime_dir);

/* The number of records that are SEIZED, or of which a release or revocation has begun but not
 * ended. A new berthd finishes the operations of such records before it serves clients. */
uint32_t kill_unfinished(struct map *m);

/* The number of sessions that the process has in the segment. If `pid` is 0, the number of sessions
 * of all processes. */
uint32_t kill_sessions(struct map *m, pid_t pid);

/* The number of ranges whose owner is a session that doesn't exist. */
uint32_t kill_stray_ranges(struct map *m);

uint32_t kill_count(struct map *m, const char *account);

#define KILL_ABSENT (-1)
#define KILL_FAILED (-2)
/* Returns KILL_ABSENT if the account isn't configured. If it is, returns its limit in force, which
 * may be BERTH_LIMIT_NONE. */
int64_t kill_limit_in_force(struct map *m, const char *account);
/* If `table` is "limits", returns the limit that the store has for a name; if it is "counts", the
 * count. Returns KILL_ABSENT if the table lacks the name, KILL_FAILED if the store can't be
 * read. */
int64_t kill_stored(const char *state_dir, const char *table, const char *name);

/* How a killed process leaves a record. The record's `noted` (layout.h) doesn't have the seq of the
 * last step. The top of counter.c explains the steps V1 and V2. */
enum kill_halfway {
	KILL_NOTHING, /* no record is left halfway */
	KILL_CHARGE,  /* in an acquire: one of two levels is charged */
	KILL_RELEASE, /* in a release: one of two levels is discharged */
	KILL_REVOKE,  /* in a revocation of a held slot: one of two levels is discharged */
	KILL_SEIZED,  /* between V1 and V2: two levels are charged */
	KILL_AMID_V2, /* in V2: one of two levels is discharged */
};

/* Places a free record of the process at the account, with weight 2, and leaves the record as
 * `halfway` says. The account must have a parent. False if the process has no free record. */
bool kill_leave_halfway(struct map *m, pid_t pid, const char *account, enum kill_halfway halfway);

/* -- requests to admin.sock -------------------------------------------------------------------- */

int kill_connect(const char *runtime_dir);
void kill_send_set(int fd, const char *name, uint32_t limit);
void kill_send_delete(int fd, const char *name);
void kill_send_revoke(int fd, const char *account, pid_t pid);

struct kill_line {
	const char *name;
	uint32_t limit;
};
/* Sends BEGIN, LINES and COMMIT, which get three replies. */
void kill_send_import(int fd, const struct kill_line *lines, uint32_t count);

/* Receives the replies that have arrived, and returns their number. If a reply has a code that
 * isn't 0, sets *ret_code to the first such code. If all codes are 0, sets *ret_code to 0. */
uint32_t kill_replies(int fd, uint32_t *ret_code);

/* Waits for `count` replies. Returns UINT32_MAX if fewer arrive, 0 if all codes are 0, and
 * otherwise the first code that isn't 0. */
uint32_t kill_replies_wait(int fd, uint32_t count);
