/* SPDX-License-Identifier: MIT */
#pragma once

/* Recounts: now and then berthd adds up the weights of the records that have charged each account,
 * and repairs every count that isn't their sum. There is nothing to repair unless a process wrote
 * over the segment, or berth has a bug. */

#include <systemd/sd-event.h>

#include "directory-write.h"
#include "sessions.h"

struct recount;

int recount_new(sd_event *event, struct directory *directory, struct sessions *sessions,
	struct recount **ret);
void recount_free(struct recount *r); /* NULL is fine */

/* Requests a recount. berthd may pause before the recount, so that recounts take at most a
 * hundredth of the time (a tenth, if the last one repaired anything). */
void recount_request(struct recount *r);

/* A recount runs in time slices, between which berthd handles messages. */
bool recount_is_running(const struct recount *r);
