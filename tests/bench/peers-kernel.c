/* SPDX-License-Identifier: MIT */

/* Peers in the kernel: System V semaphores with SEM_UNDO, and locks on bytes of a file. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/sem.h>

#include "bench.h"
#include "peer.h"

/* -- SEM_UNDO ---------------------------------------------------------------------------------- */

static int set = -1;

static const char *undo_start(void) {
	set = semget(IPC_PRIVATE, OBJECTS, 0600);
	if (set < 0)
		return "semget: no System V semaphores here";
	for (int i = 0; i < OBJECTS; i++)
		bench_check(semctl(set, i, SETVAL, object_limit((unsigned)i)) == 0, "semctl");
	return NULL;
}

static void undo_stop(void) {
	if (set >= 0)
		(void)semctl(set, 0, IPC_RMID);
	set = -1;
}

static inline int undo_change(unsigned object, short change) {
	struct sembuf operation = {(unsigned short)object, change, IPC_NOWAIT | SEM_UNDO};

	return semop(set, &operation, 1);
}

static inline bool undo_take(unsigned object) {
	if (undo_change(object, -1) == 0)
		return true;
	bench_check(errno == EAGAIN, "semop -1");
	return false;
}

static inline void undo_give(unsigned object) {
	bench_check(undo_change(object, 1) == 0, "semop +1");
}

PEER_LOOPS(undo)

struct peer peer_undo = {
	.name = "SysV SEM_UNDO",
	.operations = "semop -1, semop +1",
	.loses = "nothing: the kernel gives its slots back",
	.stop = undo_stop,
	PEER_FUNCTIONS(undo),
};

/* -- OFD locks --------------------------------------------------------------------------------- */

/* A slot is a locked byte of the object's file. Locks of one open file don't exclude each other, so
 * a process must remember which bytes it has locked. */
static int lock_fd[OBJECTS];
static bool lock_mine[OBJECTS][FREE_LIMIT];
static unsigned lock_last;

static const char *ofd_start(void) {
	return NULL;
}

static void ofd_open(void) {
	char path[128];

	for (unsigned i = 0; i < OBJECTS; i++) {
		(void)snprintf(path, sizeof(path), "%s/lock-%s", bench.dir, object_name(i));
		lock_fd[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		bench_check(lock_fd[i] >= 0, path);
	}
}

static inline bool ofd_take(unsigned object) {
	for (unsigned byte = 0; byte < object_limit(object); byte++) {
		if (lock_mine[object][byte] || !byte_change(lock_fd[object], byte, F_WRLCK))
			continue;
		lock_mine[object][byte] = true;
		lock_last = byte;
		return true;
	}
	return false;
}

static inline void ofd_give(unsigned object) {
	lock_mine[object][lock_last] = false;
	bench_check(byte_change(lock_fd[object], lock_last, F_UNLCK), "unlocking");
}

PEER_LOOPS(ofd)

struct peer peer_ofd = {
	.name = "OFD locks",
	.operations = "lock the first free byte, unlock",
	.loses = "nothing: the kernel unlocks; each slot held is a try more",
	.open = ofd_open,
	PEER_FUNCTIONS(ofd),
};
