/* SPDX-License-Identifier: MIT */

/*
 * Preloaded into programs that run under valgrind, which as of 3.19 knows no pidfd_open and answers
 * ENOSYS for it: libberth and berthd call it through syscall(), so this does, and has a process
 * outside of valgrind (pidfd-server.c) open the descriptor and hand it over. Anything else goes to
 * the kernel as it is. The descriptor is a real one, and berthd looks at it as ever.
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

/* valgrind calls every process by its own name, which is shown of those that hold slots. */
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

/* The answer's descriptor, or -1 and its errno. */
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

static long pidfd_open_elsewhere(pid_t pid) {
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
		return pidfd_open_elsewhere((pid_t)a[0]);
	*(void **)&kernel = dlsym(RTLD_NEXT, "syscall");
	return kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
