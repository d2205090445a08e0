/* SPDX-License-Identifier: MIT */

/* The functions that all processes of the torture test use. */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "directory.h"
#include "torture.h"

/* The administrator deletes the last two accounts and sets them again. The ancestors of the last
 * account have no limits of their own. */
const char *const torture_name[TORTURE_NAMES] = {"one", "group/a", "two", "group/b/x", "group",
	"wide/a/deep", "three", "wide/a", "lone/b/c", "four", "lone/b", "pair/a", "pair", "five",
	"group/b/y", "wide", "fleeting", "gone/and/back"};

void torture_fail(struct torture *t, const char *format, ...) {
	uint32_t none = 0;
	va_list args;

	/* t->failed is 1 while a process writes the failure, and 2 afterwards. */
	if (!atomic_compare_exchange_strong(&t->failed, &none, 1))
		return;
	va_start(args, format);
	(void)vsnprintf(t->failure, sizeof(t->failure), format, args);
	va_end(args);
	store_release(&t->failed, 2);
}

int64_t torture_now_us(void) {
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void torture_sleep_us(int64_t us) {
	struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

void torture_die(const char *what) {
	fprintf(stderr, "torture: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

int torture_open(const char *dir, const char *name, int flags) {
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s%s", dir, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		torture_die(path);
	return fd;
}

struct torture *torture_attach(const char *path) {
	int fd = torture_open(path, "", O_RDWR | O_CREAT);
	struct torture *t;

	if (ftruncate(fd, sizeof(*t)) < 0)
		torture_die(path);
	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (t == MAP_FAILED)
		torture_die(path);
	(void)close(fd);
	return t;
}

struct map *torture_map(struct torture *t) {
	int segment = torture_open(t->runtime_dir, "/segment", O_RDWR);
	int directory = torture_open(t->runtime_dir, "/directory", O_RDONLY);
	struct map *m;
	int r = map_new(segment, directory, PROT_READ, &m);

	errno = -r;
	if (r < 0)
		torture_die("the shared files");
	return m;
}

uint32_t torture_account(struct map *m, const char *name) {
	uint32_t account;
	struct name n;
	uint64_t word;

	return name_load(name, &n) == 0 && directory_find(m, &n, &account, &word) == 0 ? account
										       : 0;
}

#define FIGURE(name) ((unsigned long long)load_relaxed(&t->figures.name))

void torture_print_figures(struct torture *t) {
	printf("torture: %llu operations (%llu denied, %llu revoked), %llu kills of clients, %llu "
	       "of berthd, %llu stops, %llu limits, %llu revokes, %llu deletes, %llu forks, %llu "
	       "execs, %llu closefroms, %llu reopened; %llu samples, %llu audits\n",
		FIGURE(operations), FIGURE(denials), FIGURE(revoked), FIGURE(client_kills),
		FIGURE(berthd_kills), FIGURE(stops), FIGURE(limits), FIGURE(revokes),
		FIGURE(deletes), FIGURE(forks), FIGURE(execs), FIGURE(closefroms), FIGURE(reopens),
		FIGURE(samples), FIGURE(audits));
}
