/* SPDX-License-Identifier: MIT */
#pragma once

/* Plays an input (see messages.c) as messages of several connections to berthd. All but one of the
 * connections are on the socket of this kind. */

#include "daemon.h"

void messages_play(enum server_socket kind, const uint8_t *data, size_t size);
