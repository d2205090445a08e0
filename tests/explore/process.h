/* SPDX-License-Identifier: MIT */
#pragma once

/* A process's session: libberth's struct session. berthd has another struct of that name, so no
 * source includes the headers of both. */

#include "parties.h"
#include "handle.h"

/* NULL: the process has no session yet. */
static inline struct session *process_session(struct process *p) {
	return load_acquire(&p->berth->current);
}
