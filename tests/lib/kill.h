/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the tests that kill at every point look at behind all processes' backs: the segment, the
 * directory, the store's files; and requests to admin.sock that don't wait for their replies.
 */

#include <stdbool.h>
#include <stdint.h>

#include "map.h"

/* The two shared files, opened by their paths as only their owner can; NULL if that fails. */
struct map *kill_map(const char *runtime_dir);

/* Records that are SEIZED, or on the way down: what a berthd that starts finishes before it serves. */
uint32_t kill_unfinished(struct map *m);

/* Sessions that the segment knows of, of a process (0: of any). */
uint32_t kill_sessions(struct map *m, pid_t pid);

/* Ranges whose owner is a session that there isn't. */
uint32_t kill_stray_ranges(struct map *m);

uint32_t kill_count(struct map *m, const char *account);

#define KILL_ABSENT (-1)
#define KILL_FAILED (-2)
/* The limit in force of an account that is configured, or KILL_ABSENT; BERTH_LIMIT_NONE as it is. */
int64_t kill_limit_in_force(struct map *m, const char *account);
/* What a table of the store ("limits" or "counts") begins with under a name: the limit, the count. */
int64_t kill_stored(const char *state_dir, const char *table, const char *name);

/* In the middle of what an owner, or a daemon, is killed. */
enum kill_halfway {
	KILL_NOTHING,
	KILL_CHARGE,  /* one level up, which isn't noted */
	KILL_RELEASE, /* one level down, which isn't noted */
	KILL_REVOKE,  /* likewise, of a revocation of a slot that was held */
	KILL_SEIZED,  /* with a slot, before V2 */
	KILL_AMID_V2, /* one level down, which isn't noted */
};

/* Leaves one of the process's free records so, on the account and its parent, with a weight of 2.
 * False: it has no free record. */
bool kill_leave_halfway(struct map *m, pid_t pid, const char *account, enum kill_halfway halfway);

/* -- admin.sock: requests are sent, replies are looked for later --------------------------------- */

int kill_connect(const char *runtime_dir);
void kill_send_set(int fd, const char *name, uint32_t limit);
void kill_send_delete(int fd, const char *name);
void kill_send_revoke(int fd, const char *account, pid_t pid);

struct kill_line {
	const char *name;
	uint32_t limit;
};
/* BEGIN, LINES and COMMIT at once; three replies. */
void kill_send_import(int fd, const struct kill_line *lines, uint32_t count);

/* How many replies have come, and (ret_code) the first code that isn't 0; takes them. */
uint32_t kill_replies(int fd, uint32_t *ret_code);

/* Waits for so many replies; the first code that isn't 0. */
uint32_t kill_replies_wait(int fd, uint32_t count);
