/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A whole berthd runs within the fuzzer's process, with real sockets, a real segment and a real
 * store. It is started once, and the fuzzer runs its event loop. After each input the fuzzer
 * removes all accounts and sessions, and then nothing may be left.
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

/* The fuzzer's end of a connection. */
struct peer {
	int fd; /* -1 if not connected */
	enum server_socket kind;
	bool mute; /* doesn't read its answers */
	/* These are from the last welcome, berthd's reply that opens a session. */
	uint32_t session, serial, range;
	uint32_t range_count;
};

/* The berthd of this process. */
struct manager *daemon_get(void);

/* Called before each input. Counts the open descriptors for daemon_reset(). They are counted anew
 * each time, since libFuzzer may have opened some. */
void daemon_begin(void);

/* Connects the peer if it isn't connected. */
void peer_connect(struct peer *p, enum server_socket kind);
void peer_hang_up(struct peer *p);

/* Sends a packet with `fds` descriptors. If `pidfd` is true, the first descriptor is this process's
 * pidfd. Runs the event loop until berthd has answered or hung up, as it must. Returns the length
 * of the answer, which is in a static buffer. If there is no answer, returns 0. */
size_t peer_ask(struct peer *p, const void *packet, size_t length, unsigned fds, bool pidfd,
	const void **ret_answer);

/* Every count must be the sum of the weights of the records that have charged the account. */
void daemon_check_counts(void);

/* Ends all connections and sessions and deletes all limits. Then no account, slot or descriptor may
 * be left. */
void daemon_reset(struct peer *peers, size_t count);
