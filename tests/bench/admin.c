/* SPDX-License-Identifier: MIT */

/* Calls berthd over its admin socket. */

#include <unistd.h>

#include "admin.h"
#include "clock.h"
#include "message.h"

#define CALL_MS 60000

static int connection = -1;

void admin_open(const struct berthd *d) {
	bench_check(message_connect(d->instance.runtime_dir, "admin.sock",
			    clock_monotonic_ms() + CALL_MS, &connection) == 0,
		"connecting to admin.sock");
}

void admin_close(void) {
	(void)close(connection);
	connection = -1;
}

/* Ends the bench if berthd replies with an error. */
static void call(const void *request, void *reply, size_t size) {
	struct message_header *header = reply;
	size_t got = size;

	bench_check(
		message_call(connection, request, reply, &got, clock_monotonic_ms() + CALL_MS) == 0,
		"calling berthd");
	bench_must((int)header->code, "calling berthd");
}

void admin_set(const char *account, uint32_t limit) {
	struct message_set request = {
		.header = MESSAGE_HEADER(MESSAGE_SET, struct message_set), .limit = limit};
	union {
		struct message_done done;
		struct message_failed failed;
	} reply;

	message_name_set(&request.name, account);
	call(&request, &reply, sizeof(reply));
}

uint64_t admin_checkpointed(void) {
	struct message_status request = {
		.header = MESSAGE_HEADER(MESSAGE_STATUS, struct message_status)};
	union {
		struct message_status_reply status;
		struct message_failed failed;
	} reply;

	call(&request, &reply, sizeof(reply));
	return reply.status.checkpointed;
}
