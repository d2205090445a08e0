/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A contest has rounds. In each round every contender runs once, for a time slice of 20 ms, in
 * which it does batches of operations. So a busy machine, or a change of its frequency, slows all
 * contenders down alike. The first round isn't counted.
 */

#include "peer.h"
#include "report.h"

#define PROCESSES_MAX 8

struct contender {
	const char *name;
	struct peer *peer;  /* NULL: it needs no peer. It doesn't run if peer->missing is set */
	unsigned processes; /* 0 means 1 */
	unsigned object;    /* the first argument of the functions below */
	bool threads;       /* there are `processes` threads of one process instead */
	bool apart;         /* process k works on object + k */
	bool timed;         /* each operation is timed by itself */
	unsigned batch;     /* the most operations in a batch; 0 means BATCH_MAX */
	void (*open)(unsigned object); /* called in each process, after peer->open; may be NULL */
	/* Called before each batch of n operations, untimed; may be NULL. */
	void (*prepare)(unsigned object, unsigned long n);
	/* Does n operations. */
	void (*run)(unsigned object, unsigned long n);

	/* Results, one figure a round: */
	struct series ns;      /* the time of an operation, as one of the processes sees it */
	struct series rate;    /* millions of operations a second, of all processes together */
	struct series percent; /* speed of the slowest process, in percent of the mean speed */
	struct series p99, p999, longest; /* in ns, if timed; 20 to 30 are for the clock */
};

#define BATCH_MAX 1024

/* Makes a contender of a peer (objects: peer.h). If `object` is OBJECT_FREE, the processes share
 * this object. If it is OBJECT_FULL, they are denied a slot. If it is OBJECT_OWN, each process uses
 * an object of its own. */
struct contender contender_of(struct peer *p, unsigned processes, unsigned object);
/* Runs a contest of `count` contenders, and stores the results in them. */
void contest(struct contender *c, unsigned count, unsigned rounds);
/* Adds a row for each contender, with its name and its object: "berth, of 1,000". Contenders of one
 * name are compared with the first of them, which the rows call `first`: "of 10". */
void contest_rows(struct work *w, const struct contender *c, unsigned count, const char *first);
