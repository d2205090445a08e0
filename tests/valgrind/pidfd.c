/* SPDX-License-Identifier: MIT */

/*
 * Preloaded into programs that run under valgrind, in which (as of 3.19) pidfd_open fails with
 * ENOSYS. libberth and berthd call it through syscall(). This library replaces syscall(): for
 * pidfd_open it asks a process outside of valgrind (pidfd-server.c), which opens the descriptor and
 * sends it. All other system calls go to the kernel. The descriptor is a real pidfd.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "pidfd.h"

/* Under valgrind the name of every process is valgrind's, but tests check the names of holders. */
__attribute__((constructor)) static void name_take(void) {
	(void)prctl(PR_SET_NAME, program_invocation_short_name);
}

static int server_connect(void) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv(PIDFD_SERVER);
	int fd;

	if (!path || strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

/* Returns the descriptor in the answer, or -1 with errno set. */
static int answer_receive(int fd) {
	char space[CMSG_SPACE(sizeof(int))];
	int error = ENOSYS, pidfd;
	struct iovec part = {&error, sizeof(error)};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = space,
		.msg_controllen = sizeof(space)};
	struct cmsghdr *c;

	if (recvmsg(fd, &m, MSG_CMSG_CLOEXEC) == (ssize_t)sizeof(error) && error == 0) {
		c = CMSG_FIRSTHDR(&m);
		if (c && c->cmsg_type == SCM_RIGHTS) {
			memcpy(&pidfd, CMSG_DATA(c), sizeof(pidfd));
			return pidfd;
		}
		error = EMFILE;
	}
	errno = error;
	return -1;
}

static long pidfd_open_by_server(pid_t pid) {
	int fd = server_connect(), saved, pidfd = -1;

	if (fd < 0) {
		errno = ENOSYS;
		return -1;
	}
	if (send(fd, &pid, sizeof(pid), MSG_NOSIGNAL) == (ssize_t)sizeof(pid))
		pidfd = answer_receive(fd);
	saved = errno;
	(void)close(fd);
	errno = saved;
	return pidfd;
}

__attribute__((visibility("default"))) long syscall(long number, ...) {
	long (*kernel)(long number, ...) = NULL;
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_pidfd_open)
		return pidfd_open_by_server((pid_t)a[0]);
	*(void **)&kernel = dlsym(RTLD_NEXT, "syscall");
	return kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
