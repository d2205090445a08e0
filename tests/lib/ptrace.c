/* SPDX-License-Identifier: MIT */

/*
 * Runs a process up to a point, by ptrace.
 *
 * The addresses of the functions are in the program's symbol table, which nm prints. Each function
 * gets a breakpoint at its entry. Compilers rename some functions (name.part.0). An inlined
 * function gets no breakpoint: it is a part of its caller.
 *
 * The tracer waits for every thread in the process group of the traced process. So the traced
 * process must have a group of its own, without the tracer's other children.
 */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ptrace.h"

#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)
#define INT3    0xCC
/* trace_run() calls finished() after it has found no stopped thread this many times in a row. */
#define IDLE_MIN 10
/* The recording of a call ends after this number of steps at the latest. */
#define STEPS_MAX 200000

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...) {
	va_list args;

	fputs("tracer: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(errno));
	exit(EXIT_FAILURE);
}

void trace_pin(void) {
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
}

void trace_me(void) {
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(EXIT_FAILURE);
}

/* -- the program ------------------------------------------------------------------------------- */

/* Finds the addresses at which the program's own code is mapped. */
static void code_find(struct trace *t) {
	char path[64], line[512], exe[256];
	bool first = true;
	ssize_t n;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)t->pid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)t->pid);
	f = fopen(path, "re");
	if (!f || n <= 0)
		give_up("can't read %s", path);
	while (fgets(line, sizeof(line), f)) {
		unsigned long begin, end;
		char mode[8];

		if (!strstr(line, exe) || sscanf(line, "%lx-%lx %7s", &begin, &end, mode) != 3)
			continue;
		if (first)
			t->base = begin;
		first = false;
		if (mode[2] == 'x')
			t->text_end = end;
	}
	(void)fclose(f);
}

static bool name_is_wanted(const char *name, const char *const functions[]) {
	size_t length = strcspn(name, ".\n");

	if (strstr(name, ".cold"))
		return false;
	for (size_t i = 0; functions[i]; i++)
		if (strlen(functions[i]) == length && memcmp(functions[i], name, length) == 0)
			return true;
	return false;
}

static void symbols_find(struct trace *t, const char *const functions[]) {
	char command[64], line[512];
	FILE *f;

	(void)snprintf(command, sizeof(command), "nm /proc/%d/exe", (int)t->pid);
	f = popen(command, "re");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long address;
		char kind, name[256];

		if (sscanf(line, "%lx %c %255s", &address, &kind, name) != 3 ||
			(kind != 't' && kind != 'T') || !name_is_wanted(name, functions))
			continue;
		if (t->breaks == TRACE_BREAKS_MAX)
			give_up("more than %d functions", TRACE_BREAKS_MAX);
		t->at[t->breaks++].address = address;
	}
	if (!f || pclose(f) != 0 || t->breaks == 0)
		give_up("%s finds no function", command);
}

/* Sets t->at. Runs nm in the first call only, since every traced process runs the same program. */
static void breaks_find(struct trace *t, const char *const functions[]) {
	static struct trace known;

	if (known.breaks == 0) {
		known.pid = t->pid;
		symbols_find(&known, functions);
	}
	t->breaks = known.breaks;
	for (size_t i = 0; i < t->breaks; i++) {
		t->at[i].address = t->base + known.at[i].address;
		errno = 0;
		t->at[i].text = ptrace(PTRACE_PEEKTEXT, t->pid, (void *)t->at[i].address, NULL);
		if (errno)
			give_up("can't read %#lx", (unsigned long)t->at[i].address);
	}
}

static void break_put(const struct trace_break *b, pid_t tid, bool set) {
	long word = set ? (b->text & ~0xFFL) | INT3 : b->text;

	if (ptrace(PTRACE_POKETEXT, tid, (void *)b->address, (void *)word) < 0)
		give_up("can't write %#lx", (unsigned long)b->address);
}

/* Writing a breakpoint replaces a word. No two breakpoints are in one word, since functions are
 * aligned to 16 bytes. */
static void breaks_put(struct trace *t, pid_t tid, bool set) {
	for (size_t i = 0; i < t->breaks; i++)
		break_put(&t->at[i], tid, set);
}

static const struct trace_break *break_at(const struct trace *t, uint64_t address) {
	for (size_t i = 0; i < t->breaks; i++)
		if (t->at[i].address == address)
			return &t->at[i];
	return NULL;
}

/* -- beginning --------------------------------------------------------------------------------- */

static void resume(const struct trace *t, pid_t tid, int signal) {
	/* This fails with ESRCH if the thread is being killed. */
	(void)ptrace(
		t->by_syscall ? PTRACE_SYSCALL : PTRACE_CONT, tid, NULL, (void *)(uintptr_t)signal);
}

static void begin(struct trace *t, pid_t pid, const char *const functions[]) {
	t->pid = pid;
	t->by_syscall = !functions;
	t->breaks = 0;
	t->hits[0] = t->hits[1] = 0;
	if (t->by_syscall)
		return;
	code_find(t);
	breaks_find(t, functions);
	breaks_put(t, pid, true);
}

void trace_begin_exec(struct trace *t, pid_t pid, const char *const functions[]) {
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		give_up("the program didn't start");
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)OPTIONS) < 0)
		give_up("PTRACE_SETOPTIONS");
	begin(t, pid, functions);
	resume(t, pid, 0);
}

/* No thread is missed, since a berthd that is ready starts and ends no threads. */
void trace_begin_running(struct trace *t, pid_t pid, const char *const functions[]) {
	pid_t tids[16];
	size_t count = 0;
	struct dirent *e;
	char path[64];
	int status;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir)) && count < 16)
		if (e->d_name[0] != '.')
			tids[count++] = (pid_t)strtol(e->d_name, NULL, 10);
	if (dir)
		(void)closedir(dir);
	for (size_t i = 0; i < count; i++)
		if (ptrace(PTRACE_SEIZE, tids[i], NULL, (void *)OPTIONS) < 0 ||
			ptrace(PTRACE_INTERRUPT, tids[i], NULL, NULL) < 0 ||
			waitpid(tids[i], &status, __WALL) != tids[i] || !WIFSTOPPED(status))
			give_up("thread %d can't be stopped", (int)tids[i]);
	begin(t, pid, functions);
	for (size_t i = 0; i < count; i++)
		resume(t, tids[i], 0);
}

/* -- stepping ---------------------------------------------------------------------------------- */

/* False if the thread is dying. */
static bool step(pid_t tid) {
	int status;

	if (ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL) < 0)
		return false;
	return waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status);
}

static uint64_t peek_user(pid_t tid, size_t offset) {
	return (uint64_t)ptrace(PTRACE_PEEKUSER, tid, (void *)offset, NULL);
}

#if defined(__x86_64__)
#define PC_OFFSET offsetof(struct user_regs_struct, rip)
#define SP_OFFSET offsetof(struct user_regs_struct, rsp)
#else /* not used, since trace_knows_functions() returns false */
#define PC_OFFSET 0
#define SP_OFFSET 0
#endif
#define PC(tid) peek_user((tid), PC_OFFSET)
#define SP(tid) peek_user((tid), SP_OFFSET)

bool trace_knows_functions(void) {
	return PC_OFFSET != SP_OFFSET;
}

static void point_add(struct trace_points *p, struct trace_point point) {
	if (p->count == p->size) {
		p->size = p->size ? 2 * p->size : 1024;
		p->all = realloc(p->all, p->size * sizeof(*p->all));
		if (!p->all)
			give_up("no memory for points");
	}
	p->all[p->count++] = point;
}

/* Executes the instruction at the breakpoint. False if the thread is dying. */
static bool step_over(pid_t tid, const struct trace_break *b) {
	bool alive;

	break_put(b, tid, false);
	alive = step(tid);
	if (alive)
		break_put(b, tid, true);
	return alive;
}

/* Records the instructions of a call, from the function's entry to its return. If the function
 * calls another one that has a breakpoint, that call is a hit, as in a run without stepping.
 * Instructions of libraries are stepped through, but aren't points. The breakpoints stay set for
 * other threads. */
static void call_record(struct trace *t, pid_t tid, bool other) {
	uint64_t sp = SP(tid), pc = PC(tid);
	struct trace_point point = {.hit = t->hits[other], .other = other};
	const struct trace_break *b = break_at(t, pc);

	for (int i = 0; i < STEPS_MAX; i++) {
		if (pc >= t->base && pc < t->text_end)
			point_add(t->record, point);
		if (b ? !step_over(tid, b) : !step(tid))
			return;
		point.step++;
		if (SP(tid) > sp)
			return;
		pc = PC(tid);
		b = break_at(t, pc);
		if (b)
			point = (struct trace_point){.hit = ++t->hits[other], .other = other};
	}
}

/* Handles a thread that has run into a breakpoint. True if the thread is now at the target. */
static bool on_break(struct trace *t, pid_t tid, const struct trace_break *b) {
	bool other = tid != t->pid;

	(void)ptrace(PTRACE_POKEUSER, tid, (void *)PC_OFFSET, (void *)b->address);
	t->hits[other]++;
	if (t->record) {
		call_record(t, tid, other);
		return false;
	}
	if (t->target.other != other || t->target.hit != t->hits[other] ||
		t->target.step == TRACE_SYSCALL) {
		(void)step_over(tid, b);
		return false;
	}
	breaks_put(t, tid, false);
	for (uint32_t i = 0; i < t->target.step; i++)
		if (!step(tid))
			break;
	return true;
}

static bool on_syscall(struct trace *t, pid_t tid) {
	struct __ptrace_syscall_info info = {0};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof(info), &info) <= 0 ||
		info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	t->hits[0]++;
	if (t->record)
		point_add(
			t->record, (struct trace_point){.hit = t->hits[0], .step = TRACE_SYSCALL});
	return !t->record && t->target.hit == t->hits[0];
}

/* Handles a thread that has stopped. True if it is at the target; otherwise resumes the thread. */
static bool on_stop(struct trace *t, pid_t tid, int status) {
	int signal = WSTOPSIG(status);
	const struct trace_break *b = NULL;
	bool reached = false;

	if (signal == (SIGTRAP | 0x80)) {
		reached = on_syscall(t, tid);
		signal = 0;
	} else if (signal == SIGTRAP || signal == SIGSTOP || status >> 16) {
		/* The thread is at a breakpoint, or at an event of ptrace such as a new thread. */
		b = signal == SIGTRAP && !(status >> 16) ? break_at(t, PC(tid) - 1) : NULL;
		signal = 0;
		reached = b && on_break(t, tid, b);
	}
	if (!reached)
		resume(t, tid, signal);
	return reached;
}

enum trace_end trace_run(struct trace *t, bool (*finished)(void *data), void *data) {
	for (unsigned idle = 0;;) {
		int status;
		pid_t tid = waitpid(-t->pid, &status, __WALL | WNOHANG);

		if (tid < 0)
			give_up("waiting for %d", (int)t->pid);
		if (tid == 0) {
			/* Call finished() only after a while, so that berthd first does what it
			 * would do next, such as going to sleep. */
			if (idle >= IDLE_MIN && finished(data))
				return TRACE_FINISHED;
			/* At first, only yield to the process; later, sleep. */
			if (idle++ < 1000)
				(void)sched_yield();
			else
				(void)usleep(500);
			continue;
		}
		idle = 0;
		if (!WIFSTOPPED(status)) {
			if (tid == t->pid)
				return TRACE_ENDED;
			continue;
		}
		if (on_stop(t, tid, status))
			return TRACE_REACHED;
	}
}

void trace_kill(struct trace *t) {
	int status = 0;
	pid_t tid;

	if (kill(t->pid, SIGKILL) < 0)
		give_up("SIGKILL");
	do
		tid = waitpid(-t->pid, &status, __WALL);
	while ((tid < 0 && errno == EINTR) || tid != t->pid || WIFSTOPPED(status));
}

/* -- a child with one thread ------------------------------------------------------------------- */

void trace_child_begin(void) {
	/* Without this call, a stopped child would survive when Check ends the test. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	trace_me();
	(void)raise(SIGSTOP);
}

void trace_child_end(int status) {
	/* Don't call exit(), so that the path doesn't include what the C library does there. */
	for (;;)
		(void)syscall(SYS_exit_group, status);
}

void trace_child_wait(pid_t pid) {
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		give_up("the child ended early");
}

void trace_child_record(pid_t pid, struct trace_path *path) {
	path->count = 0;
	do {
		if (path->count == path->size) {
			path->size = path->size ? 2 * path->size : 4096;
			path->pc = realloc(path->pc, path->size * sizeof(*path->pc));
			if (!path->pc)
				give_up("no memory for a path");
		}
		path->pc[path->count++] = PC(pid);
		if (path->look)
			path->look(path->data);
	} while (step(pid));
}

void trace_path_free(struct trace_path *path) {
	free(path->pc);
	*path = (struct trace_path){0};
}

/* Runs the child until it comes to the breakpoint; false if the child ends before that. */
static bool child_run(pid_t pid, const struct trace_break *b) {
	int status;

	if (ptrace(PTRACE_CONT, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) != pid)
		give_up("the child can't be resumed");
	if (!WIFSTOPPED(status))
		return false;
	if (WSTOPSIG(status) != SIGTRAP || PC(pid) != b->address + 1)
		give_up("signal %d stopped the child elsewhere", WSTOPSIG(status));
	(void)ptrace(PTRACE_POKEUSER, pid, (void *)PC_OFFSET, (void *)b->address);
	return true;
}

bool trace_child_goto(pid_t pid, const struct trace_path *path, size_t k) {
	struct trace_break b = {.address = path->pc[k]};
	size_t before = 0;

	errno = 0;
	b.text = ptrace(PTRACE_PEEKTEXT, pid, (void *)b.address, NULL);
	/* If no breakpoint can be set at the address, as in the vDSO, step the child. */
	if (!trace_knows_functions() || errno ||
		ptrace(PTRACE_POKETEXT, pid, (void *)b.address,
			(void *)((b.text & ~0xFFL) | INT3)) < 0) {
		while (before < k && step(pid))
			before++;
		return before == k;
	}
	for (size_t i = 0; i < k; i++)
		before += path->pc[i] == b.address;
	for (size_t i = 0;; i++) {
		if (!child_run(pid, &b))
			return false;
		if (i == before)
			break;
		if (!step_over(pid, &b))
			return false;
	}
	break_put(&b, pid, false);
	return true;
}

void trace_child_kill(pid_t pid) {
	int status;

	if (kill(pid, SIGKILL) < 0 || waitpid(pid, &status, 0) != pid)
		give_up("can't kill the child");
}

void trace_child_finish(pid_t pid) {
	int status;

	if (ptrace(PTRACE_CONT, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) != pid ||
		!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		give_up("the child failed");
}
