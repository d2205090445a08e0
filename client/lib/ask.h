/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Asks berthd for what a handle needs: a session and its files, names in the directory, records,
 * and the end of releases that the process couldn't finish itself.
 *
 * Any thread may call these functions. They may wait until the deadline (clock_monotonic_ms), leave
 * errno alone, and are not cancellation points. They return 0, a code of berth.h (positive) that
 * berthd answered, or a negative errno: -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT or -EBADMSG if
 * berthd couldn't be asked, or as session_new().
 *
 * Those that take a session do nothing and return 0 if it isn't the current one any more, or if it
 * ceases to be while berthd is asked: the caller goes on with the session that is.
 */

#include "handle.h"

/* The current session, which is opened if there is none. */
int ask_session(struct berth *b, int64_t deadline, struct session **ret);
/* Opens a session in place of one that berthd has ended. */
int ask_new_session(const struct session *s, int64_t deadline);
/* If the application has closed the files of the session, has berthd hand them out again, or opens
 * another session. */
int ask_files(struct session *s, int64_t deadline);

/* Has berthd enter an account in the directory. */
int ask_name(struct session *s, const char *account, int64_t deadline);
/* Adds ranges to the pool if it still has as many as the caller has seen. */
int ask_ranges(struct session *s, uint32_t seen, int64_t deadline);
/* Has berthd finish the release of a record that this process has seized (counter_seize). Also
 * returns 0 if the session has ended, for then berthd finishes all releases. */
int ask_finish_release(struct session *s, uint32_t record, int64_t deadline);

/* When the handle is closed: tells berthd, if no thread uses a record of the session any more, that
 * it may have the session's place and records at once. Doesn't wait. */
void ask_goodbye(const struct berth *b);
