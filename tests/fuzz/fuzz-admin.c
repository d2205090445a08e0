/* SPDX-License-Identifier: MIT */

/* Messages on admin.sock: what may be said there by whoever it lets in. */

#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	messages_play(SOCKET_ADMIN, data, size);
	return 0;
}
