/* SPDX-License-Identifier: MIT */
#pragma once

/* The requests that servers send through libberth on berth.sock: for a session, for accounts, for
 * more records. */

#include "connection.h"

extern const struct protocol clients_protocol;

struct session;

/* For sessions_on_ended(): makes the session's connection forget the session. */
void clients_session_ended(struct session *s);
