/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A berthd of a test's own: real directories under /dev/shm, the real daemon, the real berthctl.
 * Everything here ends the test program with a message when it can't do its part.
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

/* Makes the directories and starts berthd (build/berthd beside the test program, or $BERTHD); waits
 * for READY=1 on a notify socket, without sleeping. BERTH_RUNTIME_DIR and BERTH_STATE_DIR are set in
 * this process's environment, so that libberth and berthctl find it. args: NULL, or up to 7. */
void instance_start(struct instance *i, const char *const args[]);

/* Starts berthd again on the same directories. */
void instance_restart(struct instance *i);
/* Starts it without waiting for READY=1; returns its pid. stderr goes to the file `log` of dir. */
pid_t instance_spawn(struct instance *i);

/* Sends a signal and, if it ends the daemon, waits for that. Returns the wait status. */
int instance_kill(struct instance *i, int signal);

/* Stops berthd if it runs and removes the directories. */
void instance_end(struct instance *i);

/* What berthd has written to its log since the instance was made; into a static buffer. */
const char *instance_log(const struct instance *i);

/* Runs build/berthctl (or $BERTHCTL) with the arguments up to NULL; returns its exit status, and
 * what it printed (standard output and error together) in a static buffer. */
int ctl(const char **ret_output, ...) __attribute__((sentinel));

/* Waits, by polling, until `holds` is true; false after 10 s. The one place that may sleep. */
bool eventually(bool (*holds)(void *data), void *data);
