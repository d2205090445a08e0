/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Has a process run up to a point and die there: at its n-th system call, or at its n-th instruction
 * within certain functions (and what they call), counted from the moment at which it is traced.
 *
 * A first run, recording, finds out which points there are. Another one gets to a point without
 * stepping through all that comes before it: it runs from function to function, and single-steps in
 * the last one only. All of berthd's threads are traced; a death is that of the whole process.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* An instruction: so many steps after a function's entry, which was the hit-th of its kind of
 * thread; or, with `step` TRACE_SYSCALL, the hit-th system call of any thread. */
struct trace_point {
	uint32_t hit;
	uint32_t step;
	bool other; /* of a thread other than the main one */
};
#define TRACE_SYSCALL UINT32_MAX

struct trace_points {
	struct trace_point *all;
	size_t count, size;
};

struct trace_break {
	uint64_t address;
	long text; /* what stands there */
};

#define TRACE_BREAKS_MAX 64
struct trace {
	pid_t pid;
	bool by_syscall;
	uint64_t base, text_end; /* of the program's own code */
	struct trace_break at[TRACE_BREAKS_MAX];
	size_t breaks;
	uint32_t hits[2];            /* of the main thread, of the others */
	struct trace_points *record; /* NULL: go to the target */
	struct trace_point target;
};

/* False on machines whose registers and breakpoints nobody has written down here. */
bool trace_knows_functions(void);

/* Tracer and traced on one processor: three times the steps a second. */
void trace_pin(void);

/* In a child that is about to exec what is to be traced. */
void trace_me(void);

/* Goes on with a child that has called trace_me, stopped behind its exec; or with one that runs. Of
 * `functions` (NULL-terminated), those that the program has are looked at; NULL: system calls. */
void trace_begin_exec(struct trace *t, pid_t pid, const char *const functions[]);
void trace_begin_running(struct trace *t, pid_t pid, const char *const functions[]);

enum trace_end {
	TRACE_REACHED,  /* the target: the thread stands there */
	TRACE_FINISHED, /* finished() was true before */
	TRACE_ENDED,    /* the process has ended, and was waited for */
};

/* Lets it run; finished() is asked whenever nothing stops. */
enum trace_end trace_run(struct trace *t, bool (*finished)(void *data), void *data);

/* SIGKILL, and waits for it. */
void trace_kill(struct trace *t);

/* -- a child with one thread ------------------------------------------------------------------- */

/* In the child: from here on it is stepped, until trace_child_end(). */
void trace_child_begin(void);
void trace_child_end(int status) __attribute__((noreturn));

void trace_child_wait(pid_t pid); /* until it has called trace_child_begin */

/* Where it has been, instruction by instruction. */
struct trace_path {
	uint64_t *pc; /* pc[k] is the place after k steps */
	size_t count, size;
	void (*look)(void *data); /* or NULL: called at each of them, while it is recorded */
	void *data;
};

/* Steps through all of it; then it has ended, and was waited for. */
void trace_child_record(pid_t pid, struct trace_path *path);
void trace_path_free(struct trace_path *path);

/* Stops it after k steps of the path, without making them: where it comes to that place for as
 * manieth time as the recorded one did. False: it never did, and has ended. */
bool trace_child_goto(pid_t pid, const struct trace_path *path, size_t k);

void trace_child_kill(pid_t pid);
void trace_child_finish(pid_t pid); /* lets it go on, to its end */
