/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Counts the instructions of an operation, and the locked instructions among them, by stepping
 * through a child.
 *
 * The counts include the instructions of libberth.so, with the jumps through its linkage table, and
 * the instructions of the C library. The counts exclude the test program's own code, and the
 * kernel's vDSO, which differs from kernel to kernel. A locked instruction has the prefix `lock`,
 * or is an xchg with memory.
 */

struct count {
	double instructions, locked;
};

/* Returns NULL if the counts of this build on this machine can be compared with the limits in the
 * test. If they can't, returns the reason. */
const char *instructions_why_not(void);

/* The C library has several versions of functions such as strlen, and chooses one for the
 * processor. If $GLIBC_TUNABLES isn't set, this function sets it and executes the program again.
 * Then the C library chooses the versions for AVX2 on every processor that has AVX2. */
void instructions_begin(char **argv);

/* Steps through a child that calls prepare() once and then operation() `repetitions` times (at most
 * 64). Returns the medians over the repetitions. If the child fails, returns zeros. */
struct count instructions_count(void (*prepare)(const void *data),
	void (*operation)(const void *data), const void *data, unsigned repetitions);
