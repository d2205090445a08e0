/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The connections to berthd's sockets. A connection reads one message at a time, checks its size
 * against the table of its protocol, calls the handler, and sends the reply. While the peer doesn't
 * read a reply, or a handler waits for the store, berthd reads nothing more from that connection.
 */

#include <sys/socket.h>

#include "context.h"
#include "message.h"
#include "protocol.h"

struct connection;
struct connections;

/* A message whose size is right. */
struct packet {
	const void *message;
	size_t length;
	int *fds; /* MESSAGE_FDS_MAX; -1: none. A handler that keeps one writes -1 in its place. */
};

/* If the handler returns a negative value, the connection ends. */
typedef int (*message_handler)(struct connection *c, const struct packet *packet);

struct message_type {
	uint16_t opcode;
	uint32_t size; /* the exact size of the message; with `longer`, the smallest */
	bool longer;
	message_handler handle;
};

/* How berthd speaks on one of its sockets. */
struct protocol {
	const char *socket;               /* the name of its file */
	const struct message_type *types; /* ends with opcode 0 */
	size_t state_size;                /* of connection_state() */
	/* Called after each message; may be NULL. */
	void (*handled)(struct connection *c);
	/* Called when the connection has ended: the peer or berthd has hung up, or berthd `stops`.
	 * Frees what the state owns. */
	void (*ended)(struct connection *c, bool stops);
};

int connections_new(struct context *context, struct connections **ret);
/* Ends all connections, since berthd stops. NULL is fine. */
void connections_free(struct connections *all);

#define NO_DESCRIPTORS_TEXT "berthd has no file descriptors left; raise LimitNOFILE of its service"

/* Logs that berthd has no descriptors left, but only once until a connection is accepted again. */
void connections_log_no_descriptors(struct context *context);

/* Takes over `fd`, an accepted socket. On failure (-ENOMEM) the caller keeps it. */
int connection_new(struct connections *all, const struct protocol *protocol, int fd);

/* -- for handlers ------------------------------------------------------------------------------ */

struct context *connection_context(const struct connection *c);
/* The process that connected. */
const struct ucred *connection_peer(const struct connection *c);
/* The memory that the protocol has for each connection: zeros at first. */
void *connection_state(struct connection *c);

/* Sends a reply. If the peer's socket has no room for the reply now, sends it later. */
int connection_reply(
	struct connection *c, const void *message, size_t length, const int *fds, size_t fd_count);

/* Replies with a code other than BERTH_SUCCESS, and one sentence that says why, or what to do. */
__attribute__((format(printf, 4, 5))) int connection_refuse(
	struct connection *c, uint16_t opcode, uint32_t code, const char *format, ...);

/* The code for an error that concerns an account: for -ENOENT it is BERTH_NO_SUCH_USER. */
uint32_t code_of(int error);

/* Replies with a struct message_done. */
int connection_done(struct connection *c, uint16_t opcode, uint64_t affected);

/* Makes the connection wait for the store until connection_resume(). */
void connection_wait(struct connection *c);
/* Ends the wait. False: the peer has hung up meanwhile, and the connection was freed. */
bool connection_resume(struct connection *c);
/* To be called after connection_resume() with `r`, the result of the function that sent the reply.
 * Ends the connection if r is negative. The caller doesn't use the connection afterwards. */
void connection_answered(struct connection *c, int r);
/* To be called by the protocol's ended() if there will be no connection_resume(). */
void connection_stop_waiting(struct connection *c);
