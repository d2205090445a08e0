/* SPDX-License-Identifier: MIT */

/* Opens the listening sockets, lets only the members of their groups connect, and accepts
 * connections. */

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "admin.h"
#include "berth.h"
#include "clients.h"
#include "log.h"
#include "loop.h"
#include "segment.h"
#include "sockets.h"
#include "util.h"

/* How long berthd accepts no connections after accept() has failed. */
#define PAUSE_USEC 20000

enum { SOCKET_CLIENTS, SOCKET_ADMIN, SOCKET_COUNT };

/* The protocol of each socket, and the group that may connect by default. */
static const struct {
	const struct protocol *protocol;
	const char *group;
} socket_table[SOCKET_COUNT] = {
	[SOCKET_CLIENTS] = {&clients_protocol, "berth"},
	[SOCKET_ADMIN] = {&admin_protocol, "berth-admin"},
};

struct listener {
	struct sockets *sockets;
	int kind; /* index into socket_table */
	int fd;
	bool inherited; /* from systemd */
	sd_event_source *source;
};

struct sockets {
	struct context *context;
	struct connections *connections;
	struct listener listener[SOCKET_COUNT];
	int reserve_fd; /* closed for a moment to refuse a connection if no other fd is left */
	bool accept_failure_logged;
	sd_event_source *pause;
};

static const char *socket_name(int kind) {
	return socket_table[kind].protocol->socket;
}

/* -- accepting --------------------------------------------------------------------------------- */

static int on_pause_over(sd_event_source *source, uint64_t usec, void *data) {
	struct sockets *s = data;

	(void)source, (void)usec;
	for (int kind = 0; kind < SOCKET_COUNT; kind++)
		(void)sd_event_source_set_enabled(s->listener[kind].source, SD_EVENT_ON);
	return 0;
}

/* Stops accepting for a while: a connection that can't be accepted stays in the queue, and would
 * wake the event loop again at once. */
static void listener_pause(struct listener *l) {
	timer_set(l->sockets->pause, PAUSE_USEC);
	(void)sd_event_source_set_enabled(l->source, SD_EVENT_OFF);
}

/* Refuses an accepted connection, and closes it. A close while data is unread would discard the
 * reply. So the function shuts the socket down for reading, reads the request, replies, and then
 * closes the socket. */
static void connection_turn_away(int fd, uint32_t code, const char *why) {
	static _Alignas(16) uint8_t buffer[MESSAGE_SIZE_MAX];
	struct message_failed failed = {.header = message_header_make(0, sizeof(failed), code)};
	struct message_header request;

	(void)shutdown(fd, SHUT_RD);
	if (message_receive(fd, buffer, sizeof(buffer), NULL) > 0) {
		memcpy(&request, buffer, sizeof(request));
		failed.header.opcode = request.opcode;
		failed.header.version = request.version;
	}
	(void)snprintf(failed.text, sizeof(failed.text), "%s", why);
	(void)message_send(fd, &failed, sizeof(failed), NULL, 0);
	(void)close(fd);
}

static int on_listener(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct listener *l = data;
	struct sockets *s = l->sockets;
	int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source, (void)events;
	if (connection < 0 && (errno == EMFILE || errno == ENFILE)) {
		/* berthd closes reserve_fd to accept the connection and tell the client why the
		 * connection is refused. Otherwise the client would wait. */
		connections_log_no_descriptors(s->context);
		close_cleanup(&s->reserve_fd);
		connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (connection >= 0)
			connection_turn_away(
				connection, BERTH_NO_SYSTEM_RESOURCES, NO_DESCRIPTORS_TEXT);
		else
			listener_pause(l);
		s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return 0;
	}
	if (connection < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return 0;
		if (!s->accept_failure_logged)
			log_warning("Can't accept a connection on %s: %s; trying again",
				socket_name(l->kind), strerror(errno));
		s->accept_failure_logged = true;
		listener_pause(l);
		return 0;
	}
	s->context->no_descriptors_logged = s->accept_failure_logged = false;
	if (connection_new(s->connections, socket_table[l->kind].protocol, connection) < 0) {
		log_warning("No memory for a connection on %s; hanging up", socket_name(l->kind));
		(void)close(connection);
	}
	return 0;
}

/* -- the group that may connect ---------------------------------------------------------------- */

/* The group of the command line; NULL: none was given. */
static const char *group_given(const struct context *context, int kind) {
	return kind == SOCKET_ADMIN ? context->admin_group : context->group;
}

/* *ret is (gid_t)-1 if the default group doesn't exist: then the socket keeps berthd's own
 * group. */
static int group_find(const struct context *context, int kind, gid_t *ret) {
	const char *given = group_given(context, kind);
	const char *name = given ? given : socket_table[kind].group;
	const struct group *g;
	int error;

	errno = 0;
	g = getgrnam(name);
	error = g ? 0 : errno;
	*ret = g ? g->gr_gid : (gid_t)-1;
	/* For a group that doesn't exist, name services return various errors, but not these. */
	if (error == ENOMEM || error == EMFILE || error == ENFILE || error == EIO) {
		log_error("Can't look up group '%s' for %s: %s", name, socket_name(kind),
			strerror(error));
		return -error;
	}
	if (g || !given)
		return 0;
	log_error("There is no group '%s' for %s", given, socket_name(kind));
	return -EINVAL;
}

/* -- sockets of berthd's own ------------------------------------------------------------------- */

static int socket_make(const struct context *context, int kind, int *ret) {
	int runtime_fd = context->segment->runtime_fd;
	const char *name = socket_name(kind);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;
	gid_t group;
	int r = group_find(context, kind, &group);

	if (r < 0)
		return r;
	/* The runtime directory's path may be too long for an address, so the descriptor of the
	 * directory is used. */
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
		runtime_fd, name);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		goto failed;
	/* A berthd that was killed leaves its socket. */
	if (unlinkat(runtime_fd, name, 0) < 0 && errno != ENOENT)
		goto failed;
	/* Until the socket has its group, only berthd's user can connect. */
	(void)fchmod(fd, 0600);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		goto failed;
	r = fchownat(runtime_fd, name, (uid_t)-1, group, 0);
	if (r < 0 && group_given(context, kind))
		goto failed;
	if (r < 0)
		log_notice("Can't give %s to group '%s': %s; only berthd's own group may connect",
			name, socket_table[kind].group, strerror(errno));
	if (fchmodat(runtime_fd, name, 0660, 0) < 0 || listen(fd, SOMAXCONN) < 0)
		goto failed;
	*ret = fd;
	fd = -1;
	return 0;
failed:
	r = -errno;
	log_error("Can't listen on %s/%s: %s", context->runtime_dir, name, strerror(-r));
	return r;
}

/* -- sockets of systemd ------------------------------------------------------------------------ */

/* Refuses a socket if users that the configuration doesn't allow can connect to it. */
static int socket_check(const struct context *context, int kind, int fd, const char *path) {
	const char *given = group_given(context, kind);
	struct stat st;
	gid_t group;
	int r = group_find(context, kind, &group);

	if (r < 0)
		return r;
	if (sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) <= 0 || stat(path, &st) < 0) {
		log_error("The socket handed over for %s is not a listening SOCK_SEQPACKET socket "
			  "of a path; set ListenSequentialPacket= in its unit",
			socket_name(kind));
		return -EINVAL;
	}
	if ((st.st_mode & 07777) == 0660 && (st.st_uid == geteuid() || st.st_uid == 0) &&
		(group == (gid_t)-1 || st.st_gid == group))
		return 0;
	log_error("%s has mode %04o, owner %u and group %u, but must have mode 0660, owner %u or 0 "
		  "and group '%s'; set SocketMode=, SocketUser= and SocketGroup= in its unit",
		path, st.st_mode & 07777, st.st_uid, st.st_gid, geteuid(),
		given ? given : socket_table[kind].group);
	return -EACCES;
}

static void set_nonblocking(int fd) {
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* The file name of a socket from systemd tells whether it is berth.sock or admin.sock. */
static int sockets_inherit(struct sockets *s) {
	int n = sd_listen_fds(1), r;

	for (int i = 0; i < n; i++) {
		struct sockaddr_un address = {0};
		socklen_t length = sizeof(address);
		int fd = SD_LISTEN_FDS_START + i, kind = 0;
		const char *name = "", *slash;

		if (getsockname(fd, (struct sockaddr *)&address, &length) == 0) {
			slash = strrchr(address.sun_path, '/');
			name = slash ? slash + 1 : address.sun_path;
		}
		while (kind < SOCKET_COUNT && strcmp(name, socket_name(kind)) != 0)
			kind++;
		if (kind == SOCKET_COUNT || s->listener[kind].fd >= 0) {
			log_error("systemd handed over a socket that is neither berth.sock nor "
				  "admin.sock, or one twice");
			return -EINVAL;
		}
		r = socket_check(s->context, kind, fd, address.sun_path);
		if (r < 0)
			return r;
		set_nonblocking(fd);
		s->listener[kind].fd = fd;
		s->listener[kind].inherited = true;
	}
	return n < 0 ? n : 0;
}

void sockets_refuse_waiting(uint32_t code, const char *why) {
	int n = sd_listen_fds(1);

	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		set_nonblocking(fd);
		/* Accepts no more connections than fit into a socket's queue, since clients may
		 * keep connecting. */
		for (int k = 0; k < SOMAXCONN; k++) {
			int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

			if (connection < 0)
				break;
			connection_turn_away(connection, code, why);
		}
	}
}

/* -- begin and end ----------------------------------------------------------------------------- */

int sockets_new(struct context *context, struct connections *connections, struct sockets **ret) {
	struct sockets *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->context = context;
	s->connections = connections;
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int kind = 0; kind < SOCKET_COUNT; kind++)
		s->listener[kind] = (struct listener){.sockets = s, .kind = kind, .fd = -1};
	r = timer_new(context->event, on_pause_over, s, &s->pause);
	if (r >= 0)
		r = sockets_inherit(s);
	for (struct listener *l = s->listener; r >= 0 && l < s->listener + SOCKET_COUNT; l++) {
		if (l->fd < 0)
			r = socket_make(context, l->kind, &l->fd);
		if (r >= 0)
			r = sd_event_add_io(
				context->event, &l->source, l->fd, EPOLLIN, on_listener, l);
	}
	if (r < 0) {
		sockets_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void sockets_free(struct sockets *s) {
	if (!s)
		return;
	for (int kind = 0; kind < SOCKET_COUNT; kind++) {
		struct listener *l = &s->listener[kind];

		(void)sd_event_source_disable_unref(l->source);
		if (l->fd >= 0 && !l->inherited)
			(void)unlinkat(s->context->segment->runtime_fd, socket_name(kind), 0);
		close_cleanup(&l->fd);
	}
	(void)sd_event_source_disable_unref(s->pause);
	close_cleanup(&s->reserve_fd);
	free(s);
}
