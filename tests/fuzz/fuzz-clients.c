/* SPDX-License-Identifier: MIT */

/* Messages on berth.sock: what a server may say that never saw libberth. */

#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	messages_play(SOCKET_CLIENTS, data, size);
	return 0;
}
