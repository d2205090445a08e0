/* SPDX-License-Identifier: MIT */
#pragma once

/* The protocol between pidfd.c and pidfd-server.c. The request is a packet with a pid_t, sent to
 * the socket that $PIDFD_SERVER names. The answer is an int: 0, with the descriptor, or an
 * errno. */

#define PIDFD_SERVER "PIDFD_SERVER"
