/* SPDX-License-Identifier: MIT */

/* How the cost of a pair grows: with slots that are held already, with processes. (With accounts:
 * random.c; with levels: fast.c.) */

#include <berth.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "contest.h"
#include "report.h"
#include "util.h"
#include "works.h"

static struct berth *handle;

static unsigned growth_rounds(void) {
	return bench.quick ? 3 : 11;
}

/* -- holders ----------------------------------------------------------------------------------- */

static const unsigned holder_counts[] = {1, 10, 100, 1000, 10000, 100000};
#define HOLDERS_ALL 6
#define HOLDERS_OFD 4 /* beyond, a lock takes longer than a round */

static int lock_fd;

static void held_name(unsigned held, char to[32]) {
	(void)snprintf(to, 32, "held%u@example.com", held);
}

static void held_open(unsigned held) {
	(void)held;
	bench_must(berth_open(NULL, &handle), "berth_open");
}

static void held_pairs(unsigned held, unsigned long n) {
	char name[32];
	berth_slot slot;

	held_name(held, name);
	while (n-- > 0) {
		bench_must(berth_acquire(handle, name, &slot), "berth_acquire");
		bench_must(berth_release(handle, slot), "berth_release");
	}
}

static bool byte_lock(int fd, unsigned byte, short type) {
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};

	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static int locked_file(unsigned held) {
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/locked-%u", bench.dir, held);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bench_check(fd >= 0, path);
	return fd;
}

/* So many processes would each have locked a byte: locks of different open files, which the kernel
 * doesn't merge. Every other byte has one open file, the rest another. */
static void locks_hold(unsigned held) {
	int fd[2] = {locked_file(held), locked_file(held)};

	for (unsigned byte = 0; byte < held; byte++)
		bench_check(byte_lock(fd[byte % 2], byte, F_WRLCK), "locking a byte");
}

static void locks_open(unsigned held) {
	lock_fd = locked_file(held);
}

static void locks_pairs(unsigned held, unsigned long n) {
	while (n-- > 0) {
		unsigned byte = 0;

		while (!byte_lock(lock_fd, byte, F_WRLCK))
			bench_check(byte++ < held, "no byte is free");
		bench_check(byte_lock(lock_fd, byte, F_UNLCK), "unlocking");
	}
}

static void holders_rows_of(struct work *w, const struct contender *c, unsigned count) {
	char name[64], number[NUMBER_SIZE];

	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "%s, %s held", c[i].name,
			count_text(holder_counts[i], number));
		row_versus(work_row(w, name, "ns", &c[i].ns), "1 held", &c[0].ns, BOUND_NONE, 0);
	}
}

static void holders_rows(const struct contender *berth, const struct contender *ofd) {
	struct work *w = work_new("holders", "Slots that another process holds already", NULL);

	holders_rows_of(w, berth, HOLDERS_ALL);
	holders_rows_of(w, ofd, HOLDERS_OFD);
	report_show(w);
}

static void growth_holders(void) {
	struct contender c[HOLDERS_ALL + HOLDERS_OFD] = {0};
	pid_t holders[HOLDERS_ALL];
	struct berthd d;
	char name[32];

	berthd_start(&d, 1000, 200000);
	for (unsigned i = 0; i < HOLDERS_ALL; i++) {
		held_name(holder_counts[i], name);
		berthd_set(name, "unlimited");
		holders[i] = holder_start(name, holder_counts[i]);
		c[i] = (struct contender){.name = "berth",
			.object = holder_counts[i],
			.open = held_open,
			.run = held_pairs};
	}
	for (unsigned i = 0; i < HOLDERS_OFD; i++) {
		locks_hold(holder_counts[i]);
		c[HOLDERS_ALL + i] = (struct contender){.name = "OFD locks",
			.object = holder_counts[i],
			.open = locks_open,
			.run = locks_pairs};
	}
	contest(c, HOLDERS_ALL + HOLDERS_OFD, growth_rounds());
	holders_rows(c, c + HOLDERS_ALL);
	for (unsigned i = 0; i < HOLDERS_ALL; i++)
		bench_kill(holders[i]);
	berthd_end(&d);
}

/* -- processes --------------------------------------------------------------------------------- */

#define PEERS_GROWING 3
#define STEPS         8

static struct peer *const growing[PEERS_GROWING] = {&peer_berth, &peer_sem, &peer_mutex};
/* So many processes. */
static const unsigned steps_quick[] = {1, 2, 4, 8};
static const unsigned steps_full[] = {1, 2, 3, 4, 5, 6, 7, 8};

static void processes_rows(const struct contender *c, unsigned steps, bool apart) {
	struct work *w = work_new(apart ? "processes-own" : "processes-same",
		apart ? "1 to 8 processes, an account each" : "1 to 8 processes, one account",
		"all together, while all CPUs are at work; more processes than that take turns");
	char name[64];

	for (unsigned i = 0; i < PEERS_GROWING; i++, c += steps) {
		struct series one = series_scale(&c[0].rate, 1e-6);

		for (unsigned k = 0; k < steps; k++) {
			struct series rate = series_scale(&c[k].rate, 1e-6);

			(void)snprintf(name, sizeof(name), "%s, %u", c[k].name, c[k].processes);
			row_versus(work_row(w, name, "M/s", &rate), "one", &one, BOUND_NONE, 0);
		}
	}
	report_show(w);
}

/* All together, in millions a second. */
static void growth_processes(bool apart) {
	const unsigned *step = bench.quick ? steps_quick : steps_full;
	unsigned steps = bench.quick ? ELEMENTS(steps_quick) : ELEMENTS(steps_full), n = 0;
	struct contender c[PEERS_GROWING * STEPS] = {0};

	for (unsigned i = 0; i < PEERS_GROWING; i++)
		for (unsigned k = 0; k < steps; k++)
			c[n++] = (struct contender){.name = growing[i]->name,
				.peer = growing[i],
				.processes = step[k],
				.object = apart ? OBJECT_OWN : OBJECT_ROOMY,
				.apart = apart,
				.run = growing[i]->pairs};
	contest(c, n, growth_rounds());
	processes_rows(c, steps, apart);
}

void works_growth(void) {
	growth_holders();
	peers_start();
	growth_processes(false);
	growth_processes(true);
}
