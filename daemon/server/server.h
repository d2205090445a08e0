/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The two sockets, their connections, and the way of a message: received, checked against the table
 * of its socket, handled, answered. A connection whose peer doesn't read its answer isn't read from
 * until it does; one that sends what can't be a message is hung up on.
 */

#include <sys/socket.h>

#include "context.h"
#include "protocol.h"

enum server_socket { SOCKET_CLIENTS, SOCKET_ADMIN, SOCKET_COUNT };

struct import;

struct connection {
	struct context *context;
	enum server_socket kind;
	int fd;
	sd_event_source *source;
	struct ucred peer;
	struct session *session; /* on berth.sock, after HELLO */
	bool resumed;            /* a session of before, and nothing was asked since */
	bool goodbye;
	struct import *import; /* on admin.sock, from BEGIN until the store has it */
	bool waiting;          /* for the store, or room: nothing is read until the answer */
	bool closed;           /* hung up while waiting; freed when the answer comes */
	void *unsent;          /* an answer that found no room */
	size_t unsent_length;
	struct connection *previous, *next;
};

/* message: the packet, of the size that the table asks for; fds: MESSAGE_FDS_MAX of them, -1 where
 * none came; a handler that keeps one sets it to -1. Negative: hang up. */
typedef int (*message_handler)(struct connection *c, const void *message, size_t length, int *fds);

struct message_type {
	uint16_t opcode;
	uint32_t size; /* exactly; or at least, if `longer` */
	bool longer;
	message_handler handle;
};

extern const struct message_type service_types[]; /* service.c; ends with opcode 0 */
extern const struct message_type admin_types[];   /* admin.c; likewise */

/* Takes sockets from systemd, or makes them. The log says what is wrong. */
int server_new(struct context *m, struct server **ret);
void server_free(struct server *s); /* NULL is fine */

/* Of a berthd that doesn't start: refuses all that wait in the queues of systemd's sockets. They would
 * wait in vain, and have systemd start berthd again at once, and again. */
void server_turn_all_away(uint32_t code, const char *why);

/* A session is no more: its connection, if it has one, forgets it. */
void server_session_ended(struct server *s, struct session *session);

#define NO_DESCRIPTORS_TEXT "berthd has no file descriptors left; raise LimitNOFILE of its service"

/* In the log, once until there are some again. */
void server_say_no_descriptors(struct server *s);

/* -- for handlers ------------------------------------------------------------------------------- */

int connection_reply(
	struct connection *c, const void *message, size_t length, const int *fds, size_t fd_count);

/* A refusal in one sentence. */
__attribute__((format(printf, 4, 5))) int connection_refuse(
	struct connection *c, uint16_t opcode, uint32_t code, const char *format, ...);

int connection_done(struct connection *c, uint16_t opcode, uint64_t affected);

/* Between these two the connection waits for the store. After the second it may be gone: false. */
void connection_wait(struct connection *c);
bool connection_resume(struct connection *c);
/* After it, with what replying returned: who can't be answered is hung up on, and may be gone. */
void connection_answered(struct connection *c, int r);

/* The store's, and others', errno as a code, with a sentence for it. */
uint32_t code_of(int error);
/* The same of an error of the store, for which a name that isn't there is a file's. */
uint32_t code_of_store(int error);
