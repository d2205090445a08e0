/* SPDX-License-Identifier: MIT */

/* Sends and receives packets with their descriptors, connects to the daemon's sockets, and
 * exchanges a request and its reply within a deadline. */

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "clock.h"
#include "message.h"
#include "util.h"

/* The pause between two tries, while no process listens or memory is short. */
#define RETRY_PAUSE_MS 20

union control {
	struct cmsghdr align;
	char space[CMSG_SPACE(MESSAGE_FDS_MAX * sizeof(int))];
};

struct message_header message_header_make(
	enum message_opcode opcode, uint32_t length, uint32_t code) {
	return (struct message_header){
		.magic = MESSAGE_MAGIC,
		.version = MESSAGE_VERSION,
		.opcode = (uint16_t)opcode,
		.length = length,
		.code = code,
	};
}

void message_name_set(struct message_name *n, const char *text) {
	memset(n, 0, sizeof(*n));
	memcpy(n->text, text, strnlen(text, sizeof(n->text) - 1));
}

int message_name_length(const struct message_name *n) {
	size_t length = strnlen(n->text, sizeof(n->text));

	return length < sizeof(n->text) ? (int)length : -EINVAL;
}

/* -- one packet -------------------------------------------------------------------------------- */

/* Moves a descriptor to a number of 3 or above, and closes `fd`. If stderr were closed and our
 * socket got its number, then code of the application that writes to stderr would write to the
 * socket. -1: no descriptor is left. */
static int fd_raise(int fd) {
	int high = fd;

	if (fd >= 0 && fd < 3) {
		high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		close_cleanup(&fd);
	}
	return high;
}

int message_send(int fd, const void *message, size_t length, const int *fds, size_t fd_count) {
	struct iovec part = {.iov_base = (void *)(uintptr_t)message, .iov_len = length};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	union control control;
	ssize_t n;

	if (fd_count > MESSAGE_FDS_MAX)
		return -EINVAL;
	if (fd_count > 0) {
		struct cmsghdr *c = &control.align;

		memset(&control, 0, sizeof(control));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
		m.msg_control = control.space;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void fds_close(int *fds) {
	for (size_t i = 0; fds && i < MESSAGE_FDS_MAX; i++)
		close_cleanup(&fds[i]);
}

ssize_t message_receive(int fd, void *buffer, size_t size, int *ret_fds) {
	struct iovec part = {.iov_base = buffer, .iov_len = size};
	union control control;
	struct msghdr m = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	struct message_header header = {0};
	size_t kept = 0;
	ssize_t n;

	for (size_t i = 0; ret_fds && i < MESSAGE_FDS_MAX; i++)
		ret_fds[i] = -1;
	do
		n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int received;

			memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof(received));
			if (ret_fds && kept < MESSAGE_FDS_MAX)
				ret_fds[kept++] = fd_raise(received);
			else
				close_cleanup(&received);
		}
	}
	/* The version isn't checked here: the daemon replies to a request of another version. */
	memcpy(&header, buffer, MIN_OF((size_t)n, sizeof(header)));
	if (m.msg_flags & MSG_TRUNC)
		n = -EMSGSIZE;
	else if (n > 0 && ((size_t)n < sizeof(header) || header.magic != MESSAGE_MAGIC ||
				  header.length != (size_t)n))
		n = -EBADMSG;
	if (n <= 0)
		fds_close(ret_fds);
	return n;
}

/* -- connecting -------------------------------------------------------------------------------- */

/* Tries to connect a non-blocking socket. -EAGAIN: the daemon's backlog is full. */
static int connect_once(int fd, const char *dir, const char *name) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int size = sizeof(address.sun_path);
	_cleanup_close_ int dir_fd = -1;
	int r = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", dir, name);

	/* If the directory's name is too long for a socket's address, the address goes through a
	 * descriptor of the directory. */
	if (r < 0 || r >= size) {
		dir_fd = fd_raise(open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC));
		if (dir_fd < 0)
			return -errno;
		r = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
			dir_fd, name);
		if (r < 0 || r >= size)
			return -ENAMETOOLONG;
	}
	do
		r = connect(fd, (const struct sockaddr *)&address, sizeof(address));
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static bool connect_may_work_later(int error) {
	return error == -ECONNREFUSED || error == -ENOENT || error == -EAGAIN;
}

/* Sleeps for RETRY_PAUSE_MS, but not beyond the deadline. False: the deadline has passed. */
static bool retry_pause(int64_t deadline) {
	int64_t left = MIN_OF(deadline - clock_monotonic_ms(), RETRY_PAUSE_MS);
	struct timespec pause = {.tv_nsec = left * 1000000};

	if (left <= 0)
		return false;
	/* If a signal interrupts the sleep, the next try merely comes earlier. */
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return true;
}

int message_connect(const char *runtime_dir, const char *name, int64_t deadline, int *ret_fd) {
	_cleanup_close_ int fd = -1;
	int r;

	fd = fd_raise(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (fd < 0)
		return -errno;
	do
		r = connect_once(fd, runtime_dir, name);
	while (connect_may_work_later(r) && retry_pause(deadline));
	if (r < 0)
		return connect_may_work_later(r) ? -ECONNREFUSED : r;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* -- requests and replies ---------------------------------------------------------------------- */

/* Waits until the socket is ready for `events`. -ETIMEDOUT at the deadline. */
static int wait_for(int fd, short events, int64_t deadline) {
	struct pollfd p = {.fd = fd, .events = events};
	int64_t left;
	int n;

	do {
		left = deadline - clock_monotonic_ms();
		n = poll(&p, 1, (int)MAX_OF(MIN_OF(left, INT_MAX), 0));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ETIMEDOUT;
	return p.revents & POLLNVAL ? -EBADF : 0;
}

int message_ask(int fd, const void *request, int pass_fd, int64_t deadline) {
	struct message_header header;
	int r;

	memcpy(&header, request, sizeof(header));
	for (;;) {
		r = message_send(fd, request, header.length, &pass_fd, pass_fd >= 0);
		if (r != -EAGAIN)
			return r == -EPIPE ? -ECONNRESET : r;
		r = wait_for(fd, POLLOUT, deadline);
		if (r < 0)
			return r;
	}
}

/* Waits for a packet. If memory is short, retries until the deadline, since the reply to a request
 * must be read. */
static ssize_t call_receive(int fd, void *reply, size_t size, int *ret_fds, int64_t deadline) {
	ssize_t n;
	int r;

	for (;;) {
		n = message_receive(fd, reply, size, ret_fds);
		if (n >= 0)
			return n == 0 ? -ECONNRESET : n;
		r = n == -EAGAIN ? wait_for(fd, POLLIN, deadline) : (int)n;
		if (r < 0 && !((r == -ENOMEM || r == -ENOBUFS) && retry_pause(deadline)))
			return r;
	}
}

int message_skip(int fd, void *buffer, size_t size, int64_t deadline) {
	ssize_t n = call_receive(fd, buffer, size, NULL, deadline);

	return n < 0 ? (int)n : 0;
}

int message_answer(int fd, const void *request, void *reply, size_t *ret_size, int *ret_fds,
	int64_t deadline) {
	ssize_t n = call_receive(fd, reply, *ret_size, ret_fds, deadline);
	struct message_header asked, got;

	if (n < 0)
		return (int)n;
	memcpy(&asked, request, sizeof(asked));
	memcpy(&got, reply, sizeof(got));
	/* Opcode 0: berthd had no descriptors left, and refused the request without reading it. */
	if (got.version != asked.version ||
		(got.opcode != asked.opcode && !(got.opcode == 0 && got.code != 0)) ||
		(got.code != 0 && n != sizeof(struct message_failed))) {
		fds_close(ret_fds);
		return got.version != asked.version ? -EPROTONOSUPPORT : -EBADMSG;
	}
	*ret_size = (size_t)n;
	return 0;
}

int message_call(int fd, const void *request, void *reply, size_t *ret_size, int64_t deadline) {
	int r = message_ask(fd, request, -1, deadline);

	/* If berthd hung up before it received the request, it may have sent the reason. */
	if (r < 0 && r != -ECONNRESET)
		return r;
	return message_answer(fd, request, reply, ret_size, NULL, deadline);
}
