/* SPDX-License-Identifier: MIT */

/* Connects to berthd, and sends HELLO, which opens or resumes a session. */

#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "clock.h"
#include "connect.h"
#include "message.h"

#define PAUSE_MS 20

union hello_reply {
	struct message_header header;
	struct message_failed failed;
	struct message_welcome welcome;
};

static int hello_send(int fd, const struct session *resume, int64_t deadline,
	union hello_reply *reply, int *fds) {
	const void *random = (const void *)(uintptr_t)getauxval(AT_RANDOM);
	struct message_hello hello = {
		.header = MESSAGE_HEADER(MESSAGE_HELLO, struct message_hello),
		.fingerprint = BERTH_FINGERPRINT,
		/* Distinguishes this exec image from the images before and after it: the kernel
		 * gives each image 16 random bytes. */
		.image = random ? XXH3_64bits(random, 16) : 0,
		.resume_session = resume ? resume->index : 0,
		.resume_serial = resume ? resume->serial : 0,
	};
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	size_t size = sizeof(*reply);
	int r;

	/* A filter of system calls may have returned EPERM, which the caller would take for a
	 * refusal by berthd. So the error here is -ENOSYS. */
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
	return size == sizeof(reply->welcome) ? 0 : -EBADMSG;
}

/* Resumes or opens the session that berthd's reply names. Takes ownership of the descriptors that
 * it uses; the caller closes the others. */
static int welcome_accept(struct berth *b, struct session *resume, const struct message_welcome *w,
	int fds[MESSAGE_FDS_MAX]) {
	struct session *s;
	int r;

	if (w->range_count > ELEMENTS(w->range) || w->serial == 0)
		return -EBADMSG;
	if (w->resumed) {
		if (!resume || w->session != resume->index || w->serial != resume->serial)
			return -EBADMSG;
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

void connect_send_bye(int fd) {
	struct message_bye bye = {.header = MESSAGE_HEADER(MESSAGE_BYE, struct message_bye)};

	(void)message_send(fd, &bye, sizeof(bye), NULL, 0);
}

static int connect_once(struct berth *b, struct session *resume, int64_t deadline) {
	_cleanup_close_ int fd = -1;
	int fds[MESSAGE_FDS_MAX] = {-1, -1};
	union hello_reply reply = {{0}};
	int r;

	descriptor_close(&b->socket);
	r = message_connect(b->runtime_dir, "berth.sock", deadline, &fd);
	if (r >= 0)
		r = hello_send(fd, resume, deadline, &reply, fds);
	if (r == 0)
		r = welcome_accept(b, resume, &reply.welcome, fds);
	/* berthd may have opened a session, which this process can't use after the error. Without
	 * BYE, berthd would keep that session until the process dies. */
	if (r < 0 && fd >= 0 && (!resume || (reply.welcome.serial && !reply.welcome.resumed)))
		connect_send_bye(fd);
	for (size_t i = 0; i < MESSAGE_FDS_MAX; i++)
		close_cleanup(&fds[i]);
	if (r != 0)
		return r;
	b->owes_reply = false;
	r = descriptor_set(&b->socket, fd);
	fd = -1;
	return r;
}

bool connect_pause(int64_t deadline) {
	struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000};

	if (clock_monotonic_ms() + PAUSE_MS >= deadline)
		return false;
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return true;
}

int connect_session(struct berth *b, struct session *resume, int64_t deadline) {
	int r;

	do
		r = connect_once(b, resume, deadline);
	while (r == -ECONNRESET && connect_pause(deadline));
	return r;
}
