/* SPDX-License-Identifier: MIT */

/* Answers what servers ask on berth.sock: a session, an account, more records. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "berth.h"
#include "counter.h"
#include "log.h"
#include "name.h"
#include "server.h"

/* The process that a pidfd stands for; -1 if it is no pidfd, 0 if we can't see it. *ret_error: why it
 * couldn't be found out. */
static pid_t pidfd_pid(int pidfd, int *ret_error) {
	char path[48], line[128];
	int pid = -1;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	f = fopen(path, "re");
	*ret_error = f ? 0 : -errno;
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Pid: %d", &pid) == 1)
			break;
	(void)fclose(f);
	return pid;
}

/* Without one, the kernel has dropped the caller's pidfd. */
static bool descriptor_is_left(void) {
	_cleanup_close_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	return fd >= 0 || (errno != EMFILE && errno != ENFILE);
}

static bool is_short_of_descriptors(int pidfd, int error) {
	return error == -EMFILE || error == -ENFILE || (pidfd < 0 && !descriptor_is_left());
}

static bool process_is_gone(pid_t pid) {
	return kill(pid, 0) < 0 && errno == ESRCH;
}

/* NULL: the claim stands. */
static const char *hello_objection(const struct connection *c, pid_t pid) {
	if (c->peer.pid == 0)
		return "this process is in a pid namespace that berthd can't see into; run berthd "
		       "in "
		       "an enclosing one";
	if (pid != c->peer.pid)
		return "the request came without the pidfd of the process that connected";
	return NULL;
}

static int hello_refuse(struct connection *c, int error) {
	const char *what = error == -ENOSPC ? "all sessions are in use; raise --max-sessions"
					    : "no memory for another session";

	return connection_refuse(c, MESSAGE_HELLO, BERTH_NO_SYSTEM_RESOURCES, "%s", what);
}

static int welcome(struct connection *c, bool resumed) {
	const struct segment *segment = c->context->segment;
	const int fds[2] = {segment->directory_fd, segment->segment_fd};
	struct message_welcome reply = {
		.header = MESSAGE_HEADER(MESSAGE_HELLO, reply),
		.session = c->session->index,
		.serial = c->session->who.serial,
		.resumed = resumed,
	};
	int r;

	/* None left is no reason to refuse: the session says 8 when it needs one. */
	if (!resumed && session_grant(c->session, &reply.range[0]) >= 0)
		reply.range_count = 1;
	r = connection_reply(c, &reply, sizeof(reply), fds, 2);
	/* Who was never told of a session won't use it: it isn't to wait for the process's death. */
	c->goodbye = r < 0 && !resumed;
	c->resumed = resumed;
	return r;
}

static int handle_hello(struct connection *c, const void *message, size_t length, int *fds) {
	const struct message_hello *hello = message;
	int error = 0;
	pid_t pid = fds[0] < 0 ? -1 : pidfd_pid(fds[0], &error);
	const char *objection = hello_objection(c, pid);
	struct session_claim claim = {
		.pid = c->peer.pid,
		.uid = c->peer.uid,
		.image = hello->image,
		.resume_session = hello->resume_session,
		.resume_serial = hello->resume_serial,
		.pidfd = -1,
	};
	bool resumed;
	int r;

	(void)length;
	if (c->session)
		return -EBADMSG;
	if (hello->fingerprint != BERTH_FINGERPRINT)
		return connection_refuse(c, MESSAGE_HELLO, BERTH_REVISION_MISMATCH,
			"libberth and berthd " BERTH_VERSION
			" have different layouts; install both from the same release, and restart "
			"this server");
	if (objection && c->peer.pid != 0 && is_short_of_descriptors(fds[0], error)) {
		server_say_no_descriptors(c->context->server);
		return connection_refuse(
			c, MESSAGE_HELLO, BERTH_NO_SYSTEM_RESOURCES, NO_DESCRIPTORS_TEXT);
	}
	if (objection && error == -ENOMEM)
		return hello_refuse(c, error);
	/* Killed since it asked: nobody is there to be refused. */
	if (objection && fds[0] >= 0 && pid == -1 && process_is_gone(c->peer.pid))
		return -ECONNRESET;
	if (objection) {
		log_warning("Refusing a session to process %d (uid %u): %s", (int)c->peer.pid,
			c->peer.uid, objection);
		return connection_refuse(c, MESSAGE_HELLO, BERTH_ACCESS_DENIED, "%s", objection);
	}
	claim.pidfd = fds[0];
	fds[0] = -1;
	r = sessions_open(c->context->sessions, &claim, &c->session, &resumed);
	return r < 0 ? hello_refuse(c, r) : welcome(c, resumed);
}

static int handle_resolve(struct connection *c, const void *message, size_t length, int *fds) {
	const struct message_resolve *resolve = message;
	int name_length = message_name_length(&resolve->name);
	const char *wrong = NULL;
	struct message_resolved reply = {.header = MESSAGE_HEADER(MESSAGE_RESOLVE, reply)};
	int r;

	(void)length, (void)fds;
	if (name_length >= 0)
		wrong = name_check(resolve->name.text, (size_t)name_length);
	if (name_length < 0 || wrong)
		return connection_refuse(c, MESSAGE_RESOLVE, BERTH_INVALID_PARAMETER, "%s",
			wrong ? wrong : "the name doesn't end");
	r = accounts_resolve(c->context->accounts, resolve->name.text, &reply.account);
	if (r == -ENOENT)
		return connection_refuse(c, MESSAGE_RESOLVE, BERTH_NO_SUCH_USER,
			"no limit is set for this account, and no template covers it");
	if (r < 0)
		return connection_refuse(c, MESSAGE_RESOLVE, code_of(r),
			"no room for another account: %s",
			r == -ENOSPC ? "raise --max-accounts" : strerror(-r));
	reply.generation =
		entry_generation(directory_word(c->context->accounts->directory, reply.account));
	return connection_reply(c, &reply, sizeof(reply), NULL, 0);
}

static int handle_ranges(struct connection *c, const void *message, size_t length, int *fds) {
	const struct message_ranges *ask = message;
	struct message_ranges_granted reply = {.header = MESSAGE_HEADER(MESSAGE_RANGES, reply)};
	int r = 0;

	(void)length, (void)fds;
	if (!c->session || ask->count == 0)
		return -EBADMSG;
	/* Ended while it asked: it will open another. */
	if (c->session->state != SESSION_OPEN)
		return -ECONNRESET;
	while (reply.count < MIN_OF(ask->count, MESSAGE_RANGES_MAX) && r >= 0) {
		r = session_grant(c->session, &reply.range[reply.count]);
		reply.count += r >= 0;
	}
	if (reply.count == 0)
		return connection_refuse(c, MESSAGE_RANGES, BERTH_NO_SYSTEM_RESOURCES, "%s",
			r != -ENOSPC ? "no room for more slots in the runtime directory's file "
				       "system"
			: load_relaxed(&c->context->segment->names->retired) > 0
				? "no slot is left: all are handed out, or have used up their "
				  "sequence numbers; restart berthd while no server uses it"
				: "all slots are handed out; raise --max-slots");
	return connection_reply(c, &reply, sizeof(reply), NULL, 0);
}

static int handle_settle(struct connection *c, const void *message, size_t length, int *fds) {
	const struct message_settle *settle = message;
	int r;

	(void)length, (void)fds;
	if (!c->session || sessions_owner(c->context->sessions, settle->record) != c->session)
		return -EBADMSG;
	r = counter_settle(c->context->segment->map, settle->record);
	if (r < 0)
		return connection_refuse(c, MESSAGE_SETTLE, BERTH_NO_SYSTEM_RESOURCES,
			"can't give a slot back (%s); release it again", strerror(-r));
	return connection_done(c, MESSAGE_SETTLE, 0);
}

static int handle_bye(struct connection *c, const void *message, size_t length, int *fds) {
	(void)message, (void)length, (void)fds;
	c->goodbye = true;
	return -ECONNRESET; /* as if it had hung up, which it is about to */
}

const struct message_type service_types[] = {
	{MESSAGE_HELLO, sizeof(struct message_hello), false, handle_hello},
	{MESSAGE_RESOLVE, sizeof(struct message_resolve), false, handle_resolve},
	{MESSAGE_RANGES, sizeof(struct message_ranges), false, handle_ranges},
	{MESSAGE_SETTLE, sizeof(struct message_settle), false, handle_settle},
	{MESSAGE_BYE, sizeof(struct message_bye), false, handle_bye},
	{0, 0, false, NULL},
};
