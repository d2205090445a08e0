/* SPDX-License-Identifier: MIT */
#pragma once

/* Connecting to berthd. Errors as in ask.h. */

#include "handle.h"

/* The caller has locked the handle. Connects again, and resumes the session if berthd agrees;
 * otherwise opens and publishes a new one. resume NULL: opens a new one. */
int connect_session(struct berth *b, struct session *resume, int64_t deadline);

/* Tells berthd that the process gives up the session of this connection. */
void connect_send_bye(int fd);

/* Waits a little before the next attempt to connect to a berthd that hung up, as one that is being
 * restarted may during HELLO. False: the deadline would pass. */
bool connect_pause(int64_t deadline);
