/* SPDX-License-Identifier: MIT */

/* Listens on the two sockets, keeps their connections, and hands each message to its handler. */

#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "admin.h"
#include "berth.h"
#include "log.h"
#include "server.h"

/* How long nobody is let in after an accept that failed. */
#define PAUSE_USEC 20000

struct listener {
	struct server *server;
	enum server_socket kind;
	int fd;
	bool inherited;
	sd_event_source *source;
};

struct server {
	struct context *context;
	struct listener listener[SOCKET_COUNT];
	struct connection *connections;
	int reserve_fd; /* given up for a moment to refuse a connection when none is left */
	bool said_no_descriptors;
	bool said_no_accept;
	sd_event_source *pause; /* ends when listening goes on */
};

static const struct {
	const char *name, *group;
	const struct message_type *types;
} socket_table[SOCKET_COUNT] = {
	[SOCKET_CLIENTS] = {"berth.sock", "berth", service_types},
	[SOCKET_ADMIN] = {"admin.sock", "berth-admin", admin_types},
};

uint32_t code_of(int error) {
	switch (-error) {
	case 0:
		return BERTH_SUCCESS;
	case ENOENT:
		return BERTH_NO_SUCH_USER;
	case EUCLEAN:
		return BERTH_FILE_CORRUPT;
	case EINVAL:
	case EBADMSG:
		return BERTH_INVALID_PARAMETER;
	case EACCES:
	case EPERM:
		return BERTH_ACCESS_DENIED;
	default:
		return BERTH_NO_SYSTEM_RESOURCES;
	}
}

uint32_t code_of_store(int error) {
	return error == -ENOENT ? BERTH_NO_SYSTEM_RESOURCES : code_of(error);
}

/* -- answers ------------------------------------------------------------------------------------- */

static int connection_events(struct connection *c) {
	if (c->unsent)
		return EPOLLOUT;
	/* While the store is at work only a hang-up is of interest, and epoll always tells that. */
	return c->waiting ? 0 : EPOLLIN;
}

static int connection_watch(struct connection *c) {
	return sd_event_source_set_io_events(c->source, (uint32_t)connection_events(c));
}

/* An answer that finds no room is kept; nothing further is read until it is gone. Answers with
 * descriptors are the first on their connection and always find room. */
int connection_reply(
	struct connection *c, const void *message, size_t length, const int *fds, size_t fd_count) {
	int r = message_send(c->fd, message, length, fds, fd_count);

	if (r != -EAGAIN || fd_count > 0 || c->unsent)
		return r;
	c->unsent = malloc(length);
	if (!c->unsent)
		return -ENOMEM;
	memcpy(c->unsent, message, length);
	c->unsent_length = length;
	return connection_watch(c);
}

static int connection_flush(struct connection *c) {
	int r = message_send(c->fd, c->unsent, c->unsent_length, NULL, 0);

	if (r == -EAGAIN)
		return 0;
	free(c->unsent);
	c->unsent = NULL;
	return r < 0 ? r : connection_watch(c);
}

int connection_refuse(
	struct connection *c, uint16_t opcode, uint32_t code, const char *format, ...) {
	struct message_failed failed = {
		.header = message_header_make(opcode, sizeof(failed), code)};
	va_list args;

	va_start(args, format);
	(void)vsnprintf(failed.text, sizeof(failed.text), format, args);
	va_end(args);
	return connection_reply(c, &failed, sizeof(failed), NULL, 0);
}

int connection_done(struct connection *c, uint16_t opcode, uint64_t affected) {
	struct message_done done = {
		.header = MESSAGE_HEADER(opcode, done),
		.affected = affected,
	};

	return connection_reply(c, &done, sizeof(done), NULL, 0);
}

/* -- connections ----------------------------------------------------------------------------------- */

static void connection_free(struct connection *c) {
	struct server *s = c->context->server;

	if (c->previous)
		c->previous->next = c->next;
	else
		s->connections = c->next;
	if (c->next)
		c->next->previous = c->previous;
	import_free(c->import);
	free(c->unsent);
	free(c);
}

/* What belongs to the kernel goes at once; the struct when the store is done with it. */
static void connection_close(struct connection *c) {
	struct session *session = c->session;

	if (c->closed)
		return;
	c->closed = true;
	c->session = NULL;
	(void)sd_event_source_disable_unref(c->source);
	c->source = NULL;
	close_cleanup(&c->fd);
	/* A library that had waited long enough for our welcome hangs up, too. It hasn't given up what it
	 * holds, and will ask again; meanwhile the pidfd says whether it lives. */
	if (session && c->resumed && !c->goodbye)
		session->connected = false;
	else if (session)
		session_disconnected(session, c->goodbye);
	/* It ends with whoever wanted it, unless the store has it: nobody else answers then. */
	if (import_is_preparing(c->import))
		c->waiting = false;
	if (!c->waiting)
		connection_free(c);
}

void connection_wait(struct connection *c) {
	c->waiting = true;
	(void)connection_watch(c);
}

bool connection_resume(struct connection *c) {
	c->waiting = false;
	if (c->closed) {
		connection_free(c);
		return false;
	}
	(void)connection_watch(c);
	return true;
}

void connection_answered(struct connection *c, int r) {
	if (r < 0)
		connection_close(c);
}

void server_session_ended(struct server *s, struct session *session) {
	for (struct connection *c = s ? s->connections : NULL; c; c = c->next)
		if (c->session == session)
			c->session = NULL;
}

static const struct message_type *type_find(enum server_socket kind, uint16_t opcode) {
	for (const struct message_type *t = socket_table[kind].types; t->opcode != 0; t++)
		if (t->opcode == opcode)
			return t;
	return NULL;
}

/* The answer is of the caller's version, whose header and struct message_failed are ours. */
static int version_refuse(struct connection *c, const struct message_header *asked) {
	struct message_failed failed = {.header = message_header_make(asked->opcode, sizeof(failed),
						BERTH_REVISION_MISMATCH)};
	const char *what_to_do =
		asked->version < MESSAGE_VERSION
			? "restart the program that asked, so that it loads the library of "
			  "berthd's "
			  "release, or link it to that"
			: "restart berthd, so that it is of the program's release ('berthd "
			  "--check-segment' lists the servers that are to be restarted with it)";

	failed.header.version = asked->version;
	(void)snprintf(failed.text, sizeof(failed.text),
		"berthd " BERTH_VERSION " speaks version %u of its messages, and the program that "
		"asked version %u: %s",
		MESSAGE_VERSION, asked->version, what_to_do);
	return connection_reply(c, &failed, sizeof(failed), NULL, 0);
}

static int message_dispatch(struct connection *c, const void *message, size_t length, int *fds) {
	struct message_header header;
	const struct message_type *type;

	memcpy(&header, message, sizeof(header));
	type = type_find(c->kind, header.opcode);
	if (header.version != MESSAGE_VERSION)
		return version_refuse(c, &header);
	if (!type)
		return connection_refuse(c, header.opcode, BERTH_INVALID_PARAMETER,
			"berthd " BERTH_VERSION " has no request %u on this socket", header.opcode);
	if (length < type->size || (length > type->size && !type->longer))
		return connection_refuse(c, header.opcode, BERTH_INVALID_PARAMETER,
			"request %u is %zu bytes long, not %u", header.opcode, length, type->size);
	c->resumed = false;
	return type->handle(c, message, length, fds);
}

static int connection_read(struct connection *c) {
	static _Alignas(16) uint8_t buffer[MESSAGE_SIZE_MAX];
	int fds[MESSAGE_FDS_MAX];
	ssize_t n = message_receive(c->fd, buffer, sizeof(buffer), fds);
	int r;

	/* Said first when an answer of ours was left unread; what the peer sent before it hung up, perhaps
	 * a goodbye, is there still. */
	if (n == -ECONNRESET)
		n = message_receive(c->fd, buffer, sizeof(buffer), fds);
	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return n < 0 ? (int)n : -ECONNRESET;
	r = message_dispatch(c, buffer, (size_t)n, fds);
	/* An administrator looks: soon it will be right, if it isn't. But not by what isn't loaded. */
	if (c->kind == SOCKET_ADMIN && !checkpoint_is_loading(c->context->checkpoint))
		recount_want(c->context->recount);
	for (int i = 0; i < MESSAGE_FDS_MAX; i++)
		close_cleanup(&fds[i]);
	return r;
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct connection *c = data;
	int r = 0;

	(void)source, (void)fd;
	if (c->unsent && (events & EPOLLOUT))
		r = connection_flush(c);
	else if (!c->waiting && !c->unsent && (events & (EPOLLIN | EPOLLHUP)))
		r = connection_read(c);
	else if (events & (EPOLLHUP | EPOLLERR))
		r = -ECONNRESET;
	if (r == -EBADMSG || r == -EMSGSIZE)
		log_warning("Process %d (uid %u) sent what is no message on %s; hanging up",
			(int)c->peer.pid, c->peer.uid, socket_table[c->kind].name);
	if (r < 0)
		connection_close(c);
	return 0;
}

static int connection_new(struct server *s, enum server_socket kind, int fd) {
	struct connection *c = calloc(1, sizeof(*c));
	socklen_t length = sizeof(c->peer);

	if (!c)
		return -ENOMEM;
	c->context = s->context;
	c->kind = kind;
	c->fd = fd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &length) < 0 ||
		sd_event_add_io(s->context->event, &c->source, fd, EPOLLIN, on_connection, c) < 0) {
		free(c);
		return -ENOMEM;
	}
	c->next = s->connections;
	if (c->next)
		c->next->previous = c;
	s->connections = c;
	return 0;
}

/* -- accepting --------------------------------------------------------------------------------------- */

void server_say_no_descriptors(struct server *s) {
	if (!s->said_no_descriptors)
		log_event(LOG_WARNING, EVENT_FULL, NULL,
			"No file descriptors left; refusing connections with 8. Raise "
			"LimitNOFILE of the service (two for each session)");
	s->said_no_descriptors = true;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *data) {
	struct server *s = data;

	(void)source, (void)usec;
	for (int kind = 0; kind < SOCKET_COUNT; kind++)
		(void)sd_event_source_set_enabled(s->listener[kind].source, SD_EVENT_ON);
	return 0;
}

/* Whoever knocks and can't be let in would have the event loop go round and round. */
static void listener_pause(struct listener *l) {
	uint64_t now = 0;

	(void)sd_event_now(l->server->context->event, CLOCK_MONOTONIC, &now);
	(void)sd_event_source_set_time(l->server->pause, now + PAUSE_USEC);
	(void)sd_event_source_set_enabled(l->server->pause, SD_EVENT_ONESHOT);
	(void)sd_event_source_set_enabled(l->source, SD_EVENT_OFF);
}

static void accept_failed(struct listener *l, int error) {
	if (!l->server->said_no_accept)
		log_warning("Can't accept a connection on %s: %s; trying again",
			socket_table[l->kind].name, strerror(error));
	l->server->said_no_accept = true;
	listener_pause(l);
}

/* Takes the descriptor of a connection that isn't let in. Hanging up on what is unread would cost the
 * peer the answer: nothing more can come after the shutdown, and what came is read. */
static void turn_away(int fd, uint32_t code, const char *why) {
	static _Alignas(16) uint8_t buffer[MESSAGE_SIZE_MAX];
	struct message_failed failed = {.header = message_header_make(0, sizeof(failed), code)};
	struct message_header asked;

	(void)shutdown(fd, SHUT_RD);
	if (message_receive(fd, buffer, sizeof(buffer), NULL) > 0) {
		memcpy(&asked, buffer, sizeof(asked));
		failed.header.opcode = asked.opcode;
		failed.header.version = asked.version;
	}
	(void)snprintf(failed.text, sizeof(failed.text), "%s", why);
	(void)message_send(fd, &failed, sizeof(failed), NULL, 0);
	(void)close(fd);
}

/* No descriptor left: one is given up for a moment to say so to whoever knocks, instead of letting
 * them wait. */
static void refuse_for_descriptors(struct server *s, struct listener *l) {
	int fd;

	server_say_no_descriptors(s);
	close_cleanup(&s->reserve_fd);
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		turn_away(fd, BERTH_NO_SYSTEM_RESOURCES, NO_DESCRIPTORS_TEXT);
	else
		listener_pause(l);
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int on_listener(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct listener *l = data;
	int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source, (void)events;
	if (connection < 0) {
		if (errno == EMFILE || errno == ENFILE)
			refuse_for_descriptors(l->server, l);
		else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			accept_failed(l, errno);
		return 0;
	}
	l->server->said_no_descriptors = l->server->said_no_accept = false;
	if (connection_new(l->server, l->kind, connection) < 0) {
		log_warning(
			"No memory for a connection on %s; hanging up", socket_table[l->kind].name);
		(void)close(connection);
	}
	return 0;
}

/* -- the sockets --------------------------------------------------------------------------------------- */

static const char *group_wanted(const struct context *m, enum server_socket kind) {
	return kind == SOCKET_ADMIN ? m->admin_group : m->group;
}

/* The group that may connect. (gid_t)-1: nobody set one up and none was asked for; then berthd's own
 * group it is. */
static int group_find(const struct context *m, enum server_socket kind, gid_t *ret) {
	const char *asked = group_wanted(m, kind), *name = asked ? asked : socket_table[kind].group;
	const struct group *g;
	int error;

	errno = 0;
	g = getgrnam(name);
	error = g ? 0 : errno;
	*ret = g ? g->gr_gid : (gid_t)-1;
	/* These don't say that there is none; other errors are what some name service says for that. */
	if (error == ENOMEM || error == EMFILE || error == ENFILE || error == EIO) {
		log_error("Can't look up group '%s' for %s: %s", name, socket_table[kind].name,
			strerror(error));
		return -error;
	}
	if (g || !asked)
		return 0;
	log_error("There is no group '%s' for %s", asked, socket_table[kind].name);
	return -EINVAL;
}

static int socket_bind(struct context *m, enum server_socket kind, int fd, gid_t group) {
	const char *name = socket_table[kind].name;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[sizeof(address.sun_path)];
	int r;

	/* By way of the open directory: a path may be longer than an address. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", m->segment->runtime_fd, name);
	memcpy(address.sun_path, path, sizeof(path));
	/* What a berthd that was killed left. */
	if (unlinkat(m->segment->runtime_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	/* Not reachable by anybody before it has its group. */
	(void)fchmod(fd, 0600);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	r = fchownat(m->segment->runtime_fd, name, (uid_t)-1, group, 0);
	if (r < 0 && group_wanted(m, kind))
		return -errno;
	if (r < 0)
		log_notice("Can't give %s to group '%s': %s; only berthd's own group may connect",
			name, socket_table[kind].group, strerror(errno));
	return fchmodat(m->segment->runtime_fd, name, 0660, 0) < 0 ? -errno : 0;
}

static int socket_make(struct context *m, enum server_socket kind, int *ret) {
	_cleanup_close_ int fd = -1;
	gid_t group;
	int r = group_find(m, kind, &group);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : socket_bind(m, kind, fd, group);
	if (r >= 0 && listen(fd, SOMAXCONN) < 0)
		r = -errno;
	if (r < 0) {
		log_error("Can't listen on %s/%s: %s", m->runtime_dir, socket_table[kind].name,
			strerror(-r));
		return r;
	}
	*ret = fd;
	fd = -1;
	return 0;
}

/* A socket made by others is as open as they made it: it must be as open as configured. */
static int socket_check(struct context *m, enum server_socket kind, int fd) {
	const char *name = socket_table[kind].name;
	struct sockaddr_un address = {0};
	socklen_t length = sizeof(address);
	struct stat st;
	gid_t group;
	int r = group_find(m, kind, &group);

	if (r < 0)
		return r;
	if (sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) <= 0 ||
		getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
		stat(address.sun_path, &st) < 0) {
		log_error("The socket handed over for %s is not a listening SOCK_SEQPACKET socket "
			  "of a path; set ListenSequentialPacket= in its unit",
			name);
		return -EINVAL;
	}
	if ((st.st_mode & 07777) == 0660 && (st.st_uid == geteuid() || st.st_uid == 0) &&
		(group == (gid_t)-1 || st.st_gid == group))
		return 0;
	log_error("%s has mode %04o, owner %u and group %u, but must have mode 0660, owner %u or 0 "
		  "and group '%s'; set SocketMode=, SocketUser= and SocketGroup= in its unit",
		address.sun_path, st.st_mode & 07777, st.st_uid, st.st_gid, geteuid(),
		group_wanted(m, kind) ? group_wanted(m, kind) : socket_table[kind].group);
	return -EACCES;
}

static const char *base_name(const char *path) {
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Which of ours a socket from systemd is, by its path's last part. */
static int inherited_kind(int fd) {
	struct sockaddr_un address = {0};
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return -1;
	for (int kind = 0; kind < SOCKET_COUNT; kind++)
		if (strcmp(base_name(address.sun_path), socket_table[kind].name) == 0)
			return kind;
	return -1;
}

static int sockets_inherit(struct server *s) {
	int n = sd_listen_fds(1), r;

	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i, kind = inherited_kind(fd);

		if (kind < 0 || s->listener[kind].fd >= 0) {
			log_error("systemd handed over a socket that is neither berth.sock nor "
				  "admin.sock, or one twice");
			return -EINVAL;
		}
		r = socket_check(s->context, (enum server_socket)kind, fd);
		if (r < 0)
			return r;
		(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		s->listener[kind].fd = fd;
		s->listener[kind].inherited = true;
	}
	return n < 0 ? n : 0;
}

void server_turn_all_away(uint32_t code, const char *why) {
	int n = sd_listen_fds(1);

	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i, connection;

		(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		/* At most as many as a queue holds: clients may keep coming. */
		for (int k = 0; k < SOMAXCONN; k++) {
			connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
			if (connection < 0)
				break;
			turn_away(connection, code, why);
		}
	}
}

static int listener_start(struct server *s, enum server_socket kind) {
	struct listener *l = &s->listener[kind];
	int r = l->fd >= 0 ? 0 : socket_make(s->context, kind, &l->fd);

	return r < 0 ? r
		     : sd_event_add_io(
			       s->context->event, &l->source, l->fd, EPOLLIN, on_listener, l);
}

int server_new(struct context *m, struct server **ret) {
	struct server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->context = m;
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int kind = 0; kind < SOCKET_COUNT; kind++)
		s->listener[kind] =
			(struct listener){.server = s, .kind = (enum server_socket)kind, .fd = -1};
	r = sd_event_add_time(m->event, &s->pause, CLOCK_MONOTONIC, 0, 0, on_pause_over, s);
	if (r >= 0)
		r = sd_event_source_set_enabled(s->pause, SD_EVENT_OFF);
	if (r >= 0)
		r = sockets_inherit(s);
	for (int kind = 0; r >= 0 && kind < SOCKET_COUNT; kind++)
		r = listener_start(s, (enum server_socket)kind);
	if (r < 0) {
		server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void server_free(struct server *s) {
	struct connection *next;

	if (!s)
		return;
	for (struct connection *c = s->connections; c; c = next) {
		next = c->next;
		/* berthd goes, the sessions stay: their processes go on without it. */
		c->session = NULL;
		c->waiting = false;
		connection_close(c);
	}
	for (int kind = 0; kind < SOCKET_COUNT; kind++) {
		struct listener *l = &s->listener[kind];

		(void)sd_event_source_disable_unref(l->source);
		if (l->fd >= 0 && !l->inherited)
			(void)unlinkat(s->context->segment->runtime_fd, socket_table[kind].name, 0);
		close_cleanup(&l->fd);
	}
	(void)sd_event_source_disable_unref(s->pause);
	close_cleanup(&s->reserve_fd);
	free(s);
}
