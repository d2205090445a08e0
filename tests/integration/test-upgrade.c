/* SPDX-License-Identifier: MIT */

/*
 * Tests an upgrade while servers run. berthd finds a segment of another layout, which processes may
 * still use, and gets messages of another version from clients.
 *
 * The test can't build another version of berth. So it writes the files of layout 3 itself, but
 * only the fields that are at the same offsets in all layouts.
 */

#include "protocol.h"
#include "steps.h"

/* -- the files of layout 3 --------------------------------------------------------------------- */

#define OTHER_VERSION     3
#define OTHER_FINGERPRINT UINT64_C(0x0003164040408010)
#define SESSIONS          40

struct field {
	unsigned offset, size;
};

static const struct field magic = {0, 8}, version = {8, 4}, fingerprint = {16, 8},
			  boot_id = {24, 8}, segment_ino = {40, 8}, max_accounts = {64, 4},
			  max_slots = {68, 4}, max_sessions = {72, 4}, accounts = {76, 4},
			  slots = {80, 4}, sessions = {84, 4};
/* Fields of an entry of the session table. */
static const struct field state = {0, 4}, pid_place = {8, 4}, start_time = {16, 8}, comm = {32, 16};

static unsigned char other_directory[4096], other_segment[4096 + 128 * SESSIONS];

/* The machines that run this test are little-endian. */
static void put(unsigned char *at, struct field f, uint64_t number) {
	memcpy(at + f.offset, &number, f.size);
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
	return text_of("%s/%s", here.runtime_dir, name);
}

/* Writes the bytes to a new file. Returns its descriptor. */
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

/* True if the runtime directory still has the open file under this name. */
static bool is_in_place(int fd, const char *name) {
	struct stat is, was;

	ck_assert_int_eq(fstat(fd, &was), 0);
	return stat(path_of(name), &is) == 0 && is.st_ino == was.st_ino && is.st_dev == was.st_dev;
}

/* The bytes of the files, which servers have mapped, are as files_make() wrote them. */
static void expect_files_unchanged(void) {
	static unsigned char now[sizeof(other_segment)];

	ck_assert_int_eq(pread(segment_fd, now, sizeof(now), 0), sizeof(now));
	ck_assert_mem_eq(now, other_segment, sizeof(other_segment));
	ck_assert_int_eq(
		pread(directory_fd, now, sizeof(now), 0), (ssize_t)sizeof(other_directory));
	ck_assert_mem_eq(now, other_directory, sizeof(other_directory));
}

static void expect_left_alone(void) {
	ck_assert(is_in_place(segment_fd, "segment") && is_in_place(directory_fd, "directory"));
	expect_files_unchanged();
}

static void expect_replaced(void) {
	struct berth *b;

	ck_assert(!is_in_place(segment_fd, "segment") && !is_in_place(directory_fd, "directory"));
	expect_files_unchanged();
	set_limit("alice", "2");
	b = open_session();
	(void)acquire_slot(b, "alice");
	ck_assert_int_eq(current_of("alice"), 1);
	berth_close(b);
}

/* -- processes that use the segment ------------------------------------------------------------ */

/* The start time of a process: field 22 of /proc/PID/stat. */
static uint64_t start_of(pid_t pid) {
	FILE *f = fopen(text_of("/proc/%d/stat", (int)pid), "re");
	char text[1024] = "", *p;

	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(text, sizeof(text), f));
	(void)fclose(f);
	p = strrchr(text, ')');
	for (int i = 0; p && i < 20; i++)
		p = strchr(p + 1, ' ');
	ck_assert_ptr_nonnull(p);
	return strtoull(p, NULL, 10);
}

static void child_idle(struct child *c, void *data) {
	(void)prctl(PR_SET_NAME, data);
	child_send(c, 0);
	(void)child_receive(c);
}

/* Starts a process whose name is `program`. */
static struct child process_start(const char *program) {
	struct child c = child_start(child_idle, (void *)(uintptr_t)program);

	ck_assert_int_eq(child_report(&c), 0);
	return c;
}

static const char *process_line(pid_t pid, const char *program) {
	return text_of("%d (%s)", (int)pid, program);
}

static int start_with(const char *option) {
	int status;

	here.args[0] = option;
	status = start_refused(&here);
	here.args[0] = NULL;
	return status;
}

START_TEST(a_living_process_keeps_berthd_from_starting_and_is_named) {
	struct child c = process_start("smtpd");

	(void)prctl(PR_SET_NAME, "imapd");
	/* Clients can write to the table, so berthd gets the names of processes from the kernel. */
	session_put(7, getpid(), start_of(getpid()), "init");
	session_put(8, c.pid, start_of(c.pid), "init");
	files_make();
	ck_assert_int_eq(start_with(NULL), 78);
	expect_logged("another layout (3, not ");
	expect_logged(process_line(getpid(), "imapd"));
	expect_logged(process_line(c.pid, "smtpd"));
	expect_logged("start berthd with --abandon-segment");
	expect_left_alone();

	/* When neither process uses the segment any more, berthd starts. */
	child_kill(&c);
	ck_assert_int_eq(start_with(NULL), 78);
	ck_assert_int_eq(logged_times(process_line(c.pid, "smtpd")), 1);
	put(other_segment + 4096 + 128 * 7, state, 0);
	files_make();
	instance_restart(&here);
	expect_logged("no server counts in it any more");
	expect_replaced();
}
END_TEST

START_TEST(a_check_lists_the_processes_and_changes_nothing) {
	struct child c = process_start("smtpd");

	ck_assert_int_eq(start_with("--check-segment"), 0);
	(void)prctl(PR_SET_NAME, "a\t\\ b");
	session_put(0, getpid(), start_of(getpid()), "imapd");
	session_put(1, c.pid, 0, "smtpd");
	session_put(2, c.pid, 0, "smtpd");
	files_make();
	ck_assert_int_eq(start_with("--check-segment"), 78);
	expect_logged(text_of("%7d a\\x09\\x5c b\n", (int)getpid()));
	ck_assert_int_eq(logged_times(text_of("%7d smtpd\n", (int)c.pid)), 1);
	expect_left_alone();
	child_kill(&c);
	put(other_segment + 4096, state, 0);
	files_make();
	ck_assert_int_eq(start_with("--check-segment"), 0);
	expect_logged("Nothing in ");
	expect_left_alone();
}
END_TEST

/* Sessions with three kinds of pids don't keep berthd from starting: the pid of no process, a pid
 * that another process has got since then, and the pid of a process that has ended but wasn't
 * waited for. */
START_TEST(dead_processes_block_no_start) {
	struct child dead = process_start("smtpd"), unreaped = process_start("smtpd");
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

/* Even if a session has ended, it blocks a start while its process is alive, since the process
 * would open its next session in this segment. */
START_TEST(a_session_in_any_state_blocks_a_start) {
	for (uint64_t n = 1; n <= 5; n++) {
		session_put(39, getpid(), n == 5 ? 0 : start_of(getpid()), "server");
		put(other_segment + 4096 + 128 * 39, state, n);
		files_make();
		ck_assert_msg(start_with(NULL) == 78, "state %d: berthd starts", (int)n);
		expect_left_alone();
	}
}
END_TEST

START_TEST(a_later_layout_is_another_layout_too) {
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
		c[i] = process_start("worker");
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

START_TEST(with_abandon_segment_berthd_starts_and_logs_the_consequences) {
	(void)prctl(PR_SET_NAME, "imapd");
	session_put(5, getpid(), start_of(getpid()), "imapd");
	files_make();
	here.args[0] = "--abandon-segment";
	instance_restart(&here);
	expect_logged("count only among themselves until they are restarted");
	expect_logged(process_line(getpid(), "imapd"));
	expect_replaced();
	/* If berthd finds a segment of its own layout, the option has no effect. */
	(void)instance_kill(&here, SIGKILL);
	segment_fd = open(path_of("segment"), O_RDONLY | O_CLOEXEC);
	instance_restart(&here);
	ck_assert(is_in_place(segment_fd, "segment"));
	ck_assert_int_eq(logged_times("Abandoning"), 1);
}
END_TEST

/* In a container, --check-segment may see another boot id than berthd. So start times are
 * compared. */
START_TEST(a_segment_of_another_boot_is_replaced_whatever_is_in_it) {
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

START_TEST(a_check_does_not_open_a_fifo_in_place_of_the_directory) {
	files_make();
	(void)unlink(path_of("directory"));
	ck_assert_int_eq(mkfifo(path_of("directory"), 0600), 0);
	ck_assert_int_eq(start_with("--check-segment"), 1);
	expect_logged("can't look for a segment");
	(void)unlink(path_of("directory"));
}
END_TEST

/* The files have the current layout, but another version in the header. A server reads the version
 * only once, so it can use the files. */
START_TEST(a_server_continues_in_the_abandoned_segment) {
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
	expect_denied(other, "alice");
	ck_assert_int_eq(current_of("alice"), 2);
	(void)acquire_slot(b, "alice");
	expect_denied(b, "alice");
	ck_assert_int_eq(current_of("alice"), 2);
	berth_close(other);
	berth_close(b);
}
END_TEST

/* -- messages of another version --------------------------------------------------------------- */

/* The header is the same in every version. In an error, a text of 512 bytes follows the header. */
struct packet {
	uint32_t magic;
	uint16_t version, opcode;
	uint32_t length, code;
	char body[1024];
};

static struct packet packet_make(uint16_t of_version, uint16_t opcode, uint32_t length) {
	return (struct packet){
		.magic = 0x48545242, .version = of_version, .opcode = opcode, .length = length};
}

static void expect_mismatch(const char *name, struct packet asked, const char *text) {
	struct packet got = {0};
	int fd = socket_connect(name);

	ck_assert_int_eq(send(fd, &asked, asked.length, 0), asked.length);
	ck_assert_int_eq(recv(fd, &got, sizeof(got), 0), 16 + 512);
	ck_assert_uint_eq(got.magic, asked.magic);
	ck_assert_uint_eq(got.length, 16 + 512);
	/* A client ignores answers of another version than its own. */
	ck_assert_uint_eq(got.version, asked.version);
	ck_assert_uint_eq(got.opcode, asked.opcode);
	ck_assert_uint_eq(got.code, 1306);
	ck_assert_msg(memchr(got.body, 0, 512) && strstr(got.body, text), "%.512s", got.body);
	(void)close(fd);
}

START_TEST(a_client_of_another_version_gets_1306_in_its_own_version) {
	instance_restart(&here);
	/* HELLO and STATUS as version 1 had them, and two requests of a future version. */
	expect_mismatch("berth.sock", packet_make(1, 1, 40), "restart the program that asked");
	expect_mismatch("admin.sock", packet_make(1, 38, 16), "restart the program that asked");
	expect_mismatch("berth.sock", packet_make(9, 1, 64), "restart berthd");
	expect_mismatch("admin.sock", packet_make(9, 77, 500), "restart berthd");
}
END_TEST

/* Answers every request with BERTH_REVISION_MISMATCH, as a berthd of version 1 does. */
static void serve_version_1(struct child *c, void *data) {
	int fd = socket_bind(SOCK_SEQPACKET, path_of(data)), connection;

	if (listen(fd, 8) < 0)
		_exit(96);
	child_send(c, 0);
	while ((connection = accept(fd, NULL, NULL)) >= 0) {
		struct packet p;

		while (recv(connection, &p, sizeof(p), 0) > 0) {
			struct packet answer = packet_make(1, p.opcode, 16 + 512);

			answer.code = 1306;
			(void)strcpy(answer.body, "install the same version of both");
			(void)send(connection, &answer, answer.length, MSG_NOSIGNAL);
		}
		(void)close(connection);
	}
}

START_TEST(the_library_and_berthctl_report_another_version_at_once) {
	struct child c = child_start(serve_version_1, (void *)"berth.sock");
	struct child a = child_start(serve_version_1, (void *)"admin.sock");
	struct berth_options options = {
		.size = sizeof(options), .timeout_ms = TEST_SECONDS * 10 * 1000};
	struct berth *b = NULL;

	ck_assert_int_eq(child_report(&c), 0);
	ck_assert_int_eq(child_report(&a), 0);
	/* The deadline is longer than the test may take, so berth_open doesn't wait for it. */
	expect_code(BERTH_REVISION_MISMATCH, berth_open_options(&options, &b));
	ck_assert_ptr_null(b);
	expect_ctl(1, "has another version", "status");
	child_kill(&c);
	child_kill(&a);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{a_living_process_keeps_berthd_from_starting_and_is_named},
		{a_check_lists_the_processes_and_changes_nothing},
		{dead_processes_block_no_start},
		{a_session_in_any_state_blocks_a_start},
		{a_later_layout_is_another_layout_too},
		{of_many_processes_the_first_twenty_are_named},
		{with_abandon_segment_berthd_starts_and_logs_the_consequences},
		{a_segment_of_another_boot_is_replaced_whatever_is_in_it},
		{a_check_does_not_open_a_fifo_in_place_of_the_directory},
		{a_server_continues_in_the_abandoned_segment},
		{a_client_of_another_version_gets_1306_in_its_own_version},
		{the_library_and_berthctl_report_another_version_at_once},
		{NULL},
	};

	return run_berthd_suites({"upgrade", tests, .setup = other_start, .teardown = here_end});
}
