/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Coroutines: functions that are left in the middle and gone on with later, all of them in one thread.
 *
 * The scheduler (schedule.c, scripts.c) resumes one, which runs until it pauses; a coroutine that isn't
 * resumed any more is abandoned, as a process that is killed. What each of them has seen of the shared
 * words is kept here, too, since it goes with the coroutine.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "world.h"

#define STACK_SIZE (64u * 1024)

struct coroutine {
	void *stack_pointer;
	char *stack;
	void (*body)(struct coroutine *c);
	char name[8];          /* in traces: the process's letter and the thread's number */
	uint32_t process;      /* DAEMON: the daemon's */
	uint32_t thread;       /* in its process */
	bool alive;            /* may be resumed */
	bool parked;           /* has done what it had to */
	uint64_t sleeps_until; /* stalled until so many whole operations are done by all */
	uint64_t began;        /* the number of the access with which its operation began */
	bool (*ready)(void *); /* NULL: needs nothing before it goes on */
	void *ready_data;
	void *block;          /* libberth's pointer in thread-local storage (cache.h) */
	void *specific;       /* that of pthread_setspecific() */
	uint32_t seen[WORDS]; /* the version of each shared word when it was loaded last */
};

/* Begins anew, whatever it was doing; as the thread that it was, but for libberth a new one if `block` is
 * NULL. */
void coroutine_start(struct coroutine *c, void (*body)(struct coroutine *c));

/* Once: what libberth's pointer is in a thread that it doesn't know. And before each run: the scheduler's
 * is that, too. */
void coroutines_prepare(void);

/* From the scheduler: goes on with it until it pauses. */
void coroutine_resume(struct coroutine *c);

/* From within: lets the scheduler go on. */
void coroutine_pause(void);

/* From within: pauses until ready(data), and at least once. */
void coroutine_await(bool (*ready)(void *), void *data);

/* The one that runs; NULL: the scheduler. */
extern struct coroutine *running;
