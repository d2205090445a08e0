/* SPDX-License-Identifier: MIT */

/*
 * Runs a command, and opens pidfds for its processes, which call pidfd.c:
 *
 *     pidfd-server COMMAND [ARGUMENT]...
 *
 * Exits with the command's status, or 128 and the signal that ended it, and removes its socket.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pidfd.h"

static char path[64];

static void die(const char *what) {
	fprintf(stderr, "pidfd-server: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static int socket_open(void) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(path, sizeof(path), "/dev/shm/berth-pidfd.%d", (int)getpid());
	strcpy(address.sun_path, path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(fd, SOMAXCONN) < 0)
		die(path);
	/* Some tests give up root. */
	(void)chmod(path, 0666);
	return setenv(PIDFD_SERVER, path, 1) == 0 ? fd : -1;
}

static void answer(int connection, pid_t pid) {
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int error = pidfd < 0 ? errno : 0;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {&error, sizeof(error)};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

	if (pidfd >= 0) {
		m.msg_control = control.space;
		m.msg_controllen = sizeof(control.space);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.align), &pidfd, sizeof(pidfd));
	}
	(void)sendmsg(connection, &m, MSG_NOSIGNAL);
	if (pidfd >= 0)
		(void)close(pidfd);
}

static void serve(int listener) {
	for (;;) {
		int connection = accept(listener, NULL, NULL);
		pid_t pid;

		if (connection < 0)
			continue;
		if (recv(connection, &pid, sizeof(pid), 0) == (ssize_t)sizeof(pid))
			answer(connection, pid);
		(void)close(connection);
	}
}

int main(int argc, char **argv) {
	int listener, status = 0;
	pid_t parent = getpid(), server, command;

	if (argc < 2)
		return 2;
	listener = socket_open();
	server = fork();
	if (server == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			serve(listener);
		_exit(EXIT_FAILURE);
	}
	(void)close(listener);
	command = fork();
	if (command == 0) {
		(void)execvp(argv[1], argv + 1);
		die(argv[1]);
	}
	if (server < 0 || command < 0)
		die("fork");
	while (waitpid(command, &status, 0) < 0 && errno == EINTR)
		;
	(void)kill(server, SIGKILL);
	(void)unlink(path);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
