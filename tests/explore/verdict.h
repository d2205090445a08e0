/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The verdict of a run is the first fault that was found in it, or none. A run with a fault is
 * repeated, and then the trace records the events of the run.
 */

#include "coroutine.h"

struct verdict {
	char run[80]; /* the run's seed, or the script and its stops */
	bool failed;
	char text[600];
	uint32_t account, record; /* the trace shows the words of these; 0: none */
	uint64_t access;          /* the number of the access at which the fault was found */
};

extern struct verdict verdict;

/* Begins a run. The text names the run in messages. */
__attribute__((format(printf, 1, 2))) void verdict_begin(const char *format, ...);

/* Reports a fault; only the first fault of a run counts. A coroutine that reports a fault isn't
 * resumed any more. */
__attribute__((format(printf, 1, 2))) void verdict_fault(const char *format, ...);
/* Called before verdict_fault(): says which account and record the fault is about. */
void verdict_about(uint32_t account, uint32_t record);

static inline bool run_is_over(void) {
	return verdict.failed;
}

/* -- the trace --------------------------------------------------------------------------------- */

extern bool tracing;

enum trace_kind {
	TRACE_LOAD,
	TRACE_WRITE,  /* a store, or a compare-and-swap that succeeded */
	TRACE_FAILED, /* a compare-and-swap that failed */
	TRACE_TEXT,
};

void trace_word(enum trace_kind kind, uint32_t word, uint64_t before, uint64_t after);
__attribute__((format(printf, 1, 2))) void trace_text(const char *format, ...);

/* Prints the last events that concern the verdict's account and record. If `all`, prints all events
 * of the run. */
void trace_print(bool all);
