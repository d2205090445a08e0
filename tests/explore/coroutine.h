/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Coroutines: functions with a stack of their own that can be paused anywhere and resumed later,
 * all in one thread.
 *
 * The scheduler (schedule.c, scripts.c) resumes a coroutine, which runs until it pauses. To kill a
 * coroutine, the scheduler just doesn't resume it any more. A coroutine also remembers which
 * version of each shared word it has read last.
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
	uint64_t sleeps_until; /* stalled until all parties have done that many operations */
	uint64_t began;        /* the number of the access with which its operation began */
	bool (*ready)(void *); /* resumed once ready(ready_data) is true; NULL: at any time */
	void *ready_data;
	void *thread_self;    /* libberth's thread-local variable of that name (thread.h) */
	void *specific;       /* the pointer of pthread_setspecific() */
	uint32_t seen[WORDS]; /* the version of each shared word when it was loaded last */
};

/* Starts the coroutine at the beginning of `body`, whatever it was doing before. If `thread_self`
 * is NULL, libberth takes the coroutine for a new thread, else for the same thread as before. */
void coroutine_start(struct coroutine *c, void (*body)(struct coroutine *c));

/* Before each run: makes the scheduler a thread that libberth doesn't know. */
void coroutines_prepare(void);

/* Called by the scheduler: runs the coroutine until it pauses. */
void coroutine_resume(struct coroutine *c);

/* Called by a coroutine: returns to the scheduler. */
void coroutine_pause(void);

/* Called by a coroutine: pauses at least once, until ready(data) is true. */
void coroutine_await(bool (*ready)(void *), void *data);

/* The coroutine that runs; NULL: the scheduler runs. */
extern struct coroutine *running;
