/* SPDX-License-Identifier: MIT */
#pragma once

/* Plays an input as a conversation of several connections with berthd; those that matter are on the
 * socket of this kind. What an input says is told in messages.c. */

#include "daemon.h"

void messages_play(enum server_socket kind, const uint8_t *data, size_t size);
