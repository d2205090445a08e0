/* SPDX-License-Identifier: MIT */
#pragma once

/* What servers ask through libberth on berth.sock: a session, accounts, more records. */

#include "connection.h"

extern const struct protocol clients_protocol;

struct session;

/* For sessions_on_ended(): the session's connection forgets it. */
void clients_session_ended(struct session *s);
