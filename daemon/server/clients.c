/* SPDX-License-Identifier: MIT */

/* Answers the requests of libberth: HELLO opens or resumes a session; RESOLVE finds an account by
 * its name; RANGES hands out records; FINISH_RELEASE finishes a release that the library couldn't
 * finish; BYE ends the session. */

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "accounts.h"
#include "berth.h"
#include "clients.h"
#include "counter.h"
#include "log.h"
#include "message.h"
#include "name.h"
#include "procfs.h"
#include "sessions.h"
#include "util.h"

/* The state of a connection. */
struct client {
	struct session *session; /* after HELLO; NULL again once the session has ended */
	bool just_resumed;       /* HELLO resumed the session, and no request has followed */
	bool goodbye;            /* the client gives up its session */
};

/* Returns the connection's state, and notes that a request other than HELLO has come. */
static struct client *client_of(struct connection *c) {
	struct client *client = connection_state(c);

	client->just_resumed = false;
	return client;
}

void clients_session_ended(struct session *s) {
	struct client *client = session_user(s);

	if (client)
		client->session = NULL;
}

static void client_ended(struct connection *c, bool stops) {
	struct client *client = connection_state(c);
	struct session *session = client->session;

	client->session = NULL;
	if (!session)
		return;
	session_set_user(session, NULL);
	/* If berthd stops, the sessions stay in the segment, and their processes use them without
	 * berthd. */
	if (stops)
		return;
	/* The library also hangs up if HELLO timed out before the reply came. Then the process
	 * still holds its slots, and the library will resume the session. Until then the pidfd
	 * shows whether the process lives. */
	if (client->just_resumed && !client->goodbye)
		session_set_disconnected(session);
	else
		session_disconnected(session, client->goodbye);
}

/* -- HELLO ------------------------------------------------------------------------------------- */

/* True if berthd has no descriptor left. Then berthd can't examine the pidfd, or the kernel has
 * dropped the pidfd. */
static bool is_short_of_descriptors(int pidfd, int error) {
	_cleanup_close_ int fd = -1;

	if (error == -EMFILE || error == -ENFILE || pidfd >= 0)
		return error == -EMFILE || error == -ENFILE;
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return fd < 0 && (errno == EMFILE || errno == ENFILE);
}

static int refuse_for_sessions(struct connection *c, int error) {
	return connection_refuse(c, MESSAGE_HELLO, BERTH_NO_SYSTEM_RESOURCES, "%s",
		error == -ENOSPC ? "all sessions are in use; raise --max-sessions"
				 : "no memory for another session");
}

/* Refuses a session, since the pidfd doesn't prove that its sender is the process that connected.
 * `pid` and `error` are the results of pidfd_process(). */
static int refuse_unproven(struct connection *c, int pidfd, pid_t pid, int error) {
	const struct ucred *peer = connection_peer(c);
	const char *why = "the request came without the pidfd of the process that connected";

	if (peer->pid == 0) {
		why = "this process is in a pid namespace that berthd can't see into; run berthd "
		      "in an enclosing one";
	} else if (is_short_of_descriptors(pidfd, error)) {
		connections_log_no_descriptors(connection_context(c));
		return connection_refuse(
			c, MESSAGE_HELLO, BERTH_NO_SYSTEM_RESOURCES, NO_DESCRIPTORS_TEXT);
	}
	if (error == -ENOMEM)
		return refuse_for_sessions(c, error);
	/* The client was killed after it had sent the request, so no process waits for the
	 * reply. */
	if (pidfd >= 0 && pid == -1 && kill(peer->pid, 0) < 0 && errno == ESRCH)
		return -ECONNRESET;
	log_warning(
		"Refusing a session to process %d (uid %u): %s", (int)peer->pid, peer->uid, why);
	return connection_refuse(c, MESSAGE_HELLO, BERTH_ACCESS_DENIED, "%s", why);
}

static int handle_hello(struct connection *c, const struct packet *p) {
	struct client *client = connection_state(c);
	const struct message_hello *hello = p->message;
	const struct ucred *peer = connection_peer(c);
	int error = 0, r;
	pid_t pid = p->fds[0] < 0 ? -1 : pidfd_process(p->fds[0], &error);
	struct session_claim claim = {
		.pid = peer->pid,
		.uid = peer->uid,
		.image = hello->image,
		.resume_session = hello->resume_session,
		.resume_serial = hello->resume_serial,
		.pidfd = p->fds[0],
	};
	const struct segment *segment = connection_context(c)->segment;
	const int fds[2] = {segment->directory_fd, segment->segment_fd};
	struct message_welcome reply = {.header = MESSAGE_HEADER(MESSAGE_HELLO, reply)};
	bool resumed;

	client->just_resumed = false;
	if (client->session)
		return -EBADMSG;
	if (hello->fingerprint != BERTH_FINGERPRINT)
		return connection_refuse(c, MESSAGE_HELLO, BERTH_REVISION_MISMATCH,
			"libberth and berthd " BERTH_VERSION
			" have different layouts; install the same version of both, and restart "
			"this server");
	if (peer->pid == 0 || pid != peer->pid)
		return refuse_unproven(c, p->fds[0], pid, error);
	p->fds[0] = -1;
	r = sessions_open(connection_context(c)->sessions, &claim, &client->session, &resumed);
	if (r < 0)
		return refuse_for_sessions(c, r);
	session_set_user(client->session, client);
	reply.session = session_index(client->session);
	reply.serial = session_identity(client->session)->serial;
	reply.resumed = resumed;
	/* A session without records is fine: the client's first acquire asks for records, and is
	 * told why there are none. */
	if (!resumed && session_grant(client->session, &reply.range[0]) >= 0)
		reply.range_count = 1;
	r = connection_reply(c, &reply, sizeof(reply), fds, 2);
	/* If the reply can't be sent, the client doesn't know its session and won't use it. */
	client->goodbye = r < 0 && !resumed;
	client->just_resumed = resumed;
	return r;
}

/* -- the other requests ------------------------------------------------------------------------ */

static int handle_resolve(struct connection *c, const struct packet *p) {
	struct accounts *accounts = connection_context(c)->accounts;
	const struct message_resolve *resolve = p->message;
	int name_length = message_name_length(&resolve->name), r;
	const char *wrong = "the name doesn't end";
	struct message_resolved reply = {.header = MESSAGE_HEADER(MESSAGE_RESOLVE, reply)};

	(void)client_of(c);
	if (name_length >= 0)
		wrong = name_check(resolve->name.text, (size_t)name_length);
	if (wrong)
		return connection_refuse(c, MESSAGE_RESOLVE, BERTH_INVALID_PARAMETER, "%s", wrong);
	r = accounts_resolve(accounts, resolve->name.text, &reply.account);
	if (r == -ENOENT)
		return connection_refuse(c, MESSAGE_RESOLVE, BERTH_NO_SUCH_USER,
			"no limit is set for this account, and no template covers it");
	if (r < 0)
		return connection_refuse(c, MESSAGE_RESOLVE, code_of(r),
			"no room for another account: %s",
			r == -ENOSPC ? "raise --max-accounts" : strerror(-r));
	reply.generation = entry_generation(accounts_word(accounts, reply.account));
	return connection_reply(c, &reply, sizeof(reply), NULL, 0);
}

static int handle_ranges(struct connection *c, const struct packet *p) {
	struct client *client = client_of(c);
	const struct message_ranges *request = p->message;
	struct message_ranges_granted reply = {.header = MESSAGE_HEADER(MESSAGE_RANGES, reply)};
	const char *why = "all slots are handed out; raise --max-slots";
	int r = 0;

	if (!client->session || request->count == 0)
		return -EBADMSG;
	/* The session has ended since the client asked; the client will open another one. */
	if (!session_is_open(client->session))
		return -ECONNRESET;
	while (reply.count < MIN_OF(request->count, MESSAGE_RANGES_MAX) && r >= 0) {
		r = session_grant(client->session, &reply.range[reply.count]);
		reply.count += r >= 0;
	}
	if (reply.count > 0)
		return connection_reply(c, &reply, sizeof(reply), NULL, 0);
	if (r != -ENOSPC)
		why = "no room for more slots in the runtime directory's file system";
	else if (load_relaxed(&connection_context(c)->segment->names->retired) > 0)
		why = "no slot is left: all are handed out, or have used up their sequence "
		      "numbers; restart berthd while no server uses it";
	return connection_refuse(c, MESSAGE_RANGES, BERTH_NO_SYSTEM_RESOURCES, "%s", why);
}

static int handle_finish_release(struct connection *c, const struct packet *p) {
	const struct context *context = connection_context(c);
	const struct message_finish_release *request = p->message;
	struct client *client = client_of(c);
	int r;

	if (!client->session ||
		sessions_owner(context->sessions, request->record) != client->session)
		return -EBADMSG;
	r = counter_finish_seized(context->segment->map, request->record);
	if (r < 0)
		return connection_refuse(c, MESSAGE_FINISH_RELEASE, BERTH_NO_SYSTEM_RESOURCES,
			"can't release a slot (%s); release it again", strerror(-r));
	return connection_done(c, MESSAGE_FINISH_RELEASE, 0);
}

static int handle_bye(struct connection *c, const struct packet *p) {
	(void)p;
	client_of(c)->goodbye = true;
	return -ECONNRESET; /* the client is about to hang up */
}

static const struct message_type types[] = {
	{MESSAGE_HELLO, sizeof(struct message_hello), false, handle_hello},
	{MESSAGE_RESOLVE, sizeof(struct message_resolve), false, handle_resolve},
	{MESSAGE_RANGES, sizeof(struct message_ranges), false, handle_ranges},
	{MESSAGE_FINISH_RELEASE, sizeof(struct message_finish_release), false,
		handle_finish_release},
	{MESSAGE_BYE, sizeof(struct message_bye), false, handle_bye},
	{0, 0, false, NULL},
};

const struct protocol clients_protocol = {
	.socket = "berth.sock",
	.types = types,
	.state_size = sizeof(struct client),
	.ended = client_ended,
};
