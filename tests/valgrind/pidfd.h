/* SPDX-License-Identifier: MIT */
#pragma once

/* How pidfd.c asks pidfd-server.c: a packet with a pid_t to the socket named in $PIDFD_SERVER; the
 * answer is an int, 0 with the descriptor, or an errno. */

#define PIDFD_SERVER "PIDFD_SERVER"
