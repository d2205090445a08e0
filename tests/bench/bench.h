/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What every part of the bench uses: how it was called, where its files are, what ends it.
 *
 * The bench is one process, the driver, which measures little itself. Contenders run in workers,
 * forked and pinned; each server among the peers is a process, too. All of them die with the
 * driver, and what they leave is removed at its exit.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "harness.h"

#define NS_OF_S  1000000000.0
#define NS_OF_MS 1000000.0
#define NS_OF_US 1000.0

struct bench {
	bool quick;
	unsigned rounds;  /* of a contest */
	const char *only; /* families of works, by name; NULL: all */
	const char *out;  /* where results are written */
	char dir[64];     /* private, on tmpfs */
	char disk[512];   /* private, beside the results */
};
extern struct bench bench;

/* Ends the bench, or the worker that calls it, saying what didn't work, and errno or a code of
 * berth.h. */
void bench_fail(const char *what) __attribute__((noreturn, cold));
void bench_fail_code(int code, const char *what) __attribute__((noreturn, cold));

/* Cheap enough for what is measured. */
static inline void bench_check(bool fine, const char *what) {
	if (__builtin_expect(!fine, 0))
		bench_fail(what);
}
static inline void bench_must(int code, const char *what) {
	if (__builtin_expect(code != 0, 0))
		bench_fail_code(code, what);
}

/* Ends it, if it was told to end. */
void bench_continue(void);

/* Like fork, but the child dies with its parent, and leaves a terminal's ^C to it. */
pid_t bench_fork(void);
/* Kills a child and waits for it; 0 is nobody. */
void bench_kill(pid_t pid);
/* Waits for a child that shall succeed. */
void bench_wait(pid_t pid);
/* Has a child do it, and waits for that. */
void bench_in_child(void (*what)(void));

double bench_now(void); /* CLOCK_MONOTONIC in ns */

/* A berthd with room for so many, its limits on the disk. Clients find it until another is started;
 * after the end of that one, it again. */
struct berthd {
	struct instance instance;
	char state_dir[544], accounts[16], slots[16];
};
void berthd_start(struct berthd *d, unsigned accounts, unsigned slots);
void berthd_end(struct berthd *d);
/* berthctl set. */
void berthd_set(const char *account, const char *limit);
/* berthctl import; returns how long it took, in ns. */
double berthd_import(const char *file);
/* Removes a directory and what is in it. */
void bench_remove(const char *dir);

/* Slots of berth's, held by a process of their own: of the account, or, if it is NULL, one of each
 * of so many accounts (below). Returns when it has them. */
pid_t holder_start(const char *account, unsigned slots);

/* -- accounts by number (berthd.c) ------------------------------------------------------------- */

#define ACCOUNT_NAME_SIZE 24
/* "u01234567@example.com" */
void account_name(unsigned number, char to[ACCOUNT_NAME_SIZE]);
/* Writes a file of so many limits, for berthctl import; returns its path, in a static buffer. */
const char *accounts_file(unsigned count, unsigned limit);

/* -- CPUs (machine.c) -------------------------------------------------------------------------- */

void cpus_init(void);
unsigned cpus_count(void);
/* Workers count from the last CPU down. The driver, and servers that it starts, have all but the
 * last, if there is another; or all. */
void cpus_pin_worker(unsigned worker);
void cpus_pin_servers(bool pin);

/* Whether there is so much memory, room on tmpfs for as much, and on the disk. */
bool machine_has(double bytes);
/* A number of /proc/PID/status or smaps_rollup, in kB there, in bytes here. */
double process_bytes(pid_t pid, const char *field);
/* How often all its threads have left a CPU. */
double process_switches(pid_t pid);

/* What the figures were measured on. */
struct machine {
	char cpu[128], kernel[160], compiler[64], disk[64], command[160];
	unsigned cpus;
	bool syncs;  /* the disk: a file system on which a sync costs something */
	double load; /* of others, when the bench began */
};
const struct machine *machine_describe(void);
