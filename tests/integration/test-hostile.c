/* SPDX-License-Identifier: MIT */

/* Clients break the protocol. berthd answers or hangs up, stays alive, serves the other clients,
 * and leaks no descriptor. */

#include <sys/resource.h>

#include "layout.h"
#include "message.h"
#include "steps.h"

static const char *const sockets[] = {"berth.sock", "admin.sock"};

/* -- a client without the library -------------------------------------------------------------- */

/* Sends the message and `count` descriptors. Returns 0 or a negative errno. */
static int send_message(int fd, const void *message, size_t size, const int *fds, size_t count) {
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

#define HUNG_UP 100000 /* returned instead of a code if berthd has closed the connection */

static union {
	struct message_header header;
	struct message_failed failed;
	struct message_welcome welcome;
	struct message_status_reply status;
	char bytes[MESSAGE_SIZE_MAX];
} answer;

/* Receives the next message into `answer` and returns its code. */
static int answer_receive(int fd) {
	ssize_t n = recv(fd, &answer, sizeof(answer), 0);

	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return HUNG_UP;
	ck_assert_msg(n >= (ssize_t)sizeof(answer.header), "no answer within 100 s (%zd)", n);
	ck_assert_uint_eq(answer.header.magic, MESSAGE_MAGIC);
	ck_assert_uint_eq(answer.header.length, (size_t)n);
	return (int)answer.header.code;
}

static int ask(int fd, const void *message, size_t size) {
	int r = send_message(fd, message, size, NULL, 0);

	return r < 0 ? HUNG_UP : answer_receive(fd);
}

/* Sends a request that consists of a header. */
static int send_opcode(int fd, uint16_t opcode) {
	struct message_header request = MESSAGE_HEADER(opcode, request);

	return send_message(fd, &request, sizeof(request), NULL, 0);
}

static int ask_opcode(int fd, uint16_t opcode) {
	return send_opcode(fd, opcode) < 0 ? HUNG_UP : answer_receive(fd);
}

static struct message_hello hello_make(void) {
	return (struct message_hello){
		.header = MESSAGE_HEADER(MESSAGE_HELLO, struct message_hello),
		.fingerprint = BERTH_FINGERPRINT,
		.image = 1,
	};
}

static int pidfd_of(pid_t pid) {
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static int hello_send(int fd, const struct message_hello *hello, int passed) {
	int r = send_message(fd, hello, sizeof(*hello), &passed, passed >= 0 ? 1 : 0);

	return r < 0 ? HUNG_UP : answer_receive(fd);
}

/* Opens a session of this process. Returns its connection. */
static int hello_connect(const struct message_hello *hello) {
	int fd = socket_connect("berth.sock");

	ck_assert_int_eq(hello_send(fd, hello, pidfd_of(getpid())), BERTH_SUCCESS);
	return fd;
}

/* -- berthd's health --------------------------------------------------------------------------- */

static int descriptors_count(void) {
	return names_in(text_of("/proc/%d/fd", (int)here.berthd), "");
}

static bool descriptors_are_few(void *data) {
	return descriptors_count() <= *(int *)data;
}

static void expect_few_descriptors(int most) {
	ck_assert_msg(eventually(descriptors_are_few, &most), "berthd has %d descriptors, not %d",
		descriptors_count(), most);
}

/* The number of berthd's descriptors at the start of the test. It may be too large by 1, since the
 * socket for READY=1 may still be open. */
static int descriptors_before;

static void hostile_start(void) {
	instance_start(&here, NULL);
	descriptors_before = descriptors_count();
	set_limit("alice", "5");
}

/* Calls `run` in a process of its own, which then exits. This ends all sessions: if a client hangs
 * up without a goodbye, berthd keeps its session until the client's process is dead, since the
 * process may still use its records. */
static void run_in_child(int (*run)(void *nothing)) {
	int status = run_forked(run, NULL);

	ck_assert_msg(status == 0, "the process ended with %d", status);
}

/* Called at the end of each test. */
static void expect_healthy(void) {
	struct berth *b;

	ck_assert_msg(waitpid(here.berthd, NULL, WNOHANG) == 0, "berthd died; its log:\n%s",
		instance_log(&here));
	b = open_session();
	expect_code(BERTH_SUCCESS, berth_release(b, acquire_slot(b, "alice")));
	berth_close(b);
	expect_ctl(0, "", "status");
	expect_few_descriptors(descriptors_before);
	expect_status_eventually("sessions", 0);
}

/* -- noise ------------------------------------------------------------------------------------- */

START_TEST(berthd_hangs_up_on_noise) {
	static const size_t sizes[] = {1, 15, 16, 17, 100, 4096, 65535, 65536, 65537, 100000};
	static unsigned char noise[100000];

	random_init();
	for (size_t s = 0; s < COUNT_OF(sockets); s++)
		for (size_t i = 0; i < COUNT_OF(sizes); i++) {
			int fd = socket_connect(sockets[s]);

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
			int fd = socket_connect(sockets[s]);

			if (i % 2)
				(void)send(fd, "", 0, MSG_NOSIGNAL);
			(void)close(fd);
		}
	expect_healthy();
}
END_TEST

/* -- valid messages with an error -------------------------------------------------------------- */

static void send_wrong_size(const char *socket, uint16_t opcode, size_t size) {
	static char message[MESSAGE_SIZE_MAX];
	struct message_header h = message_header_make(opcode, size, 0);
	int fd = socket_connect(socket), code;

	memcpy(message, &h, sizeof(h));
	code = ask(fd, message, size);
	ck_assert_msg(code == BERTH_INVALID_PARAMETER || code == HUNG_UP ||
			      (code == 0 && size == sizeof(h)),
		"opcode %u of %zu bytes on %s: %d", opcode, size, socket, code);
	(void)close(fd);
}

START_TEST(each_opcode_of_a_wrong_size_gets_87_or_a_hang_up) {
	const size_t smallest = sizeof(struct message_header);

	for (uint16_t opcode = 0; opcode < 64; opcode++)
		for (size_t size = smallest; size < 700; size += 61) {
			/* A goodbye of the right size is the only message without an answer. */
			if (opcode != MESSAGE_BYE || size != smallest)
				send_wrong_size("berth.sock", opcode, size);
			send_wrong_size("admin.sock", opcode, size);
		}
	expect_healthy();
}
END_TEST

START_TEST(berthd_hangs_up_on_a_header_with_a_wrong_length) {
	struct message_status status = {MESSAGE_HEADER(MESSAGE_STATUS, status)};
	int fd = socket_connect("admin.sock");

	ck_assert_int_eq(ask(fd, &status, sizeof(status)), BERTH_SUCCESS);
	status.header.length++;
	ck_assert_int_eq(ask(fd, &status, sizeof(status)), HUNG_UP);
	(void)close(fd);
	expect_healthy();
}
END_TEST

START_TEST(another_version_gets_1306_on_both_sockets) {
	struct message_hello hello = hello_make();
	struct message_status status = {MESSAGE_HEADER(MESSAGE_STATUS, status)};
	int fd = socket_connect("berth.sock");

	hello.header.version = MESSAGE_VERSION + 1;
	ck_assert_int_eq(hello_send(fd, &hello, -1), BERTH_REVISION_MISMATCH);
	ck_assert_uint_eq(answer.header.version, MESSAGE_VERSION + 1);
	(void)close(fd);
	fd = socket_connect("admin.sock");
	status.header.version = 7;
	ck_assert_int_eq(ask(fd, &status, sizeof(status)), BERTH_REVISION_MISMATCH);
	(void)close(fd);
	fd = socket_connect("berth.sock");
	hello = hello_make();
	hello.fingerprint ^= 1;
	ck_assert_int_eq(hello_send(fd, &hello, -1), BERTH_REVISION_MISMATCH);
	ck_assert_ptr_nonnull(strstr(answer.failed.text, "same version"));
	(void)close(fd);
	expect_healthy();
}
END_TEST

static int hello_with_pidfds(void *nothing) {
	struct message_hello hello = hello_make();
	int own = pidfd_of(getpid()), other = pidfd_of(here.berthd), pipes[2];
	int fd = socket_connect("berth.sock");

	(void)nothing;
	ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
	ck_assert_int_eq(hello_send(fd, &hello, -1), BERTH_ACCESS_DENIED);
	ck_assert_int_eq(hello_send(fd, &hello, other), BERTH_ACCESS_DENIED);
	ck_assert_int_eq(hello_send(fd, &hello, pipes[0]), BERTH_ACCESS_DENIED);
	ck_assert_int_eq(hello_send(fd, &hello, own), BERTH_SUCCESS);
	/* A connection opens one session only. */
	ck_assert_int_eq(hello_send(fd, &hello, own), HUNG_UP);
	return 0;
}

START_TEST(a_session_needs_the_callers_own_pidfd) {
	run_in_child(hello_with_pidfds);
	expect_healthy();
}
END_TEST

static int resume_others(void *nothing) {
	struct message_hello hello = hello_make();

	(void)nothing;
	for (uint32_t serial = 1; serial < 10; serial++)
		for (uint32_t index = 0; index < 3; index++) {
			hello.resume_session = index;
			hello.resume_serial = serial;
			(void)close(hello_connect(&hello));
			ck_assert_uint_eq(answer.welcome.resumed, 0);
		}
	hello.resume_session = UINT32_MAX;
	hello.resume_serial = UINT32_MAX;
	(void)close(hello_connect(&hello));
	return 0;
}

START_TEST(no_process_resumes_the_session_of_another) {
	struct child c = holder_start("alice");

	run_in_child(resume_others);
	ck_assert_int_eq(current_of("alice"), 1);
	child_kill(&c);
	expect_current_eventually("alice", 0);
	expect_healthy();
}
END_TEST

/* Asks berthd to resume the session in `hello`, and puts the session that berthd opens into
 * `hello`. If `resumed` is 1, berthd must have resumed the old session; if it is 0, berthd must
 * have opened another one. Returns the connection. */
static int expect_resumed(struct message_hello *hello, uint32_t resumed) {
	int fd = hello_connect(hello);

	ck_assert_uint_eq(answer.welcome.resumed, resumed);
	hello->resume_session = answer.welcome.session;
	hello->resume_serial = answer.welcome.serial;
	return fd;
}

/* Runs in this process, not in a child, since only berthd's parent can restart berthd. */
START_TEST(a_hang_up_before_any_request_ends_no_resumed_session) {
	struct message_ranges ranges = {MESSAGE_HEADER(MESSAGE_RANGES, ranges), .count = 1};
	struct message_hello hello = hello_make();
	int fd = expect_resumed(&hello, 0);

	restart_after(SIGKILL);
	(void)close(fd);
	/* If berthd's answer comes after the deadline, libberth hangs up like this. */
	for (int i = 0; i < 2; i++)
		(void)close(expect_resumed(&hello, 1));
	fd = expect_resumed(&hello, 1);
	ck_assert_int_eq(ask(fd, &ranges, sizeof(ranges)), BERTH_SUCCESS);
	(void)close(fd);
	/* If the session has made a request, a hang-up ends it. */
	(void)close(expect_resumed(&hello, 0));
	expect_ctl(0, "", "status");
}
END_TEST

static int settle_and_ranges(void *nothing) {
	struct message_finish_release settle = {
		MESSAGE_HEADER(MESSAGE_FINISH_RELEASE, settle), .record = 16};
	struct message_ranges ranges = {MESSAGE_HEADER(MESSAGE_RANGES, ranges), .count = 1};
	struct message_hello hello = hello_make();
	int fd = socket_connect("berth.sock");

	(void)nothing;
	ck_assert_int_eq(ask(fd, &ranges, sizeof(ranges)), HUNG_UP);
	(void)close(fd);
	for (uint32_t record = 0; record < 3; record++) {
		fd = hello_connect(&hello);
		settle.record = record == 0 ? UINT32_MAX : record == 1 ? 0 : 1u << 21;
		ck_assert_int_eq(ask(fd, &settle, sizeof(settle)), HUNG_UP);
		(void)close(fd);
	}
	/* berthd grants as many ranges as one message holds. */
	fd = hello_connect(&hello);
	ranges.count = UINT32_MAX;
	ck_assert_int_eq(ask(fd, &ranges, sizeof(ranges)), BERTH_SUCCESS);
	ranges.count = 0;
	ck_assert_int_eq(ask(fd, &ranges, sizeof(ranges)), HUNG_UP);
	return 0;
}

START_TEST(a_session_settles_its_own_records_only_and_ranges_need_a_session) {
	run_in_child(settle_and_ranges);
	expect_healthy();
}
END_TEST

START_TEST(berthd_checks_names_and_flags_itself) {
	struct message_resolve resolve = {MESSAGE_HEADER(MESSAGE_RESOLVE, resolve)};
	struct message_set set = {MESSAGE_HEADER(MESSAGE_SET, set), .limit = 5};
	struct message_delete delete = {MESSAGE_HEADER(MESSAGE_DELETE, delete), .flags = 2};
	struct message_list list = {MESSAGE_HEADER(MESSAGE_LIST, list), .cursor = UINT32_MAX};
	static const char *const bad[] = {"", "a//b", "a\nb", "\xFF", "1/2/3/4/5/6/7/8/9"};
	int clients = socket_connect("berth.sock"), admin = socket_connect("admin.sock");

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

/* Sends valid messages in which some random bytes were changed. */
static int mutations_send(void *nothing) {
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

	(void)nothing;
	random_init();
	for (int i = 0; i < 3000; i++) {
		size_t k = random_below(COUNT_OF(kinds)), size = kinds[k].size;
		struct message_header h = message_header_make(kinds[k].opcode, size, 0);
		int fd =
			socket_connect(kinds[k].opcode < MESSAGE_SET ? "berth.sock" : "admin.sock");

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
		(void)send_message(fd, message, size, &own, random_below(2));
		if (random_below(2))
			(void)shutdown(fd, SHUT_WR);
		(void)close(fd);
	}
	return 0;
}

START_TEST(mutated_messages_do_no_harm) {
	run_in_child(mutations_send);
	set_limit("alice", "5");
	expect_healthy();
}
END_TEST

/* -- use of resources -------------------------------------------------------------------------- */

START_TEST(unexpected_descriptors_are_closed) {
	struct message_status status = {MESSAGE_HEADER(MESSAGE_STATUS, status)};
	struct message_resolve resolve = {MESSAGE_HEADER(MESSAGE_RESOLVE, resolve)};
	int admin = socket_connect("admin.sock"), clients = socket_connect("berth.sock"), fds[64];

	for (size_t i = 0; i < COUNT_OF(fds); i++)
		fds[i] = pidfd_of(getpid());
	for (size_t n = 1; n <= COUNT_OF(fds); n *= 2) {
		ck_assert_int_eq(send_message(admin, &status, sizeof(status), fds, n), 0);
		ck_assert_int_eq(answer_receive(admin), BERTH_SUCCESS);
		ck_assert_int_eq(send_message(clients, &resolve, sizeof(resolve), fds, n), 0);
		ck_assert_int_eq(answer_receive(clients), BERTH_INVALID_PARAMETER);
	}
	/* A packet that is no message may carry descriptors, too. */
	ck_assert_int_eq(send_message(admin, "no message", 10, fds, 32), 0);
	ck_assert_int_eq(answer_receive(admin), HUNG_UP);
	ck_assert_int_eq(send_message(clients, "no message, but longer", 22, fds, 1), 0);
	ck_assert_int_eq(answer_receive(clients), HUNG_UP);
	(void)close(admin);
	(void)close(clients);
	expect_healthy();
}
END_TEST

START_TEST(a_client_that_never_reads_delays_no_other) {
	struct message_list list = {MESSAGE_HEADER(MESSAGE_LIST, list)};
	int fd[8], sent = 0;

	for (size_t i = 0; i < COUNT_OF(fd); i++) {
		fd[i] = socket_connect("admin.sock");
		(void)fcntl(fd[i], F_SETFL, O_NONBLOCK);
		/* berthd stops reading while its answers aren't read, so the queue fills up. */
		while (sent < 100000 && send_message(fd[i], &list, sizeof(list), NULL, 0) == 0)
			sent++;
	}
	ck_assert_msg(sent < 100000, "berthd accepts requests without a bound");
	for (int i = 0; i < 20; i++)
		set_limit("alice", i % 2 ? "5" : "6");
	/* When a client begins to read, it gets its answers. */
	(void)fcntl(fd[0], F_SETFL, 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(answer_receive(fd[0]), BERTH_SUCCESS);
	for (size_t i = 0; i < COUNT_OF(fd); i++)
		(void)close(fd[i]);
	expect_healthy();
}
END_TEST

START_TEST(three_hundred_connections_at_once_delay_no_client) {
	struct rlimit limit;
	struct berth *b;
	int fd[300];

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	for (size_t i = 0; i < COUNT_OF(fd); i++)
		fd[i] = socket_connect(sockets[i % 2]);
	set_limit("alice", "4");
	b = open_session();
	(void)acquire_slot(b, "alice");
	berth_close(b);
	for (size_t i = 0; i < COUNT_OF(fd); i++)
		(void)close(fd[i]);
	expect_healthy();
}
END_TEST

/* Connects 500 times, with or without a session and a request. Ends each connection by close, with
 * or without a goodbye before it, or by exiting. */
static int connect_and_leave(void *nothing) {
	struct message_hello hello = hello_make();
	struct message_ranges ranges = {MESSAGE_HEADER(MESSAGE_RANGES, ranges), .count = 1};
	int own = pidfd_of(getpid());

	(void)nothing;
	random_init();
	for (int i = 0; i < 500; i++) {
		int fd = socket_connect(sockets[random_below(4) == 0]);

		if (random_below(2))
			(void)send_message(fd, &hello, sizeof(hello), &own, 1);
		if (random_below(2))
			(void)send_message(fd, &ranges, sizeof(ranges), NULL, 0);
		if (random_below(2))
			(void)send_opcode(fd, MESSAGE_BYE);
		if (random_below(2000) == 0)
			break;
		(void)close(fd);
	}
	return 0;
}

/* During these connections, another client keeps its slot and is served. */
START_TEST(ten_thousand_connections_in_a_row_leave_nothing_behind) {
	struct berth *b = open_session();
	berth_slot slot = acquire_slot(b, "alice");
	int session = descriptors_count() - descriptors_before;

	for (int i = 0; i < 25; i++) {
		run_in_child(connect_and_leave);
		expect_code(BERTH_SUCCESS, berth_release(b, acquire_slot(b, "alice")));
	}
	ck_assert_uint_eq(usage_of(b, "alice").current, 1);
	expect_few_descriptors(descriptors_before + session);
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

static void lines_append(struct lines *l, const char *name, uint32_t limit) {
	uint8_t length = (uint8_t)strlen(name);
	char *to = l->bytes + l->message.bytes;

	memcpy(to, &limit, 4);
	memcpy(to + 4, &length, 1);
	memcpy(to + 5, name, length);
	l->message.bytes += 5u + length;
	l->message.count++;
	l->message.header =
		message_header_make(MESSAGE_IMPORT_LINES, sizeof(l->message) + l->message.bytes, 0);
}

#define lines_send(fd, l) ask((fd), (l), (l)->message.header.length)

START_TEST(a_hang_up_during_an_import_changes_nothing) {
	struct lines l = {0};
	int fd = socket_connect("admin.sock");

	lines_append(&l, "bob", 3);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(ask_opcode(fd, MESSAGE_IMPORT_BEGIN), BERTH_SUCCESS);
		ck_assert_int_eq(lines_send(fd, &l), BERTH_SUCCESS);
	}
	(void)close(fd);
	expect_ctl(1, "no account", "get", "bob");
	expect_healthy();
}
END_TEST

START_TEST(an_import_out_of_order_or_with_wrong_counts_is_refused) {
	struct lines l = {0}, wrong;
	int fd = socket_connect("admin.sock");

	lines_append(&l, "bob", 3);
	lines_append(&l, "carol", 3);
	ck_assert_int_eq(ask_opcode(fd, MESSAGE_IMPORT_COMMIT), BERTH_INVALID_PARAMETER);
	ck_assert_int_eq(lines_send(fd, &l), BERTH_INVALID_PARAMETER);
	/* One bad line makes the whole import fail. */
	ck_assert_int_eq(ask_opcode(fd, MESSAGE_IMPORT_BEGIN), BERTH_SUCCESS);
	ck_assert_int_eq(lines_send(fd, &l), BERTH_SUCCESS);
	wrong = l;
	lines_append(&wrong, "a//b", 3);
	ck_assert_int_eq(lines_send(fd, &wrong), BERTH_INVALID_PARAMETER);
	ck_assert_int_eq(ask_opcode(fd, MESSAGE_IMPORT_COMMIT), BERTH_INVALID_PARAMETER);
	(void)close(fd);
	for (int i = 0; i < 4; i++) {
		fd = socket_connect("admin.sock");
		ck_assert_int_eq(ask_opcode(fd, MESSAGE_IMPORT_BEGIN), BERTH_SUCCESS);
		wrong = l;
		if (i == 0)
			wrong.message.count = 3;
		else if (i == 1)
			wrong.message.count = 1;
		else if (i == 2)
			wrong.message.bytes++;
		else
			wrong.bytes[4] = (char)255;
		ck_assert_msg(lines_send(fd, &wrong) == HUNG_UP, "case %d", i);
		(void)close(fd);
	}
	expect_ctl(1, "no account", "get", "bob");
	expect_healthy();
}
END_TEST

/* The connection has begun an import, and waits for the store's answer to a set. */
START_TEST(a_hang_up_during_a_set_frees_no_connection_that_the_store_will_answer) {
	struct message_set set = {MESSAGE_HEADER(MESSAGE_SET, set), .limit = 3};

	message_name_set(&set.name, "bob");
	for (int i = 0; i < 50; i++) {
		int fd = socket_connect("admin.sock");

		ck_assert_int_eq(ask_opcode(fd, MESSAGE_IMPORT_BEGIN), BERTH_SUCCESS);
		/* berthd is stopped, so that it sees the set and the hang-up at the same time. */
		(void)kill(here.berthd, SIGSTOP);
		ck_assert_int_eq(send_message(fd, &set, sizeof(set), NULL, 0), 0);
		(void)close(fd);
		(void)kill(here.berthd, SIGCONT);
	}
	expect_ctl(0, "bob", "list");
	expect_healthy();
}
END_TEST

/* The number of lines of an import. berthd needs several time slices to reserve so many accounts,
 * and has the capacity for only one such import. */
#define IMPORT_SIZE 60000

static void imports_start(void) {
	static const char *const args[] = {"--max-accounts", "100000", NULL};

	instance_start(&here, args);
	descriptors_before = descriptors_count();
	set_limit("alice", "5");
}

static void import_send_lines(int fd, const char *format, int count) {
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
			lines_append(&one, name, 3);
			memcpy(to + m.message.bytes, one.bytes, one.message.bytes);
			m.message.bytes += one.message.bytes;
		}
		m.message.header = message_header_make(
			MESSAGE_IMPORT_LINES, sizeof(m.message) + m.message.bytes, 0);
		ck_assert_int_eq(ask(fd, &m, m.message.header.length), BERTH_SUCCESS);
	}
}

/* Sends an import without its commit; returns the connection. */
static int import_prepare(const char *format, int count) {
	int fd = socket_connect("admin.sock");

	ck_assert_int_eq(ask_opcode(fd, MESSAGE_IMPORT_BEGIN), BERTH_SUCCESS);
	import_send_lines(fd, format, count);
	return fd;
}

/* Sends an import and its commit, without waiting for the answer; returns the connection. */
static int import_send_commit(const char *format, int count) {
	int fd = import_prepare(format, count);

	ck_assert_int_eq(send_opcode(fd, MESSAGE_IMPORT_COMMIT), 0);
	return fd;
}

static uint32_t accounts_of(int fd) {
	ck_assert_int_eq(ask_opcode(fd, MESSAGE_STATUS), BERTH_SUCCESS);
	return answer.status.accounts;
}

/* Returns once berthd has reserved at least that many accounts. */
static void wait_for_accounts(uint32_t accounts) {
	int fd = socket_connect("admin.sock");

	while (accounts_of(fd) < accounts)
		;
	(void)close(fd);
}

/* True if all accounts of an import exist, or if none of them exists. */
static bool import_is_complete_or_undone(void *data) {
	long long configured = status_number("configured"), accounts = status_number("accounts");

	(void)data;
	return (configured == 1 && accounts == 1) ||
	       (configured == 1 + IMPORT_SIZE && accounts == 2 + IMPORT_SIZE);
}

START_TEST(a_hang_up_while_accounts_are_reserved_frees_them_again) {
	int cancelled = 0;

	for (uint32_t slices = 1; slices < 7; slices++) {
		int fd = import_send_commit("first/%d", IMPORT_SIZE);

		wait_for_accounts(slices * 8000);
		(void)close(fd);
		ck_assert_msg(eventually(import_is_complete_or_undone, NULL),
			"%lld accounts are left, %lld of them configured",
			status_number("accounts"), status_number("configured"));
		if (status_number("configured") == 1) {
			cancelled++;
			continue;
		}
		/* The import is complete, since berthd saw the hang-up after the commit. */
		instance_end(&here);
		imports_start();
	}
	ck_assert_int_gt(cancelled, 0);
	expect_ctl(1, "no account", "get", "first/1");
	/* Another import needs the accounts that were freed. After a restart berthd has only the
	 * accounts of that import. */
	ck_assert_int_eq(
		answer_receive(import_send_commit("second/%d", IMPORT_SIZE)), BERTH_SUCCESS);
	restart_after(SIGKILL);
	ck_assert_int_eq(status_number("configured"), 1 + IMPORT_SIZE);
	expect_ctl(1, "no account", "get", "first/1");
}
END_TEST

START_TEST(an_import_that_runs_out_of_accounts_reserves_none) {
	int fd = import_send_commit("first/%d", 100001);

	ck_assert_int_eq(answer_receive(fd), BERTH_NO_SYSTEM_RESOURCES);
	ck_assert_ptr_nonnull(strstr(answer.failed.text, "--max-accounts"));
	(void)close(fd);
	ck_assert_int_eq(status_number("accounts"), 1);
	fd = import_send_commit("second/%d", IMPORT_SIZE);
	ck_assert_int_eq(answer_receive(fd), BERTH_SUCCESS);
	(void)close(fd);
	ck_assert_int_eq(status_number("configured"), 1 + IMPORT_SIZE);
	expect_healthy();
}
END_TEST

/* Whichever import is the first succeeds. The other import is refused as a whole. */
START_TEST(of_two_imports_that_do_not_both_fit_one_succeeds) {
	int first = import_send_commit("first/%d", IMPORT_SIZE),
	    second = import_send_commit("second/%d", IMPORT_SIZE);
	int code = answer_receive(first), other = answer_receive(second);

	ck_assert_msg((code == BERTH_SUCCESS && other == BERTH_NO_SYSTEM_RESOURCES) ||
			      (other == BERTH_SUCCESS && code == BERTH_NO_SYSTEM_RESOURCES),
		"%d and %d", code, other);
	(void)close(first);
	(void)close(second);
	ck_assert_int_eq(status_number("configured"), 1 + IMPORT_SIZE);
	ck_assert_int_eq(status_number("accounts"), 2 + IMPORT_SIZE);
	expect_healthy();
}
END_TEST

static bool is_checkpointed(void *data) {
	(void)data;
	return !strstr(expect_ctl(0, "", "status", "--json"), "\"checkpointed\":null");
}

/* berthd stops while an import reserves accounts below `first`, whose only other child is deleted.
 * The deletion removes the child's counts from the store, so the store must still be open. If it
 * weren't, a sanitizer would report the use of a closed store. */
START_TEST(a_stop_while_accounts_are_reserved_is_clean) {
	struct message_delete delete = {MESSAGE_HEADER(MESSAGE_DELETE, delete)};
	struct berth *b = open_session();
	int import, other;

	set_limit("first/alice", "5");
	expect_code(BERTH_SUCCESS, berth_release(b, acquire_slot(b, "first/alice")));
	berth_close(b);
	ck_assert(eventually(is_checkpointed, NULL));
	import = import_prepare("first/%d", IMPORT_SIZE);
	other = socket_connect("admin.sock");
	message_name_set(&delete.name, "first/alice");
	(void)kill(here.berthd, SIGSTOP);
	ck_assert_int_eq(send_opcode(import, MESSAGE_IMPORT_COMMIT), 0);
	ck_assert_int_eq(send_message(other, &delete, sizeof(delete), NULL, 0), 0);
	(void)kill(here.berthd, SIGCONT);
	wait_for_accounts(1000);
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	(void)close(import);
	(void)close(other);
	instance_restart(&here);
	ck_assert_int_ge(status_number("configured"), 1);
	descriptors_before = descriptors_count();
}
END_TEST

#define CONNECTIONS   20
#define REQUESTS_EACH 40

START_TEST(an_import_progresses_while_many_clients_send_requests) {
	int import = import_prepare("first/%d", IMPORT_SIZE), fd[CONNECTIONS];

	for (int i = 0; i < CONNECTIONS; i++)
		fd[i] = socket_connect("admin.sock");
	(void)accounts_of(fd[CONNECTIONS - 1]);
	/* All requests arrive at once, so berthd isn't idle before it has answered the last one. */
	(void)kill(here.berthd, SIGSTOP);
	ck_assert_int_eq(send_opcode(import, MESSAGE_IMPORT_COMMIT), 0);
	for (int i = 0; i < CONNECTIONS * REQUESTS_EACH; i++)
		ck_assert_int_eq(send_opcode(fd[i % CONNECTIONS], MESSAGE_STATUS), 0);
	(void)kill(here.berthd, SIGCONT);
	for (int i = 0; i < CONNECTIONS * REQUESTS_EACH; i++)
		ck_assert_int_eq(answer_receive(fd[i % CONNECTIONS]), BERTH_SUCCESS);
	ck_assert_uint_eq(answer.status.accounts, 2 + IMPORT_SIZE);
	ck_assert_int_eq(answer_receive(import), BERTH_SUCCESS);
	for (int i = 0; i < CONNECTIONS; i++)
		(void)close(fd[i]);
	(void)close(import);
	expect_healthy();
}
END_TEST

/* A member of group berth can truncate the segment through the descriptor that berthd sends. */
START_TEST(a_truncated_segment_does_not_kill_berthd) {
	repairs_are_expected = true;
	set_limit("alice", "7");
	ck_assert_int_eq(truncate(text_of("%s/segment", here.runtime_dir), 4096), 0);
	expect_ctl(0, "alice", "list");
	set_limit("alice", "8");
	expect_ctl(0, "8", "get", "alice");
	ck_assert_int_ne(logged_times("truncated the segment"), 0);
	/* The next berthd finds the segment damaged, makes another segment, and has every limit. */
	restart_after(SIGKILL);
	expect_ctl(0, "8", "get", "alice");
}
END_TEST

/* -- end --------------------------------------------------------------------------------------- */

int main(void) {
	const struct test tests[] = {
		{berthd_hangs_up_on_noise},
		{an_empty_packet_and_a_silent_hang_up_do_no_harm},
		{each_opcode_of_a_wrong_size_gets_87_or_a_hang_up},
		{berthd_hangs_up_on_a_header_with_a_wrong_length},
		{another_version_gets_1306_on_both_sockets},
		{a_session_needs_the_callers_own_pidfd},
		{no_process_resumes_the_session_of_another},
		{a_hang_up_before_any_request_ends_no_resumed_session},
		{a_session_settles_its_own_records_only_and_ranges_need_a_session},
		{berthd_checks_names_and_flags_itself},
		{mutated_messages_do_no_harm},
		{unexpected_descriptors_are_closed},
		{a_client_that_never_reads_delays_no_other},
		{three_hundred_connections_at_once_delay_no_client},
		{ten_thousand_connections_in_a_row_leave_nothing_behind},
		{a_hang_up_during_an_import_changes_nothing},
		{an_import_out_of_order_or_with_wrong_counts_is_refused},
		{a_hang_up_during_a_set_frees_no_connection_that_the_store_will_answer},
		{a_truncated_segment_does_not_kill_berthd},
		{NULL},
	};
	const struct test imports[] = {
		{a_hang_up_while_accounts_are_reserved_frees_them_again},
		{an_import_that_runs_out_of_accounts_reserves_none},
		{of_two_imports_that_do_not_both_fit_one_succeeds},
		{a_stop_while_accounts_are_reserved_is_clean},
		{an_import_progresses_while_many_clients_send_requests},
		{NULL},
	};

	return run_berthd_suites({"hostile", tests, .setup = hostile_start, .teardown = here_end},
		{"imports in time slices", imports, .setup = imports_start, .teardown = here_end});
}
