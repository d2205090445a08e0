/* SPDX-License-Identifier: MIT */

/* Sends messages to berth.sock, as a server without libberth could. */

#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	messages_play(SOCKET_CLIENTS, data, size);
	return 0;
}
