/* SPDX-License-Identifier: MIT */

/* Reads messages, hands each to its handler, and sends the replies. */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "berth.h"
#include "connection.h"
#include "log.h"
#include "util.h"

struct connection {
	struct connections *all;
	const struct protocol *protocol;
	int fd;
	sd_event_source *source;
	struct ucred peer;
	bool waiting; /* for the store: nothing is read until connection_resume() */
	bool ended;   /* the connection has ended; if it waits, connection_resume() frees it */
	void *unsent; /* a reply that the peer's socket had no room for */
	size_t unsent_length;
	struct connection *previous, *next;
	_Alignas(max_align_t) char state[];
};

struct connections {
	struct context *context;
	struct connection *first;
};

struct context *connection_context(const struct connection *c) {
	return c->all->context;
}

const struct ucred *connection_peer(const struct connection *c) {
	return &c->peer;
}

void *connection_state(struct connection *c) {
	return c->state;
}

/* -- replies ----------------------------------------------------------------------------------- */

static int connection_watch(struct connection *c) {
	uint32_t events = EPOLLIN;

	if (c->unsent)
		events = EPOLLOUT;
	else if (c->waiting)
		events = 0; /* epoll always reports a hang-up */
	return sd_event_source_set_io_events(c->source, events);
}

/* Only the first reply of a connection has descriptors. Such a reply needn't be kept, since the
 * socket always has room for the first reply. */
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

uint32_t code_of(int error) {
	switch (-error) {
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

int connection_done(struct connection *c, uint16_t opcode, uint64_t affected) {
	struct message_done done = {
		.header = MESSAGE_HEADER(opcode, done),
		.affected = affected,
	};

	return connection_reply(c, &done, sizeof(done), NULL, 0);
}

void connections_log_no_descriptors(struct context *context) {
	if (!context->no_descriptors_logged)
		log_event(LOG_WARNING, EVENT_FULL, NULL,
			"No file descriptors left; refusing connections with "
			"NO_SYSTEM_RESOURCES (8). Raise LimitNOFILE of the service (a session "
			"takes two)");
	context->no_descriptors_logged = true;
}

/* -- the end of a connection ------------------------------------------------------------------- */

static void connection_free(struct connection *c) {
	if (c->previous)
		c->previous->next = c->next;
	else
		c->all->first = c->next;
	if (c->next)
		c->next->previous = c->previous;
	free(c->unsent);
	free(c);
}

/* If the connection waits for the store, connection_resume() frees it when the answer comes. */
static void connection_end(struct connection *c, bool stops) {
	if (c->ended)
		return;
	c->ended = true;
	(void)sd_event_source_disable_unref(c->source);
	c->source = NULL;
	close_cleanup(&c->fd);
	c->protocol->ended(c, stops);
	if (!c->waiting)
		connection_free(c);
}

void connection_wait(struct connection *c) {
	c->waiting = true;
	(void)connection_watch(c);
}

bool connection_resume(struct connection *c) {
	c->waiting = false;
	if (c->ended) {
		connection_free(c);
		return false;
	}
	(void)connection_watch(c);
	return true;
}

void connection_answered(struct connection *c, int r) {
	if (r < 0)
		connection_end(c, false);
}

void connection_stop_waiting(struct connection *c) {
	c->waiting = false;
}

/* -- messages ---------------------------------------------------------------------------------- */

/* The reply has the version of the request. The header and struct message_failed are the same in
 * all versions, so the peer understands the reply. */
static int refuse_version(struct connection *c, const struct message_header *request) {
	struct message_failed failed = {.header = message_header_make(request->opcode,
						sizeof(failed), BERTH_REVISION_MISMATCH)};
	const char *remedy =
		request->version < MESSAGE_VERSION
			? "restart the program that asked, so that it loads the library of "
			  "berthd's version, or link it to that"
			: "restart berthd, so that it has the program's version ('berthd "
			  "--check-segment' lists the servers that must be restarted with it)";

	failed.header.version = request->version;
	(void)snprintf(failed.text, sizeof(failed.text),
		"berthd " BERTH_VERSION " speaks version %u of its messages, and the program that "
		"asked version %u: %s",
		MESSAGE_VERSION, request->version, remedy);
	return connection_reply(c, &failed, sizeof(failed), NULL, 0);
}

static int packet_handle(struct connection *c, const struct packet *packet) {
	const struct message_type *type = c->protocol->types;
	struct message_header header;

	memcpy(&header, packet->message, sizeof(header));
	if (header.version != MESSAGE_VERSION)
		return refuse_version(c, &header);
	while (type->opcode != 0 && type->opcode != header.opcode)
		type++;
	if (type->opcode == 0)
		return connection_refuse(c, header.opcode, BERTH_INVALID_PARAMETER,
			"berthd " BERTH_VERSION " has no request %u on this socket", header.opcode);
	if (packet->length < type->size || (packet->length > type->size && !type->longer))
		return connection_refuse(c, header.opcode, BERTH_INVALID_PARAMETER,
			"request %u is %zu bytes long, not %u", header.opcode, packet->length,
			type->size);
	return type->handle(c, packet);
}

static int connection_read(struct connection *c) {
	static _Alignas(16) uint8_t buffer[MESSAGE_SIZE_MAX];
	int fds[MESSAGE_FDS_MAX], r;
	ssize_t n = message_receive(c->fd, buffer, sizeof(buffer), fds);

	/* If a peer has hung up without reading a reply, the first read gets this error. The next
	 * read gets a message that the peer sent before it hung up, such as BYE. */
	if (n == -ECONNRESET)
		n = message_receive(c->fd, buffer, sizeof(buffer), fds);
	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return n < 0 ? (int)n : -ECONNRESET;
	r = packet_handle(c, &(struct packet){.message = buffer, .length = (size_t)n, .fds = fds});
	if (c->protocol->handled)
		c->protocol->handled(c);
	for (int i = 0; i < MESSAGE_FDS_MAX; i++)
		close_cleanup(&fds[i]);
	return r;
}

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct connection *c = data;
	int r = 0;

	(void)source, (void)fd;
	if (c->unsent && (events & EPOLLOUT)) {
		r = message_send(c->fd, c->unsent, c->unsent_length, NULL, 0);
		if (r == -EAGAIN)
			return 0;
		free(c->unsent);
		c->unsent = NULL;
		if (r >= 0)
			r = connection_watch(c);
	} else if (!c->waiting && !c->unsent && (events & (EPOLLIN | EPOLLHUP))) {
		r = connection_read(c);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		r = -ECONNRESET;
	}
	if (r == -EBADMSG || r == -EMSGSIZE)
		log_warning("Process %d (uid %u) sent data on %s that is not a message of berth; "
			    "hanging up",
			(int)c->peer.pid, c->peer.uid, c->protocol->socket);
	if (r < 0)
		connection_end(c, false);
	return 0;
}

/* -- begin and end ----------------------------------------------------------------------------- */

int connection_new(struct connections *all, const struct protocol *protocol, int fd) {
	struct connection *c = calloc(1, sizeof(*c) + protocol->state_size);
	socklen_t length = sizeof(c->peer);

	if (!c)
		return -ENOMEM;
	c->all = all;
	c->protocol = protocol;
	c->fd = fd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &length) < 0 ||
		sd_event_add_io(all->context->event, &c->source, fd, EPOLLIN, on_connection, c) <
			0) {
		free(c);
		return -ENOMEM;
	}
	c->next = all->first;
	if (c->next)
		c->next->previous = c;
	all->first = c;
	return 0;
}

int connections_new(struct context *context, struct connections **ret) {
	struct connections *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->context = context;
	*ret = all;
	return 0;
}

void connections_free(struct connections *all) {
	struct connection *next;

	if (!all)
		return;
	for (struct connection *c = all->first; c; c = next) {
		next = c->next;
		/* The store is closed already, so no answer will end the wait. */
		c->waiting = false;
		connection_end(c, true);
	}
	free(all);
}
