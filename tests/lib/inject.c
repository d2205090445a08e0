/* SPDX-License-Identifier: MIT */

/*
 * Replaces functions of the C library. The calls that a test has chosen fail (inject.h). All other
 * calls go to the next definition of the function.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "inject.h"

#define EXPORT __attribute__((visibility("default")))

/* The definition that the program would call if this library weren't loaded. */
#define NEXT(function)                                                          \
	({                                                                      \
		static __typeof__(&function) next_;                             \
		if (!next_)                                                     \
			next_ = (__typeof__(next_))dlsym(RTLD_NEXT, #function); \
		next_;                                                          \
	})

static struct inject *shared;

/* True while the thread is in a function of the C library that would crash if it got no memory. */
static __thread bool exempt;

void inject_use(struct inject *s) {
	shared = s;
}

__attribute__((constructor)) static void inject_init(void) {
	const char *path = getenv("BERTH_FAULTS");
	void *p;
	int fd;

	if (!path || shared)
		return;
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	p = NEXT(mmap)(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (p != MAP_FAILED)
		shared = p;
}

/* True if the program may open a descriptor in place of one that it closed after the first hit. */
static bool credit_take(struct inject *s) {
	uint32_t have = s->credit;

	while (have > 0)
		if (atomic_compare_exchange_weak(&s->credit, &have, have - 1))
			return true;
	return false;
}

/* True if this call must fail. Then sets errno. */
static bool must_fail(uint32_t kinds, const char *function) {
	struct inject *s = shared;
	uint32_t n, nth;

	if (!s || exempt || !(s->what & kinds) || (s->only && s->only != getpid()))
		return false;
	for (uint32_t left = s->what & kinds; left != 0; left &= left - 1)
		s->calls_of[__builtin_ctz(left)]++;
	n = ++s->calls;
	nth = s->nth;
	if (nth == 0 || n < nth || (n > nth && !s->sticky))
		return false;
	if ((s->what & INJECT_DESCRIPTOR) && n > nth && credit_take(s))
		return false;
	(void)snprintf(s->last, sizeof(s->last), "%s", function);
	s->hits++;
	errno = s->error;
	return true;
}

#define MUST_FAIL(kinds) must_fail((kinds), __func__)

/* Defines a function that returns -1 if this call must fail. Otherwise it calls the next
 * definition. */
#define REPLACE(kinds, type, function, parameters, arguments)            \
	EXPORT type function parameters {                                \
		return MUST_FAIL(kinds) ? -1 : NEXT(function) arguments; \
	}

/* True for regular files other than standard input, output and error. */
static bool is_file(int fd) {
	struct stat st;

	return fd > STDERR_FILENO && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* -- memory ------------------------------------------------------------------------------------ */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

EXPORT void *malloc(size_t size) {
	return MUST_FAIL(INJECT_MEMORY) ? NULL : __libc_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size) {
	return MUST_FAIL(INJECT_MEMORY) ? NULL : __libc_calloc(count, size);
}

EXPORT void *realloc(void *p, size_t size) {
	return MUST_FAIL(INJECT_MEMORY) ? NULL : __libc_realloc(p, size);
}

EXPORT void *reallocarray(void *p, size_t count, size_t size) {
	size_t all;

	if (__builtin_mul_overflow(count, size, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	return MUST_FAIL(INJECT_MEMORY) ? NULL : __libc_realloc(p, all);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) {
	return MUST_FAIL(INJECT_MEMORY) ? NULL : __libc_memalign(alignment, size);
}

EXPORT int posix_memalign(void **ret, size_t alignment, size_t size) {
	*ret = MUST_FAIL(INJECT_MEMORY) ? NULL : __libc_memalign(alignment, size);
	return *ret ? 0 : ENOMEM;
}

EXPORT void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset) {
	return MUST_FAIL(INJECT_MAPPING) ? MAP_FAILED
					 : NEXT(mmap)(at, size, prot, flags, fd, offset);
}

/* -- descriptors ------------------------------------------------------------------------------- */

static bool open_must_fail(const char *function, int flags) {
	uint32_t kinds = INJECT_DESCRIPTOR;

	if (flags & O_CREAT)
		kinds |= INJECT_SPACE | INJECT_NAME;
	return must_fail(kinds, function);
}

/* The third argument of open(). It exists only if a flag creates a file. */
#define MODE_OF(flags)                                       \
	({                                                   \
		va_list args_;                               \
		mode_t mode_ = 0;                            \
		if ((flags) & (O_CREAT | __O_TMPFILE)) {     \
			va_start(args_, flags);              \
			mode_ = va_arg(args_, unsigned int); \
			va_end(args_);                       \
		}                                            \
		mode_;                                       \
	})

EXPORT int open(const char *path, int flags, ...) {
	mode_t mode = MODE_OF(flags);

	return open_must_fail(__func__, flags) ? -1 : NEXT(open)(path, flags, mode);
}

EXPORT int openat(int dir, const char *path, int flags, ...) {
	mode_t mode = MODE_OF(flags);

	return open_must_fail(__func__, flags) ? -1 : NEXT(openat)(dir, path, flags, mode);
}

EXPORT FILE *fopen(const char *path, const char *mode) {
	return MUST_FAIL(INJECT_DESCRIPTOR) ? NULL : NEXT(fopen)(path, mode);
}

REPLACE(INJECT_DESCRIPTOR, int, socket, (int family, int type, int protocol),
	(family, type, protocol))
REPLACE(INJECT_DESCRIPTOR | INJECT_ACCEPT, int, accept4,
	(int fd, __SOCKADDR_ARG address, socklen_t *size, int flags), (fd, address, size, flags))
REPLACE(INJECT_DESCRIPTOR, int, epoll_create1, (int flags), (flags))
REPLACE(INJECT_DESCRIPTOR, int, timerfd_create, (clockid_t clock, int flags), (clock, flags))
REPLACE(INJECT_DESCRIPTOR, int, eventfd, (unsigned int count, int flags), (count, flags))

EXPORT int signalfd(int fd, const sigset_t *mask, int flags) {
	return fd < 0 && MUST_FAIL(INJECT_DESCRIPTOR) ? -1 : NEXT(signalfd)(fd, mask, flags);
}

EXPORT int close(int fd) {
	struct inject *s = shared;
	int r = NEXT(close)(fd);

	if (r == 0 && s && (s->what & INJECT_DESCRIPTOR) && s->hits > 0 &&
		(!s->only || s->only == getpid()))
		s->credit++;
	return r;
}

REPLACE(INJECT_DESCRIPTOR, int, dup, (int fd), (fd))

EXPORT int fcntl(int fd, int command, ...) {
	uint32_t kinds = 0;
	va_list args;
	void *argument;

	va_start(args, command);
	argument = va_arg(args, void *);
	va_end(args);
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		kinds = INJECT_DESCRIPTOR;
	else if (command == F_SETLK || command == F_SETLKW)
		kinds = INJECT_LOCK;
	return MUST_FAIL(kinds) ? -1 : NEXT(fcntl)(fd, command, argument);
}

EXPORT long syscall(long number, ...) {
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_pidfd_open && MUST_FAIL(INJECT_DESCRIPTOR))
		return -1;
	return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* -- files ------------------------------------------------------------------------------------- */

REPLACE(INJECT_SPACE, int, ftruncate, (int fd, off_t size), (fd, size))
REPLACE(INJECT_SPACE, int, fallocate, (int fd, int mode, off_t offset, off_t size),
	(fd, mode, offset, size))

/* Returns the number of bytes that a write writes. If the write must fail, returns 0. */
static size_t write_part(int fd, size_t size, const char *function) {
	if (!is_file(fd))
		return size;
	if (must_fail(INJECT_SHORT, function))
		return size / 2;
	return must_fail(INJECT_SPACE | INJECT_WRITE, function) ? 0 : size;
}

EXPORT ssize_t write(int fd, const void *data, size_t size) {
	size_t part = write_part(fd, size, __func__);

	return size > 0 && part == 0 ? -1 : NEXT(write)(fd, data, part);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
	size_t part = write_part(fd, size, __func__);

	return size > 0 && part == 0 ? -1 : NEXT(pwrite)(fd, data, part, offset);
}

EXPORT ssize_t writev(int fd, const struct iovec *v, int count) {
	size_t size = 0, part;

	for (int i = 0; i < count; i++)
		size += v[i].iov_len;
	part = write_part(fd, size, __func__);
	if (part == size)
		return NEXT(writev)(fd, v, count);
	return part == 0 ? -1 : NEXT(write)(fd, v[0].iov_base, v[0].iov_len / 2);
}

EXPORT ssize_t read(int fd, void *data, size_t size) {
	return is_file(fd) && MUST_FAIL(INJECT_READ) ? -1 : NEXT(read)(fd, data, size);
}

EXPORT ssize_t pread(int fd, void *data, size_t size, off_t offset) {
	return is_file(fd) && MUST_FAIL(INJECT_READ) ? -1 : NEXT(pread)(fd, data, size, offset);
}

REPLACE(INJECT_SYNC, int, fsync, (int fd), (fd))
REPLACE(INJECT_SYNC, int, fdatasync, (int fd), (fd))
REPLACE(INJECT_SYNC, int, msync, (void *at, size_t size, int flags), (at, size, flags))
REPLACE(INJECT_NAME | INJECT_SPACE, int, mkdir, (const char *path, mode_t mode), (path, mode))
REPLACE(INJECT_NAME | INJECT_SPACE, int, rename, (const char *from, const char *to), (from, to))
REPLACE(INJECT_NAME | INJECT_SPACE, int, renameat,
	(int from_dir, const char *from, int to_dir, const char *to), (from_dir, from, to_dir, to))
REPLACE(INJECT_NAME, int, unlink, (const char *path), (path))
REPLACE(INJECT_NAME, int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
REPLACE(INJECT_NAME, int, chmod, (const char *path, mode_t mode), (path, mode))
REPLACE(INJECT_NAME, int, fchmodat, (int dir, const char *path, mode_t mode, int flags),
	(dir, path, mode, flags))
REPLACE(INJECT_NAME, int, fchownat, (int dir, const char *path, uid_t uid, gid_t gid, int flags),
	(dir, path, uid, gid, flags))
REPLACE(INJECT_LOCK, int, flock, (int fd, int operation), (fd, operation))

/* -- sockets ----------------------------------------------------------------------------------- */

/* If the injected error is ECONNRESET, shuts the connection down. Returns -1. */
static ssize_t hang_up(int fd) {
	if (errno == ECONNRESET) {
		(void)shutdown(fd, SHUT_RDWR);
		errno = ECONNRESET;
	}
	return -1;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
	return MUST_FAIL(INJECT_SEND) ? hang_up(fd) : NEXT(sendmsg)(fd, m, flags);
}

/* Drops the descriptors of a message, as the kernel does when the process may open no more. */
static void descriptors_drop(struct msghdr *m) {
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			(void)close(fd);
		}
	}
	m->msg_controllen = 0;
	m->msg_flags |= MSG_CTRUNC;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags) {
	ssize_t n;

	if (MUST_FAIL(INJECT_RECEIVE))
		return hang_up(fd);
	n = NEXT(recvmsg)(fd, m, flags);
	if (n > 0 && CMSG_FIRSTHDR(m) && MUST_FAIL(INJECT_DROPPED))
		descriptors_drop(m);
	return n;
}

REPLACE(INJECT_CONNECT, int, connect, (int fd, __CONST_SOCKADDR_ARG address, socklen_t size),
	(fd, address, size))
REPLACE(INJECT_SOCKET | INJECT_SPACE, int, bind,
	(int fd, __CONST_SOCKADDR_ARG address, socklen_t size), (fd, address, size))
REPLACE(INJECT_SOCKET, int, listen, (int fd, int backlog), (fd, backlog))
REPLACE(INJECT_SOCKET, int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
	(fd, level, name, value, size))

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout) {
	/* If the timeout is 0, the poll doesn't wait, and so it can't be interrupted. */
	return timeout != 0 && MUST_FAIL(INJECT_POLL) ? -1 : NEXT(poll)(fds, count, timeout);
}

REPLACE(INJECT_POLL, int, epoll_wait, (int fd, struct epoll_event *events, int most, int timeout),
	(fd, events, most, timeout))

EXPORT int epoll_ctl(int fd, int operation, int watched, struct epoll_event *event) {
	return operation == EPOLL_CTL_ADD && MUST_FAIL(INJECT_WATCH)
		       ? -1
		       : NEXT(epoll_ctl)(fd, operation, watched, event);
}

/* -- processes and clocks ---------------------------------------------------------------------- */

REPLACE(INJECT_PROCESS, pid_t, fork, (void), ())

EXPORT int pthread_create(
	pthread_t *ret, const pthread_attr_t *attributes, void *(*run)(void *), void *data) {
	return MUST_FAIL(INJECT_PROCESS) ? errno : NEXT(pthread_create)(ret, attributes, run, data);
}

REPLACE(INJECT_RANDOM, ssize_t, getrandom, (void *to, size_t size, unsigned flags),
	(to, size, flags))

EXPORT int clock_gettime(clockid_t clock, struct timespec *ret) {
	int r = NEXT(clock_gettime)(clock, ret);

	if ((clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && MUST_FAIL(INJECT_CLOCK))
		ret->tv_sec += shared->error;
	return r;
}

/* In glibc 2.36, getgrnam() crashes if it gets no memory for the table of name services. */
EXPORT struct group *getgrnam(const char *name) {
	struct group *g;

	if (MUST_FAIL(INJECT_MEMORY | INJECT_DESCRIPTOR))
		return NULL;
	exempt = true;
	g = NEXT(getgrnam)(name);
	exempt = false;
	return g;
}

/* LMDB's map is so large that it never fills up, unless a test makes the map smaller. */
struct MDB_env;
extern int mdb_env_set_mapsize(struct MDB_env *env, size_t size) __attribute__((weak));

EXPORT int mdb_env_set_mapsize(struct MDB_env *env, size_t size) {
	uint64_t wanted = shared ? shared->map_size : 0;

	return NEXT(mdb_env_set_mapsize)(env, wanted && wanted < size ? (size_t)wanted : size);
}

/* -- the names of these functions in programs that are compiled for large files ---------------- */

EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));
EXPORT int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));
EXPORT int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));
EXPORT int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));
EXPORT int fallocate64(int fd, int mode, off_t offset, off_t size)
	__attribute__((alias("fallocate")));
EXPORT ssize_t pread64(int fd, void *data, size_t size, off_t offset)
	__attribute__((alias("pread")));
EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
	__attribute__((alias("pwrite")));
EXPORT FILE *fopen64(const char *path, const char *mode) __attribute__((alias("fopen")));
EXPORT void *mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
	__attribute__((alias("mmap")));
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat64_2(int dir, const char *path, int flags);

EXPORT int __open64_2(const char *path, int flags) {
	return open(path, flags, 0);
}

EXPORT int __openat64_2(int dir, const char *path, int flags) {
	return openat(dir, path, flags, 0);
}
