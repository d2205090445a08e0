/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Counts the instructions of an operation, and the locked ones among them, by stepping a child.
 *
 * Counted is what is executed outside of this program's own code: libberth.so, its jumps through the
 * linkage table included, and what it calls of the C library. Not counted are the caller, and the
 * kernel's vDSO, which differs from kernel to kernel. A locked instruction has the prefix `lock`, or
 * is an xchg with memory.
 */

struct count {
	double instructions, locked;
};

/* Why the counts of this build, on this machine, can't be compared with others; NULL: they can. */
const char *instructions_why_not(void);

/* The C library has several versions of strlen, and takes the one that suits the processor. Begins the
 * program again, with those for AVX2 on any processor that has it. */
void instructions_begin(char **argv);

/* Has a child prepare, and then do the operation so often, at most 64 times, while it is stepped.
 * Returns the medians; 0, 0 if the child didn't come to its end. */
struct count instructions_count(void (*prepare)(const void *data),
	void (*operation)(const void *data), const void *data, unsigned repetitions);
