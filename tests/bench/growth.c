/* SPDX-License-Identifier: MIT */

/* Measures how the cost of a pair grows with the slots that other processes hold, and with the
 * number of processes. (random.c measures many accounts, fast.c many levels.) */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "contest.h"
#include "report.h"
#include "util.h"
#include "works.h"

#define ROUNDS (bench.quick ? 3u : 11u)

/* -- held slots -------------------------------------------------------------------------------- */

static const unsigned holder_counts[] = {1, 10, 100, 1000, 10000, 100000};
#define HOLDERS_ALL 6
#define HOLDERS_OFD 4 /* with more holders, an OFD lock takes longer than a time slice */

static int lock_fd;

static void held_name(unsigned held, char to[32]) {
	(void)snprintf(to, 32, "held%u@example.com", held);
}

static void held_pairs(unsigned held, unsigned long n) {
	char name[32];

	held_name(held, name);
	handle_pairs(name, n);
}

static int locked_file(unsigned held) {
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/locked-%u", bench.dir, held);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bench_check(fd >= 0, path);
	return fd;
}

/* Locks that many bytes, as if each byte was locked by a process of its own. Two open files, which
 * lock bytes in turn, are enough: the kernel doesn't merge neighbouring locks of different open
 * files. */
static void locks_hold(unsigned held) {
	int fd[2] = {locked_file(held), locked_file(held)};

	for (unsigned byte = 0; byte < held; byte++)
		bench_check(byte_change(fd[byte % 2], byte, F_WRLCK), "locking a byte");
}

static void locks_open(unsigned held) {
	lock_fd = locked_file(held);
}

static void locks_pairs(unsigned held, unsigned long n) {
	while (n-- > 0) {
		unsigned byte = 0;

		while (!byte_change(lock_fd, byte, F_WRLCK))
			bench_check(byte++ < held, "no byte is free");
		bench_check(byte_change(lock_fd, byte, F_UNLCK), "unlocking");
	}
}

static void growth_holders(void) {
	struct contender c[HOLDERS_ALL + HOLDERS_OFD] = {0};
	struct work *w = work_new("holders", "Slots that another process holds already", NULL);
	pid_t holders[HOLDERS_ALL];
	struct berthd d;
	char name[32], number[NUMBER_SIZE];

	berthd_start(&d, 1000, 200000);
	for (unsigned i = 0; i < HOLDERS_ALL; i++) {
		held_name(holder_counts[i], name);
		berthd_set(name, "unlimited");
		holders[i] = holder_start(name, holder_counts[i]);
		c[i] = (struct contender){.name = "berth",
			.object = holder_counts[i],
			.open = handle_open,
			.run = held_pairs};
	}
	for (unsigned i = 0; i < HOLDERS_OFD; i++) {
		locks_hold(holder_counts[i]);
		c[HOLDERS_ALL + i] = (struct contender){.name = "OFD locks",
			.object = holder_counts[i],
			.open = locks_open,
			.run = locks_pairs};
	}
	contest(c, HOLDERS_ALL + HOLDERS_OFD, ROUNDS);
	for (unsigned i = 0; i < HOLDERS_ALL + HOLDERS_OFD; i++)
		row_versus(work_row(w, "ns", &c[i].ns, "%s, %s held", c[i].name,
				   count_text(c[i].object, number)),
			"1 held", &c[i < HOLDERS_ALL ? 0 : HOLDERS_ALL].ns);
	report_show(w);
	for (unsigned i = 0; i < HOLDERS_ALL; i++)
		bench_kill(holders[i]);
	berthd_end(&d);
}

/* -- processes --------------------------------------------------------------------------------- */

#define PROCESSES_OF(i) (bench.quick ? 1u << (i) : (i) + 1) /* 1, 2, 4, 8 or 1, 2, 3, ... 8 */

static void growth_processes(bool apart) {
	static struct peer *const growing[] = {&peer_berth, &peer_sem, &peer_mutex};
	const unsigned steps = bench.quick ? 4 : 8;
	struct contender c[ELEMENTS(growing) * 8] = {0};
	struct work *w = work_new(apart ? "processes-own" : "processes-same",
		apart ? "1 to 8 processes, an account each" : "1 to 8 processes, one account",
		"all together, while all CPUs are at work; more processes than CPUs take turns");

	for (unsigned i = 0; i < ELEMENTS(growing) * steps; i++)
		c[i] = contender_of(growing[i / steps], PROCESSES_OF(i % steps),
			apart ? OBJECT_OWN : OBJECT_FREE);
	contest(c, ELEMENTS(growing) * steps, ROUNDS);
	for (unsigned i = 0; i < ELEMENTS(growing) * steps; i++) {
		const struct contender *one = &c[i - i % steps];

		row_versus(work_row(w, "M/s", &c[i].rate, "%s, %u", c[i].name, c[i].processes),
			"one", &one->rate);
	}
	report_show(w);
}

void works_growth(void) {
	growth_holders();
	peers_start();
	growth_processes(false);
	growth_processes(true);
}
