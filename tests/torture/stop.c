/* SPDX-License-Identifier: MIT */

/* Stops all threads of the clients and of berthd, and waits until they have stopped. */

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "torture.h"

/* Reads the state and the process group in a thread's stat file. False if the thread doesn't exist
 * any more. */
static bool task_read(const char *pid, const char *task, char *ret_state, pid_t *ret_group) {
	char path[600], text[512], *end;
	ssize_t n;
	int fd, ppid;

	(void)snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", pid, task);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	end = strrchr(text, ')');
	return end && sscanf(end + 1, " %c %d %d", ret_state, &ppid, ret_group) == 3;
}

static bool process_is_stopped(const char *pid) {
	char path[300];
	struct dirent *task;
	bool stopped = true;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%s/task", pid);
	dir = opendir(path);
	while (dir && stopped && (task = readdir(dir))) {
		pid_t group;
		char state;

		if (task->d_name[0] != '.' && task_read(pid, task->d_name, &state, &group))
			stopped = strchr("TtZXx", state) != NULL;
	}
	if (dir)
		(void)closedir(dir);
	return stopped;
}

void torture_signal(const struct processes *p, int signal) {
	if (p->berthd > 0)
		(void)kill(p->berthd, signal);
	(void)kill(-p->group, signal);
}

/* Sends SIGSTOP to the processes. Returns true if no thread of the clients' group or of berthd runs
 * any more. */
static bool all_are_stopped(void *data) {
	const struct processes *p = data;
	bool stopped = true;
	struct dirent *process;
	DIR *dir;

	/* Each call sends SIGSTOP again, since a SIGSTOP is lost while exec ends the other threads
	 * of a process. */
	torture_signal(p, SIGSTOP);
	dir = opendir("/proc");
	while (dir && stopped && (process = readdir(dir))) {
		pid_t group, pid = (pid_t)strtol(process->d_name, NULL, 10);
		char state;

		if (pid <= 0 || !task_read(process->d_name, process->d_name, &state, &group))
			continue;
		if (group == p->group || (pid == p->berthd && pid > 0))
			stopped = process_is_stopped(process->d_name);
	}
	if (dir)
		(void)closedir(dir);
	return stopped;
}

bool torture_stop(const struct processes *p) {
	return eventually(all_are_stopped, (void *)p);
}
