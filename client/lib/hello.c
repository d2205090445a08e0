/* SPDX-License-Identifier: MIT */

/* Connects to berthd, and opens or resumes a session. */

#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "clock.h"
#include "hello.h"
#include "message.h"
#include "pool.h"
#include "thread.h"

/* A berthd that is being restarted may hang up during HELLO. */
#define PAUSE_MS 20

/* Tells this exec image from the one before and the one after it: the kernel gives each 16 random
 * bytes. */
static uint64_t image_hash(void) {
	const void *random = (const void *)(uintptr_t)getauxval(AT_RANDOM);

	return random ? XXH3_64bits(random, 16) : 0;
}

static int welcome_check(const struct message_welcome *w, const struct session *resume) {
	if (w->range_count > ELEMENTS(w->range) || w->serial == 0)
		return -EBADMSG;
	if (!w->resumed)
		return 0;
	return resume && w->session == resume->index && w->serial == resume->serial ? 0 : -EBADMSG;
}

static int hello_send(
	int fd, const struct session *resume, int64_t deadline, union reply *reply, int *fds) {
	struct message_hello hello = {
		.header = MESSAGE_HEADER(MESSAGE_HELLO, struct message_hello),
		.fingerprint = BERTH_FINGERPRINT,
		.image = image_hash(),
		.resume_session = resume ? resume->index : 0,
		.resume_serial = resume ? resume->serial : 0,
	};
	_cleanup_close_ int pidfd = -1;
	size_t size = sizeof(*reply);
	int r;

	pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	/* A filter of system calls may have answered EPERM. The caller mustn't take that for
	 * berthd's policy. */
	if (pidfd < 0)
		return -ENOSYS;
	r = message_ask(fd, &hello, pidfd, deadline);
	/* If berthd hung up before it received the request, it may have sent the reason. */
	if (r == 0 || r == -ECONNRESET)
		r = message_answer(fd, &hello, reply, &size, fds, deadline);
	if (r < 0)
		return r;
	if (reply->header.code != 0)
		return reply->header.code <= INT32_MAX ? (int)reply->header.code : -EBADMSG;
	return size == sizeof(reply->welcome) ? welcome_check(&reply->welcome, resume) : -EBADMSG;
}

/* Takes those of the descriptors that it uses. */
static int welcome_accept(struct berth *b, struct session *resume, const struct message_welcome *w,
	int fds[MESSAGE_FDS_MAX]) {
	struct session *s;
	int r;

	if (w->resumed) {
		map_file_renew(resume->map, &resume->map->directory, &fds[0]);
		map_file_renew(resume->map, &resume->map->segment, &fds[1]);
		handles_claim_files(resume->map);
		return 0;
	}
	/* The kernel drops descriptors for which the process has no free numbers. */
	if (fds[0] < 0 || fds[1] < 0)
		return -EMFILE;
	r = session_new(handle_next_session_number(b), w, fds, &s);
	if (r >= 0)
		handle_publish(b, s);
	return r;
}

static void bye_send(int fd) {
	struct message_bye bye = {.header = MESSAGE_HEADER(MESSAGE_BYE, struct message_bye)};

	(void)message_send(fd, &bye, sizeof(bye), NULL, 0);
}

static int connect_once(struct berth *b, struct session *resume, int64_t deadline) {
	_cleanup_close_ int fd = -1;
	int fds[MESSAGE_FDS_MAX] = {-1, -1};
	union reply reply = {{0}};
	int r;

	descriptor_close(&b->socket);
	r = message_connect(b->runtime_dir, "berth.sock", deadline, &fd);
	if (r >= 0)
		r = hello_send(fd, resume, deadline, &reply, fds);
	if (r == 0)
		r = welcome_accept(b, resume, &reply.welcome, fds);
	/* berthd must not keep a session that this process can't use until the process dies. */
	if (r < 0 && fd >= 0 && (!resume || (reply.welcome.serial && !reply.welcome.resumed)))
		bye_send(fd);
	for (size_t i = 0; i < MESSAGE_FDS_MAX; i++)
		close_cleanup(&fds[i]);
	if (r != 0)
		return r;
	r = descriptor_set(&b->socket, fd);
	fd = -1;
	if (r == 0)
		b->owes_reply = false;
	return r;
}

bool hello_pause(int64_t deadline) {
	struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000};

	if (clock_monotonic_ms() + PAUSE_MS >= deadline)
		return false;
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return true;
}

int hello_connect(struct berth *b, struct session *resume, int64_t deadline) {
	int r;

	do
		r = connect_once(b, resume, deadline);
	while (r == -ECONNRESET && hello_pause(deadline));
	return r;
}

int hello_get_session(struct berth *b, int64_t deadline, struct session **ret) {
	struct visit v;
	int r = handle_enter(b, deadline, &v);

	if (r == 0 && !load_relaxed(&b->current))
		r = hello_connect(b, NULL, deadline);
	if (r == 0)
		*ret = load_relaxed(&b->current);
	handle_leave(b, &v);
	return r;
}

int hello_replace_session(const struct session *s, int64_t deadline) {
	struct berth *b = s->handle;
	struct visit v;
	int r = handle_enter(b, deadline, &v);

	/* The session's entry says that it has ended, so there is nothing to resume. */
	if (r == 0 && load_relaxed(&b->current) == s)
		r = hello_connect(b, NULL, deadline);
	handle_leave(b, &v);
	return r;
}

int hello_renew_files(struct session *s, int64_t deadline) {
	struct berth *b = s->handle;
	struct visit v;
	int r = handle_enter(b, deadline, &v);

	if (r == 0 && load_relaxed(&b->current) == s && !map_files_are_ours(s->map))
		r = hello_connect(b, s, deadline);
	handle_leave(b, &v);
	return r;
}

void hello_say_goodbye(const struct berth *b) {
	struct session *s = load_relaxed(&b->current);

	/* A thread that is still inside may place a record yet. Then berthd keeps the ranges until
	 * the process is dead. */
	if (s && threads_keep_out(s) && pool_close(s->pool) && descriptor_is_ours(&b->socket))
		bye_send(b->socket.fd);
}
