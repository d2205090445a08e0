/* SPDX-License-Identifier: MIT */

/* Asks berthd on admin.sock, and reports what failed, why, and what to do next. */

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "berth.h"
#include "call.h"
#include "clock.h"
#include "exit-status.h"
#include "message.h"
#include "show.h"
#include "verbs.h"

#define ADMIN_SOCKET "admin.sock"
#define ADMIN_GROUP  "berth-admin"

/* How long berthctl tries to connect while a person waits. A berthd that is being restarted is back
 * within this time. */
#define CONNECT_MS 1000

/* A synced write to a slow disk takes seconds, and the commit of a million limits takes minutes. */
#define CALL_MS   60000
#define COMMIT_MS 600000

static int connect_report(int error) {
	struct shown shown;
	const char *dir = show_text(&shown, globals.runtime_dir);
	const struct group *g = NULL;
	char path[4096];
	struct stat st;
	int n;

	switch (-error) {
	case EACCES:
	case EPERM:
		/* Each instance of berthd may have a group of its own. */
		n = snprintf(path, sizeof(path), "%s/" ADMIN_SOCKET, globals.runtime_dir);
		if (n > 0 && (size_t)n < sizeof(path) && stat(path, &st) == 0)
			g = getgrgid(st.st_gid);
		report_error("not allowed to use %s/" ADMIN_SOCKET
			     ": only root and members of group %s are; ask to be added to it, or "
			     "use sudo",
			dir, g ? g->gr_name : ADMIN_GROUP);
		return CTL_NOT_ALLOWED;
	case ECONNREFUSED:
		report_error("no process listens at %s/" ADMIN_SOCKET
			     ": is berthd running? See: systemctl status berthd",
			dir);
		return CTL_UNREACHABLE;
	default:
		report_error("can't connect to %s/" ADMIN_SOCKET ": %s", dir, strerror(-error));
		return CTL_UNREACHABLE;
	}
}

static int refusal_report(const char *about, struct message_failed *m) {
	struct shown shown;
	const char *name = about ? show_text(&shown, about) : "";
	const char *text = m->text;

	/* berthd has escaped the names in its text already, so escaping them again would garble
	 * them. The loop replaces control characters, which a terminal would obey. */
	m->text[sizeof(m->text) - 1] = '\0';
	for (char *p = m->text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7F)
			*p = '?';
	if (!*text)
		text = berth_strerror((int)m->header.code);
	if (strstr(text, name))
		report_error("%s (%" PRIu32 ")", text, m->header.code);
	else
		report_error("%s: %s (%" PRIu32 ")", name, text, m->header.code);
	return exit_status_of(m->header.code);
}

int call_report_contents(int error) {
	if (error == -EBADMSG)
		return report_error(
			"berthd's reply is malformed; are berthd and berthctl " BERTH_VERSION
			" of the same version?");
	return error < 0 ? report_error("%s", strerror(-error)) : CTL_OK;
}

static int call_report(int error) {
	struct shown shown;

	switch (-error) {
	case ETIMEDOUT:
		report_error("berthd doesn't answer at %s/" ADMIN_SOCKET
			     "; it may have done what was asked, or may do it yet. See: systemctl "
			     "status berthd",
			show_text(&shown, globals.runtime_dir));
		return CTL_UNREACHABLE;
	case ECONNRESET:
		report_error(
			"berthd closed the connection before it answered; it may have done what "
			"was asked. See: systemctl status berthd");
		return CTL_UNREACHABLE;
	case EPROTONOSUPPORT:
		return report_error(
			"the berthd that runs has another version than berthctl " BERTH_VERSION
			"; restart it, once 'berthd --check-segment' says that nothing keeps it "
			"from starting: systemctl restart berthd");
	case EBADMSG:
	case EMSGSIZE:
		return call_report_contents(-EBADMSG);
	default:
		return report_error("can't talk to berthd: %s", strerror(-error));
	}
}

int call_berthd(const char *about, const void *request, void *reply, size_t reply_size) {
	/* Any reply may be a struct message_failed. */
	static union {
		struct message_header header;
		struct message_failed failed;
		char bytes[MESSAGE_SIZE_MAX];
	} buffer;
	static int fd = -1; /* closed when the process ends */
	size_t size = sizeof(buffer);
	struct message_header header;
	int64_t wait;
	int r = 0;

	if (fd < 0)
		r = message_connect(
			globals.runtime_dir, ADMIN_SOCKET, clock_monotonic_ms() + CONNECT_MS, &fd);
	if (r < 0)
		return connect_report(r);
	memcpy(&header, request, sizeof(header));
	wait = header.opcode == MESSAGE_IMPORT_COMMIT ? COMMIT_MS : CALL_MS;
	r = message_call(fd, request, &buffer, &size, clock_monotonic_ms() + wait);
	if (r < 0)
		return call_report(r);
	if (buffer.header.code != BERTH_SUCCESS)
		return refusal_report(about, &buffer.failed);
	if (size != reply_size)
		return call_report_contents(-EBADMSG);
	memcpy(reply, &buffer, size);
	return CTL_OK;
}
