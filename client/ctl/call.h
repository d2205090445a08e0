/* SPDX-License-Identifier: MIT */
#pragma once

/* Asks berthd on admin.sock. */

#include <stddef.h>

/*
 * Sends a request and waits for a reply of exactly reply_size bytes. The first call connects to the
 * berthd of globals.runtime_dir; the connection lasts as long as the process. `about` names
 * the account that the request concerns, for error messages; NULL: none. Returns an exit status,
 * after reporting any error.
 */
int call_berthd(const char *about, const void *request, void *reply, size_t reply_size);

/* Reports why the contents of a reply can't be used. -EBADMSG: they are malformed; any other
 * negative errno: its text. Returns CTL_FAILED. If `error` is 0, reports nothing, and returns
 * CTL_OK. */
int call_report_contents(int error);
