/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Runs a real berthd for a test, in directories under /dev/shm, and the real berthctl. If a
 * function fails, it ends the test program with a message.
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
 * BERTH_STATE_DIR for this process, so that libberth and berthctl find berthd. args: NULL, or up to
 * 7 arguments and NULL. */
void instance_start(struct instance *i, const char *const args[]);

/* Starts berthd again on the same directories. */
void instance_restart(struct instance *i);
/* Starts berthd without waiting for READY=1; returns its pid. */
pid_t instance_spawn(struct instance *i);

/* Sends a signal. Then waits until berthd has ended, or for SIGSTOP until it has stopped, and
 * returns the wait status. If the signal is 0 or SIGCONT, doesn't wait and returns 0. */
int instance_kill(struct instance *i, int signal);

/* Stops berthd if it runs and removes the directories. */
void instance_end(struct instance *i);

/* berthd's whole log (standard output and error), in a static buffer. */
const char *instance_log(const struct instance *i);

/* The path in the environment variable, if that is set (`variable` may be NULL); otherwise the path
 * of the file `name` in a directory above this test program, in a static buffer. */
const char *program_path(const char *variable, const char *name);

/* Runs berthctl ($BERTHCTL, or the berthctl in a directory above the test program) with the
 * arguments up to NULL. Returns its exit status, and its standard output and error together in a
 * static buffer. */
int ctl(const char **ret_output, ...) __attribute__((sentinel));

/* Calls `holds` again and again until it returns true. Returns false if that takes longer than a
 * minute. Tests wait by this function, so that they don't depend on speed. */
bool eventually(bool (*holds)(void *data), void *data);
