/* SPDX-License-Identifier: MIT */

/* Tests sockets that berthd inherits. The test gives berthd the sockets as systemd does. */

#include <grp.h>

#include "steps.h"

/* Makes the directories, without a berthd. */
static void setup(void) {
	instance_start(&here, NULL);
	(void)instance_kill(&here, SIGTERM);
}

struct inherited {
	const char *name, *group;
	int type;
	mode_t mode;
	int fd;
};

static void socket_make(struct inherited *s) {
	const char *path = text_of("%s/%s", here.runtime_dir, s->name);
	const struct group *g = getgrnam(s->group);

	(void)unlink(path);
	s->fd = socket_bind(s->type, path);
	ck_assert_int_eq(chmod(path, s->mode), 0);
	if (g)
		ck_assert_int_eq(chown(path, (uid_t)-1, g->gr_gid), 0);
	ck_assert_int_eq(listen(s->fd, 64), 0);
}

/* In the child: gives the sockets the descriptors from 3 on, and executes berthd. */
static void exec_activated(const struct inherited *s, int count, const char *path) {
	int far[4], fd = open(text_of("%s/log", here.dir), O_WRONLY | O_CREAT | O_APPEND, 0600);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)dup2(fd, STDERR_FILENO);
	for (int i = 0; i < count; i++)
		far[i] = fcntl(s[i].fd, F_DUPFD, 100);
	for (int i = 0; i < count; i++)
		(void)dup2(far[i], 3 + i);
	(void)close_range(3 + (unsigned)count, ~0U, 0);
	(void)setenv("LISTEN_FDS", text_of("%d", count), 1);
	(void)setenv("LISTEN_PID", text_of("%d", (int)getpid()), 1);
	(void)unsetenv("NOTIFY_SOCKET");
	(void)execl(path, path, NULL);
	_exit(99);
}

static void activate(const struct inherited *s, int count) {
	const char *path = program_path("BERTHD", "berthd");

	(void)fflush(NULL);
	here.berthd = fork();
	if (here.berthd == 0)
		exec_activated(s, count, path);
	ck_assert_int_gt(here.berthd, 0);
}

static struct inherited good[] = {
	{"berth.sock", "berth", SOCK_SEQPACKET, 0660, -1},
	{"admin.sock", "berth-admin", SOCK_SEQPACKET, 0660, -1},
};

static void good_make(void) {
	for (size_t i = 0; i < COUNT_OF(good); i++)
		socket_make(&good[i]);
}

static ino_t inode_of(const char *name) {
	struct stat st;

	ck_assert_int_eq(stat(text_of("%s/%s", here.runtime_dir, name), &st), 0);
	return st.st_ino;
}

/* The test needn't wait until berthd is ready: if a client connects before that, it waits in the
 * socket's queue. */
START_TEST(berthd_serves_on_inherited_sockets) {
	struct berth *b;
	ino_t before;

	good_make();
	before = inode_of("berth.sock");
	activate(good, 2);
	set_limit("alice", "2");
	b = open_session();
	(void)acquire_slot(b, "alice");
	ck_assert_int_eq(current_of("alice"), 1);
	ck_assert_uint_eq(inode_of("berth.sock"), before);
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	/* berthd doesn't remove inherited sockets, so the next berthd can get them. */
	ck_assert_uint_eq(inode_of("berth.sock"), before);
	activate(good, 2);
	ck_assert_int_eq(current_of("alice"), 1);
	set_limit("bob", "1");
	(void)acquire_slot(b, "bob");
	expect_status_eventually("sessions", 1);
	berth_close(b);
}
END_TEST

START_TEST(inherited_sockets_may_be_in_any_order_or_only_one) {
	struct inherited swapped[2];

	good_make();
	swapped[0] = good[1];
	swapped[1] = good[0];
	activate(swapped, 2);
	set_limit("alice", "2");
	berth_close(open_session());
	ck_assert_int_eq(instance_kill(&here, SIGTERM), 0);
	/* berthd inherits admin.sock and makes berth.sock. */
	activate(&good[1], 1);
	set_limit("alice", "3");
	berth_close(open_session());
}
END_TEST

START_TEST(a_killed_berthd_is_replaced_while_clients_wait_in_the_queue) {
	struct child c[8];

	good_make();
	activate(good, 2);
	set_limit("alice", "100");
	(void)instance_kill(&here, SIGKILL);
	for (size_t i = 0; i < COUNT_OF(c); i++)
		c[i] = child_start(child_hold_one, (void *)"alice");
	activate(good, 2);
	for (size_t i = 0; i < COUNT_OF(c); i++)
		ck_assert_int_eq(child_report(&c[i]), BERTH_SUCCESS);
	ck_assert_int_eq(current_of("alice"), (long long)COUNT_OF(c));
	for (size_t i = 0; i < COUNT_OF(c); i++)
		child_kill(&c[i]);
}
END_TEST

static void expect_refusal(struct inherited *s, int count, const char *text) {
	activate(s, count);
	ck_assert_int_eq(berthd_exit_status(), 1);
	expect_logged(text);
}

/* True if a client waits in the socket's queue. */
static bool has_waiting_client(int fd) {
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static bool both_have_waiting_clients(void *data) {
	(void)data;
	return has_waiting_client(good[0].fd) && has_waiting_client(good[1].fd);
}

static void child_open(struct child *c, void *data) {
	struct berth *b = NULL;

	(void)data;
	child_send(c, berth_open(NULL, &b));
}

static void child_ask_status(struct child *c, void *data) {
	const char *output;

	(void)data;
	child_send(c, ctl(&output, "status", NULL));
	child_send(c, strstr(output, "its log says what to do") && strstr(output, "1306"));
}

/* berthd must answer the waiting clients before it exits. Otherwise systemd would start it again
 * for these clients. */
START_TEST(a_berthd_that_finds_another_layout_leaves_no_client_waiting) {
	struct child server, administrator;
	struct berth *b;
	int fd;

	good_make();
	activate(good, 2);
	set_limit("alice", "2");
	b = open_session();
	(void)instance_kill(&here, SIGKILL);
	fd = shared_open("directory", O_WRONLY);
	ck_assert_int_eq(pwrite(fd, "\372", 1, 8), 1); /* the version */
	(void)close(fd);

	server = child_start(child_open, NULL);
	administrator = child_start(child_ask_status, NULL);
	ck_assert(eventually(both_have_waiting_clients, NULL));
	activate(good, 2);
	ck_assert_int_eq(child_report(&server), BERTH_REVISION_MISMATCH);
	ck_assert_int_eq(child_report(&administrator), 1);
	ck_assert_int_eq(child_report(&administrator), 1);
	ck_assert_int_eq(berthd_exit_status(), 78);
	expect_logged("another layout");
	ck_assert(!has_waiting_client(good[0].fd) && !has_waiting_client(good[1].fd));
	(void)child_end(&server);
	(void)child_end(&administrator);
	berth_close(b);
}
END_TEST

START_TEST(a_socket_that_is_open_to_others_is_refused) {
	static const mode_t modes[] = {0666, 0777, 0600, 0662};

	good_make();
	for (size_t i = 0; i < COUNT_OF(modes); i++) {
		good[i % 2].mode = modes[i];
		socket_make(&good[i % 2]);
		expect_refusal(good, 2, text_of("has mode %04o", (unsigned)modes[i]));
		expect_logged("SocketMode=");
		good[i % 2].mode = 0660;
		socket_make(&good[i % 2]);
	}
	activate(good, 2);
	set_limit("alice", "2");
}
END_TEST

START_TEST(a_socket_of_another_owner_is_refused) {
	if (getuid() != 0) {
		printf("not root, so another owner isn't tested\n");
		return;
	}
	good_make();
	ck_assert_int_eq(chown(text_of("%s/berth.sock", here.runtime_dir), 65534, (gid_t)-1), 0);
	expect_refusal(good, 2, "owner 65534");
}
END_TEST

START_TEST(a_socket_of_another_kind_or_name_is_refused) {
	struct inherited stream[] = {good[0], good[1]}, stranger[] = {good[0], good[1]};

	stream[0].type = SOCK_STREAM;
	socket_make(&stream[0]);
	socket_make(&stream[1]);
	expect_refusal(stream, 2, "SOCK_SEQPACKET");
	stranger[0].name = "stranger.sock";
	socket_make(&stranger[0]);
	socket_make(&stranger[1]);
	expect_refusal(stranger, 2, "neither berth.sock nor admin.sock");
	good_make();
	stream[0] = stream[1] = good[0];
	expect_refusal(stream, 2, "one twice");
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{berthd_serves_on_inherited_sockets},
		{inherited_sockets_may_be_in_any_order_or_only_one},
		{a_killed_berthd_is_replaced_while_clients_wait_in_the_queue},
		{a_socket_that_is_open_to_others_is_refused},
		{a_socket_of_another_owner_is_refused},
		{a_socket_of_another_kind_or_name_is_refused},
		{a_berthd_that_finds_another_layout_leaves_no_client_waiting},
		{NULL},
	};

	return run_berthd_suites({"activation", tests, .setup = setup, .teardown = here_end});
}
