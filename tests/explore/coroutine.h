/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A coroutine is a function with a stack of its own. It can be paused anywhere and resumed later.
 * All coroutines run in one thread.
 *
 * The scheduler (schedule.c, scripts.c) resumes a coroutine, which runs until it pauses. To kill a
 * coroutine, the scheduler just doesn't resume it any more. A coroutine also remembers, for each
 * word of cells and records (world.h), the version of the word (hooks.h) when the coroutine last
 * loaded or wrote it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "world.h"

#define STACK_SIZE (64u * 1024)

struct coroutine {
	void *stack_pointer;
	char *stack;
	void (*body)(struct coroutine *c);
	char name[8];          /* in traces: the letter of the process, the number of the thread */
	uint32_t process;      /* DAEMON: berthd */
	uint32_t thread;       /* the number in its process */
	bool alive;            /* may be resumed */
	bool parked;           /* has done all that it had to do */
	uint64_t sleeps_until; /* stalled until `operations` (parties.h) is that large */
	uint64_t began;        /* the number of accesses when its present operation began */
	bool (*ready)(void *); /* what it waits for, see coroutine_await(); NULL: nothing */
	void *ready_data;
	void *thread_self;    /* its value of libberth's variable thread_self (thread.h) */
	void *specific;       /* the pointer that it gave to pthread_setspecific() */
	uint32_t seen[WORDS]; /* the version of each word when this coroutine last used it */
};

/* Starts the coroutine at the beginning of `body`, whatever it was doing before. If c->thread_self
 * is NULL, libberth takes the coroutine for a new thread, else for the same thread as before. */
void coroutine_start(struct coroutine *c, void (*body)(struct coroutine *c));

/* Called before each run. Afterwards libberth takes the scheduler for a new thread, in which it has
 * stored nothing yet. */
void coroutines_prepare(void);

/* Called by the scheduler: runs the coroutine until it pauses. */
void coroutine_resume(struct coroutine *c);

/* Called by a coroutine: returns to the scheduler. */
void coroutine_pause(void);

/* Called by a coroutine: pauses. In random runs the coroutine is resumed only when ready(data) is
 * true. A script may resume it earlier. */
void coroutine_await(bool (*ready)(void *), void *data);

/* The coroutine that runs; NULL: the scheduler runs. */
extern struct coroutine *running;
