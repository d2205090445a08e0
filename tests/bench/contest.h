/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Contests. In each round every contender runs once, for a time slice of 20 ms. So a machine that
 * is busy, or changes its frequency, slows all contenders down alike. The first round warms up and
 * isn't counted.
 */

#include "peer.h"
#include "report.h"

#define PROCESSES_MAX 8

struct contender {
	const char *name;
	struct peer *peer;  /* opened in each process; the contender is left out if it is missing */
	unsigned processes; /* 0 is 1 */
	unsigned object;    /* the argument of the functions below */
	bool threads;       /* `processes` threads of one process, instead of processes */
	bool apart;         /* process k works on object + k */
	bool timed;         /* each operation is timed by itself */
	unsigned batch;     /* the most operations in a batch; 0 is BATCH_MAX */
	void (*open)(unsigned object); /* in each process, after the peer's open; or NULL */
	/* Called before each batch of n operations, untimed; or NULL. */
	void (*prepare)(unsigned object, unsigned long n);
	/* Does n operations. */
	void (*run)(unsigned object, unsigned long n);

	/* Results, one figure a round: */
	struct series ns;      /* of an operation, in each of the processes */
	struct series rate;    /* millions of operations a second, of all processes together */
	struct series percent; /* speed of the slowest process; 100 is the mean of all */
	struct series p99, p999, longest; /* in ns, if timed; 20 to 30 of them are the clock's */
};

#define BATCH_MAX 1024

/* A peer as contender. Its processes share OBJECT_FREE, are denied by OBJECT_FULL, or each have an
 * object of their own, from OBJECT_OWN on. */
struct contender contender_of(struct peer *p, unsigned processes, unsigned object);
void contest(struct contender *c, unsigned count, unsigned rounds);
/* Adds a row for each contender, "berth, of 1,000", by its name and its object. Contenders of one
 * name are compared with the first of them, which is called `first`: "of 10". */
void contest_rows(struct work *w, const struct contender *c, unsigned count, const char *first);
