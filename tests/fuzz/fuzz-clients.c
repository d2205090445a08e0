/* SPDX-License-Identifier: MIT */

/* Messages on berth.sock, as a server without libberth could send them. */

#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	messages_play(SOCKET_CLIENTS, data, size);
	return 0;
}
