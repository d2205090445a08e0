/* SPDX-License-Identifier: MIT */

/* Steps through a child and counts the instructions between marks. The child is a fork of this
 * process, with the same code at the same addresses. So this process can read the instructions in
 * its own memory. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "instructions.h"
#include "ptrace.h"

#define REPETITIONS_MAX 64

/* -- builds and machines that can be compared -------------------------------------------------- */

const char *instructions_why_not(void) {
#if !defined(__x86_64__) || !defined(__GLIBC__)
	return "the counts are for x86-64 and glibc";
#elif defined(__clang__) || __GNUC__ != 12
	return "the counts are for gcc 12";
#elif !defined(__OPTIMIZE__) || defined(__SSP_STRONG__) || defined(__CET__) || \
	defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return "the counts are for -O2, without sanitizers and hardening";
#else
	return __builtin_cpu_supports("avx2") ? NULL : "the counts are for processors with AVX2";
#endif
}

void instructions_begin(char **argv) {
	if (getenv("GLIBC_TUNABLES"))
		return;
	(void)setenv("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512VL,-AVX512BW,-RTM,-ERMS,-FSRM", 1);
	(void)execv("/proc/self/exe", argv);
}

/* -- counting ---------------------------------------------------------------------------------- */

/* The child calls this before each operation and after the last one. */
__attribute__((noinline)) static void mark(void) {
	__asm__ volatile("");
}

static bool is_vdso(uint64_t pc) {
	static unsigned long begin, end;
	char line[256];
	FILE *f = end ? NULL : fopen("/proc/self/maps", "re");

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[vdso]"))
			(void)sscanf(line, "%lx-%lx", &begin, &end);
	if (f)
		(void)fclose(f);
	return pc >= begin && pc < end;
}

/* True if the instruction has the prefix `lock`, or is an xchg with memory. */
static bool is_locked(uint64_t pc) {
	static const uint8_t prefixes[] = {
		0x66, 0x67, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};
	const uint8_t *at = (const uint8_t *)(uintptr_t)pc;

	while (memchr(prefixes, *at, sizeof(prefixes)))
		at++;
	if (*at == 0xF0)
		return true;
	at += (*at & 0xF0) == 0x40; /* REX */
	return (at[0] == 0x86 || at[0] == 0x87) && at[1] < 0xC0;
}

static int compare(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median_of(double *values, unsigned count) {
	qsort(values, count, sizeof(values[0]), compare);
	return values[count / 2];
}

/* Returns the medians of the counts between two marks. If a mark is missing, returns zeros. */
static struct count count_between_marks(const struct trace_path *path, unsigned repetitions) {
	extern const char __executable_start[], etext[];
	double instructions[REPETITIONS_MAX] = {0}, locked[REPETITIONS_MAX] = {0};
	unsigned marks = 0;

	for (size_t i = 0; i < path->count && marks <= repetitions; i++) {
		uint64_t pc = path->pc[i];

		if (pc == (uintptr_t)mark) {
			marks++;
		} else if (marks > 0 &&
			   (pc < (uintptr_t)__executable_start || pc >= (uintptr_t)etext) &&
			   !is_vdso(pc)) {
			instructions[marks - 1]++;
			locked[marks - 1] += is_locked(pc);
		}
	}
	if (marks != repetitions + 1)
		return (struct count){0};
	return (struct count){median_of(instructions, repetitions), median_of(locked, repetitions)};
}

struct count instructions_count(void (*prepare)(const void *data),
	void (*operation)(const void *data), const void *data, unsigned repetitions) {
	struct trace_path path = {0};
	struct count count;
	pid_t pid = fork();

	if (pid < 0 || repetitions > REPETITIONS_MAX)
		return (struct count){0};
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		prepare(data);
		trace_child_begin();
		for (unsigned i = 0; i < repetitions; i++) {
			mark();
			operation(data);
		}
		mark();
		trace_child_end(EXIT_SUCCESS);
	}
	trace_child_wait(pid);
	trace_child_record(pid, &path);
	count = count_between_marks(&path, repetitions);
	trace_path_free(&path);
	return count;
}
