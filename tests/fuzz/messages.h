/* SPDX-License-Identifier: MIT */
#pragma once

/* Plays an input: messages of several connections to berthd. The top of messages.c has the format
 * of an input. All connections but one are on the socket of this kind; the last one is on the other
 * socket. */

#include "daemon.h"

void messages_play(enum server_socket kind, const uint8_t *data, size_t size);
