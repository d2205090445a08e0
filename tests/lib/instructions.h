/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Counts the instructions of an operation, and the locked ones among them, by stepping through a
 * child.
 *
 * It counts the instructions of libberth.so, with the jumps through its linkage table, and of the C
 * library's functions. It doesn't count the test program's own code, nor the kernel's vDSO, which
 * differs from kernel to kernel. A locked instruction has the prefix `lock`, or is an xchg with
 * memory.
 */

struct count {
	double instructions, locked;
};

/* The reason why the counts of this build on this machine can't be compared with the limits; NULL:
 * they can. */
const char *instructions_why_not(void);

/* The C library has several versions of functions such as strlen, and chooses one for the
 * processor. This executes the program again, with $GLIBC_TUNABLES set. Then the C library chooses
 * the versions for AVX2 on every processor that has AVX2. */
void instructions_begin(char **argv);

/* Steps through a child that calls prepare() once and then operation() `repetitions` times (at most
 * 64). Returns the medians, or zeros if the child failed. */
struct count instructions_count(void (*prepare)(const void *data),
	void (*operation)(const void *data), const void *data, unsigned repetitions);
