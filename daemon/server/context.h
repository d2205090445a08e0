/* SPDX-License-Identifier: MIT */
#pragma once

/* What the message handlers work on. */

#include <systemd/sd-event.h>

#include "accounts.h"
#include "checkpoint.h"
#include "sessions.h"
#include "store.h"

struct server;

struct context {
	sd_event *event;
	struct segment *segment;
	struct accounts *accounts;
	struct sessions *sessions;
	struct store *store;
	struct recount *recount;
	struct checkpoint *checkpoint;
	struct server *server;
	const char *runtime_dir, *state_dir;
	const char *group, *admin_group; /* NULL: none was asked for */
	uint64_t started;                /* ms since 1970 */
};
