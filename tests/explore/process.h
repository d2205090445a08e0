/* SPDX-License-Identifier: MIT */
#pragma once

/* A process's session, as libberth knows it: berthd's struct of that name is another. */

#include "parties.h"
#include "session.h"

/* The current one; NULL: none yet. */
static inline struct session *process_session(struct process *p) {
	return load_acquire(&p->berth->current);
}
