/* SPDX-License-Identifier: MIT */

/* Stops every thread of clients and berthd, wherever it stands, and knows when they do. */

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "torture.h"

/* The fields of a thread's stat file after its name; false if it is no more. */
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

static bool process_stands(const char *pid) {
	char path[300];
	struct dirent *task;
	bool stands = true;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%s/task", pid);
	dir = opendir(path);
	while (dir && stands && (task = readdir(dir))) {
		pid_t group;
		char state;

		if (task->d_name[0] != '.' && task_read(pid, task->d_name, &state, &group))
			stands = strchr("TtZXx", state) != NULL;
	}
	if (dir)
		(void)closedir(dir);
	return stands;
}

void torture_signal(const struct all *a, int signal) {
	if (a->berthd > 0)
		(void)kill(a->berthd, signal);
	(void)kill(-a->group, signal);
}

/* True if no thread of the clients' group runs, nor of berthd. */
static bool everything_stands(void *data) {
	const struct all *a = data;
	bool stands = true;
	struct dirent *process;
	DIR *dir;

	/* Again and again: exec forgets a stop that comes while it ends the other threads. */
	torture_signal(a, SIGSTOP);
	dir = opendir("/proc");
	while (dir && stands && (process = readdir(dir))) {
		pid_t group, pid = (pid_t)strtol(process->d_name, NULL, 10);
		char state;

		if (pid <= 0 || !task_read(process->d_name, process->d_name, &state, &group))
			continue;
		if (group == a->group || (pid == a->berthd && pid > 0))
			stands = process_stands(process->d_name);
	}
	if (dir)
		(void)closedir(dir);
	return stands;
}

bool torture_stop(const struct all *a) {
	return eventually(everything_stands, (void *)a);
}
