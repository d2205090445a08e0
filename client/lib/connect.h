/* SPDX-License-Identifier: MIT */
#pragma once

/* Connects to berthd. Errors as in ask.h. */

#include "handle.h"

/* Connects to berthd, and resumes the session `resume` if berthd agrees. Otherwise, or if `resume`
 * is NULL, opens and publishes a new session. The caller has locked the handle. */
int connect_session(struct berth *b, struct session *resume, int64_t deadline);

/* Tells berthd that the process gives up the session of this connection. */
void connect_send_bye(int fd);

/* Waits a little before the next attempt to connect, after berthd has hung up. A berthd that is
 * being restarted may hang up during HELLO. False: the wait would pass the deadline. */
bool connect_pause(int64_t deadline);
