/* SPDX-License-Identifier: MIT */

/*
 * Forks the process that checks the store, and receives its reports.
 *
 * The process sends two struct messages for each environment through a pipe: on reading it, and on
 * changing it. If LMDB crashes, aborts or loops (CPU_SECONDS), a signal handler sends the message as it
 * stands: with the key that was looked at last. The process has no descriptors but the pipe and the standard ones, so that it holds none of
 * berthd's locks; it dies with the thread that forked it, and leaves no core. It needs no privilege and
 * no system call that berthd.service forbids (so it has a timer and no RLIMIT_CPU).
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

/* CPU time for one environment: a hundred times what it takes. */
#define CPU_SECONDS         10
#define CPU_SECONDS_PER_MIB 1

/* What goes through the pipe, in one piece (PIPE_BUF). */
struct message {
	int error;
	int signal;
	char part[60], problem[100];
	size_t key_size, entries;
	unsigned char key[LMDB_KEY_MAX];
};

_Static_assert(sizeof(struct message) <= 4096, "a message goes through a pipe in one piece");

/* -- the process that checks ------------------------------------------------------------------- */

/* For the signal handler. */
static struct lmdb_progress progress;
static int pipe_fd;

static void text_copy(char *to, size_t size, const char *from) {
	size_t i = 0;

	for (; from && from[i] && i + 1 < size; i++)
		to[i] = from[i];
	to[i] = '\0';
}

/* Calls only what a signal handler may call. */
static void message_send_now(int error, int signal) {
	struct message m = {.error = error, .signal = signal};

	text_copy(m.part, sizeof(m.part), progress.part);
	text_copy(m.problem, sizeof(m.problem), progress.problem);
	m.entries = progress.entries;
	m.key_size = progress.key_size;
	memcpy(m.key, progress.key, sizeof(m.key));
	if (write(pipe_fd, &m, sizeof(m)) != (ssize_t)sizeof(m))
		_exit(EXIT_FAILURE);
}

static void on_crash(int signal) {
	message_send_now(-EUCLEAN, signal);
	_exit(EXIT_FAILURE);
}

/* On a stack of its own: the other one may be used up. */
static void crashes_catch(void) {
	static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPROF};
	static char stack[65536];
	const stack_t s = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction a = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};
	sigset_t none;

	(void)sigaltstack(&s, NULL);
	(void)sigfillset(&a.sa_mask);
	for (size_t i = 0; i < ELEMENTS(signals); i++)
		(void)sigaction(signals[i], &a, NULL);
	(void)signal(SIGTERM, SIG_DFL);
	(void)signal(SIGINT, SIG_DFL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void time_limit(const struct lmdb *l) {
	struct itimerval timer = {.it_value.tv_sec = CPU_SECONDS};
	struct stat st;

	if (stat(lmdb_path(l), &st) == 0)
		timer.it_value.tv_sec += (time_t)(st.st_size >> 20) * CPU_SECONDS_PER_MIB;
	(void)setitimer(ITIMER_PROF, &timer, NULL);
}

static void child_run(const struct lmdb *const *all, size_t count, pid_t parent) {
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	(void)close_range(STDERR_FILENO + 1, (unsigned)pipe_fd - 1, 0);
	(void)close_range((unsigned)pipe_fd + 1, ~0u, 0);
	(void)prctl(PR_SET_DUMPABLE, 0);
	crashes_catch();
	for (size_t i = 0; i < count; i++) {
		int r;

		time_limit(all[i]);
		r = lmdb_verify(all[i], &progress);
		message_send_now(r, 0);
		message_send_now(r < 0 ? r : lmdb_try_changes(all[i], &progress), 0);
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

static ssize_t message_read(int fd, struct message *m) {
	ssize_t n;

	do
		n = read(fd, m, sizeof(*m));
	while (n < 0 && errno == EINTR);
	return n;
}

/* Of a process that has died without a message. */
static void death_report(struct check *c, struct check_report *ret) {
	int status = 0, signal;

	if (c->pid > 0 && waitpid(c->pid, &status, 0) == c->pid)
		c->pid = 0;
	signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	ret->error = signal == SIGSEGV || signal == SIGBUS ? -EUCLEAN : -ECHILD;
	(void)snprintf(ret->text, sizeof(ret->text), "the process that checked it was killed%s%s",
		signal ? " by SIG" : "", signal ? sigabbrev_np(signal) : "");
}

/* The key that the message has is of the entry that was found damaged, or that LMDB had read last. */
static void message_explain(struct message *m, struct check_report *ret) {
	bool is_entry = strcmp(m->part, LMDB_PART_ENTRIES) == 0;
	char key[4 * LMDB_KEY_MAX + 1], what[140];

	m->part[sizeof(m->part) - 1] = m->problem[sizeof(m->problem) - 1] = '\0';
	m->key_size = MIN_OF(m->key_size, sizeof(m->key));
	(void)name_escape((const char *)m->key, m->key_size, key, sizeof(key));
	if (m->signal == SIGPROF)
		(void)snprintf(what, sizeof(what), "LMDB reads it without an end");
	else if (m->signal)
		(void)snprintf(what, sizeof(what), "LMDB crashes (SIG%s)", sigabbrev_np(m->signal));
	else
		(void)snprintf(what, sizeof(what), "%s", m->problem);
	if (is_entry && m->key_size > 0)
		(void)snprintf(ret->text, sizeof(ret->text), "%s the entry '%s': %s",
			m->signal ? "after" : "at", key, what);
	else
		(void)snprintf(ret->text, sizeof(ret->text), "in %s: %s",
			is_entry ? "its first entry" : m->part, what);
}

void check_next(struct check *c, struct check_report *ret) {
	struct message m;

	*ret = (struct check_report){0};
	if (message_read(c->fd, &m) != (ssize_t)sizeof(m)) {
		death_report(c, ret);
		return;
	}
	ret->error = m.error;
	ret->entries = m.entries;
	if (m.error == -EUCLEAN)
		message_explain(&m, ret);
}

void check_end(struct check *c) {
	if (c->pid > 0) {
		(void)kill(c->pid, SIGKILL);
		(void)waitpid(c->pid, NULL, 0);
	}
	c->pid = 0;
	close_cleanup(&c->fd);
}
