/* SPDX-License-Identifier: MIT */
#pragma once

/* berthd as a whole: what main.c puts together and the message handlers work on. */

#include "accounts.h"
#include "checkpoint.h"
#include "options.h"
#include "sessions.h"
#include "store.h"

struct server;

struct manager {
	struct options options;
	sd_event *event;
	struct segment *segment;
	struct accounts *accounts;
	struct sessions *sessions;
	struct store *store;
	sd_event_source *store_ready;
	struct recount *recount;
	struct checkpoint *checkpoint;
	struct server *server;
	int runtime_lock, state_lock;
	uint64_t started; /* ms since 1970 */
};

/* Opens everything in order; on failure the log says why. */
int manager_new(const struct options *options, struct manager **ret);
/* Stores what is to be stored and closes everything, in the other order. NULL is fine. */
void manager_free(struct manager *m);
/* Serves until told to stop. */
int manager_run(struct manager *m);
