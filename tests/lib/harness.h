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
	pid_t berthd;              /* 0 if berthd isn't running */
	const char *args[8];       /* further arguments of berthd; NULL-terminated */
	void (*before_exec)(void); /* if not NULL, called in the process that becomes berthd */
};

/* Makes the directories, starts berthd ($BERTHD, or the berthd in a directory above the test
 * program), and waits for READY=1 on a notify socket, without sleeping. Sets BERTH_RUNTIME_DIR and
 * BERTH_STATE_DIR for this process, so that libberth and berthctl find berthd. If `args` isn't
 * NULL, it has up to 7 further arguments of berthd, followed by NULL. */
void instance_start(struct instance *i, const char *const args[]);

/* Starts berthd again, on the directories that instance_start() made, and waits for READY=1. No
 * berthd may run on these directories. */
void instance_restart(struct instance *i);
/* Starts berthd as instance_restart() does, but doesn't wait for READY=1. Returns berthd's pid. */
pid_t instance_spawn(struct instance *i);

/* Sends berthd a signal. If the signal is 0 or SIGCONT, returns 0 at once. If it is SIGSTOP, waits
 * until berthd has stopped, and otherwise until berthd has ended; then returns the wait status. */
int instance_kill(struct instance *i, int signal);

/* Stops berthd if it runs. Then removes the directories. */
void instance_end(struct instance *i);

/* berthd's whole log (standard output and error), in a static buffer. */
const char *instance_log(const struct instance *i);

/* If the environment variable is set, returns its value. If it isn't set, or if `variable` is NULL,
 * returns the path of the file `name` in a directory above this program, in a static buffer. */
const char *program_path(const char *variable, const char *name);

/* Runs berthctl ($BERTHCTL, or the berthctl in a directory above the test program) with the
 * arguments up to NULL. Returns its exit status, and its standard output and error together in a
 * static buffer. */
int ctl(const char **ret_output, ...) __attribute__((sentinel));

/* Calls holds() again and again. Returns true as soon as holds() returns true. Returns false if
 * holds() hasn't returned true within a minute. Tests wait with this function, so that they pass
 * however slow the machine is. */
bool eventually(bool (*holds)(void *data), void *data);
