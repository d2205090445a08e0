/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Contests: each round has every contender run once, in turn, for 20 ms. A machine that is busy or
 * changes its frequency does so to all of them. The first round warms up, and isn't counted.
 */

#include "peer.h"
#include "series.h"

#define PROCESSES_MAX 8

struct contender {
	const char *name;
	struct peer *peer;             /* opened in each process; not measured if it is missing */
	unsigned processes;            /* 0 is 1 */
	unsigned object;               /* what it works on */
	bool threads;                  /* of one process, in place of processes */
	bool apart;                    /* process k on object + k */
	bool timed;                    /* each operation by itself */
	unsigned batch;                /* operations in a batch at most; 0 is BATCH_MAX */
	void (*open)(unsigned object); /* in each process, after the peer's; or NULL */
	/* Before each batch of operations, untimed; or NULL. */
	void (*prepare)(unsigned object, unsigned long n);
	void (*run)(unsigned object, unsigned long n);

	/* Of each round: */
	struct series ns;                 /* of an operation, in each of the processes */
	struct series rate;               /* operations a second, of all together */
	struct series share;              /* of the slowest process: 1 if all were as fast */
	struct series p99, p999, longest; /* in ns, if timed; the clock's 20 to 30 included */
};

#define BATCH_MAX 1024

void contest(struct contender *c, unsigned count, unsigned rounds);
