/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The injector (inject.c) makes the n-th call of a kind fail, or the n-th call and all later calls.
 * The test and the process under test share a struct. By writing to this struct, the test arms a
 * fault: from then on, calls may fail. While a fault is armed, the injector counts the calls. So
 * the test learns whether there were fewer than n calls.
 *
 * Before it starts berthd or berthctl, a test sets $LD_PRELOAD to the path of libinject.so, and
 * $BERTH_FAULTS to the path of the file with the struct. To make calls of the test program itself
 * fail, the program is linked with inject.o and calls inject_use().
 */

#include <stdint.h>
#include <sys/types.h>

/* Kinds of calls. `what` in struct inject is a set of these bits. */
enum inject_kind {
	INJECT_MEMORY = 1 << 0,     /* malloc and similar, even if the C library calls them */
	INJECT_DESCRIPTOR = 1 << 1, /* all functions that return a new descriptor */
	INJECT_DROPPED = 1 << 2,    /* recvmsg succeeds, but drops the descriptors */
	INJECT_MAPPING = 1 << 3,    /* mmap */
	INJECT_SPACE = 1 << 4,      /* functions that create a file or extend one */
	INJECT_SHORT = 1 << 5,      /* a write to a file writes half of the bytes */
	INJECT_WRITE = 1 << 6,      /* write to a file */
	INJECT_READ = 1 << 7,       /* read from a file */
	INJECT_SYNC = 1 << 8,       /* fsync, fdatasync, msync */
	INJECT_NAME = 1 << 9,       /* mkdir, rename, unlink, chmod, chown */
	INJECT_SEND = 1 << 10,      /* sendmsg */
	INJECT_RECEIVE = 1 << 11,   /* recvmsg */
	INJECT_CONNECT = 1 << 12,   /* connect */
	INJECT_ACCEPT = 1 << 13,    /* accept4 */
	INJECT_POLL = 1 << 14,      /* poll, epoll_wait */
	INJECT_PROCESS = 1 << 15,   /* fork, pthread_create */
	INJECT_RANDOM = 1 << 16,    /* getrandom */
	INJECT_WATCH = 1 << 17,     /* epoll_ctl(EPOLL_CTL_ADD) */
	INJECT_LOCK = 1 << 18,      /* flock, fcntl(F_SETLK) */
	INJECT_SOCKET = 1 << 19,    /* bind, listen, getsockopt */
	INJECT_CLOCK = 1 << 20,     /* CLOCK_REALTIME jumps by `error` seconds */
};

struct inject {
	_Atomic uint32_t what;   /* kinds that may fail; written last to arm, first to disarm */
	_Atomic uint32_t nth;    /* n, from 1; if 0, calls are only counted */
	_Atomic uint32_t sticky; /* if 1, all calls after the n-th fail, too */
	_Atomic int32_t error;
	_Atomic uint32_t calls;        /* of all kinds of `what`, since arming */
	_Atomic uint32_t calls_of[32]; /* of each kind, since arming */
	_Atomic uint32_t hits;         /* calls that failed */
	_Atomic uint32_t credit;       /* descriptors that may be opened in place of closed ones */
	_Atomic pid_t only;            /* if not 0, calls fail in this process only */
	_Atomic uint64_t map_size;     /* if not 0, the size of LMDB's map, smaller than usual */
	char last[24];                 /* the last function that failed */
};

/* Makes calls of this process fail as `shared` says. If `shared` is NULL, no call fails. */
__attribute__((visibility("default"))) void inject_use(struct inject *shared);
