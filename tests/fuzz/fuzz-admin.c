/* SPDX-License-Identifier: MIT */

/* Messages on admin.sock, as an administrator's program could send them. */

#include "messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	messages_play(SOCKET_ADMIN, data, size);
	return 0;
}
