/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Has a process of its own read the store's files with LMDB before berthd does. LMDB trusts the pages
 * that it reads, so a damaged file may make it crash or loop: then that process ends, and berthd learns
 * at which entry.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lmdb.h"

struct check {
	pid_t pid; /* 0: none, or it has been waited for */
	int fd;    /* of the pipe with the reports; -1: none, as before check_begin */
};

struct check_report {
	int error; /* 0: sound; -EUCLEAN: damaged; else why it can't be told */
	size_t entries;
	char text[4 * LMDB_KEY_MAX + 200]; /* where the damage is, and what; for a message */
};

/* Starts the process, which checks the environments one after the other (lmdb_verify and
 * lmdb_try_changes). None may be open. The caller
 * must be the only thread of its process. -EAGAIN: the system allows no further process. */
int check_begin(struct check *c, const struct lmdb *const *all, size_t count);

/* Waits for the next report. For each environment there are two: whether it can be read, then whether it
 * can be changed. If the process died, all further reports have an error that says so. Any thread may
 * call it. */
void check_next(struct check *c, struct check_report *ret);

/* Ends the process, if it runs, and waits for it. Calls after the first, or without a process, do
 * nothing. */
void check_end(struct check *c);
