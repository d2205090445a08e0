/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Asks berthd for what a session needs: names in the directory, records, and the end of releases
 * that it couldn't finish itself.
 *
 * Each function returns, waits, and leaves alone what the first functions of hello.h do. It does
 * nothing and returns 0 if s isn't the current session any more, or if it ceases to be while berthd
 * is asked.
 */

#include "session.h"

/* Has berthd enter an account in the directory. */
int ask_name(struct session *s, const char *account, int64_t deadline);
/* Adds ranges to the pool if it still has as many as the caller has seen. */
int ask_ranges(struct session *s, uint32_t seen, int64_t deadline);
/* Has berthd finish the release of a record that this process has seized (counter_seize). Also
 * returns 0 if the session has ended, for then berthd finishes all releases. */
int ask_finish_release(struct session *s, uint32_t record, int64_t deadline);
