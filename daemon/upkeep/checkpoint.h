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

/* Loads what the store has, of many the first ones: the others come once checkpoint_start has begun to
 * watch, or at once by checkpoint_load_rest. From there cells take peaks and denials, unless they were
 * adopted with them. */
void checkpoint_load(struct checkpoint *c, bool adopted);
void checkpoint_load_rest(struct checkpoint *c);
bool checkpoint_is_loading(const struct checkpoint *c);

/* Begins to watch for changes. */
int checkpoint_start(struct checkpoint *c);

/* Hands over what has changed since the last one, before the store is closed. */
void checkpoint_final(struct checkpoint *c);
void checkpoint_free(struct checkpoint *c); /* NULL is fine */

uint64_t checkpoint_last(const struct checkpoint *c); /* ms since 1970; 0: none yet */
