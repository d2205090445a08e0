/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The log: the journal when berthd runs under systemd (standard error is connected to it), else one
 * line a message on standard error. Messages end with what happens next.
 */

#include <stdarg.h>
#include <syslog.h>

/* The highest level that is logged; LOG_INFO unless $BERTH_LOG_LEVEL is a number from 0 to 7. */
void log_init(void);

__attribute__((format(printf, 2, 3))) void log_message(int level, const char *format, ...);

/* With a message id of 32 hex digits and up to 4 fields ("ACCOUNT=alice"), NULL-terminated: what a
 * site searches the journal for. */
__attribute__((format(printf, 4, 5))) void log_event(
	int level, const char *message_id, const char *const fields[], const char *format, ...);

#define log_error(...)   log_message(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_WARNING, __VA_ARGS__)
#define log_notice(...)  log_message(LOG_NOTICE, __VA_ARGS__)
#define log_info(...)    log_message(LOG_INFO, __VA_ARGS__)
#define log_debug(...)   log_message(LOG_DEBUG, __VA_ARGS__)
