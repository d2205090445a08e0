/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Has a child process read the store's files with LMDB before berthd does. LMDB trusts the pages
 * that it reads, so it may crash or loop in a damaged file. Then only the child ends, and berthd
 * learns which part of the file is damaged.
 */

#include <sys/types.h>

#include "lmdb.h"

struct check {
	pid_t pid; /* 0: none */
	int fd;    /* the reports come from this pipe; before check_begin the caller sets -1 */
};

struct check_report {
	int error; /* 0: sound; -EUCLEAN: damaged; -ECHILD: the child was killed; else unreadable */
	size_t entries;
	char text[4 * BERTH_NAME_MAX + 100]; /* where the damage is, for a message */
};

/* Starts the child, which checks one environment after the other. No environment may be open. The
 * caller must be the only thread of its process. -EAGAIN: the system allows no further process. */
int check_begin(struct check *c, const struct lmdb *const *all, size_t count);

/* Waits for the report on the next environment. Any thread may call it. If the child has died, all
 * further reports have an error. */
void check_next(struct check *c, struct check_report *ret);

/* Ends the child, if there is one, and waits for it. May be called again. */
void check_end(struct check *c);
