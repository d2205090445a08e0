/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Runs a process up to a point, where the test kills the process. A point is a system call, or an
 * instruction within certain functions or within the functions that these call. System calls and
 * instructions are counted from the beginning of tracing on.
 *
 * A first run records all points. A later run gets to one of these points, the target. The process
 * then runs from breakpoint to breakpoint, and is single-stepped only within the function that has
 * the target. All threads of the process are traced, and they are killed together.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* If `step` is TRACE_SYSCALL, the point is the hit-th system call of the process. Otherwise it is
 * the instruction that a thread executes `step` instructions after the hit-th entry into one of the
 * functions. Entries by the main thread are counted separately from entries by the other
 * threads. */
struct trace_point {
	uint32_t hit;
	uint32_t step;
	bool other; /* in a thread other than the main one */
};
#define TRACE_SYSCALL UINT32_MAX

struct trace_points {
	struct trace_point *all;
	size_t count, size;
};

struct trace_break {
	uint64_t address;
	long text; /* the original word of code */
};

#define TRACE_BREAKS_MAX 64
struct trace {
	pid_t pid;
	bool by_syscall;
	uint64_t base, text_end; /* of the program's own code */
	struct trace_break at[TRACE_BREAKS_MAX];
	size_t breaks;
	uint32_t hits[2];            /* by the main thread, by the other threads */
	struct trace_points *record; /* gets the points; if NULL, go to the target */
	struct trace_point target;
};

/* True on architectures for which ptrace.c can set breakpoints and read registers. */
bool trace_knows_functions(void);

/* Puts the tracer and its future children on one processor, which triples the steps per second. */
void trace_pin(void);

/* A child calls this before it executes the program that is traced. */
void trace_me(void);

/* trace_begin_exec() begins to trace a child that has called trace_me(). trace_begin_running()
 * begins to trace a process that runs already. If `functions` is NULL, the points are system calls.
 * Otherwise `functions` has names, and ends with NULL. If the program lacks a function of such a
 * name, the name is ignored. */
void trace_begin_exec(struct trace *t, pid_t pid, const char *const functions[]);
void trace_begin_running(struct trace *t, pid_t pid, const char *const functions[]);

enum trace_end {
	TRACE_REACHED,  /* a thread is stopped at the target */
	TRACE_FINISHED, /* finished() has returned true */
	TRACE_ENDED,    /* the process has ended, and was waited for */
};

/* Runs the process until one of these events. Whenever no thread has stopped for a while, calls
 * finished(). */
enum trace_end trace_run(struct trace *t, bool (*finished)(void *data), void *data);

/* Kills the process and waits for it. */
void trace_kill(struct trace *t);

/* -- a child with one thread ------------------------------------------------------------------- */

/* The child calls trace_child_begin() to stop itself. Then the parent can step the child until it
 * calls trace_child_end(). */
void trace_child_begin(void);
void trace_child_end(int status) __attribute__((noreturn));

void trace_child_wait(pid_t pid); /* waits until the child has called trace_child_begin() */

/* The addresses of all instructions that a child executes. */
struct trace_path {
	uint64_t *pc; /* pc[k] is the address after k steps */
	size_t count, size;
	void (*look)(void *data); /* called at each instruction of the recording; may be NULL */
	void *data;
};

/* Steps through the child to its end, and waits for it. */
void trace_child_record(pid_t pid, struct trace_path *path);
void trace_path_free(struct trace_path *path);

/* Lets the child run until it has reached the address pc[k] n times, where n is how often the
 * recorded child had reached this address after k steps. Then stops the child there. False if the
 * child ends earlier. */
bool trace_child_goto(pid_t pid, const struct trace_path *path, size_t k);

void trace_child_kill(pid_t pid);
void trace_child_finish(pid_t pid); /* lets the child run to its end; it must exit with 0 */
