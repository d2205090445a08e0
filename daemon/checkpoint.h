/* SPDX-License-Identifier: MIT */
#pragma once

/* Checkpoints: live counts, peaks and denials into the store, about a second after they change, and
 * nothing at all while nothing changes. */

#include <systemd/sd-event.h>

#include "accounts.h"
#include "recount.h"
#include "store.h"

struct checkpoint;

/* Before each one, the recount is asked for. */
int checkpoint_new(sd_event *event, struct accounts *accounts, struct store *store,
	struct recount *recount, struct checkpoint **ret);

/* Loads what the store has; new counts take peak and denials from there if `restore`. Before
 * checkpoint_start. */
int checkpoint_load(struct checkpoint *c, bool restore);

/* Begins to watch for changes. */
int checkpoint_start(struct checkpoint *c);

/* Hands over what has changed since the last one, before the store is closed. */
void checkpoint_final(struct checkpoint *c);
void checkpoint_free(struct checkpoint *c); /* NULL is fine */

/* An account is gone: takes its counts out of the store. */
void checkpoint_forget(struct checkpoint *c, const char *name);

uint64_t checkpoint_last(const struct checkpoint *c); /* ms since 1970; 0: none yet */
