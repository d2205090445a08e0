/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Runs a process up to a point, where the test kills it: its n-th system call, or its n-th
 * instruction within certain functions and the functions they call, counted from the start of
 * tracing.
 *
 * A first run records all points. A later run gets to a point without stepping through all
 * instructions before it: it runs from breakpoint to breakpoint, and single-steps within the last
 * function only. All threads of the process are traced, and all of them are killed together.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The instruction that a thread executes `step` instructions after the hit-th entry into one of the
 * functions. Entries by the main thread and by all others are counted apart. If `step` is
 * TRACE_SYSCALL: the hit-th system call of any thread. */
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
	uint32_t hits[2];            /* by the main thread, by the others */
	struct trace_points *record; /* record the points here; NULL: go to the target */
	struct trace_point target;
};

/* True on architectures for which ptrace.c can set breakpoints and read registers. */
bool trace_knows_functions(void);

/* Puts the tracer and its future children on one processor, which triples the steps per second. */
void trace_pin(void);

/* A child calls this before it executes the program that is traced. */
void trace_me(void);

/* The first begins to trace a child that has called trace_me(), the second a process that runs
 * already. Points are the instructions of those `functions` (up to NULL) that the program has. If
 * `functions` is NULL, points are system calls. */
void trace_begin_exec(struct trace *t, pid_t pid, const char *const functions[]);
void trace_begin_running(struct trace *t, pid_t pid, const char *const functions[]);

enum trace_end {
	TRACE_REACHED,  /* a thread is stopped at the target */
	TRACE_FINISHED, /* finished() returned true before */
	TRACE_ENDED,    /* the process has ended, and was waited for */
};

/* Runs the process until one of these events. Calls finished() if no thread stops for a while. */
enum trace_end trace_run(struct trace *t, bool (*finished)(void *data), void *data);

/* Kills the process and waits for it. */
void trace_kill(struct trace *t);

/* -- a child with one thread ------------------------------------------------------------------- */

/* The child stops itself, so that the parent can step it from here to trace_child_end(). */
void trace_child_begin(void);
void trace_child_end(int status) __attribute__((noreturn));

void trace_child_wait(pid_t pid); /* until the child has called trace_child_begin() */

/* The addresses of all instructions that a child executes. */
struct trace_path {
	uint64_t *pc; /* pc[k]: after k steps */
	size_t count, size;
	void (*look)(void *data); /* NULL, or called after each step of the recording */
	void *data;
};

/* Steps through the child to its end, and waits for it. */
void trace_child_record(pid_t pid, struct trace_path *path);
void trace_path_free(struct trace_path *path);

/* Stops the child where the recorded child was after k steps. Doesn't step, but counts how often
 * the child comes to that address. False if the child has ended before. */
bool trace_child_goto(pid_t pid, const struct trace_path *path, size_t k);

void trace_child_kill(pid_t pid);
void trace_child_finish(pid_t pid); /* lets the child run to its end; it must exit with 0 */
