/* SPDX-License-Identifier: MIT */

/*
 * Forks the child that checks the store, and receives its reports.
 *
 * The child writes a struct message to a pipe for each environment. If LMDB crashes, aborts or
 * loops (CPU_SECONDS), a signal handler writes the message with what is in it so far. The child has
 * no descriptors but the pipe and the standard ones, so it holds none of berthd's locks. It dies
 * with the thread that forked it, and leaves no core. It needs no privilege, and no system call
 * that berthd.service forbids.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "check.h"
#include "name.h"
#include "util.h"

/* Seconds of CPU time for the check of one file: far more than it takes. */
#define CPU_SECONDS         10
#define CPU_SECONDS_PER_MIB 1

struct message {
	int error;
	int signal; /* 0: none */
	struct lmdb_progress progress;
};

/* -- the child --------------------------------------------------------------------------------- */

/* Global, for the signal handler. */
static struct message message;
static int pipe_fd;

static void message_send(int error, int signal) {
	message.error = error;
	message.signal = signal;
	/* This fails only if berthd doesn't want the verdict any more. */
	if (write(pipe_fd, &message, sizeof(message)) != (ssize_t)sizeof(message))
		_exit(EXIT_SUCCESS);
}

static void on_crash(int signal) {
	message_send(-EUCLEAN, signal);
	_exit(EXIT_FAILURE);
}

static void child_run(const struct lmdb *const *all, size_t count, pid_t parent) {
	static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPROF};
	struct stat st;
	sigset_t none;

	/* If berthd dies, no process reads the verdict. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_SUCCESS);
	(void)close_range(STDERR_FILENO + 1, (unsigned)pipe_fd - 1, 0);
	(void)close_range((unsigned)pipe_fd + 1, ~0u, 0);
	(void)prctl(PR_SET_DUMPABLE, 0);
	for (size_t i = 0; i < ELEMENTS(signals); i++)
		(void)signal(signals[i], on_crash);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (size_t i = 0; i < count; i++) {
		/* SIGPROF ends a check that loops. */
		struct itimerval timer = {.it_value.tv_sec = CPU_SECONDS};

		if (stat(lmdb_path(all[i]), &st) == 0)
			timer.it_value.tv_sec += (time_t)(st.st_size >> 20) * CPU_SECONDS_PER_MIB;
		(void)setitimer(ITIMER_PROF, &timer, NULL);
		message_send(lmdb_verify(all[i], &message.progress), 0);
	}
	_exit(EXIT_SUCCESS);
}

/* -- berthd ------------------------------------------------------------------------------------ */

int check_begin(struct check *c, const struct lmdb *const *all, size_t count) {
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	c->pid = fork();
	if (c->pid == 0) {
		pipe_fd = ends[1];
		child_run(all, count, parent);
	}
	close_cleanup(&ends[1]);
	if (c->pid < 0) {
		c->pid = 0;
		close_cleanup(&ends[0]);
		return -errno;
	}
	c->fd = ends[0];
	return 0;
}

void check_next(struct check *c, struct check_report *ret) {
	static const char *const parts[] = {[LMDB_METAS] = "LMDB's first pages",
		[LMDB_FREE_LIST] = "LMDB's list of free pages",
		[LMDB_FORMAT] = "the version of its format",
		[LMDB_ENTRIES] = "its first entry"};
	char name[4 * BERTH_NAME_MAX + 1], how[40] = "";
	struct message m;
	struct lmdb_progress *p = &m.progress;
	ssize_t n;

	*ret = (struct check_report){
		.error = -ECHILD, .text = "the process that checked it was killed"};
	do
		n = read(c->fd, &m, sizeof(m));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(m))
		return;
	*ret = (struct check_report){.error = m.error, .entries = p->entries};
	if (m.error != -EUCLEAN)
		return;
	if (m.signal == SIGPROF)
		(void)snprintf(how, sizeof(how), " (LMDB loops)");
	else if (m.signal)
		(void)snprintf(how, sizeof(how), " (LMDB crashes, SIG%s)", sigabbrev_np(m.signal));
	p->name[BERTH_NAME_MAX] = '\0';
	if (*p->name)
		(void)snprintf(ret->text, sizeof(ret->text), "after the entry '%s'%s",
			name_escape(p->name, strlen(p->name), name, sizeof(name)), how);
	else
		(void)snprintf(ret->text, sizeof(ret->text), "in %s%s",
			parts[MIN_OF((unsigned)p->part, (unsigned)LMDB_ENTRIES)], how);
}

void check_end(struct check *c) {
	if (c->pid > 0) {
		(void)kill(c->pid, SIGKILL);
		(void)waitpid(c->pid, NULL, 0);
	}
	c->pid = 0;
	close_cleanup(&c->fd);
}
