/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Asks berthd for everything that a handle needs: to open a session and hand out its files, to
 * enter names in the directory, to grant records, and to finish releases that the process couldn't
 * finish itself.
 *
 * Any thread may call these functions. They may wait until the deadline (clock_monotonic_ms), leave
 * errno alone, and are not cancellation points. They return 0, a code of berth.h (positive) that
 * berthd sent, or a negative errno. The errno is -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT or -EBADMSG
 * if berthd couldn't be asked; or else an error of session_new().
 *
 * A function that takes a session does nothing and returns 0 if that session isn't the current one
 * any more. It also returns 0 if the session is replaced while berthd is asked. The caller then
 * goes on with the current session.
 */

#include "handle.h"

/* Finds the current session. If there is none, opens a session. */
int ask_session(struct berth *b, int64_t deadline, struct session **ret);
/* Opens a session in place of one that berthd has ended. */
int ask_new_session(const struct session *s, int64_t deadline);
/* If the application has closed the files of the session, has berthd hand them out again. If berthd
 * doesn't resume the session, opens another session. */
int ask_files(struct session *s, int64_t deadline);

/* Has berthd enter an account in the directory. */
int ask_name(struct session *s, const char *account, int64_t deadline);
/* Asks berthd for ranges, and adds them to the pool. Asks only if the pool still has `seen` ranges:
 * otherwise another thread has added ranges in the meantime. */
int ask_ranges(struct session *s, uint32_t seen, int64_t deadline);
/* Has berthd finish the release of a record that this process has seized (counter_seize). Also
 * returns 0 if the session has ended, because then berthd finishes all its releases. */
int ask_finish_release(struct session *s, uint32_t record, int64_t deadline);

/* Called when the handle is closed. If no thread uses a record of the session any more, tells
 * berthd that it may reuse the session's entry and records at once. Doesn't wait. */
void ask_goodbye(const struct berth *b);
