/* SPDX-License-Identifier: MIT */

/* Who connects and doesn't play by the rules: berthd answers or hangs up, lives, serves the others
 * and keeps no descriptor. */

#include <dirent.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "layout.h"
#include "message.h"
#include "suite.h"

static const char *const sockets[] = {"berth.sock", "admin.sock"};

/* -- a client of our own ----------------------------------------------------------------------- */

static int dial(const char *name) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 20};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(
		address.sun_path, sizeof(address.sun_path), "%.80s/%s", here.runtime_dir, name);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return fd;
}

/* 0 or a negative errno. */
static int post(int fd, const void *message, size_t size, const int *fds, size_t count) {
	struct iovec part = {(void *)message, size};
	_Alignas(struct cmsghdr) char space[CMSG_SPACE(sizeof(int) * 64)] = {0};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

	if (count > 0) {
		struct cmsghdr *c = (struct cmsghdr *)space;

		m.msg_control = space;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

#define HUNG_UP 100000 /* in the place of a code */

static union {
	struct message_header header;
	struct message_failed failed;
	struct message_welcome welcome;
	struct message_status_reply status;
	char bytes[MESSAGE_SIZE_MAX];
} answer;

/* The code of the next answer. */
static int hear(int fd) {
	ssize_t n = recv(fd, &answer, sizeof(answer), 0);

	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return HUNG_UP;
	ck_assert_msg(n >= (ssize_t)sizeof(answer.header), "no answer within 20 s (%zd)", n);
	ck_assert_uint_eq(answer.header.magic, MESSAGE_MAGIC);
	ck_assert_uint_eq(answer.header.length, (size_t)n);
	return (int)answer.header.code;
}

static int ask(int fd, const void *message, size_t size) {
	int r = post(fd, message, size, NULL, 0);

	return r < 0 ? HUNG_UP : hear(fd);
}

static struct message_header header(uint16_t opcode, size_t length) {
	return (struct message_header){
		.magic = MESSAGE_MAGIC,
		.version = MESSAGE_VERSION,
		.opcode = opcode,
		.length = (uint32_t)length,
	};
}

#define HEADER(opcode, of) header((opcode), sizeof(of))

static struct message_hello hello_make(void) {
	return (struct message_hello){
		.header = HEADER(MESSAGE_HELLO, struct message_hello),
		.fingerprint = BERTH_FINGERPRINT,
		.image = 1,
	};
}

static int pidfd_of(pid_t pid) {
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static int hello_send(int fd, const struct message_hello *hello, int passed) {
	int r = post(fd, hello, sizeof(*hello), &passed, passed >= 0 ? 1 : 0);

	return r < 0 ? HUNG_UP : hear(fd);
}

/* -- berthd's health --------------------------------------------------------------------------- */

static int descriptors(void) {
	char path[64];
	int n = 0;
	DIR *d;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)here.berthd);
	d = opendir(path);
	ck_assert_msg(d, "berthd is dead; its log:\n%s", instance_log(&here));
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n;
}

static bool descriptors_are_few(void *data) {
	return descriptors() <= *(int *)data;
}

/* Perhaps one too many: that of READY=1 is open for a moment. */
static int before;

static void hostile_start(void) {
	instance_start(&here, NULL);
	before = descriptors();
	set_limit("alice", "5");
}

/* Runs it in a process of its own: the session of one that hangs up without a goodbye is remembered
 * until its process is dead, since it might still be about to use its records. */
static void in_process(void (*run)(void)) {
	pid_t pid;
	int status;

	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		run();
		_exit(0);
	}
	(void)waitpid(pid, &status, 0);
	ck_assert_msg(status == 0, "the process ended with %d", status);
}

/* At the end of each test. */
static void expect_healthy(void) {
	struct berth *b;

	ck_assert_msg(waitpid(here.berthd, NULL, WNOHANG) == 0, "berthd died; its log:\n%s",
		instance_log(&here));
	b = open_session();
	expect_code(BERTH_SUCCESS, berth_release(b, take(b, "alice")));
	berth_close(b);
	expect_ctl(0, "", "status");
	ck_assert_msg(eventually(descriptors_are_few, &before), "berthd has %d descriptors, not %d",
		descriptors(), before);
	expect_status_eventually("sessions", 0);
}

/* -- noise ------------------------------------------------------------------------------------- */

START_TEST(noise_is_hung_up_on) {
	static const size_t sizes[] = {1, 15, 16, 17, 100, 4096, 65535, 65536, 65537, 100000};
	static unsigned char noise[100000];

	random_init();
	for (size_t s = 0; s < COUNT_OF(sockets); s++)
		for (size_t i = 0; i < COUNT_OF(sizes); i++) {
			int fd = dial(sockets[s]);

			for (size_t k = 0; k < sizes[i]; k++)
				noise[k] = (unsigned char)random_below(256);
			ck_assert_msg(ask(fd, noise, sizes[i]) == HUNG_UP, "%zu bytes on %s",
				sizes[i], sockets[s]);
			(void)close(fd);
		}
	expect_logged("hanging up");
	expect_healthy();
}
END_TEST

START_TEST(an_empty_packet_and_a_silent_hang_up_do_no_harm) {
	for (size_t s = 0; s < COUNT_OF(sockets); s++)
		for (int i = 0; i < 50; i++) {
			int fd = dial(sockets[s]);

			if (i % 2)
				(void)send(fd, "", 0, MSG_NOSIGNAL);
			(void)close(fd);
		}
	expect_healthy();
}
END_TEST

/* -- almost right ------------------------------------------------------------------------------ */

START_TEST(each_opcode_with_each_wrong_size_is_87_or_a_hang_up) {
	static char message[MESSAGE_SIZE_MAX];

	for (size_t s = 0; s < COUNT_OF(sockets); s++)
		for (uint16_t opcode = 0; opcode < 64; opcode++)
			for (size_t size = sizeof(struct message_header); size < 700; size += 61) {
				struct message_header h = header(opcode, size);
				int fd, code;

				/* A goodbye of the right size, the only one without an answer. */
				if (s == 0 && opcode == MESSAGE_BYE && size == sizeof(h))
					continue;
				fd = dial(sockets[s]);
				memcpy(message, &h, sizeof(h));
				code = ask(fd, message, size);
				ck_assert_msg(code == BERTH_INVALID_PARAMETER || code == HUNG_UP ||
						      (code == 0 && size == sizeof(h)),
					"opcode %u of %zu bytes on %s: %d", opcode, size,
					sockets[s], code);
				(void)close(fd);
			}
	expect_healthy();
}
END_TEST

START_TEST(a_length_that_isnt_the_packets_is_hung_up_on) {
	struct message_status status = {HEADER(MESSAGE_STATUS, status)};
	int fd = dial("admin.sock");

	ck_assert_int_eq(ask(fd, &status, sizeof(status)), BERTH_SUCCESS);
	status.header.length++;
	ck_assert_int_eq(ask(fd, &status, sizeof(status)), HUNG_UP);
	(void)close(fd);
	expect_healthy();
}
END_TEST

START_TEST(another_version_is_1306_on_both_sockets) {
	struct message_hello hello = hello_make();
	struct message_status status = {HEADER(MESSAGE_STATUS, status)};
	int fd = dial("berth.sock");

	hello.header.version = MESSAGE_VERSION + 1;
	ck_assert_int_eq(hello_send(fd, &hello, -1), BERTH_REVISION_MISMATCH);
	ck_assert_uint_eq(answer.header.version, MESSAGE_VERSION + 1);
	(void)close(fd);
	fd = dial("admin.sock");
	status.header.version = 7;
	ck_assert_int_eq(ask(fd, &status, sizeof(status)), BERTH_REVISION_MISMATCH);
	(void)close(fd);
	fd = dial("berth.sock");
	hello = hello_make();
	hello.fingerprint ^= 1;
	ck_assert_int_eq(hello_send(fd, &hello, -1), BERTH_REVISION_MISMATCH);
	ck_assert_ptr_nonnull(strstr(answer.failed.text, "same release"));
	(void)close(fd);
	expect_healthy();
}
END_TEST

static void hello_with_pidfds(void) {
	struct message_hello hello = hello_make();
	int own = pidfd_of(getpid()), other = pidfd_of(here.berthd), pipes[2], fd;

	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	fd = dial("berth.sock");
	ck_assert_int_eq(hello_send(fd, &hello, -1), BERTH_ACCESS_DENIED);
	ck_assert_int_eq(hello_send(fd, &hello, other), BERTH_ACCESS_DENIED);
	ck_assert_int_eq(hello_send(fd, &hello, pipes[0]), BERTH_ACCESS_DENIED);
	ck_assert_int_eq(hello_send(fd, &hello, own), BERTH_SUCCESS);
	/* Once is enough. */
	ck_assert_int_eq(hello_send(fd, &hello, own), HUNG_UP);
	(void)close(fd);
}

START_TEST(a_session_takes_the_callers_own_pidfd) {
	in_process(hello_with_pidfds);
	expect_healthy();
}
END_TEST

static void resume_others(void) {
	struct message_hello hello = hello_make();
	int fd, own = pidfd_of(getpid());

	for (uint32_t serial = 1; serial < 10; serial++)
		for (uint32_t index = 0; index < 3; index++) {
			hello.resume_session = index;
			hello.resume_serial = serial;
			fd = dial("berth.sock");
			ck_assert_int_eq(hello_send(fd, &hello, own), BERTH_SUCCESS);
			ck_assert_uint_eq(answer.welcome.resumed, 0);
			(void)close(fd);
		}
	hello.resume_session = UINT32_MAX;
	hello.resume_serial = UINT32_MAX;
	fd = dial("berth.sock");
	ck_assert_int_eq(hello_send(fd, &hello, own), BERTH_SUCCESS);
	(void)close(fd);
}

START_TEST(nobody_resumes_the_session_of_another) {
	struct child c = child_start(child_hold_one, (void *)"alice");

	ck_assert_int_eq(child_report(&c), BERTH_SUCCESS);
	in_process(resume_others);
	ck_assert_int_eq(current_of("alice"), 1);
	child_kill(&c);
	expect_current_eventually("alice", 0);
	expect_healthy();
}
END_TEST

/* 1 if it was resumed. */
static uint32_t resume_own(int fd, struct message_hello *hello, int own) {
	ck_assert_int_eq(hello_send(fd, hello, own), BERTH_SUCCESS);
	hello->resume_session = answer.welcome.session;
	hello->resume_serial = answer.welcome.serial;
	return answer.welcome.resumed;
}

static void resume_and_hang_up(void) {
	struct message_ranges ranges = {.header = HEADER(MESSAGE_RANGES, ranges), .count = 1};
	struct message_hello hello = hello_make();
	int own = pidfd_of(getpid()), fd = dial("berth.sock");

	ck_assert_uint_eq(resume_own(fd, &hello, own), 0);
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	(void)close(fd);
	/* As a library does whose deadline came first, twice. */
	for (int i = 0; i < 2; i++) {
		fd = dial("berth.sock");
		ck_assert_uint_eq(resume_own(fd, &hello, own), 1);
		(void)close(fd);
	}
	fd = dial("berth.sock");
	ck_assert_uint_eq(resume_own(fd, &hello, own), 1);
	ck_assert_int_eq(ask(fd, &ranges, sizeof(ranges)), BERTH_SUCCESS);
	(void)close(fd);
	/* Now it was a hang-up. */
	fd = dial("berth.sock");
	ck_assert_uint_eq(resume_own(fd, &hello, own), 0);
	(void)close(fd);
}

START_TEST(a_hang_up_before_anything_was_asked_ends_no_session_of_before) {
	/* Not in a child: berthd is restarted, and is ours to wait for. */
	resume_and_hang_up();
	expect_ctl(0, "", "status");
}
END_TEST

static void settle_and_ranges(void) {
	struct message_finish_release settle = {
		.header = HEADER(MESSAGE_FINISH_RELEASE, settle), .record = 16};
	struct message_ranges ranges = {.header = HEADER(MESSAGE_RANGES, ranges), .count = 1};
	struct message_hello hello = hello_make();
	int fd = dial("berth.sock"), own = pidfd_of(getpid());

	ck_assert_int_eq(ask(fd, &ranges, sizeof(ranges)), HUNG_UP);
	(void)close(fd);
	for (uint32_t record = 0; record < 3; record++) {
		fd = dial("berth.sock");
		ck_assert_int_eq(hello_send(fd, &hello, own), BERTH_SUCCESS);
		settle.record = record == 0 ? UINT32_MAX : record == 1 ? 0 : 1u << 21;
		ck_assert_int_eq(ask(fd, &settle, sizeof(settle)), HUNG_UP);
		(void)close(fd);
	}
	/* More than there are in one message: what fits is granted. */
	fd = dial("berth.sock");
	ck_assert_int_eq(hello_send(fd, &hello, own), BERTH_SUCCESS);
	ranges.count = UINT32_MAX;
	ck_assert_int_eq(ask(fd, &ranges, sizeof(ranges)), BERTH_SUCCESS);
	ranges.count = 0;
	ck_assert_int_eq(ask(fd, &ranges, sizeof(ranges)), HUNG_UP);
	(void)close(fd);
}

START_TEST(records_of_others_cant_be_settled_and_ranges_need_a_session) {
	in_process(settle_and_ranges);
	expect_healthy();
}
END_TEST

START_TEST(names_and_flags_are_checked_by_berthd_and_not_only_by_its_clients) {
	struct message_resolve resolve = {.header = HEADER(MESSAGE_RESOLVE, resolve)};
	struct message_set set = {.header = HEADER(MESSAGE_SET, set), .limit = 5};
	struct message_delete delete = {.header = HEADER(MESSAGE_DELETE, delete), .flags = 2};
	struct message_list list = {.header = HEADER(MESSAGE_LIST, list), .cursor = UINT32_MAX};
	static const char *const bad[] = {"", "a//b", "a\nb", "\xFF", "1/2/3/4/5/6/7/8/9"};
	int clients = dial("berth.sock"), admin = dial("admin.sock");

	for (size_t i = 0; i < COUNT_OF(bad); i++) {
		strcpy(resolve.name.text, bad[i]);
		strcpy(set.name.text, bad[i]);
		ck_assert_int_eq(ask(clients, &resolve, sizeof(resolve)), BERTH_INVALID_PARAMETER);
		ck_assert_int_eq(ask(admin, &set, sizeof(set)), BERTH_INVALID_PARAMETER);
	}
	memset(resolve.name.text, 'a', sizeof(resolve.name.text));
	memset(set.name.text, 'a', sizeof(set.name.text));
	ck_assert_int_eq(ask(clients, &resolve, sizeof(resolve)), BERTH_INVALID_PARAMETER);
	ck_assert_int_eq(ask(admin, &set, sizeof(set)), BERTH_INVALID_PARAMETER);
	strcpy(set.name.text, "alice");
	set.limit = 1048576;
	ck_assert_int_eq(ask(admin, &set, sizeof(set)), BERTH_INVALID_PARAMETER);
	strcpy(delete.name.text, "alice");
	ck_assert_int_eq(ask(admin, &delete, sizeof(delete)), BERTH_INVALID_PARAMETER);
	ck_assert_int_eq(ask(admin, &list, sizeof(list)), BERTH_SUCCESS);
	(void)close(clients);
	(void)close(admin);
	expect_healthy();
}
END_TEST

/* Right messages with bytes changed at random. */
static void mutations_send(void) {
	static char message[MESSAGE_SIZE_MAX];
	static const struct {
		uint16_t opcode;
		size_t size;
	} kinds[] = {
		{MESSAGE_HELLO, sizeof(struct message_hello)},
		{MESSAGE_RESOLVE, sizeof(struct message_resolve)},
		{MESSAGE_RANGES, sizeof(struct message_ranges)},
		{MESSAGE_FINISH_RELEASE, sizeof(struct message_finish_release)},
		{MESSAGE_BYE, sizeof(struct message_bye)},
		{MESSAGE_SET, sizeof(struct message_set)},
		{MESSAGE_GET, sizeof(struct message_get)},
		{MESSAGE_LIST, sizeof(struct message_list)},
		{MESSAGE_DELETE, sizeof(struct message_delete)},
		{MESSAGE_HOLDERS, sizeof(struct message_holders)},
		{MESSAGE_REVOKE, sizeof(struct message_revoke)},
		{MESSAGE_STATUS, sizeof(struct message_status)},
		{MESSAGE_IMPORT_BEGIN, sizeof(struct message_import)},
		{MESSAGE_IMPORT_LINES, sizeof(struct message_import_lines) + 40},
		{MESSAGE_IMPORT_COMMIT, sizeof(struct message_import)},
	};
	int own = pidfd_of(getpid());

	random_init();
	for (int i = 0; i < 3000; i++) {
		size_t k = random_below(COUNT_OF(kinds)), size = kinds[k].size;
		struct message_header h = header(kinds[k].opcode, size);
		int fd = dial(kinds[k].opcode < MESSAGE_SET ? "berth.sock" : "admin.sock");

		memset(message, 0, size);
		memcpy(message, &h, sizeof(h));
		(void)snprintf(message + sizeof(h), size - sizeof(h), "alice");
		for (uint32_t n = random_below(8); n > 0; n--)
			message[sizeof(h) + random_below((uint32_t)(size - sizeof(h)) + 1)] =
				(char)random_below(256);
		if (random_below(2) && kinds[k].opcode < MESSAGE_SET) {
			struct message_hello hello = hello_make();

			(void)hello_send(fd, &hello, own);
		}
		(void)post(fd, message, size, &own, random_below(2));
		if (random_below(2))
			(void)shutdown(fd, SHUT_WR);
		(void)close(fd);
	}
}

START_TEST(mutated_messages_do_no_harm) {
	in_process(mutations_send);
	set_limit("alice", "5");
	expect_healthy();
}
END_TEST

/* -- hoarders ---------------------------------------------------------------------------------- */

START_TEST(descriptors_that_nobody_asked_for_are_closed) {
	struct message_status status = {HEADER(MESSAGE_STATUS, status)};
	struct message_resolve resolve = {.header = HEADER(MESSAGE_RESOLVE, resolve)};
	int admin = dial("admin.sock"), clients = dial("berth.sock"), fds[64];

	for (size_t i = 0; i < COUNT_OF(fds); i++)
		fds[i] = pidfd_of(getpid());
	for (size_t n = 1; n <= COUNT_OF(fds); n *= 2) {
		ck_assert_int_eq(post(admin, &status, sizeof(status), fds, n), 0);
		ck_assert_int_eq(hear(admin), BERTH_SUCCESS);
		ck_assert_int_eq(post(clients, &resolve, sizeof(resolve), fds, n), 0);
		ck_assert_int_eq(hear(clients), BERTH_INVALID_PARAMETER);
	}
	/* With what is no message, too. */
	ck_assert_int_eq(post(admin, "no message", 10, fds, 32), 0);
	ck_assert_int_eq(hear(admin), HUNG_UP);
	ck_assert_int_eq(post(clients, "no message, but longer", 22, fds, 1), 0);
	ck_assert_int_eq(hear(clients), HUNG_UP);
	(void)close(admin);
	(void)close(clients);
	expect_healthy();
}
END_TEST

START_TEST(a_client_that_never_reads_holds_up_nobody) {
	struct message_list list = {.header = HEADER(MESSAGE_LIST, list)};
	int fd[8], sent = 0;

	for (size_t i = 0; i < COUNT_OF(fd); i++) {
		fd[i] = dial("admin.sock");
		(void)fcntl(fd[i], F_SETFL, O_NONBLOCK);
		/* Until its own queue is full: berthd has stopped to read. */
		while (sent < 100000 && post(fd[i], &list, sizeof(list), NULL, 0) == 0)
			sent++;
	}
	ck_assert_msg(sent < 100000, "berthd takes in any number of requests");
	for (int i = 0; i < 20; i++)
		set_limit("alice", i % 2 ? "5" : "6");
	/* One that then reads gets its answers. */
	(void)fcntl(fd[0], F_SETFL, 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(hear(fd[0]), BERTH_SUCCESS);
	for (size_t i = 0; i < COUNT_OF(fd); i++)
		(void)close(fd[i]);
	expect_healthy();
}
END_TEST

START_TEST(three_hundred_connections_at_once_hold_up_nobody) {
	struct rlimit limit;
	int fd[300];

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	for (size_t i = 0; i < COUNT_OF(fd); i++)
		fd[i] = dial(sockets[i % 2]);
	set_limit("alice", "4");
	{
		struct berth *b = open_session();

		(void)take(b, "alice");
		berth_close(b);
	}
	for (size_t i = 0; i < COUNT_OF(fd); i++)
		(void)close(fd[i]);
	expect_healthy();
}
END_TEST

/* With a session or without, with a question on its way or without, by goodbye, hang-up or death. */
static void connect_and_leave(void) {
	struct message_hello hello = hello_make();
	struct message_ranges ranges = {.header = HEADER(MESSAGE_RANGES, ranges), .count = 1};
	struct message_bye bye = {.header = HEADER(MESSAGE_BYE, bye)};
	int own = pidfd_of(getpid());

	random_init();
	for (int i = 0; i < 500; i++) {
		int fd = dial(sockets[random_below(4) == 0]);

		if (random_below(2))
			(void)post(fd, &hello, sizeof(hello), &own, 1);
		if (random_below(2))
			(void)post(fd, &ranges, sizeof(ranges), NULL, 0);
		if (random_below(2))
			(void)post(fd, &bye, sizeof(bye), NULL, 0);
		if (random_below(2000) == 0)
			_exit(0);
		(void)close(fd);
	}
}

/* While another holds what it holds, and is answered. */
START_TEST(ten_thousand_connections_in_a_row_leave_nothing_behind) {
	struct berth *b = open_session();
	berth_slot slot = take(b, "alice");
	int session = descriptors() - before;

	for (int i = 0; i < 25; i++) {
		in_process(connect_and_leave);
		expect_code(BERTH_SUCCESS, berth_release(b, take(b, "alice")));
	}
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	before += session;
	ck_assert_msg(eventually(descriptors_are_few, &before), "berthd has %d descriptors, not %d",
		descriptors(), before);
	before -= session;
	expect_code(BERTH_SUCCESS, berth_release(b, slot));
	berth_close(b);
	expect_healthy();
}
END_TEST

/* -- imports ----------------------------------------------------------------------------------- */

struct lines {
	struct message_import_lines message;
	char bytes[256];
};

static void line_add(struct lines *l, const char *name, uint32_t limit) {
	uint8_t length = (uint8_t)strlen(name);
	char *to = l->bytes + l->message.bytes;

	memcpy(to, &limit, 4);
	memcpy(to + 4, &length, 1);
	memcpy(to + 5, name, length);
	l->message.bytes += 5u + length;
	l->message.count++;
	l->message.header = header(MESSAGE_IMPORT_LINES, sizeof(l->message) + l->message.bytes);
}

#define lines_ask(fd, l) ask((fd), (l), (l)->message.header.length)

START_TEST(an_import_that_is_hung_up_on_changes_nothing) {
	struct message_import begin = {HEADER(MESSAGE_IMPORT_BEGIN, begin)};
	struct lines l = {0};
	int fd = dial("admin.sock");

	line_add(&l, "bob", 3);
	ck_assert_int_eq(ask(fd, &begin, sizeof(begin)), BERTH_SUCCESS);
	ck_assert_int_eq(lines_ask(fd, &l), BERTH_SUCCESS);
	ck_assert_int_eq(ask(fd, &begin, sizeof(begin)), BERTH_SUCCESS);
	ck_assert_int_eq(lines_ask(fd, &l), BERTH_SUCCESS);
	(void)close(fd);
	expect_ctl(1, "no account", "get", "bob");
	expect_healthy();
}
END_TEST

START_TEST(an_import_out_of_order_or_with_wrong_counts_is_refused) {
	struct message_import begin = {HEADER(MESSAGE_IMPORT_BEGIN, begin)};
	struct message_import commit = {HEADER(MESSAGE_IMPORT_COMMIT, commit)};
	struct lines l = {0}, wrong;
	int fd = dial("admin.sock");

	line_add(&l, "bob", 3);
	line_add(&l, "carol", 3);
	ck_assert_int_eq(ask(fd, &commit, sizeof(commit)), BERTH_INVALID_PARAMETER);
	ck_assert_int_eq(lines_ask(fd, &l), BERTH_INVALID_PARAMETER);
	/* A bad line spoils the import as a whole. */
	ck_assert_int_eq(ask(fd, &begin, sizeof(begin)), BERTH_SUCCESS);
	ck_assert_int_eq(lines_ask(fd, &l), BERTH_SUCCESS);
	wrong = l;
	line_add(&wrong, "a//b", 3);
	ck_assert_int_eq(lines_ask(fd, &wrong), BERTH_INVALID_PARAMETER);
	ck_assert_int_eq(ask(fd, &commit, sizeof(commit)), BERTH_INVALID_PARAMETER);
	(void)close(fd);
	for (int i = 0; i < 4; i++) {
		fd = dial("admin.sock");
		ck_assert_int_eq(ask(fd, &begin, sizeof(begin)), BERTH_SUCCESS);
		wrong = l;
		if (i == 0)
			wrong.message.count = 3;
		else if (i == 1)
			wrong.message.count = 1;
		else if (i == 2)
			wrong.message.bytes++;
		else
			wrong.bytes[4] = (char)255;
		ck_assert_msg(lines_ask(fd, &wrong) == HUNG_UP, "case %d", i);
		(void)close(fd);
	}
	expect_ctl(1, "no account", "get", "bob");
	expect_healthy();
}
END_TEST

/* The import isn't what the connection waits for. */
START_TEST(a_hang_up_during_a_set_frees_no_connection_that_the_store_answers) {
	struct message_import begin = {HEADER(MESSAGE_IMPORT_BEGIN, begin)};
	struct message_set set = {.header = HEADER(MESSAGE_SET, set), .limit = 3};

	message_name_set(&set.name, "bob");
	for (int i = 0; i < 50; i++) {
		int fd = dial("admin.sock");

		ck_assert_int_eq(ask(fd, &begin, sizeof(begin)), BERTH_SUCCESS);
		/* Stopped, it finds the hang-up together with what was sent before. */
		(void)kill(here.berthd, SIGSTOP);
		ck_assert_int_eq(post(fd, &set, sizeof(set), NULL, 0), 0);
		(void)close(fd);
		(void)kill(here.berthd, SIGCONT);
	}
	expect_ctl(0, "bob", "list");
	expect_healthy();
}
END_TEST

/* Room is made for these in several turns of berthd's event loop, and there is room for them once. */
#define MANY 60000

static void narrow_start(void) {
	static const char *const args[] = {"--max-accounts", "100000", NULL};

	instance_start(&here, args);
	before = descriptors();
	set_limit("alice", "5");
}

static void many_ask(int fd, const char *format, int count) {
	static union {
		struct message_import_lines message;
		char bytes[MESSAGE_SIZE_MAX];
	} m;
	char *to = m.bytes + sizeof(m.message);

	for (int i = 0; i < count;) {
		m.message = (struct message_import_lines){0};
		for (; i < count && m.message.count < 1000; i++, m.message.count++) {
			struct lines one = {0};
			char name[40];

			(void)snprintf(name, sizeof(name), format, i);
			line_add(&one, name, 3);
			memcpy(to + m.message.bytes, one.bytes, one.message.bytes);
			m.message.bytes += one.message.bytes;
		}
		m.message.header =
			header(MESSAGE_IMPORT_LINES, sizeof(m.message) + m.message.bytes);
		ck_assert_int_eq(ask(fd, &m, m.message.header.length), BERTH_SUCCESS);
	}
}

/* Up to the commit. */
static int many_send(const char *format, int count) {
	struct message_import begin = {HEADER(MESSAGE_IMPORT_BEGIN, begin)};
	int fd = dial("admin.sock");

	ck_assert_int_eq(ask(fd, &begin, sizeof(begin)), BERTH_SUCCESS);
	many_ask(fd, format, count);
	return fd;
}

/* Up to the answer. */
static int many_begin(const char *format, int count) {
	struct message_import commit = {HEADER(MESSAGE_IMPORT_COMMIT, commit)};
	int fd = many_send(format, count);

	ck_assert_int_eq(post(fd, &commit, sizeof(commit), NULL, 0), 0);
	return fd;
}

static uint32_t accounts_of(int fd) {
	struct message_status status = {HEADER(MESSAGE_STATUS, status)};

	ck_assert_int_eq(ask(fd, &status, sizeof(status)), BERTH_SUCCESS);
	return answer.status.accounts;
}

/* Returns once room was made for so many. */
static void many_wait(uint32_t accounts) {
	int fd = dial("admin.sock");

	while (accounts_of(fd) < accounts)
		;
	(void)close(fd);
}

/* All of an import of many is there, or nothing is left of it. */
static bool many_are_whole(void *data) {
	long long configured = status_number("configured"), accounts = status_number("accounts");

	(void)data;
	return (configured == 1 && accounts == 1) ||
	       (configured == 1 + MANY && accounts == 2 + MANY);
}

START_TEST(an_import_that_is_hung_up_on_while_room_is_made_leaves_the_room) {
	int cancelled = 0;

	for (uint32_t turns = 1; turns < 7; turns++) {
		int fd = many_begin("first/%d", MANY);

		many_wait(turns * 8000);
		(void)close(fd);
		ck_assert_msg(eventually(many_are_whole, NULL),
			"%lld accounts are left, %lld of them configured",
			status_number("accounts"), status_number("configured"));
		if (status_number("configured") == 1) {
			cancelled++;
			continue;
		}
		/* The store had it already. */
		instance_end(&here);
		narrow_start();
	}
	ck_assert_int_gt(cancelled, 0);
	expect_ctl(1, "no account", "get", "first/1");
	/* Others find room where they had it, and berthd starts with them alone. */
	ck_assert_int_eq(hear(many_begin("second/%d", MANY)), BERTH_SUCCESS);
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	ck_assert_int_eq(status_number("configured"), 1 + MANY);
	expect_ctl(1, "no account", "get", "first/1");
}
END_TEST

START_TEST(an_import_that_finds_no_room_in_a_late_turn_leaves_all_room) {
	int fd = many_begin("first/%d", 100001);

	ck_assert_int_eq(hear(fd), BERTH_NO_SYSTEM_RESOURCES);
	ck_assert_ptr_nonnull(strstr(answer.failed.text, "--max-accounts"));
	(void)close(fd);
	ck_assert_int_eq(status_number("accounts"), 1);
	fd = many_begin("second/%d", MANY);
	ck_assert_int_eq(hear(fd), BERTH_SUCCESS);
	(void)close(fd);
	ck_assert_int_eq(status_number("configured"), 1 + MANY);
	expect_healthy();
}
END_TEST

/* Which of two imports is first is theirs; what doesn't fit is refused whole. */
START_TEST(of_two_imports_at_once_that_fit_not_both_one_is_done) {
	int first = many_begin("first/%d", MANY), second = many_begin("second/%d", MANY);
	int code = hear(first), other = hear(second);

	ck_assert_msg((code == BERTH_SUCCESS && other == BERTH_NO_SYSTEM_RESOURCES) ||
			      (other == BERTH_SUCCESS && code == BERTH_NO_SYSTEM_RESOURCES),
		"%d and %d", code, other);
	(void)close(first);
	(void)close(second);
	ck_assert_int_eq(status_number("configured"), 1 + MANY);
	ck_assert_int_eq(status_number("accounts"), 2 + MANY);
	expect_healthy();
}
END_TEST

static bool is_checkpointed(void *data) {
	(void)data;
	return !strstr(expect_ctl(0, "", "status", "--json"), "\"checkpointed\":null");
}

/* berthd stops while an import makes room below an account whose last other one is deleted: that takes
 * its counts out of a store that is closed already, which a sanitizer would see. */
START_TEST(a_stop_while_room_is_made_is_clean) {
	struct message_import commit = {HEADER(MESSAGE_IMPORT_COMMIT, commit)};
	struct message_delete delete = {.header = HEADER(MESSAGE_DELETE, delete)};
	struct berth *b = open_session();
	int import, other;

	set_limit("first/alice", "5");
	expect_code(BERTH_SUCCESS, berth_release(b, take(b, "first/alice")));
	berth_close(b);
	ck_assert(eventually(is_checkpointed, NULL));
	import = many_send("first/%d", MANY);
	other = dial("admin.sock");
	message_name_set(&delete.name, "first/alice");
	(void)kill(here.berthd, SIGSTOP);
	ck_assert_int_eq(post(import, &commit, sizeof(commit), NULL, 0), 0);
	ck_assert_int_eq(post(other, &delete, sizeof(delete), NULL, 0), 0);
	(void)kill(here.berthd, SIGCONT);
	many_wait(1000);
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	(void)close(import);
	(void)close(other);
	instance_restart(&here);
	ck_assert_int_ge(status_number("configured"), 1);
	before = descriptors();
}
END_TEST

#define CROWD 20
#define EACH  40

START_TEST(an_import_has_its_turn_among_many_who_always_ask) {
	struct message_status status = {HEADER(MESSAGE_STATUS, status)};
	struct message_import commit = {HEADER(MESSAGE_IMPORT_COMMIT, commit)};
	int import = many_send("first/%d", MANY), fd[CROWD];

	for (int i = 0; i < CROWD; i++)
		fd[i] = dial("admin.sock");
	(void)accounts_of(fd[CROWD - 1]);
	/* All are there at once: berthd is never idle before the last is answered. */
	(void)kill(here.berthd, SIGSTOP);
	ck_assert_int_eq(post(import, &commit, sizeof(commit), NULL, 0), 0);
	for (int i = 0; i < CROWD * EACH; i++)
		ck_assert_int_eq(post(fd[i % CROWD], &status, sizeof(status), NULL, 0), 0);
	(void)kill(here.berthd, SIGCONT);
	for (int i = 0; i < CROWD * EACH; i++)
		ck_assert_int_eq(hear(fd[i % CROWD]), BERTH_SUCCESS);
	ck_assert_uint_eq(answer.status.accounts, 2 + MANY);
	ck_assert_int_eq(hear(import), BERTH_SUCCESS);
	for (int i = 0; i < CROWD; i++)
		(void)close(fd[i]);
	(void)close(import);
	expect_healthy();
}
END_TEST

/* As a member of the group could do with the descriptor that it was given. */
START_TEST(a_truncated_segment_kills_the_others_perhaps_but_not_berthd) {
	char path[128];

	repairs_are_meant = true;
	(void)snprintf(path, sizeof(path), "%.80s/segment", here.runtime_dir);
	expect_ctl(0, "", "set", "alice", "7");
	ck_assert_int_eq(truncate(path, 4096), 0);
	expect_ctl(0, "alice", "list");
	expect_ctl(0, "", "set", "alice", "8");
	expect_ctl(0, "8", "get", "alice");
	ck_assert_int_ne(logged_times("truncated the segment"), 0);
	/* The next one finds it damaged, makes another, and has every limit. */
	(void)instance_kill(&here, SIGKILL);
	instance_restart(&here);
	expect_ctl(0, "8", "get", "alice");
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const TTest *const tests[] = {
		noise_is_hung_up_on,
		an_empty_packet_and_a_silent_hang_up_do_no_harm,
		each_opcode_with_each_wrong_size_is_87_or_a_hang_up,
		a_length_that_isnt_the_packets_is_hung_up_on,
		another_version_is_1306_on_both_sockets,
		a_session_takes_the_callers_own_pidfd,
		nobody_resumes_the_session_of_another,
		a_hang_up_before_anything_was_asked_ends_no_session_of_before,
		records_of_others_cant_be_settled_and_ranges_need_a_session,
		names_and_flags_are_checked_by_berthd_and_not_only_by_its_clients,
		mutated_messages_do_no_harm,
		descriptors_that_nobody_asked_for_are_closed,
		a_client_that_never_reads_holds_up_nobody,
		three_hundred_connections_at_once_hold_up_nobody,
		ten_thousand_connections_in_a_row_leave_nothing_behind,
		an_import_that_is_hung_up_on_changes_nothing,
		an_import_out_of_order_or_with_wrong_counts_is_refused,
		a_hang_up_during_a_set_frees_no_connection_that_the_store_answers,
		a_truncated_segment_kills_the_others_perhaps_but_not_berthd,
		NULL,
	};
	const TTest *const imports[] = {
		an_import_that_is_hung_up_on_while_room_is_made_leaves_the_room,
		an_import_that_finds_no_room_in_a_late_turn_leaves_all_room,
		of_two_imports_at_once_that_fit_not_both_one_is_done,
		a_stop_while_room_is_made_is_clean,
		an_import_has_its_turn_among_many_who_always_ask,
		NULL,
	};
	int first = suite_run("hostile", hostile_start, tests);
	int second = suite_run("imports in turns", narrow_start, imports);

	return first != EXIT_SUCCESS ? first : second;
}
