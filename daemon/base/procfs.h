/* SPDX-License-Identifier: MIT */
#pragma once

/* What /proc and pidfds tell about processes and about this boot. procfs.c is the only file of
 * berthd that reads /proc. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* When the process started, in clock ticks since the boot. -ESRCH: there is no such process; other
 * errors: the time can't be read. */
int process_start_time(pid_t pid, uint64_t *ret);

/* False if the process is certainly dead: no process has the pid, all threads of the process have
 * ended, or another process has the pid by now. start_time 0: not known. */
bool process_may_live(pid_t pid, uint64_t start_time);

/* The process that a pidfd refers to. 0: the process is in a pid namespace that berthd can't see.
 * -1: the process is gone, the descriptor is no pidfd, or, if *ret_error isn't 0, the kernel
 * couldn't be asked. */
pid_t pidfd_process(int pidfd, int *ret_error);

/* The name of the process's command; empty: not known. */
void process_comm(pid_t pid, char ret[16]);

/* Reads the random id that the kernel gave this boot, as 36 characters and a NUL, or as bytes. */
#define BOOT_ID_TEXT_SIZE 37
int boot_id_read_text(char ret[BOOT_ID_TEXT_SIZE]);
int boot_id_read(uint8_t ret[16]);
