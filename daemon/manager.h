/* SPDX-License-Identifier: MIT */
#pragma once

/* berthd as a whole: what main.c runs. */

#include "context.h"
#include "options.h"

struct manager {
	struct options options;
	struct context context; /* the parts that message handlers need */
	struct connections *connections;
	struct sockets *sockets;
	sd_event_source *store_ready;
	const char *opening; /* the part that is being opened, for the log */
	int runtime_lock, state_lock;
};

/* Opens all parts of berthd. On failure the log says why. */
int manager_new(const struct options *options, struct manager **ret);
/* Stores the counts that aren't stored yet, and closes everything. NULL is fine. */
void manager_free(struct manager *m);
/* Serves until a signal stops berthd. Negative: the event loop failed. */
int manager_run(struct manager *m);
