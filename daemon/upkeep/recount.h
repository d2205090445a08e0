/* SPDX-License-Identifier: MIT */
#pragma once

/* Recounts: adds up the records now and then, and repairs every count that isn't their sum. Without
 * somebody who wrote over the segment, or a fault of ours, there is nothing to repair. */

#include <systemd/sd-event.h>

#include "accounts.h"
#include "sessions.h"

struct recount;

int recount_new(sd_event *event, struct accounts *accounts, struct sessions *sessions,
	struct recount **ret);
void recount_free(struct recount *r); /* NULL is fine */

/* Has everything recounted soon: at once, but for not more than a hundredth of the time (a
 * tenth, after one that found something). */
void recount_want(struct recount *r);

/* One has begun, and goes on in turns of the event loop, which it shares with messages. */
bool recount_runs(const struct recount *r);
