/* SPDX-License-Identifier: MIT */

/* A peer that is like berth without shared memory: a daemon counts, and clients call it over a
 * socket for every slot. When a connection ends, the daemon releases its slots. */

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench.h"
#include "peer.h"

#define CONNECTIONS_MAX 64

struct request {
	int change; /* +1, -1 */
	unsigned object;
};

static pid_t server;
static int connection = -1;

static struct sockaddr_un address_make(void) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/daemon", bench.dir);
	return address;
}

/* -- the daemon -------------------------------------------------------------------------------- */

static struct pollfd fds[CONNECTIONS_MAX + 1]; /* the last one listens */
static unsigned held[CONNECTIONS_MAX][OBJECTS], counts[OBJECTS];

static void serve_new(void) {
	int fd = accept4(fds[CONNECTIONS_MAX].fd, NULL, NULL, SOCK_CLOEXEC);

	for (unsigned i = 0; i < CONNECTIONS_MAX && fd >= 0; i++) {
		if (fds[i].fd >= 0)
			continue;
		fds[i] = (struct pollfd){.fd = fd, .events = POLLIN};
		return;
	}
	(void)close(fd);
}

static void serve_end(unsigned i) {
	(void)close(fds[i].fd);
	fds[i].fd = -1;
	for (unsigned object = 0; object < OBJECTS; object++) {
		counts[object] -= held[i][object];
		held[i][object] = 0;
	}
}

static void serve_request(unsigned i) {
	struct request r;
	int answer = 0;

	if (recv(fds[i].fd, &r, sizeof(r), 0) != (ssize_t)sizeof(r) || r.object >= OBJECTS) {
		serve_end(i);
		return;
	}
	if (r.change < 0 ? held[i][r.object] > 0 : counts[r.object] < object_limit(r.object)) {
		counts[r.object] += (unsigned)r.change;
		held[i][r.object] += (unsigned)r.change;
		answer = 1;
	}
	(void)send(fds[i].fd, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void serve(int listener) {
	for (unsigned i = 0; i <= CONNECTIONS_MAX; i++)
		fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	fds[CONNECTIONS_MAX].fd = listener;
	for (;;) {
		(void)poll(fds, CONNECTIONS_MAX + 1, -1);
		for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
			if (fds[i].fd >= 0 && fds[i].revents)
				serve_request(i);
		if (fds[CONNECTIONS_MAX].revents)
			serve_new();
	}
}

static const char *daemon_start(void) {
	struct sockaddr_un address = address_make();
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	bench_check(listener >= 0, "socket");
	bench_check(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0, "bind");
	bench_check(listen(listener, CONNECTIONS_MAX) == 0, "listen");
	server = bench_fork();
	if (server == 0)
		serve(listener);
	(void)close(listener);
	return NULL;
}

static void daemon_stop(void) {
	bench_kill(server);
	server = 0;
}

static void daemon_restart(void) {
	struct sockaddr_un address = address_make();

	daemon_stop();
	(void)unlink(address.sun_path);
	(void)daemon_start();
}

/* -- clients ----------------------------------------------------------------------------------- */

static void daemon_open(void) {
	struct sockaddr_un address = address_make();

	connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bench_check(connection >= 0, "socket");
	bench_check(connect(connection, (struct sockaddr *)&address, sizeof(address)) == 0,
		"connect to the plain daemon");
}

static bool daemon_ask(int change, unsigned object) {
	struct request r = {change, object};
	int answer = 0;

	bench_check(send(connection, &r, sizeof(r), 0) == (ssize_t)sizeof(r), "send");
	bench_check(
		recv(connection, &answer, sizeof(answer), 0) == (ssize_t)sizeof(answer), "recv");
	return answer;
}

static bool daemon_take(unsigned object) {
	return daemon_ask(1, object);
}

static void daemon_give(unsigned object) {
	bench_check(daemon_ask(-1, object), "releasing a slot of the plain daemon");
}

PEER_LOOPS(daemon)

struct peer peer_daemon = {
	.name = "plain daemon",
	.operations = "two round trips, SOCK_SEQPACKET",
	.loses = "nothing: the daemon gives its slots back",
	.forgets = "all slots, though their holders live",
	.stop = daemon_stop,
	.restart = daemon_restart,
	.open = daemon_open,
	PEER_FUNCTIONS(daemon),
};
