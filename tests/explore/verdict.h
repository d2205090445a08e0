/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a run came to, and the trace of one that is run again because it failed.
 */

#include "coroutine.h"

struct verdict {
	char run[80]; /* which it is: a seed, or a script and its stops */
	bool failed;
	char text[600];
	uint32_t account, record; /* whose words tell the story; 0: none */
	uint64_t access;          /* the number of the access */
};

extern struct verdict verdict;

/* A run of this name begins. */
__attribute__((format(printf, 1, 2))) void verdict_begin(const char *format, ...);

/* The first fault counts. A coroutine that reports one isn't gone on with. */
__attribute__((format(printf, 1, 2))) void verdict_fault(const char *format, ...);
/* The same, and the account and record that it is about. */
void verdict_about(uint32_t account, uint32_t record);

static inline bool run_is_over(void) {
	return verdict.failed;
}

/* -- the trace ---------------------------------------------------------------------------------- */

extern bool tracing;

enum trace_kind {
	TRACE_LOAD,
	TRACE_WRITE,  /* a store, or a compare-and-swap that succeeded */
	TRACE_FAILED, /* compare-and-swap */
	TRACE_TEXT,
};

void trace_clear(void);
void trace_word(enum trace_kind kind, uint32_t word, uint64_t before, uint64_t after);
__attribute__((format(printf, 1, 2))) void trace_text(const char *format, ...);

/* The events that concern the verdict's account and record, long repetitions left out; all of
 * them, if `all`. */
void trace_print(bool all);
