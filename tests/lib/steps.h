/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Steps that several integration tests take: they set limits, acquire and release slots, start
 * servers, restart berthd, and make files and sockets. If a step fails, the test fails.
 */

#include <dirent.h>
#include <ftw.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "suite.h"

/* Returns the printed text. It is in one of 16 static buffers, which are used in turn, so the text
 * stays valid during the next 15 calls. */
__attribute__((unused, format(printf, 1, 2))) static char *text_of(const char *format, ...) {
	static char texts[16][512];
	static unsigned turn;
	char *to = texts[turn++ % COUNT_OF(texts)];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(to, sizeof(texts[0]), format, args);
	va_end(args);
	/* ck_assert() would write to a pipe even on success, and a fault may let the write fail. */
	if (n >= (int)sizeof(texts[0]))
		ck_abort_msg("too long: %s", to);
	return to;
}

/* Returns memory, full of zeros, that this process will share with the processes that it forks. */
UNUSED static void *shared_memory(size_t size) {
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(EXIT_FAILURE);
	}
	return p;
}

/* -- limits and slots -------------------------------------------------------------------------- */

/* Sets limits. Each argument is a name, a space and a limit, as in a file of limits. */
#define set_limits(...) set_limits_of(__FILE__, __LINE__, __VA_ARGS__, NULL)

static void set_limits_of(const char *file, int line, ...) __attribute__((sentinel, unused));

static void set_limits_of(const char *file, int line, ...) {
	const char *text;
	va_list args;

	va_start(args, line);
	while ((text = va_arg(args, const char *))) {
		const char *space = strrchr(text, ' ');
		char name[256] = "";

		ck_assert_msg(space && space - text < (ptrdiff_t)sizeof(name), "'%s'", text);
		memcpy(name, text, (size_t)(space - text));
		(void)expect_ctl_of(file, line, 0, "", "set", name, space + 1, NULL);
	}
	va_end(args);
}

#define expect_denied(b, account) \
	expect_code(BERTH_CONNECTION_COUNT_LIMIT, berth_acquire((b), (account), &(berth_slot){0}))

/* Acquires `count` slots, and stores them in `slots` unless it is NULL. */
UNUSED static void acquire_slots(
	struct berth *b, const char *account, size_t count, berth_slot *slots) {
	for (size_t i = 0; i < count; i++) {
		berth_slot slot = acquire_slot(b, account);

		if (slots)
			slots[i] = slot;
	}
}

UNUSED static void release_slots(struct berth *b, const berth_slot *slots, size_t count) {
	for (size_t i = 0; i < count; i++)
		expect_code(BERTH_SUCCESS, berth_release(b, slots[i]));
}

/* Starts a server that holds a slot of the account until it receives a number. */
UNUSED static struct child holder_start(const char *account) {
	struct child c = child_start(child_hold_one, (void *)(uintptr_t)account);

	expect_code_for(account, BERTH_SUCCESS, child_report(&c));
	return c;
}

/* -- processes --------------------------------------------------------------------------------- */

/* Sends berthd a signal that ends it, and starts a new berthd. */
UNUSED static void restart_after(int signal) {
	(void)instance_kill(&here, signal);
	instance_restart(&here);
}

UNUSED static int berthd_exit_status(void) {
	return instance_exit_status(&here);
}

/* Calls `run` in a forked process. Returns what `run` returned, or 128 plus the number of the
 * signal that killed the process. */
UNUSED static int run_forked(int (*run)(void *data), void *data) {
	int status;
	pid_t pid;

	(void)fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(run(data));
	ck_assert_int_ge(pid, 0);
	while (waitpid(pid, &status, 0) < 0)
		ck_assert_int_eq(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* -- files and sockets ------------------------------------------------------------------------- */

/* Writes a file in the directory of the instance. Returns the file's path. */
UNUSED static const char *file_write(const char *name, const char *text) {
	const char *path = text_of("%s/%s", here.dir, name);
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
	return path;
}

/* Overwrites the beginning of a file with 0x5A. */
UNUSED static void file_damage(const char *path) {
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	char noise[8192];

	memset(noise, 0x5A, sizeof(noise));
	ck_assert_int_eq(pwrite(fd, noise, sizeof(noise), 0), sizeof(noise));
	(void)close(fd);
}

/* Returns how many names in a directory begin with `begin`. */
UNUSED static int names_in(const char *directory, const char *begin) {
	DIR *d = opendir(directory);
	struct dirent *e;
	int n = 0;

	ck_assert_msg(d, "%s: %m; berthd's log:\n%s", directory, instance_log(&here));
	while ((e = readdir(d)))
		n += strncmp(e->d_name, begin, strlen(begin)) == 0;
	(void)closedir(d);
	return n;
}

UNUSED static int remove_below(
	const char *path, const struct stat *st, int type, struct FTW *where) {
	(void)st, (void)type;
	return where->level == 0 ? 0 : remove(path);
}

/* Removes all that is in a directory, as a reboot does in the runtime directory. */
UNUSED static void directory_empty(const char *path) {
	ck_assert_int_eq(nftw(path, remove_below, 16, FTW_DEPTH | FTW_PHYS), 0);
}

UNUSED static struct sockaddr_un socket_address(const char *path) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	return address;
}

UNUSED static int socket_bind(int type, const char *path) {
	struct sockaddr_un address = socket_address(path);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Connects to a socket of the runtime directory. A call on the connection waits at most 100 s. */
UNUSED static int socket_connect(const char *name) {
	struct sockaddr_un address = socket_address(text_of("%s/%s", here.runtime_dir, name));
	struct timeval patience = {.tv_sec = 100};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return fd;
}
