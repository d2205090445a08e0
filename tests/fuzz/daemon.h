/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A whole berthd inside the fuzzer: real sockets, real segment, real store, its event loop turned
 * by the fuzzer itself. It is started once; what an input leaves behind is cleared after each, and
 * then nothing may be left.
 */

#include "fuzz.h"
#include "manager.h"
#include <sys/socket.h>

#include "accounts.h"
#include "protocol.h"
#include "store.h"
#include "sessions.h"

enum server_socket { SOCKET_CLIENTS, SOCKET_ADMIN };

#define PEERS 4

/* One connection, the fuzzer's end. */
struct peer {
	int fd; /* -1: none */
	enum server_socket kind;
	bool mute; /* doesn't read its answers */
	/* From the last welcome. */
	uint32_t session, serial, range;
	uint32_t range_count;
};

/* The one berthd of this process. */
struct manager *daemon_get(void);

/* At the beginning of an input: notes which descriptors there are (libFuzzer opens some at
 * times). */
void daemon_begin(void);

/* Connects, if it isn't. */
void peer_connect(struct peer *p, enum server_socket kind);
void peer_hang_up(struct peer *p);

/* Sends a packet with so many descriptors, of which the first is this process's pidfd if `pidfd`,
 * and lets berthd work until it has answered or hung up; one of the two it must do. Returns the
 * length of the answer (in a static buffer), 0 if there is none. */
size_t peer_ask(struct peer *p, const void *packet, size_t length, unsigned fds, bool pidfd,
	const void **ret_answer);

/* What the records hold is what the accounts count. */
void daemon_check_counts(void);

/* Ends connections and sessions, takes every limit out of the store, and looks for what is left:
 * accounts, slots, descriptors. */
void daemon_reset(struct peer *peers, size_t count);
