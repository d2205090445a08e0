/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Opens sessions: connects to berthd, says HELLO, and resumes a session after berthd was restarted.
 *
 * The functions return 0, a code of berth.h (positive) that berthd answered, or a negative errno:
 * -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT or -EBADMSG if berthd couldn't be asked, or as
 * session_new(). They may wait until the deadline (clock_monotonic_ms). Any thread may call the
 * first three. These leave errno alone, are no cancellation points, and do nothing and return 0 if
 * s isn't the current session any more: the caller goes on with the session that is.
 */

#include "handle.h"

/* Any reply of berthd to a client. */
union reply {
	struct message_header header;
	struct message_failed failed;
	struct message_welcome welcome;
	struct message_resolved resolved;
	struct message_ranges_granted granted;
	struct message_done done;
};

/* The current session, which is opened if there is none. */
int hello_get_session(struct berth *b, int64_t deadline, struct session **ret);
/* Opens a session in place of one that berthd has ended. */
int hello_replace_session(const struct session *s, int64_t deadline);
/* If the application has closed the files of the session, has berthd hand them out again, or opens
 * another session. */
int hello_renew_files(struct session *s, int64_t deadline);

/* The caller has locked the handle. Connects again, and resumes the session if berthd agrees; else
 * opens and publishes a new one. resume NULL: opens a new one. */
int hello_connect(struct berth *b, struct session *resume, int64_t deadline);
/* Waits a little before the next attempt to connect to a berthd that hung up. False: the deadline
 * would pass. */
bool hello_pause(int64_t deadline);

/* When the handle is closed: tells berthd, if no thread uses a record of the session any more, that
 * it may have the session's place and records at once. */
void hello_say_goodbye(const struct berth *b);
