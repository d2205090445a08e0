/* SPDX-License-Identifier: MIT */

/*
 * A soak is a long run, which checks that nothing grows, or gets slower, during the torture.
 *
 * berthd isn't killed, so that leaks add up. Every two seconds this file samples berthd's memory,
 * descriptors and threads, the space of the shared files and of the store, and the time of a pair
 * of acquire and release in a client of its own (the probe), which lives from start to end. At the
 * end it compares the medians of the first and the last quarter.
 *
 * One descriptor for each session doesn't count: berthd keeps the sessions that a process has lost
 * (by closefrom or exec) until the process dies, at a random time. Memory is the anonymous memory
 * in smaps, which is the heap. It doesn't include the shared files, whose blocks are sampled
 * separately. The probe measures the processor time of batches. This time doesn't include waiting,
 * or being stopped by an audit. It does include the effects of other processes on caches and clock
 * rates.
 */

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "berth.h"
#include "harness.h"
#include "torture.h"

#define EVERY_US    2000000
#define SAMPLES_MAX 65536
#define BATCH       1000 /* pairs */
#define BATCH_PAUSE 5000 /* us */
#define ACCOUNT     "probe"

/* -- the probe --------------------------------------------------------------------------------- */

static int64_t cpu_ns(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The administrator may revoke slots of the probe, as it does with other clients' slots. */
static int ignore_revoked(int code) {
	return code == BERTH_CONNECTION_ABORTED || code == BERTH_TOO_MANY_POSTS ? BERTH_SUCCESS
										: code;
}

static int batch_run(struct berth *b) {
	int code = BERTH_SUCCESS;

	for (int i = 0; i < BATCH && code == BERTH_SUCCESS; i++) {
		berth_slot slot = 0;

		code = ignore_revoked(berth_acquire(b, ACCOUNT, &slot));
		if (slot)
			code = ignore_revoked(berth_release(b, slot));
	}
	return code;
}

void torture_probe(struct torture *t) {
	const struct berth_options options = {.size = sizeof(options), .timeout_ms = 60000};
	struct berth *b = NULL;
	int code = berth_open_options(&options, &b);

	store_relaxed(&t->probe, getpid());
	while (code == BERTH_SUCCESS && load_relaxed(&t->finish) == 0) {
		int64_t began = cpu_ns();
		uint32_t n = load_relaxed(&t->probe_batches);

		code = batch_run(b);
		store_relaxed(&t->probe_ps[n % TORTURE_BATCHES],
			(uint32_t)((cpu_ns() - began) * 1000 / BATCH));
		store_relaxed(&t->probe_batches, n + 1);
		torture_sleep_us(BATCH_PAUSE);
	}
	if (code != BERTH_SUCCESS)
		torture_fail(t, "the probe got %d (%s)", code, berth_errname(code));
	berth_close(b);
	_exit(0);
}

/* -- samples ----------------------------------------------------------------------------------- */

enum {
	BERTHD_MEMORY,
	BERTHD_FDS,
	BERTHD_THREADS,
	PROBE_MEMORY,
	PROBE_FDS,
	SHARED_FILES,
	STORE,
	PAIR_MEDIAN,
	PAIR_P99,
	FIGURES,
};

/* The figures. In the last quarter each may be as large as in the first quarter, times a
 * percentage, plus a constant (`slack`). This allows for small changes: the number of connections
 * varies, malloc keeps memory, files grow in steps, and the store uses a new page now and then.
 * None of this growth continues for ever. A leak of a kilobyte or a descriptor for each of 10,000
 * killed clients would be far larger. */
static const struct {
	const char *name, *unit;
	uint64_t unit_size;
	uint32_t percent;
	uint64_t slack;
} figure[FIGURES] = {
	[BERTHD_MEMORY] = {"berthd: memory", "KiB", 1024, 110, 512 << 10},
	[BERTHD_FDS] = {"berthd: other descriptors", "", 1, 120, 20},
	[BERTHD_THREADS] = {"berthd: threads", "", 1, 100, 0},
	[PROBE_MEMORY] = {"a client: memory", "KiB", 1024, 110, 256 << 10},
	[PROBE_FDS] = {"a client: descriptors", "", 1, 100, 0},
	[SHARED_FILES] = {"segment and directory", "KiB", 1024, 110, 1 << 20},
	[STORE] = {"store", "KiB", 1024, 110, 256 << 10},
	/* Other programs on the machine slow the probe down. So only large changes count. */
	[PAIR_MEDIAN] = {"acquire and release, median", "ps", 1, 300, 0},
	[PAIR_P99] = {"acquire and release, 99 %", "ps", 1, 1000, 0},
};

static uint64_t sample[SAMPLES_MAX][FIGURES];
static uint32_t samples;
static uint32_t batches_seen;

static int compare(const void *a, const void *b) {
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Finds a line of /proc/PID/file that begins with `word`. Returns the number that follows; 0 if the
 * number can't be read. */
static uint64_t proc_number(pid_t pid, const char *file, const char *word) {
	unsigned long long n = 0;
	char path[64], line[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, word, strlen(word)) == 0)
			(void)sscanf(line + strlen(word), " %llu", &n);
	if (f)
		(void)fclose(f);
	return n;
}

/* Returns the sum of each() over the entries of a directory or, if `each` is NULL, the number of
 * entries. */
static uint64_t directory_sum(const char *path, uint64_t (*each)(const char *path)) {
	uint64_t sum = 0;
	char name[512];
	struct dirent *e;
	DIR *dir = opendir(path);

	while (dir && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		(void)snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		sum += each ? each(name) : 1;
	}
	if (dir)
		(void)closedir(dir);
	return sum;
}

static uint64_t space(const char *path) {
	struct stat st;

	if (lstat(path, &st) < 0)
		return 0;
	return S_ISDIR(st.st_mode) ? directory_sum(path, space) : (uint64_t)st.st_blocks * 512;
}

static uint64_t fd_count(pid_t pid) {
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	return directory_sum(path, NULL);
}

/* Median and 99th percentile of the batches since the last sample. */
static void pairs_read(struct torture *t, uint64_t *s) {
	static uint64_t ps[TORTURE_BATCHES];
	uint32_t end = load_relaxed(&t->probe_batches), n = 0;

	if (end - batches_seen > TORTURE_BATCHES)
		batches_seen = end - TORTURE_BATCHES;
	for (; batches_seen != end; batches_seen++)
		ps[n++] = load_relaxed(&t->probe_ps[batches_seen % TORTURE_BATCHES]);
	qsort(ps, n, sizeof(ps[0]), compare);
	s[PAIR_MEDIAN] = n ? ps[n / 2] : 0;
	s[PAIR_P99] = n ? ps[n * 99 / 100] : 0;
}

void torture_soak_sample(struct torture *t, struct map *m, const struct instance *i, int64_t now) {
	pid_t probe = load_relaxed(&t->probe);
	static int64_t next;
	uint64_t *s = sample[samples], fds, sessions = 0;

	if (now < next || samples == SAMPLES_MAX)
		return;
	next = now + EVERY_US;
	fds = fd_count(i->berthd);
	/* berthd has a pidfd for each session until the session's process is dead. */
	for (uint32_t k = 0; k < load_acquire(&m->names->sessions); k++) {
		const struct session_entry *e = map_session(m, k);

		sessions += e && load_relaxed(&e->state) != SESSION_NONE;
	}
	s[BERTHD_MEMORY] = proc_number(i->berthd, "smaps_rollup", "Anonymous:") * 1024;
	s[BERTHD_FDS] = fds > sessions ? fds - sessions : 0;
	s[BERTHD_THREADS] = proc_number(i->berthd, "status", "Threads:");
	s[PROBE_MEMORY] = proc_number(probe, "smaps_rollup", "Anonymous:") * 1024;
	s[PROBE_FDS] = fd_count(probe);
	s[SHARED_FILES] = space(i->runtime_dir);
	s[STORE] = space(i->state_dir);
	pairs_read(t, s);
	/* The sample counts only if the probe has started and done a batch. */
	samples += s[PROBE_FDS] > 0 && s[BERTHD_MEMORY] > 0 && s[PAIR_MEDIAN] > 0;
}

bool torture_soak_wants_more(struct torture *t) {
	const struct figures *f = &t->figures;

	return load_relaxed(&f->operations) < TORTURE_SOAK_OPERATIONS ||
	       load_relaxed(&f->client_kills) < TORTURE_SOAK_KILLS;
}

/* -- judging ----------------------------------------------------------------------------------- */

static uint64_t median(uint32_t first, uint32_t count, int what) {
	static uint64_t values[SAMPLES_MAX];

	for (uint32_t i = 0; i < count; i++)
		values[i] = sample[first + i][what];
	qsort(values, count, sizeof(values[0]), compare);
	return values[count / 2];
}

void torture_soak_judge(struct torture *t) {
	uint32_t quarter = samples / 4;

	if (quarter < 2) {
		torture_fail(t, "%u samples are too few for a comparison", samples);
		return;
	}
	printf("\n%-30s %14s %14s %14s\n", "", "first quarter", "last quarter", "allowed");
	for (int i = 0; i < FIGURES; i++) {
		uint64_t first = median(0, quarter, i), size = figure[i].unit_size;
		uint64_t last = median(samples - quarter, quarter, i);
		uint64_t allowed = first * figure[i].percent / 100 + figure[i].slack;

		printf("%-30s %14llu %14llu %14llu %s\n", figure[i].name,
			(unsigned long long)(first / size), (unsigned long long)(last / size),
			(unsigned long long)(allowed / size), figure[i].unit);
		if (last > allowed)
			torture_fail(t, "%s grew from %llu to %llu %s", figure[i].name,
				(unsigned long long)(first / size),
				(unsigned long long)(last / size), figure[i].unit);
	}
	printf("%u samples\n\n", samples);
}
