/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What every part of the bench uses: options, directories, processes and berthds.
 *
 * The bench is one process, the driver, which starts all others and collects their results. Workers
 * measure. They are processes that the driver forks, or threads of such a process, and each is
 * pinned to a CPU. berthd, and the servers of some peers (peer.h), are processes, too. All
 * processes die with the driver, which removes its directories when it exits.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "harness.h"

#define NS_OF_S  1000000000.0
#define NS_OF_MS 1000000.0

struct bench {
	bool quick;
	unsigned rounds;  /* of a contest (contest.h) */
	const char *only; /* names of families (works.h), with commas between; NULL: all */
	const char *out;  /* the directory of the results */
	char dir[64];     /* private, on tmpfs */
	char disk[512];   /* private, in `out`, so on a disk if `out` is on a disk */
};
extern struct bench bench;

/* Print what failed, with errno or a code of berth.h, and end the process that calls them. If this
 * process is the driver, the bench ends. */
void bench_fail(const char *what) __attribute__((noreturn, cold));
void bench_fail_code(int code, const char *what) __attribute__((noreturn, cold));

/* These functions call bench_fail() or bench_fail_code() if something failed. They are cheap enough
 * for code that is measured. */
static inline void bench_check(bool fine, const char *what) {
	if (__builtin_expect(!fine, 0))
		bench_fail(what);
}
static inline void bench_must(int code, const char *what) {
	if (__builtin_expect(code != 0, 0))
		bench_fail_code(code, what);
}

/* Ends the bench if it was interrupted by a signal. */
void bench_continue(void);

/* Memory, zeroed, that this process shares with those that it forks later. */
void *bench_share(size_t size);
/* Like fork(), but the child dies with its parent and ignores ^C, which the driver handles. */
pid_t bench_fork(void);
/* Starts a process that calls acquire(what, number), and then holds what it acquired until it is
 * killed. Returns once acquire() has returned. */
pid_t bench_hold(
	void (*acquire)(const void *what, unsigned number), const void *what, unsigned number);
/* Kills a child and waits for it; does nothing if pid is 0. */
void bench_kill(pid_t pid);
/* Waits for a child to end; ends the bench if it failed. */
void bench_wait(pid_t pid);
/* Removes a directory and everything in it. */
void bench_remove(const char *dir);

double bench_now(void);     /* CLOCK_MONOTONIC in ns */
double bench_cpu_now(void); /* the CPU time of this thread in ns */

/* -- berth (berthd.c) -------------------------------------------------------------------------- */

/* A berthd. berthd_start() is given its capacities. Its state directory is in bench.disk. Clients
 * connect to the berthd that was started last and still runs. */
struct berthd {
	struct instance instance;
	char state_dir[544], accounts[16], slots[16];
};
void berthd_start(struct berthd *d, unsigned accounts, unsigned slots);
void berthd_end(struct berthd *d);
/* Runs berthctl set. */
void berthd_set(const char *account, const char *limit);
/* Runs berthctl import. Returns how long it took, in ns. */
double berthd_import(const char *file);

/* These functions call berthd over one connection to its admin socket. Running berthctl for each
 * call would measure how long a program takes to start. */
void admin_open(const struct berthd *d);
void admin_close(void);
void admin_set(const char *account, uint32_t limit);
/* Returns when berthd last stored counts, in ms since 1970; 0: never. */
uint64_t admin_checkpointed(void);

/* handle_open() opens `handle`, this process's handle. It ignores its parameter, which is there
 * because a struct contender (contest.h) has pointers to functions with such a parameter. */
extern struct berth *handle;
void handle_open(unsigned unused);
/* Acquires and releases a slot of the account, n times. */
void handle_pairs(const char *account, unsigned long n);

/* Starts a process that holds `slots` slots of the account. If `account` is NULL, the process holds
 * one slot of each of the accounts that account_name() names from 0 to `slots` - 1. Returns when
 * the process has acquired them. */
pid_t holder_start(const char *account, unsigned slots);

/* Writes the name of the account with this number. Account 1234567 is "u01234567@example.com". */
#define ACCOUNT_NAME_SIZE 24
void account_name(unsigned number, char to[ACCOUNT_NAME_SIZE]);
/* Writes a file for berthctl import, with the limit for each of the accounts 0 to count - 1.
 * Returns its path, in a static buffer. */
const char *accounts_file(unsigned count, unsigned limit);

/* -- the machine (machine.c) ------------------------------------------------------------------- */

void cpus_init(void);
unsigned cpus_count(void);
/* Worker 0 is pinned to the last CPU, worker 1 to the one before, and so on. */
void cpus_pin_worker(unsigned worker);
/* Lets the driver, and servers that it starts from now on, use all CPUs. If `pin`, leaves out the
 * last CPU, on which worker 0 measures, unless it is the only CPU. */
void cpus_pin_servers(bool pin);

/* True if that many bytes are free in memory, and as many on each of the file systems of bench.dir
 * and of bench.disk. */
bool machine_has(double bytes);
/* Returns a field of /proc/PID/status or, for "Pss:", of smaps_rollup, in bytes. */
double process_bytes(pid_t pid, const char *field);
/* Returns the number of voluntary context switches of all the process's threads. */
double process_switches(pid_t pid);

/* The machine on which the figures were measured. */
struct machine {
	char cpu[128], kernel[160], compiler[64], disk[64], command[160];
	unsigned cpus;
	bool syncs;  /* the results are on a file system on which fdatasync costs something */
	double load; /* the load average when the bench began */
};
const struct machine *machine_describe(void);
