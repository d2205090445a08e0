/* SPDX-License-Identifier: MIT */

/*
 * Releases that meet: a segment of another layout, with and without servers that still count in it,
 * and clients and daemons that speak another version of the messages.
 *
 * No other release can be built here, so its files are made of bytes: what every layout has at the
 * same place, as layout 3 had it.
 */

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "protocol.h"
#include "suite.h"

/* -- a pair of files --------------------------------------------------------------------------- */

#define OTHER_VERSION     3
#define OTHER_FINGERPRINT UINT64_C(0x0003164040408010)
#define SESSIONS          40

/* Where and how wide. */
struct place {
	unsigned offset, size;
};

static const struct place magic = {0, 8}, version = {8, 4}, fingerprint = {16, 8},
			  boot_id = {24, 8}, segment_ino = {40, 8}, max_accounts = {64, 4},
			  max_slots = {68, 4}, max_sessions = {72, 4}, accounts = {76, 4},
			  slots = {80, 4}, sessions = {84, 4};
/* In an entry of the session table. */
static const struct place state = {0, 4}, pid_place = {8, 4}, start_time = {16, 8}, comm = {32, 16};

static unsigned char other_directory[4096], other_segment[4096 + 128 * SESSIONS];

static void put(unsigned char *at, struct place p, uint64_t number) {
	memcpy(at + p.offset, &number, p.size); /* the first bytes are the lowest here */
}

static void boot_id_put(unsigned char *at) {
	char text[40] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC), n = 0;
	unsigned byte;

	ck_assert_int_eq(read(fd, text, 36), 36);
	(void)close(fd);
	for (const char *p = text; *p; p += *p == '-' ? 1 : 2)
		if (*p != '-' && sscanf(p, "%2x", &byte) == 1)
			at[boot_id.offset + n++] = (unsigned char)byte;
	ck_assert_int_eq(n, 16);
}

static void other_start(void) {
	instance_start(&here, NULL);
	(void)instance_kill(&here, SIGTERM);
	memset(other_directory, 0, sizeof(other_directory));
	memset(other_segment, 0, sizeof(other_segment));
	put(other_directory, magic, UINT64_C(0x3179726f74636572));
	put(other_segment, magic, UINT64_C(0x31746e656d676573));
	put(other_directory, max_accounts, 1048576);
	put(other_directory, max_slots, 1048576);
	put(other_directory, max_sessions, 16384);
	put(other_directory, accounts, 4096);
	put(other_directory, slots, 4096);
	put(other_directory, sessions, 256);
	for (int i = 0; i < 2; i++) {
		unsigned char *at = i == 0 ? other_directory : other_segment;

		put(at, version, OTHER_VERSION);
		put(at, fingerprint, OTHER_FINGERPRINT);
		boot_id_put(at);
	}
}

static void session_put(int i, pid_t pid, uint64_t start, const char *program) {
	unsigned char *at = other_segment + 4096 + 128 * i;

	put(at, state, 1);
	put(at, pid_place, (uint64_t)pid);
	put(at, start_time, start);
	memset(at + comm.offset, 0, comm.size);
	memcpy(at + comm.offset, program, strnlen(program, comm.size));
}

static const char *path_of(const char *name) {
	static char path[2][160];
	static int n;

	n = !n;
	(void)snprintf(path[n], sizeof(path[n]), "%s/%s", here.runtime_dir, name);
	return path[n];
}

/* The open file. */
static int file_make(const char *name, const void *bytes, size_t size) {
	int fd;

	(void)unlink(path_of(name));
	fd = open(path_of(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
	return fd;
}

static int segment_fd, directory_fd;

static void files_make(void) {
	struct stat st;

	segment_fd = file_make("segment", other_segment, sizeof(other_segment));
	ck_assert_int_eq(fstat(segment_fd, &st), 0);
	put(other_directory, segment_ino, st.st_ino);
	directory_fd = file_make("directory", other_directory, sizeof(other_directory));
}

static bool is_there(int fd, const char *name) {
	struct stat is, was;

	ck_assert_int_eq(fstat(fd, &was), 0);
	return stat(path_of(name), &is) == 0 && is.st_ino == was.st_ino && is.st_dev == was.st_dev;
}

/* Those that servers have mapped. */
static void expect_files_unchanged(void) {
	static unsigned char now[sizeof(other_segment)];

	ck_assert_int_eq(pread(segment_fd, now, sizeof(now), 0), sizeof(now));
	ck_assert_mem_eq(now, other_segment, sizeof(other_segment));
	ck_assert_int_eq(
		pread(directory_fd, now, sizeof(now), 0), (ssize_t)sizeof(other_directory));
	ck_assert_mem_eq(now, other_directory, sizeof(other_directory));
}

static void expect_left_alone(void) {
	ck_assert(is_there(segment_fd, "segment") && is_there(directory_fd, "directory"));
	expect_files_unchanged();
}

static void expect_replaced(void) {
	struct berth *b;

	ck_assert(!is_there(segment_fd, "segment") && !is_there(directory_fd, "directory"));
	expect_files_unchanged();
	set_limit("alice", "2");
	b = open_session();
	(void)acquire_slot(b, "alice");
	ck_assert_int_eq(current_of("alice"), 1);
	berth_close(b);
}

/* -- its processes ----------------------------------------------------------------------------- */

/* Field 22 of its stat. */
static uint64_t start_of(pid_t pid) {
	char path[64], text[1024] = "", *p;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(text, sizeof(text), f));
	(void)fclose(f);
	p = strrchr(text, ')');
	for (int i = 0; p && i < 20; i++)
		p = strchr(p + 1, ' ');
	ck_assert_ptr_nonnull(p);
	return strtoull(p, NULL, 10);
}

static void wait_to_be_told(struct child *c, void *data) {
	(void)prctl(PR_SET_NAME, data);
	child_send(c, 0);
	(void)child_receive(c);
}

static struct child bystander(const char *program) {
	struct child c = child_start(wait_to_be_told, (void *)(uintptr_t)program);

	ck_assert_int_eq(child_report(&c), 0);
	return c;
}

static char *listed(pid_t pid, const char *program) {
	static char text[64];

	(void)snprintf(text, sizeof(text), "%d (%s)", (int)pid, program);
	return text;
}

static int start_with(const char *option) {
	int status;

	here.args[0] = option;
	status = start_refused(&here);
	here.args[0] = NULL;
	return status;
}

START_TEST(a_living_process_keeps_berthd_from_starting_and_is_named) {
	struct child c = bystander("smtpd");

	(void)prctl(PR_SET_NAME, "imapd");
	/* Clients can write there: what the kernel says is believed. */
	session_put(7, getpid(), start_of(getpid()), "init");
	session_put(8, c.pid, start_of(c.pid), "init");
	files_make();
	ck_assert_int_eq(start_with(NULL), 78);
	expect_logged("another layout (3, not ");
	expect_logged(listed(getpid(), "imapd"));
	expect_logged(listed(c.pid, "smtpd"));
	expect_logged("start berthd with --abandon-segment");
	expect_left_alone();

	/* One after the other goes, and it starts. */
	child_kill(&c);
	ck_assert_int_eq(start_with(NULL), 78);
	ck_assert_int_eq(logged_times(listed(c.pid, "smtpd")), 1);
	put(other_segment + 4096 + 128 * 7, state, 0);
	files_make();
	instance_restart(&here);
	expect_logged("no server counts in it any more");
	expect_replaced();
}
END_TEST

START_TEST(a_check_lists_the_processes_and_changes_nothing) {
	struct child c = bystander("smtpd");
	char line[64];

	ck_assert_int_eq(start_with("--check-segment"), 0);
	(void)prctl(PR_SET_NAME, "a\t\\ b");
	session_put(0, getpid(), start_of(getpid()), "imapd");
	session_put(1, c.pid, 0, "smtpd");
	session_put(2, c.pid, 0, "smtpd");
	files_make();
	ck_assert_int_eq(start_with("--check-segment"), 78);
	(void)snprintf(line, sizeof(line), "%7d a\\x09\\x5c b\n", (int)getpid());
	expect_logged(line);
	(void)snprintf(line, sizeof(line), "%7d smtpd\n", (int)c.pid);
	ck_assert_int_eq(logged_times(line), 1);
	expect_left_alone();
	child_kill(&c);
	put(other_segment + 4096, state, 0);
	files_make();
	ck_assert_int_eq(start_with("--check-segment"), 0);
	expect_logged("Nothing in ");
	expect_left_alone();
}
END_TEST

/* A number that isn't a process's any more, one that is another's by now, and one that has ended and
 * wasn't waited for. */
START_TEST(dead_processes_are_in_nobodys_way) {
	struct child dead = bystander("smtpd"), unreaped = bystander("smtpd");
	siginfo_t info;

	child_kill(&dead);
	session_put(0, dead.pid, 1, "dead");
	session_put(1, getpid(), start_of(getpid()) - 1, "another");
	session_put(2, unreaped.pid, start_of(unreaped.pid), "unreaped");
	session_put(3, 0, 0, "noise");
	session_put(4, -1, 0, "noise");
	(void)kill(unreaped.pid, SIGKILL);
	ck_assert_int_eq(waitid(P_PID, (id_t)unreaped.pid, &info, WEXITED | WNOWAIT), 0);
	files_make();
	instance_restart(&here);
	expect_logged("no server counts in it any more");
	expect_replaced();
	(void)child_end(&unreaped);
}
END_TEST

/* Ended or not: the process would open its next session there. */
START_TEST(a_session_counts_in_every_state_and_of_every_age) {
	for (uint64_t n = 1; n <= 5; n++) {
		session_put(39, getpid(), n == 5 ? 0 : start_of(getpid()), "server");
		put(other_segment + 4096 + 128 * 39, state, n);
		files_make();
		ck_assert_msg(start_with(NULL) == 78, "state %d: berthd starts", (int)n);
		expect_left_alone();
	}
}
END_TEST

START_TEST(a_later_layout_is_another_one_too) {
	session_put(0, getpid(), start_of(getpid()), "later");
	put(other_directory, version, 250);
	put(other_directory, fingerprint, 250);
	files_make();
	ck_assert_int_eq(start_with(NULL), 78);
	expect_logged("another layout (250, not ");
	expect_left_alone();
}
END_TEST

START_TEST(of_many_processes_the_first_twenty_are_named) {
	struct child c[23];

	for (int i = 0; i < 23; i++) {
		c[i] = bystander("worker");
		session_put(i, c[i].pid, start_of(c[i].pid), "worker");
		session_put(i + 1, c[i].pid, start_of(c[i].pid), "worker");
	}
	files_make();
	ck_assert_int_eq(start_with(NULL), 78);
	expect_logged(" and 3 more.");
	ck_assert_int_eq(logged_times(" (worker)"), 20);
	for (int i = 0; i < 23; i++)
		child_kill(&c[i]);
}
END_TEST

START_TEST(told_to_abandon_it_berthd_starts_and_says_what_that_means) {
	(void)prctl(PR_SET_NAME, "imapd");
	session_put(5, getpid(), start_of(getpid()), "imapd");
	files_make();
	here.args[0] = "--abandon-segment";
	instance_restart(&here);
	expect_logged("count only among themselves until they are restarted");
	expect_logged(listed(getpid(), "imapd"));
	expect_replaced();
	/* Of its own layout there is nothing to abandon. */
	(void)instance_kill(&here, SIGKILL);
	segment_fd = open(path_of("segment"), O_RDONLY | O_CLOEXEC);
	instance_restart(&here);
	ck_assert(is_there(segment_fd, "segment"));
	ck_assert_int_eq(logged_times("Abandoning"), 1);
}
END_TEST

/* A check may be shown another boot id than berthd is, and goes by the start times. */
START_TEST(one_of_another_boot_makes_way_whoever_is_in_it) {
	put(other_directory, boot_id, 42);
	session_put(0, getpid(), 0, "imapd");
	files_make();
	ck_assert_int_eq(start_with("--check-segment"), 0);
	session_put(0, getpid(), start_of(getpid()), "imapd");
	files_make();
	ck_assert_int_eq(start_with("--check-segment"), 78);
	instance_restart(&here);
	expect_logged("of another boot");
	expect_replaced();
}
END_TEST

START_TEST(what_is_no_directory_of_files_is_not_looked_into) {
	files_make();
	(void)unlink(path_of("directory"));
	ck_assert_int_eq(mkfifo(path_of("directory"), 0600), 0);
	ck_assert_int_eq(start_with("--check-segment"), 1);
	expect_logged("can't look for a segment");
	(void)unlink(path_of("directory"));
}
END_TEST

/* With our own layout's files, which say that they are another's: servers don't look at that again. */
START_TEST(a_server_goes_on_in_the_abandoned_segment) {
	struct berth *b, *other;
	berth_slot slot;
	int fd;

	instance_restart(&here);
	set_limit("alice", "2");
	b = open_session();
	(void)acquire_slot(b, "alice");
	(void)instance_kill(&here, SIGTERM);
	fd = open(path_of("directory"), O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, "\372", 1, version.offset), 1);
	ck_assert_int_eq(start_with(NULL), 78);
	slot = acquire_slot(b, "alice");
	expect_code(BERTH_SUCCESS, berth_release(b, slot));

	here.args[0] = "--abandon-segment";
	instance_restart(&here);
	ck_assert_int_eq(current_of("alice"), 0);
	other = open_session();
	(void)acquire_slot(other, "alice");
	(void)acquire_slot(other, "alice");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(other, "alice", &slot));
	ck_assert_int_eq(current_of("alice"), 2);
	(void)acquire_slot(b, "alice");
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire(b, "alice", &slot));
	ck_assert_int_eq(current_of("alice"), 2);
	berth_close(other);
	berth_close(b);
}
END_TEST

/* -- messages of another version --------------------------------------------------------------- */

/* What every version has: magic 4, version 2, opcode 2, length 4, code 4; text of 512 bytes. */
struct packet {
	uint32_t magic;
	uint16_t version, opcode;
	uint32_t length, code;
	char rest[1024];
};

static struct packet packet_make(uint16_t of_version, uint16_t opcode, uint32_t length) {
	return (struct packet){
		.magic = 0x48545242, .version = of_version, .opcode = opcode, .length = length};
}

static int dial(const char *name) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 20};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.107s", path_of(name));
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void expect_mismatch(const char *name, struct packet asked, const char *text) {
	struct packet got = {0};
	int fd = dial(name);

	ck_assert_int_eq(send(fd, &asked, asked.length, 0), asked.length);
	ck_assert_int_eq(recv(fd, &got, sizeof(got), 0), 16 + 512);
	ck_assert_uint_eq(got.magic, asked.magic);
	ck_assert_uint_eq(got.length, 16 + 512);
	/* Else it would take it for nonsense. */
	ck_assert_uint_eq(got.version, asked.version);
	ck_assert_uint_eq(got.opcode, asked.opcode);
	ck_assert_uint_eq(got.code, 1306);
	ck_assert_msg(memchr(got.rest, 0, 512) && strstr(got.rest, text), "%.512s", got.rest);
	(void)close(fd);
}

START_TEST(a_client_of_another_version_is_told_so_in_its_own) {
	instance_restart(&here);
	/* HELLO of 40 bytes, and STATUS, as version 1 had them; then what is to come. */
	expect_mismatch("berth.sock", packet_make(1, 1, 40), "restart the program that asked");
	expect_mismatch("admin.sock", packet_make(1, 38, 16), "restart the program that asked");
	expect_mismatch("berth.sock", packet_make(9, 1, 64), "restart berthd");
	expect_mismatch("admin.sock", packet_make(9, 77, 500), "restart berthd");
}
END_TEST

/* Answers everything as berthd of version 1 does what it doesn't know. */
static void serve_version_1(struct child *c, void *data) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), connection;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.107s", path_of(data));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
		_exit(96);
	child_send(c, 0);
	while ((connection = accept(fd, NULL, NULL)) >= 0) {
		struct packet p;

		while (recv(connection, &p, sizeof(p), 0) > 0) {
			struct packet answer = packet_make(1, p.opcode, 16 + 512);

			answer.code = 1306;
			(void)strcpy(answer.rest, "install both from the same release");
			(void)send(connection, &answer, answer.length, MSG_NOSIGNAL);
		}
		(void)close(connection);
	}
}

START_TEST(a_library_and_berthctl_at_a_berthd_of_another_version_say_so_at_once) {
	static char clients[] = "berth.sock", admins[] = "admin.sock";
	struct child c = child_start(serve_version_1, clients);
	struct child a = child_start(serve_version_1, admins);
	struct berth_options options = {
		.size = sizeof(options), .timeout_ms = TEST_SECONDS * 10 * 1000};
	struct berth *b = NULL;

	ck_assert_int_eq(child_report(&c), 0);
	ck_assert_int_eq(child_report(&a), 0);
	/* Were it to wait, the test would end first. */
	expect_code(BERTH_REVISION_MISMATCH, berth_open_options(&options, &b));
	ck_assert_ptr_null(b);
	expect_ctl(1, "of another release", "status");
	child_kill(&c);
	child_kill(&a);
}
END_TEST

int main(void) {
	const TTest *const tests[] = {
		a_living_process_keeps_berthd_from_starting_and_is_named,
		a_check_lists_the_processes_and_changes_nothing,
		dead_processes_are_in_nobodys_way,
		a_session_counts_in_every_state_and_of_every_age,
		a_later_layout_is_another_one_too,
		of_many_processes_the_first_twenty_are_named,
		told_to_abandon_it_berthd_starts_and_says_what_that_means,
		one_of_another_boot_makes_way_whoever_is_in_it,
		what_is_no_directory_of_files_is_not_looked_into,
		a_server_goes_on_in_the_abandoned_segment,
		a_client_of_another_version_is_told_so_in_its_own,
		a_library_and_berthctl_at_a_berthd_of_another_version_say_so_at_once,
		NULL,
	};

	return suite_run("upgrade", other_start, tests);
}
