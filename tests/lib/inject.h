/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Makes the n-th call of a kind fail, or the n-th call and all later calls. The test and the
 * process under test share a struct, through which the test can arm a fault at any time. While a
 * fault is armed, the injector counts the calls. So the test learns whether there were fewer than n
 * calls.
 *
 * For berthd and berthctl, $LD_PRELOAD names libinject.so, and $BERTH_FAULTS names the file with
 * the struct. A test program that is linked with inject.o calls inject_use().
 */

#include <stdint.h>
#include <sys/types.h>

/* Kinds of calls, as bits of `what`. */
enum inject_kind {
	INJECT_MEMORY = 1 << 0,     /* malloc and similar, also when the C library calls them */
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
	_Atomic uint32_t what;   /* written last to arm, first to disarm */
	_Atomic uint32_t nth;    /* from 1; 0: count only */
	_Atomic uint32_t sticky; /* 1: the n-th call and all later calls fail */
	_Atomic int32_t error;
	_Atomic uint32_t calls;        /* of all kinds of `what`, since arming */
	_Atomic uint32_t calls_of[32]; /* of each kind, since arming */
	_Atomic uint32_t hits;         /* calls that failed */
	_Atomic uint32_t credit;       /* descriptors that may be opened in place of closed ones */
	_Atomic pid_t only;            /* only this process has faults; 0: every process */
	_Atomic uint64_t map_size; /* the size of LMDB's map if it is to be smaller; 0: as usual */
	char last[24];             /* the last function that failed */
};

/* A test program that is linked with inject.o calls this. If `shared` is NULL, no call fails. */
__attribute__((visibility("default"))) void inject_use(struct inject *shared);
