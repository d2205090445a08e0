/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Makes the n-th call of a kind fail, or that one and all after it: what a test and the process under
 * test share. The test arms it at any time; calls are counted from then on, so that the test knows
 * when n is past the last.
 *
 * In a berthd or berthctl: $LD_PRELOAD names libinject.so, $BERTH_FAULTS the file with the struct. In
 * a test program that has inject.o in itself: inject_use().
 */

#include <stdint.h>
#include <sys/types.h>

/* Kinds of calls; `what` of the struct has the bits of those that are meant. */
enum inject_kind {
	INJECT_MEMORY = 1 << 0,     /* malloc and its like; libc's own, too */
	INJECT_DESCRIPTOR = 1 << 1, /* everything that returns a new descriptor */
	INJECT_DROPPED = 1 << 2,    /* recvmsg succeeds without the descriptors that came */
	INJECT_MAPPING = 1 << 3,    /* mmap */
	INJECT_SPACE = 1 << 4,      /* what makes files longer or more: ENOSPC */
	INJECT_SHORT = 1 << 5,      /* a write to a file writes half */
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
	INJECT_WATCH = 1 << 17,     /* epoll_ctl that adds */
	INJECT_LOCK = 1 << 18,      /* flock, fcntl(F_SETLK) */
	INJECT_SOCKET = 1 << 19,    /* bind, listen, getsockopt */
	INJECT_CLOCK = 1 << 20,     /* CLOCK_REALTIME jumps by `error` seconds */
};

struct inject {
	_Atomic uint32_t what;   /* written last when arming, first when disarming */
	_Atomic uint32_t nth;    /* from 1; 0: count only */
	_Atomic uint32_t sticky; /* the n-th and all after it */
	_Atomic int32_t error;
	_Atomic uint32_t calls;        /* since it was armed */
	_Atomic uint32_t calls_of[32]; /* the same, of each kind */
	_Atomic uint32_t hits;
	_Atomic uint32_t credit;   /* descriptors that were closed since */
	_Atomic pid_t only;        /* in this process; 0: in every one */
	_Atomic uint64_t map_size; /* LMDB's, while it isn't 0 */
	char last[24];             /* the function that failed last */
};

/* For a process that has the injector in itself. NULL: nothing is injected. */
__attribute__((visibility("default"))) void inject_use(struct inject *shared);
