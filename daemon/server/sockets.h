/* SPDX-License-Identifier: MIT */
#pragma once

/* The two listening sockets: berth.sock for servers, admin.sock for berthctl. */

#include "connection.h"

struct sockets;

/* Takes the sockets that systemd has opened, or opens them. On failure the log says why.
 * `connections` is borrowed. */
int sockets_new(struct context *context, struct connections *connections, struct sockets **ret);
void sockets_free(struct sockets *s); /* NULL is fine */

/* To be called by a berthd that doesn't start: refuses all connections that wait in the queues of
 * systemd's sockets. Otherwise those clients would wait in vain, and systemd would start berthd
 * again at once. */
void sockets_refuse_waiting(uint32_t code, const char *why);
