/* SPDX-License-Identifier: MIT */

/* Logs that berthd has no file descriptors left. */

#include "context.h"
#include "log.h"

void context_log_no_descriptors(struct context *context) {
	if (!context->no_descriptors_logged)
		log_event(LOG_WARNING, EVENT_FULL, NULL,
			"No file descriptors left; refusing connections with "
			"NO_SYSTEM_RESOURCES (8). Raise LimitNOFILE of the service (a session "
			"takes two)");
	context->no_descriptors_logged = true;
}
