/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Repeats a step of a test. In the n-th repetition, the n-th call of a kind (inject.h) fails. The
 * repetitions end when the step makes fewer than n calls of this kind. If $FAULTS isn't "all", only
 * a sample of the kinds and of the numbers n is tried.
 */

#include <sys/mman.h>

#include "inject.h"
#include "suite.h"

#define FAULTS_SAMPLE 6     /* repetitions in a sample, for all kinds together */
#define FAULTS_MAX    20000 /* the most calls of a kind that are made to fail */

struct fault {
	const char *name;
	uint32_t what;
	int error;
	bool sticky;
};

/* Faults that can happen to a program. If a fault is sticky, all later calls fail, too: for
 * example, the disk stays full. */
static const struct fault faults[] = {
	{"no memory", INJECT_MEMORY, ENOMEM, false},
	{"no memory from then on", INJECT_MEMORY, ENOMEM, true},
	{"no descriptor", INJECT_DESCRIPTOR, EMFILE, false},
	{"no descriptor from then on", INJECT_DESCRIPTOR, EMFILE, true},
	{"the system's table of files is full", INJECT_DESCRIPTOR, ENFILE, false},
	{"descriptors are dropped", INJECT_DROPPED, 0, false},
	{"no address space", INJECT_MAPPING, ENOMEM, false},
	{"no address space from then on", INJECT_MAPPING, ENOMEM, true},
	{"disk full", INJECT_SPACE, ENOSPC, false},
	{"disk full from then on", INJECT_SPACE, ENOSPC, true},
	{"over quota", INJECT_SPACE, EDQUOT, false},
	{"a short write", INJECT_SHORT, 0, false},
	{"short writes from then on", INJECT_SHORT, 0, true},
	{"a write error", INJECT_WRITE, EIO, false},
	{"write errors from then on", INJECT_WRITE, EIO, true},
	{"a read error", INJECT_READ, EIO, false},
	{"a sync error", INJECT_SYNC, EIO, false},
	{"sync errors from then on", INJECT_SYNC, EIO, true},
	{"not permitted", INJECT_NAME, EACCES, false},
	{"read-only from then on", INJECT_NAME, EROFS, true},
	{"no buffer to send", INJECT_SEND, ENOBUFS, false},
	{"sending interrupted", INJECT_SEND, EINTR, false},
	{"no memory to send from then on", INJECT_SEND, ENOMEM, true},
	{"sending would block", INJECT_SEND, EAGAIN, false},
	{"sending to a closed connection", INJECT_SEND, ECONNRESET, false},
	{"no memory to receive", INJECT_RECEIVE, ENOMEM, false},
	{"no memory to receive from then on", INJECT_RECEIVE, ENOMEM, true},
	{"receiving interrupted", INJECT_RECEIVE, EINTR, false},
	{"receiving would block", INJECT_RECEIVE, EAGAIN, false},
	{"receiving from a closed connection", INJECT_RECEIVE, ECONNRESET, false},
	{"connecting interrupted", INJECT_CONNECT, EINTR, false},
	{"connecting would block", INJECT_CONNECT, EAGAIN, false},
	{"no buffer to connect", INJECT_CONNECT, ENOBUFS, false},
	{"accept: aborted", INJECT_ACCEPT, ECONNABORTED, false},
	{"accept: no buffer", INJECT_ACCEPT, ENOBUFS, false},
	{"accept: interrupted", INJECT_ACCEPT, EINTR, false},
	{"poll interrupted", INJECT_POLL, EINTR, false},
	{"no memory to poll", INJECT_POLL, ENOMEM, false},
	{"no process, no thread", INJECT_PROCESS, EAGAIN, false},
	{"no random bytes", INJECT_RANDOM, ENOSYS, false},
	{"no space for another watch", INJECT_WATCH, ENOSPC, false},
	{"no locks", INJECT_LOCK, ENOLCK, false},
	{"no buffer for a socket", INJECT_SOCKET, ENOBUFS, false},
	{"the clock jumps ahead", INJECT_CLOCK, 1 << 30, true},
	{"the clock jumps back", INJECT_CLOCK, -(1 << 30), true},
};

/* The fault that is tried now. */
static struct inject *inject;
static char inject_path[64];
static const struct fault *fault;
static const char *fault_about;
static uint32_t fault_nth, fault_calls, fault_hits;

/* -- expectations ------------------------------------------------------------------------------ */

/* Describes the fault that is tried now. */
UNUSED static const char *fault_text(void) {
	static char text[256];

	(void)snprintf(text, sizeof(text), "%s; fault: %s (%s %s), call %u, which was %s (%u hits)",
		fault_about, fault->name, strerrorname_np(abs(fault->error)) ?: "",
		fault->sticky ? "and all after it" : "once", fault_nth,
		inject->last[0] ? inject->last : "none", fault_hits);
	return text;
}

#define fault_check(holds, ...)                                                           \
	do {                                                                              \
		if (!(holds)) {                                                           \
			fprintf(stderr, __VA_ARGS__);                                     \
			ck_abort_msg("failed: %s\nin %s\nberthd's log:\n%.3000s", #holds, \
				fault_text(), instance_log(&here));                       \
		}                                                                         \
	} while (0)

UNUSED static bool fault_is_of_the_disk(void) {
	return fault->what == INJECT_SPACE || fault->what == INJECT_SHORT ||
	       fault->what == INJECT_WRITE || fault->what == INJECT_SYNC;
}

/* -- arming ------------------------------------------------------------------------------------ */

UNUSED static void fault_arm(void) {
	inject->calls = 0;
	inject->hits = 0;
	memset((void *)inject->calls_of, 0, sizeof(inject->calls_of));
	inject->credit = 0;
	inject->last[0] = '\0';
	inject->nth = fault_nth;
	inject->error = fault->error;
	inject->sticky = fault->sticky;
	inject->what = fault->what;
}

UNUSED static void fault_disarm(void) {
	inject->what = 0;
	fault_calls = inject->calls;
	fault_hits = inject->hits;
}

/* A test calls this before it starts berthd. */
UNUSED static void faults_init(void) {
	int fd = memfd_create("faults", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, sizeof(*inject)), 0);
	inject = mmap(NULL, sizeof(*inject), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert(inject != MAP_FAILED);
	(void)snprintf(inject_path, sizeof(inject_path), "/proc/%d/fd/%d", (int)getpid(), fd);
	random_init();
}

/* If `on` is true, programs that the test starts from now on load libinject.so (inject.h). If it is
 * false, they don't. */
UNUSED static void faults_preload(bool on) {
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);

	ck_assert_int_gt(n, 0);
	path[n] = '\0';
	strcpy(strrchr(path, '/'), "/../lib/libinject.so");
	ck_assert_msg(access(path, R_OK) == 0, "%s: %m", path);
	if (on) {
		(void)setenv("LD_PRELOAD", path, 1);
		(void)setenv("BERTH_FAULTS", inject_path, 1);
	} else {
		(void)unsetenv("LD_PRELOAD");
		(void)unsetenv("BERTH_FAULTS");
	}
}

/* Sends berthd a signal that ends it, and starts a berthd that loads libinject.so. */
UNUSED static void faults_restart_after(int signal) {
	(void)instance_kill(&here, signal);
	faults_preload(true);
	instance_restart(&here);
	faults_preload(false);
}

/* -- sweeps ------------------------------------------------------------------------------------ */

UNUSED static bool faults_are_all(void) {
	const char *want = getenv("FAULTS");

	return want && strcmp(want, "all") == 0;
}

static void fault_sweep_all(const struct fault *f, uint32_t calls, void (*step)(void)) {
	/* If a fault resembles another fault and there are many calls, only every fifth call
	 * fails. */
	bool resembles = f->sticky || f->error == ENFILE || f->error == EDQUOT;
	uint32_t injected = 0, stride = resembles && calls > 60 ? 5 : 1;

	fault = f;
	for (fault_nth = 1; fault_nth < FAULTS_MAX; fault_nth += stride) {
		step();
		injected += fault_hits > 0;
		if (fault_hits == 0 && fault_nth >= calls)
			break;
	}
	if (injected > 0)
		printf("%6u injected: %s; %s\n", injected, f->name, fault_about);
	(void)fflush(stdout);
}

static bool fault_is_wanted(const struct fault *f, uint32_t kinds) {
	const char *only = getenv("FAULT");

	return (f->what & kinds) && (!only || strstr(f->name, only));
}

static void faults_sweep_some(const uint32_t *calls, uint32_t kinds, void (*step)(void)) {
	uint32_t injected = 0;

	for (unsigned k = 0; k < FAULTS_SAMPLE;) {
		fault = &faults[random_below(COUNT_OF(faults))];
		if (!fault_is_wanted(fault, kinds) || !calls[__builtin_ctz(fault->what)])
			continue;
		fault_nth = 1 + random_below(calls[__builtin_ctz(fault->what)]);
		step();
		injected += fault_hits > 0;
		k++;
	}
	printf("%6u injected: a sample; %s\n", injected, fault_about);
}

/* First calls step() without a fault, to count the calls that can fail. If $FAULTS is "all", then
 * calls step() with each fault of these kinds at each call; otherwise, with a sample of these
 * pairs. step() arms and disarms the fault. */
UNUSED static void faults_sweep_of(uint32_t kinds, const char *about, void (*step)(void)) {
	static const struct fault none = {"none", ~0u, 0, false};
	uint32_t calls[32], any = 0;

	fault = &none;
	fault_about = about;
	fault_nth = 0;
	step();
	for (int i = 0; i < 32; i++)
		calls[i] = inject->calls_of[i];
	for (size_t i = 0; i < COUNT_OF(faults); i++)
		if (fault_is_wanted(&faults[i], kinds)) {
			any += calls[__builtin_ctz(faults[i].what)];
			if (faults_are_all())
				fault_sweep_all(
					&faults[i], calls[__builtin_ctz(faults[i].what)], step);
		}
	if (any > 0 && !faults_are_all())
		faults_sweep_some(calls, kinds, step);
}

UNUSED static void faults_sweep(const char *about, void (*step)(void)) {
	faults_sweep_of(~0u, about, step);
}
