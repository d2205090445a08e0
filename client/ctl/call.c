/* SPDX-License-Identifier: MIT */

/* Talks to the daemon's admin socket, and says on standard error what didn't work: what it was
 * about, why, and what to do next. */

#include <grp.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "berth.h"
#include "clock.h"
#include "ctl.h"
#include "message.h"
#include "name.h"
#include "util.h"

#define ADMIN_SOCKET "admin.sock"
#define ADMIN_GROUP  "berth-admin"

/* Somebody is waiting at a terminal; long enough for a daemon that is being restarted. */
#define CONNECT_MS 1000

/* A synced write to a slow disk is seconds, the commit of a million lines many. */
#define CALL_MS   60000
#define COMMIT_MS 600000

static void message_print(const char *format, va_list args) __attribute__((format(printf, 1, 0)));

static void message_print(const char *format, va_list args) {
	(void)fflush(stdout);
	fputs("berthctl: ", stderr);
	(void)vfprintf(stderr, format, args);
	putc('\n', stderr);
}

void ctl_error(const char *format, ...) {
	va_list args;

	va_start(args, format);
	message_print(format, args);
	va_end(args);
}

int ctl_usage(const struct ctl *c, const char *format, ...) {
	va_list args;

	va_start(args, format);
	message_print(format, args);
	va_end(args);
	if (c->verb)
		fprintf(stderr, "Try 'berthctl help %s'.\n", c->verb->name);
	else
		fputs("Try 'berthctl help'.\n", stderr);
	return CTL_USAGE;
}

const char *ctl_show(struct ctl_shown *s, const char *text) {
	return name_escape(text, strlen(text), s->text, sizeof(s->text));
}

const char *ctl_show_bytes(struct ctl_shown *s, const char *text, size_t size) {
	return name_escape(text, strnlen(text, size), s->text, sizeof(s->text));
}

const char *ctl_limit_text(uint32_t limit, char to[CTL_LIMIT_SIZE]) {
	if (limit == MESSAGE_UNLIMITED)
		(void)snprintf(to, CTL_LIMIT_SIZE, "unlimited");
	else
		(void)snprintf(to, CTL_LIMIT_SIZE, "%" PRIu32, limit);
	return to;
}

static int name_refuse(const struct ctl *c, const char *name, const char *wrong) {
	struct ctl_shown shown;

	return ctl_usage(c, "'%s': %s", ctl_show(&shown, name), wrong);
}

int ctl_check_account(const struct ctl *c, const char *name) {
	const char *wrong = name_check(name, strlen(name));

	return wrong ? name_refuse(c, name, wrong) : CTL_OK;
}

int ctl_check_account_or_template(const struct ctl *c, const char *name) {
	size_t length = strlen(name);
	const char *wrong = name_is_template(name, length) ? name_check_template(name, length)
							   : name_check(name, length);

	return wrong ? name_refuse(c, name, wrong) : CTL_OK;
}

int ctl_status_of(uint32_t code) {
	switch (code) {
	case BERTH_SUCCESS:
		return CTL_OK;
	case BERTH_ACCESS_DENIED:
		return CTL_NOT_ALLOWED;
	case BERTH_CONNECTION_REFUSED:
		return CTL_UNREACHABLE;
	case BERTH_CONNECTION_COUNT_LIMIT:
		return CTL_DENIED;
	default:
		return CTL_FAILED;
	}
}

/* -- connecting -------------------------------------------------------------------------------- */

/* The group that may use the socket: another instance has another one. */
static const char *admin_group(const char *runtime_dir) {
	char path[4096];
	struct stat st;
	struct group *g;
	int n = snprintf(path, sizeof(path), "%s/" ADMIN_SOCKET, runtime_dir);

	if (n < 0 || (size_t)n >= sizeof(path) || stat(path, &st) < 0)
		return ADMIN_GROUP;
	g = getgrgid(st.st_gid);
	return g ? g->gr_name : ADMIN_GROUP;
}

static int connect_explain(const struct ctl *c, int error) {
	struct ctl_shown shown;
	const char *dir = ctl_show(&shown, c->runtime_dir);

	switch (-error) {
	case EACCES:
	case EPERM:
		ctl_error("not allowed to use %s/" ADMIN_SOCKET
			  ": only root and members of group %s are; ask to be added to it, or use "
			  "sudo",
			dir, admin_group(c->runtime_dir));
		return CTL_NOT_ALLOWED;
	case ECONNREFUSED:
		ctl_error("nobody answers at %s/" ADMIN_SOCKET
			  ": is berthd running? See: systemctl status berthd",
			dir);
		return CTL_UNREACHABLE;
	default:
		ctl_error("can't connect to %s/" ADMIN_SOCKET ": %s", dir, strerror(-error));
		return CTL_UNREACHABLE;
	}
}

static int admin_connect(struct ctl *c) {
	int r;

	if (c->admin_fd >= 0)
		return CTL_OK;
	r = message_connect(
		c->runtime_dir, ADMIN_SOCKET, clock_monotonic_ms() + CONNECT_MS, &c->admin_fd);
	return r < 0 ? connect_explain(c, r) : CTL_OK;
}

void admin_close(struct ctl *c) {
	close_cleanup(&c->admin_fd);
}

/* -- calling ----------------------------------------------------------------------------------- */

/* The daemon escapes names in what it says; this only keeps a terminal safe from what it might
 * have missed, without escaping twice. */
static void text_tame(char text[MESSAGE_TEXT_SIZE]) {
	text[MESSAGE_TEXT_SIZE - 1] = '\0';
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7F)
			*p = '?';
}

static int failed_explain(const char *about, struct message_failed *m) {
	struct ctl_shown shown;
	const char *what = about ? ctl_show(&shown, about) : "";
	const char *text = m->text;

	text_tame(m->text);
	if (!*text)
		text = berth_strerror((int)m->header.code);
	if (strstr(text, what))
		ctl_error("%s (%" PRIu32 ")", text, m->header.code);
	else
		ctl_error("%s: %s (%" PRIu32 ")", what, text, m->header.code);
	return ctl_status_of(m->header.code);
}

static int call_explain(const struct ctl *c, int error) {
	struct ctl_shown shown;

	switch (-error) {
	case ETIMEDOUT:
		ctl_error("berthd doesn't answer at %s/" ADMIN_SOCKET
			  "; it may have done what was asked, or may do it yet. See: systemctl "
			  "status berthd",
			ctl_show(&shown, c->runtime_dir));
		return CTL_UNREACHABLE;
	case ECONNRESET:
		ctl_error(
			"berthd hung up before it answered; it may have done what was asked. See: "
			"systemctl status berthd");
		return CTL_UNREACHABLE;
	case EPROTONOSUPPORT:
		ctl_error("the berthd that runs is of another release than berthctl " BERTH_VERSION
			  "; restart it, once 'berthd --check-segment' says that nothing keeps it "
			  "from starting: systemctl restart berthd");
		return CTL_FAILED;
	case EBADMSG:
	case EMSGSIZE:
		return admin_nonsense();
	default:
		ctl_error("can't talk to berthd: %s", strerror(-error));
		return CTL_FAILED;
	}
}

int admin_nonsense(void) {
	ctl_error("berthd's answer makes no sense; are berthd and berthctl " BERTH_VERSION
		  " of the same version?");
	return CTL_FAILED;
}

int admin_call(
	struct ctl *c, const char *about, const void *request, void *reply, size_t reply_size) {
	/* Whatever was asked, the reply may be a struct message_failed. */
	static union {
		struct message_header header;
		struct message_failed failed;
		char bytes[MESSAGE_SIZE_MAX];
	} buffer;
	size_t size = sizeof(buffer);
	struct message_header header;
	int64_t wait;
	int r;

	r = admin_connect(c);
	if (r != CTL_OK)
		return r;
	memcpy(&header, request, sizeof(header));
	wait = header.opcode == MESSAGE_IMPORT_COMMIT ? COMMIT_MS : CALL_MS;
	r = message_call(c->admin_fd, request, &buffer, &size, clock_monotonic_ms() + wait);
	if (r < 0)
		return call_explain(c, r);
	if (buffer.header.code != BERTH_SUCCESS)
		return failed_explain(about, &buffer.failed);
	if (size != reply_size)
		return admin_nonsense();
	memcpy(reply, &buffer, size);
	return CTL_OK;
}
