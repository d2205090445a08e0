/* SPDX-License-Identifier: MIT */

/* Sends messages to the journal, with their fields, or as plain lines to standard error. */

/* Without this macro the journal would name this file as the source of every message. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "log.h"
#include "name.h"
#include "number.h"
#include "util.h"

/* If poll() says that a pipe is writable, the pipe takes this many bytes at once without
 * blocking. */
#define LINE_MAX_BYTES PIPE_BUF
#define FIELDS_MAX     4

/* Set by log_init(), before berthd starts threads. */
static int highest_level = LOG_INFO;
static bool to_journal;

void log_init(void) {
	const char *level = getenv("BERTH_LOG_LEVEL"), *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;
	uint64_t n;

	if (level && number_parse(level, LOG_DEBUG, &n) == 0)
		highest_level = (int)n;
	/* systemd says in JOURNAL_STREAM which file it has connected to the journal. If standard
	 * error is another file now, it was redirected, and messages go to that file. */
	to_journal = stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
		     fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

static struct iovec field(const char *text) {
	return (struct iovec){.iov_base = (char *)text, .iov_len = strlen(text)};
}

static void send_to_journal(
	int level, const char *message_id, const char *const fields[], const char *message) {
	struct iovec v[4 + FIELDS_MAX];
	char priority[16], id[64];
	int n = 0;

	(void)snprintf(priority, sizeof(priority), "PRIORITY=%d", level);
	v[n++] = field(message);
	v[n++] = field(priority);
	v[n++] = field("SYSLOG_IDENTIFIER=berthd");
	if (message_id) {
		(void)snprintf(id, sizeof(id), "MESSAGE_ID=%s", message_id);
		v[n++] = field(id);
	}
	for (size_t i = 0; fields && fields[i] && i < FIELDS_MAX; i++)
		v[n++] = field(fields[i]);
	(void)sd_journal_sendv(v, n);
}

/* Doesn't block. If the terminal is stopped, or no process reads the pipe, messages are lost, but
 * berthd keeps serving. */
static void send_to_stderr(const char *message) {
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
	char line[LINE_MAX_BYTES];
	int n;

	if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLOUT))
		return;
	n = snprintf(line, sizeof(line) - 1, "berthd: %s", message);
	if (n < 0)
		return;
	n = MIN_OF(n, (int)sizeof(line) - 2);
	line[n++] = '\n';
	(void)!write(STDERR_FILENO, line, (size_t)n);
}

void log_event(
	int level, const char *message_id, const char *const fields[], const char *format, ...) {
	static const char prefix[] = "MESSAGE=";
	char text[LINE_MAX_BYTES] = "MESSAGE=";
	int saved = errno;
	va_list args;

	/* errno stays as it is: callers often log before they return it. */
	if (level > highest_level)
		return;
	va_start(args, format);
	(void)vsnprintf(text + strlen(prefix), sizeof(text) - strlen(prefix), format, args);
	va_end(args);
	if (to_journal)
		send_to_journal(level, message_id, fields, text);
	else
		send_to_stderr(text + strlen(prefix));
	errno = saved;
}
