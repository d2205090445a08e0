/* SPDX-License-Identifier: MIT */

/* Sends messages to admin.sock, as an administrator's program could. */

#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	messages_play(SOCKET_ADMIN, data, size);
	return 0;
}
