/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Scripts: schedules written by hand, for faults that random runs are slow to find. A script stops
 * one party in the middle of an operation, and perhaps a second one, while others do what the fault
 * needs. It is played again and again, with the parties stopped at each of their looks at cells and
 * records, and in front of each of their writes, in turn.
 */

#include "parties.h"

/* Plays the scripts whose names begin with `name`; NULL: all. A second party is stopped at every
 * stride-th place only; stride is odd. False: a script found a fault, which was printed. */
bool scripts_run(const char *name, uint32_t stride);

/* -- for cases.c ------------------------------------------------------------------------------- */

/* How a script is played, and where it stops its parties. */
struct stops {
	int64_t at[2];     /* the places at which the first and the second party are stopped */
	uint32_t begun;    /* parties that were begun */
	bool ended[2];     /* the party ended before it came to its place */
	bool every_access; /* places are accesses, not only looks at cells and records, and writes */
	bool warm;         /* the first party has used its account lately */
	uint32_t kept_records; /* the most that a thread keeps to itself */
};

/* Each is played with two processes of two threads, and accounts of one and of two levels, all with
 * a limit of 3. */
struct script {
	const char *name;
	void (*play)(struct stops *s);
	uint32_t stops; /* parties that it stops: 0, 1 or 2 */
	bool every_access;
};

/* Begins a run with these processes and accounts. */
void script_prepare(uint32_t kept_records);

extern const struct script scripts[];
extern const size_t scripts_end;

/* What a party is to do. p: its process; NULL: the party is berthd. */
typedef void (*task)(struct process *p, uint32_t name);

/* Begins a party's task and stops it at its place, the first party of the script at at[0], the
 * second one at at[1]. */
struct coroutine *begin_and_stop(
	struct stops *s, uint32_t process, uint32_t thread, task do_it, uint32_t name);
/* Runs it to its end. berthd answers what it asks. */
void finish(struct coroutine *c);
/* Does a whole task. */
void perform(uint32_t process, uint32_t thread, task do_it, uint32_t name);

/* The accounts of truth.c, by number. */
enum { A, B, P, Q, P_X, Q_X, P_Y, Q_X_Z, P_X_Z, MANY = NAMES - 1 };
