/* SPDX-License-Identifier: MIT */
#pragma once

/* What the kernel says of processes and of this boot. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Seconds since boot in ticks, from /proc/PID/stat; -ESRCH if there is no such process, other
 * errors: can't tell. */
int process_start_time(pid_t pid, uint64_t *ret);

/* False if the process is known to be dead: there is none of that number, all its threads have ended,
 * or the number is another process's by now. start_time 0: not known. */
bool process_may_live(pid_t pid, uint64_t start_time);

/* The name of its command; empty: not known. */
void process_comm(pid_t pid, char ret[16]);

int boot_id_read(uint8_t ret[16]);
