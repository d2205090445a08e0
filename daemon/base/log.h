/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Logs to the journal if systemd has connected standard error to the journal; otherwise prints one
 * line per message on standard error. The end of each message says what happens next, or what to
 * do.
 */

#include <stdarg.h>
#include <syslog.h>

/* Chooses the journal or standard error, and the highest level that is logged. This is
 * $BERTH_LOG_LEVEL if it is a number from 0 to 7, otherwise LOG_INFO. */
void log_init(void);

/* Logs a message with an id of 32 hex digits and up to 4 fields ("LAYOUT=3"), then NULL. The
 * journal can be searched for id and fields. message_id and fields may be NULL. */
__attribute__((format(printf, 4, 5))) void log_event(
	int level, const char *message_id, const char *const fields[], const char *format, ...);

/* Message ids. packaging/systemd/berth.catalog says what each means and what to do. */
#define EVENT_SERVING        "8db1a39105cf40eb806104e2ff06c31c"
#define EVENT_STOPPING       "9090fd4d5c4e403d85be76a89bb72dff"
#define EVENT_OTHER_LAYOUT   "2433097302e648d68011b9d06aac4f8b"
#define EVENT_ABANDONED      "eb9fe934a71e4d6da5c60a9d4ace83fa"
#define EVENT_DAMAGED        "507c628f3777447ea298168b648e1099"
#define EVENT_FULL           "6fbb07b63a0547abbd641dc6eee927ba"
#define EVENT_REPAIRED       "4f8a1d6c0b7e4a5f9c3d2e1b6a7f8091"
#define EVENT_UNSTORED       "d19e1097bfc24dfeb40184afad900753"
#define EVENT_LIMITS_DAMAGED "5b3f0c9a2d7c4f6c8c1e64b1f7a90d25"
#define EVENT_UNEXPORTED     "c2a6f5d87e1b4c0f9a35d86e0b174fe3"

#define log_error(...)   log_event(LOG_ERR, NULL, NULL, __VA_ARGS__)
#define log_warning(...) log_event(LOG_WARNING, NULL, NULL, __VA_ARGS__)
#define log_notice(...)  log_event(LOG_NOTICE, NULL, NULL, __VA_ARGS__)
#define log_info(...)    log_event(LOG_INFO, NULL, NULL, __VA_ARGS__)
#define log_debug(...)   log_event(LOG_DEBUG, NULL, NULL, __VA_ARGS__)
