/* SPDX-License-Identifier: MIT */

/* Tests messages over a pair of sockets, and connecting to a socket that doesn't listen yet. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "message.h"
#include "clock.h"
#include "run.h"
#include "threads.h"
#include "util.h"

/* A deadline that no call reaches. If a call must time out, it gets a shorter deadline. */
#define SOON (clock_monotonic_ms() + 60000)

static int pair[2];

static void pair_open(void) {
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void pair_close(void) {
	close_cleanup(&pair[0]);
	close_cleanup(&pair[1]);
}

static struct message_finish_release request_make(void) {
	return (struct message_finish_release){
		.header = MESSAGE_HEADER(MESSAGE_FINISH_RELEASE, struct message_finish_release),
		.record = 7};
}

START_TEST(a_message_arrives_whole_with_its_descriptors) {
	struct message_finish_release sent = request_make(), got;
	int files[2] = {memfd_create("a", 0), memfd_create("b", 0)}, fds[MESSAGE_FDS_MAX];
	struct stat got_file, sent_file;

	ck_assert_int_eq(message_send(pair[0], &sent, sizeof(sent), files, 2), 0);
	ck_assert_int_eq(message_receive(pair[1], &got, sizeof(got), fds), sizeof(got));

	ck_assert_mem_eq(&got, &sent, sizeof(got));
	for (int i = 0; i < 2; i++) {
		ck_assert_int_gt(fds[i], 2);
		ck_assert_int_eq(fstat(fds[i], &got_file), 0);
		ck_assert_int_eq(fstat(files[i], &sent_file), 0);
		ck_assert(got_file.st_dev == sent_file.st_dev);
		ck_assert_uint_eq(got_file.st_ino, sent_file.st_ino);
		ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
	}
}
END_TEST

START_TEST(received_descriptors_are_above_the_standard_ones) {
	struct message_finish_release sent = request_make(), got;
	int file = memfd_create("a", 0), fds[MESSAGE_FDS_MAX];
	int stdin_copy = fcntl(0, F_DUPFD_CLOEXEC, 10);
	ssize_t n;

	ck_assert_int_eq(message_send(pair[0], &sent, sizeof(sent), &file, 1), 0);
	close(0);
	n = message_receive(pair[1], &got, sizeof(got), fds);
	ck_assert_int_eq(fcntl(0, F_GETFD), -1);
	(void)dup2(stdin_copy, 0);

	ck_assert_int_eq(n, sizeof(got));
	ck_assert_int_gt(fds[0], 2);
	ck_assert_int_eq(fds[1], -1);
}
END_TEST

START_TEST(unexpected_descriptors_are_closed) {
	struct message_finish_release sent = request_make(), got;
	int file = memfd_create("a", 0), before = dup(0), after;

	close(before);
	ck_assert_int_eq(message_send(pair[0], &sent, sizeof(sent), &file, 1), 0);
	ck_assert_int_eq(message_receive(pair[1], &got, sizeof(got), NULL), sizeof(got));

	after = dup(0);
	ck_assert_int_eq(after, before);
}
END_TEST

/* Sends the bytes, and receives them into a buffer of this size. */
static void check_received(const void *bytes, size_t size, size_t room, ssize_t want) {
	struct message_finish_release got;

	ck_assert_int_eq(message_send(pair[0], bytes, size, NULL, 0), 0);
	ck_assert_int_eq(message_receive(pair[1], &got, room, NULL), want);
}

START_TEST(a_header_with_a_wrong_magic_or_length_is_refused) {
	struct message_finish_release good = request_make(), bad = good;

	bad.header.magic++;
	check_received(&bad, sizeof(bad), sizeof(bad), -EBADMSG);
	bad = good;
	bad.header.length++;
	check_received(&bad, sizeof(bad), sizeof(bad), -EBADMSG);
	check_received(&good, 8, sizeof(good), -EBADMSG);
	check_received(&good, sizeof(good), sizeof(good) - 1, -EMSGSIZE);
}
END_TEST

START_TEST(receiving_never_blocks_and_reports_a_hangup) {
	struct message_finish_release got;

	ck_assert_int_eq(message_receive(pair[1], &got, sizeof(got), NULL), -EAGAIN);
	close_cleanup(&pair[0]);
	ck_assert_int_eq(message_receive(pair[1], &got, sizeof(got), NULL), 0);
}
END_TEST

START_TEST(sending_to_a_closed_socket_is_an_error_and_raises_no_signal) {
	struct message_finish_release sent = request_make();

	close_cleanup(&pair[1]);
	ck_assert_int_eq(message_send(pair[0], &sent, sizeof(sent), NULL, 0), -EPIPE);
}
END_TEST

START_TEST(a_name_keeps_255_bytes_and_must_be_terminated) {
	struct message_name n;
	char text[300];

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	message_name_set(&n, text);
	ck_assert_int_eq(message_name_length(&n), 255);
	message_name_set(&n, "acme/alice");
	ck_assert_int_eq(message_name_length(&n), 10);
	ck_assert_int_eq(n.text[255], 0);
	memset(n.text, 'a', sizeof(n.text));
	ck_assert_int_eq(message_name_length(&n), -EINVAL);
}
END_TEST

/* A thread that answers one request with these bytes. */
struct answer {
	int fd;
	const void *bytes;
	size_t length;
};

static void *answer_main(void *arg) {
	struct answer *a = arg;
	char buffer[1024];

	while (message_receive(a->fd, buffer, sizeof(buffer), NULL) == -EAGAIN)
		sched_yield();
	(void)message_send(a->fd, a->bytes, a->length, NULL, 0);
	return NULL;
}

static struct message_failed reply; /* of the last call */
static size_t reply_size;

static int call_until(int64_t deadline) {
	struct message_finish_release request = request_make();

	reply_size = sizeof(reply);
	return message_call(pair[0], &request, &reply, &reply_size, deadline);
}

static int call_answered(const void *bytes, size_t length) {
	struct answer a = {.fd = pair[1], .bytes = bytes, .length = length};
	pthread_t thread;
	int r;

	thread_start(&thread, answer_main, &a);
	r = call_until(SOON);
	threads_join(&thread, 1);
	return r;
}

START_TEST(a_call_returns_its_reply) {
	struct message_done done = {
		.header = MESSAGE_HEADER(MESSAGE_FINISH_RELEASE, struct message_done),
		.affected = 3};

	ck_assert_int_eq(call_answered(&done, sizeof(done)), 0);
	ck_assert_uint_eq(reply_size, sizeof(done));
	ck_assert_mem_eq(&reply, &done, sizeof(done));
}
END_TEST

START_TEST(a_call_returns_a_failure_with_its_code) {
	struct message_failed failed = {
		.header = message_header_make(MESSAGE_FINISH_RELEASE, sizeof(failed), 8),
		.text = "none"};

	ck_assert_int_eq(call_answered(&failed, sizeof(failed)), 0);
	ck_assert_uint_eq(reply.header.code, 8);
	ck_assert_str_eq(reply.text, "none");
}
END_TEST

START_TEST(a_reply_to_another_request_is_refused) {
	struct message_done done = {.header = MESSAGE_HEADER(MESSAGE_RANGES, struct message_done)};

	ck_assert_int_eq(call_answered(&done, sizeof(done)), -EBADMSG);
	done.header.opcode = MESSAGE_FINISH_RELEASE;
	done.header.code = 8;
	ck_assert_int_eq(call_answered(&done, sizeof(done)), -EBADMSG);
	done.header.code = 0;
	done.header.version++;
	ck_assert_int_eq(call_answered(&done, sizeof(done)), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(a_call_without_an_answer_ends_at_its_deadline) {
	int64_t deadline = clock_monotonic_ms() + 30;

	ck_assert_int_eq(call_until(deadline), -ETIMEDOUT);
	ck_assert_int_ge(clock_monotonic_ms(), deadline);
}
END_TEST

START_TEST(a_call_reports_a_hangup) {
	close_cleanup(&pair[1]);
	ck_assert_int_eq(call_until(SOON), -ECONNRESET);
}
END_TEST

/* Makes a folder under /dev/shm whose path has `length` bytes, with a bound socket in it. Returns
 * the socket, which doesn't listen yet. */
static int bind_in(char *dir, size_t size, size_t length) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), base;
	size_t at;

	ck_assert_uint_lt(length, size);
	(void)snprintf(dir, size, "/dev/shm/berth-test-%d-", (int)getpid());
	for (at = strlen(dir); at < length; at++)
		dir[at] = 'x';
	dir[at] = 0;
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	base = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	(void)snprintf(
		address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/berth.sock", base);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(base);
	return fd;
}

static void remove_dir(const char *dir) {
	char path[4200];

	(void)snprintf(path, sizeof(path), "%s/berth.sock", dir);
	(void)unlink(path);
	(void)rmdir(dir);
}

START_TEST(a_socket_in_a_folder_with_a_long_name_can_be_connected_to) {
	char dir[300];
	int fd = bind_in(dir, sizeof(dir), 200), client = -1, r;

	ck_assert_int_eq(listen(fd, 1), 0);
	r = message_connect(dir, "berth.sock", SOON, &client);
	remove_dir(dir);
	ck_assert_int_eq(r, 0);
	ck_assert_int_gt(client, 2);
	ck_assert_int_eq(fcntl(client, F_GETFD), FD_CLOEXEC);
}
END_TEST

static void *listen_later(void *arg) {
	int *fd = arg;
	struct timespec pause = {.tv_nsec = 50000000};

	/* The pause makes it likely that the first attempt to connect fails. If it succeeds, the
	 * test passes, too. */
	(void)nanosleep(&pause, NULL);
	(void)listen(*fd, 1);
	return NULL;
}

START_TEST(connecting_waits_for_a_berthd_that_is_starting) {
	char dir[300];
	int fd = bind_in(dir, sizeof(dir), 60), client = -1, r;
	pthread_t thread;

	thread_start(&thread, listen_later, &fd);
	r = message_connect(dir, "berth.sock", SOON, &client);
	threads_join(&thread, 1);
	remove_dir(dir);
	ck_assert_int_eq(r, 0);
}
END_TEST

START_TEST(connecting_gives_up_at_its_deadline) {
	int64_t deadline = clock_monotonic_ms() + 30;
	int client = -1;

	ck_assert_int_eq(message_connect("/dev/shm/berth-none", "berth.sock", deadline, &client),
		-ECONNREFUSED);
	ck_assert_int_eq(client, -1);
	ck_assert_int_ge(clock_monotonic_ms(), deadline);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_message_arrives_whole_with_its_descriptors},
		{received_descriptors_are_above_the_standard_ones},
		{unexpected_descriptors_are_closed},
		{a_header_with_a_wrong_magic_or_length_is_refused},
		{receiving_never_blocks_and_reports_a_hangup},
		{sending_to_a_closed_socket_is_an_error_and_raises_no_signal},
		{a_name_keeps_255_bytes_and_must_be_terminated},
		{a_call_returns_its_reply},
		{a_call_returns_a_failure_with_its_code},
		{a_reply_to_another_request_is_refused},
		{a_call_without_an_answer_ends_at_its_deadline},
		{a_call_reports_a_hangup},
		{a_socket_in_a_folder_with_a_long_name_can_be_connected_to},
		{connecting_waits_for_a_berthd_that_is_starting},
		{connecting_gives_up_at_its_deadline},
		{NULL},
	};

	return run_suites({"message", tests, .setup = pair_open, .teardown = pair_close});
}
