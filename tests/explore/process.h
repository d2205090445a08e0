/* SPDX-License-Identifier: MIT */
#pragma once

/* Gives a process's session, which is libberth's struct session. berthd has another struct of that
 * name, so no source file includes both this header and berthd's headers. */

#include "parties.h"
#include "handle.h"

/* Returns NULL if the process has no session. */
static inline struct session *process_session(struct process *p) {
	return load_acquire(&p->berth->current);
}
