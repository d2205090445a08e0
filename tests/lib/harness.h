/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Runs a real berthd for a test, in directories under /dev/shm, and the real berthctl. A function
 * that fails ends the test program with a message.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct instance {
	char dir[64]; /* private, with run/ and state/ in it */
	char runtime_dir[80], state_dir[80];
	pid_t berthd;              /* 0: not running */
	const char *args[8];       /* further arguments of berthd; NULL-terminated */
	void (*before_exec)(void); /* if set, called in the process that becomes berthd */
};

/* Makes the directories, starts berthd ($BERTHD, or the berthd in a directory above the test
 * program), and waits for READY=1 on a notify socket, without sleeping. Sets BERTH_RUNTIME_DIR and
 * BERTH_STATE_DIR for this process, so that libberth and berthctl find berthd. args: up to 7
 * arguments of berthd, followed by NULL; may be NULL. */
void instance_start(struct instance *i, const char *const args[]);

/* Starts berthd on the directories that instance_start() made. No berthd may run on them. */
void instance_restart(struct instance *i);
/* Starts berthd without waiting for READY=1; returns its pid. */
pid_t instance_spawn(struct instance *i);

/* Sends berthd a signal. After 0 or SIGCONT, returns 0 at once. After SIGSTOP, waits until berthd
 * has stopped; after any other signal, until it has ended. Then returns the wait status. */
int instance_kill(struct instance *i, int signal);

/* Stops berthd if it runs and removes the directories. */
void instance_end(struct instance *i);

/* berthd's whole log (standard output and error), in a static buffer. */
const char *instance_log(const struct instance *i);

/* Returns the path in the environment variable if it is set (`variable` may be NULL). Otherwise
 * returns the path of file `name` in a directory above this program, in a static buffer. */
const char *program_path(const char *variable, const char *name);

/* Runs berthctl ($BERTHCTL, or the berthctl in a directory above the test program) with the
 * arguments up to NULL. Returns its exit status, and its standard output and error together in a
 * static buffer. */
int ctl(const char **ret_output, ...) __attribute__((sentinel));

/* Calls holds() again and again. Returns true once holds() does, false if it doesn't within a
 * minute. Tests wait by this function, so that they don't depend on speed. */
bool eventually(bool (*holds)(void *data), void *data);
