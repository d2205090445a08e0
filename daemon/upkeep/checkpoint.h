/* SPDX-License-Identifier: MIT */
#pragma once

/* Checkpoints: live counts, peaks and denials are stored about a second after they change. While
 * nothing changes, berthd does nothing. */

#include <systemd/sd-event.h>

#include "accounts.h"
#include "recount.h"
#include "store.h"

struct checkpoint;

/* Each checkpoint first requests a recount from `recount`. */
int checkpoint_new(sd_event *event, struct accounts *accounts, struct store *store,
	struct recount *recount, struct checkpoint **ret);
void checkpoint_free(struct checkpoint *c); /* NULL is fine */

/* Begins to restore the stored counts. If there are many, they are restored in time slices after
 * checkpoint_start(). checkpoint_restore_rest() restores at once those that are left. adopted: the
 * cells were adopted with the segment, and may have these numbers already. -ENOMEM. */
int checkpoint_restore(struct checkpoint *c, bool adopted);
void checkpoint_restore_rest(struct checkpoint *c);
bool checkpoint_is_restoring(const struct checkpoint *c);

/* Begins to watch for changes. */
int checkpoint_start(struct checkpoint *c);

/* To be called before the store is closed: hands over everything that has changed since the last
 * checkpoint. */
void checkpoint_final(struct checkpoint *c);

/* When counts were last stored, in ms since 1970; 0: not yet. */
uint64_t checkpoint_last(const struct checkpoint *c);
