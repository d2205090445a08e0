/* SPDX-License-Identifier: MIT */
#pragma once

/* The parts and settings of berthd that its sockets and message handlers need. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct accounts;
struct checkpoint;
struct recount;
struct segment;
struct sessions;
struct store;

struct context {
	sd_event *event;
	struct segment *segment;
	struct accounts *accounts;
	struct sessions *sessions;
	struct store *store;
	struct recount *recount;
	struct checkpoint *checkpoint;
	const char *runtime_dir, *state_dir;
	const char *group, *admin_group; /* NULL: not given on the command line */
	uint64_t started;                /* when this berthd started, in ms since 1970 */
	bool no_descriptors_logged;      /* until the next connection is accepted */
};
