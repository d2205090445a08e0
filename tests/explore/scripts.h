/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Schedules written by hand, for faults that chance is slow to find: one party is stopped at its n-th
 * access, for every n, and perhaps another at its m-th, while the others do what the fault needs.
 */

#include "parties.h"

/* Runs the scripts whose names begin so; NULL: all. A second party is stopped at one place in `stride`,
 * an odd number. False: one of them found a fault, and said so. */
bool scripts_run(const char *name, uint32_t stride);

/* -- for cases.c ---------------------------------------------------------------------------------- */

/* Where a script stops its parties. `ended` is set where a party got to its end before it was to be
 * stopped. */
struct stops {
	int64_t at[2];
	bool ended[2];
	bool every_access;
	bool warm;
	uint32_t kept; /* records that a thread keeps at most */
};

struct script {
	const char *name;
	void (*play)(struct stops *s);
	uint32_t stops; /* of parties: 0, 1 or 2 */
	bool every_access; /* is where they are stopped, not only looks at cells and records, and writes */
};

extern const struct script scripts[];
extern const size_t scripts_end;

/* What a party does; for berthd p is NULL. */
typedef void (*task)(struct process *p, uint32_t name);

/* Has a party begin something, and stops it at the place that the script is to stop it at. */
struct coroutine *begin_and_stop(
	struct stops *s, int which, uint32_t process, uint32_t thread, task do_it, uint32_t name);
/* Before: in half of the plays the party has used the account lately. */
void warm_up(const struct stops *s, uint32_t process, uint32_t thread, uint32_t name);
/* Goes on with it to its end; berthd answers what is asked meanwhile. */
void finish(struct coroutine *c);
/* Both. */
void perform(uint32_t process, uint32_t thread, task do_it, uint32_t name);

/* Tasks. An acquire's slot is what the same thread's next release releases. */
void task_acquire(struct process *p, uint32_t name);
void task_release(struct process *p, uint32_t name);
/* The slot that the process's thread of that number took. */
void task_release_other(struct process *p, uint32_t thread);
void task_pair(struct process *p, uint32_t name);
/* The thread ends; the next task is that of a new one. */
void task_end(struct process *p, uint32_t unused);
void task_close(struct process *p, uint32_t unused);
/* True if the thread's latest acquire was admitted. */
bool task_held(uint32_t process, uint32_t thread);
/* Keeps all records of the first range but so many. */
void task_occupy(struct process *p, uint32_t free);
/* So many pairs that a record goes far. */
void task_go_far(struct process *p, uint32_t name);
/* berthd's. */
void task_start(struct process *p, uint32_t unused);
void task_close_records(struct process *p, uint32_t process);
void task_serve(struct process *p, uint32_t unused);
void task_revoke(struct process *p, uint32_t unused); /* what stands on anything but MANY */
void task_remove(struct process *p, uint32_t name);
void task_create(struct process *p, uint32_t name);
void task_fill(struct process *p, uint32_t name);  /* limit 1 */
void task_raise(struct process *p, uint32_t name); /* limit 3 */

/* The names of truth.c. */
enum { A, B, P, Q, P_X, Q_X, P_Y, Q_X_Z, P_X_Z, MANY = NAMES - 1 };
