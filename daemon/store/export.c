/* SPDX-License-Identifier: MIT */

/*
 * Writes the export in the background.
 *
 *   Invariant: limits.export or limits.export.1 is a whole export, once there was one.
 *   1. limits.export.new is written, a piece at a time, and synced; 2. limits.export is renamed to
 *   limits.export.1; 3. limits.export.new is renamed to limits.export; 4. the directory is synced.
 *   Death before 2 leaves the former export, and a limits.export.new that is written anew; between 2 and
 *   3, limits.export.1 alone.
 *
 * The pieces are read from one snapshot, so that changes go on meanwhile. An export is begun a few
 * seconds after the first change that the last one lacks, and not before nine times the time that the
 * last one took have passed. At a start, the text is made without being written, and compared with the
 * file by size and last line.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bounds.h"
#include "clock.h"
#include "dir.h"
#include "export.h"
#include "lines.h"
#include "log.h"
#include "protocol.h"
#include "util.h"

#define DELAY_MS    3000  /* from a change to the export */
#define RETRY_MS    30000 /* after a failure */
#define PAUSE_TIMES 9     /* how many times as long as it took, the next one waits */
#define PIECE       8192  /* limits */
#define END_SIZE    128   /* of the last line */

static const char header[] =
	"# All limits and templates of a berthd, which wrote this file. Counts and peaks aren't in "
	"it.\n"
	"# If the store is damaged, stop berthd and run: berthd --restore FILE (see berthd(8)).\n"
	"# Into a berthd that serves: berthctl import FILE.\n";

#define END_FORMAT "# end: %zu limits and templates, checksum %016" PRIx64 "%016" PRIx64 "\n"

enum work { IDLE, COMPARING, WRITING };

struct export {
	char *dir, *path, *previous, *new;
	struct limits *limits;
	enum work work;
	int fd;            /* of limits.export.new, while it is written; else -1 */
	bool is_unknown;   /* the file is to be compared with the limits */
	bool is_behind;    /* the file lacks a change */
	int64_t due;       /* of the next work, while IDLE: CLOCK_MONOTONIC ms; INT64_MAX: none */
	int64_t pause_end; /* no export begins before */
	int64_t spent_us;  /* in the present one */
	size_t count;      /* limits so far */
	uint64_t size;     /* bytes so far */
	XXH3_state_t *hash;
	int logged_error; /* 0: the last one succeeded */
};

/* -- the last line ----------------------------------------------------------------------------- */

static void end_make(char to[static END_SIZE], size_t count, XXH128_hash_t hash) {
	(void)snprintf(to, END_SIZE, END_FORMAT, count, hash.high64, hash.low64);
}

static size_t line_number(const char *text, const char *at) {
	size_t n = 1;

	for (const char *p = text; (p = memchr(p, '\n', (size_t)(at - p))); p++)
		n++;
	return n;
}

const char *export_objection(const char *text, size_t length, size_t *ret_line, size_t *ret_count) {
	char end[END_SIZE], right[END_SIZE];
	const char *last;
	size_t size;

	*ret_line = 1;
	if (length == 0)
		return "the file is empty";
	last = memrchr(text, '\n', length - 1);
	last = last ? last + 1 : text;
	size = length - (size_t)(last - text);
	*ret_line = line_number(text, last);
	if (size < sizeof(end)) {
		memcpy(end, last, size);
		end[size] = '\0';
	}
	if (size >= sizeof(end) || end[size - 1] != '\n' ||
		sscanf(end, "# end: %zu limits and templates, checksum ", ret_count) != 1)
		return "the last line has no checksum, so the file is no export of berthd's, or "
		       "not "
		       "the whole of one";
	end_make(right, *ret_count, XXH3_128bits(text, (size_t)(last - text)));
	return strcmp(end, right) == 0 ? NULL
				       : "the checksum is wrong, so the file has changed since "
					 "berthd wrote it";
}

char *export_newest(const char *state_dir) {
	static const char *const names[] = {EXPORT_NAME, EXPORT_PREVIOUS};

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		char *path;

		if (asprintf(&path, "%s/%s", state_dir, names[i]) < 0)
			return NULL;
		if (access(path, F_OK) == 0)
			return path;
		free(path);
	}
	return NULL;
}

/* -- begin and end ----------------------------------------------------------------------------- */

int export_new(const char *state_dir, struct limits *limits, struct export **ret) {
	struct export *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->limits = limits;
	e->fd = -1;
	e->due = INT64_MAX;
	e->dir = strdup(state_dir);
	if (asprintf(&e->path, "%s/" EXPORT_NAME, state_dir) < 0)
		e->path = NULL;
	if (asprintf(&e->previous, "%s/" EXPORT_PREVIOUS, state_dir) < 0)
		e->previous = NULL;
	if (asprintf(&e->new, "%s/" EXPORT_NAME ".new", state_dir) < 0)
		e->new = NULL;
	e->hash = XXH3_createState();
	if (!e->dir || !e->path || !e->previous || !e->new || !e->hash) {
		export_free(e);
		return -ENOMEM;
	}
	*ret = e;
	return 0;
}

void export_free(struct export *e) {
	if (!e)
		return;
	close_cleanup(&e->fd);
	(void)XXH3_freeState(e->hash);
	free(e->dir);
	free(e->path);
	free(e->previous);
	free(e->new);
	free(e);
}

static void work_end(struct export *e) {
	lmdb_snapshot_end(limits_lmdb(e->limits));
	close_cleanup(&e->fd);
	e->work = IDLE;
}

/* At the next occasion, what has to be done is done from the start. */

static void fail(struct export *e, int error) {
	if (e->work == WRITING) {
		e->is_behind = true;
		(void)unlink(e->new);
	} else {
		e->is_unknown = true;
	}
	work_end(e);
	e->due = clock_monotonic_ms() + RETRY_MS;
	/* -ESTALE: a change has closed the limits. Its failure is in the log. */
	if (error == -ESTALE || error == e->logged_error)
		return;
	e->logged_error = error;
	log_event(LOG_WARNING, EVENT_UNEXPORTED, NULL,
		"can't write the export %s: %s; %s; trying again. The limits are stored all the "
		"same",
		e->path, strerror(-error), lmdb_advice(error));
}

/* -- pieces ------------------------------------------------------------------------------------ */

static int write_all(int fd, const char *from, size_t size) {
	while (size > 0) {
		ssize_t n = write(fd, from, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		from += n;
		size -= (size_t)n;
	}
	return 0;
}

static int text_add(struct export *e, const char *text, size_t size) {
	int r = 0;

	(void)XXH3_128bits_update(e->hash, text, size);
	e->size += size;
	if (e->fd >= 0)
		r = write_all(e->fd, text, size);
	/* In pieces: a sync of the whole file would keep a change waiting. */
	if (e->fd >= 0 && r == 0 && fdatasync(e->fd) < 0)
		r = -errno;
	return r;
}

/* What is to be done next: a file that isn't there needs no comparison. */
static int work_begin(struct export *e) {
	int r;

	e->work = e->is_behind || access(e->path, F_OK) < 0 ? WRITING : COMPARING;
	e->is_unknown = e->is_behind = false;
	e->due = INT64_MAX;
	if (e->work == WRITING) {
		e->fd = open(e->new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (e->fd < 0)
			return -errno;
	}
	r = lmdb_snapshot_begin(limits_lmdb(e->limits));
	if (r < 0)
		return r;
	e->count = 0;
	e->size = 0;
	e->spent_us = 0;
	(void)XXH3_128bits_reset(e->hash);
	return text_add(e, header, strlen(header));
}

struct piece {
	struct export *e;
	FILE *out;
};

static int limit_print(void *data, const char *name, const void *value) {
	struct piece *p = data;
	uint32_t limit = limits_decode(value);

	line_write(p->out, name, limit == BERTH_LIMIT_NONE ? MESSAGE_UNLIMITED : limit);
	p->e->count++;
	return 0;
}

/* 1: there are more. */
static int piece_add(struct export *e) {
	_cleanup_free_ char *text = NULL;
	size_t size = 0;
	struct piece p = {.e = e, .out = open_memstream(&text, &size)};
	int r, more;

	if (!p.out)
		return -ENOMEM;
	more = lmdb_snapshot_read(limits_lmdb(e->limits), PIECE, limit_print, &p);
	r = fclose(p.out) == 0 ? 0 : -ENOMEM;
	if (more < 0 || r < 0)
		return more < 0 ? more : r;
	r = text_add(e, text, size);
	return r < 0 ? r : more;
}

/* Whether the file has that size and that last line. */
static bool file_ends_with(const struct export *e, const char *end) {
	_cleanup_close_ int fd = open(e->path, O_RDONLY | O_CLOEXEC);
	size_t size = strlen(end);
	char found[END_SIZE];
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size == e->size + size &&
	       pread(fd, found, size, (off_t)e->size) == (ssize_t)size &&
	       memcmp(found, end, size) == 0;
}

static int file_replace(struct export *e) {
	if (rename(e->path, e->previous) < 0 && errno != ENOENT) /* 2 */
		return -errno;
	if (rename(e->new, e->path) < 0) /* 3 */
		return -errno;
	return dir_sync(e->dir); /* 4 */
}

static int writing_finish(struct export *e, const char *end) {
	int r = text_add(e, end, strlen(end)); /* 1 */

	if (r == 0)
		r = file_replace(e);
	if (r < 0)
		return r;
	if (e->logged_error)
		log_notice("the export %s is written again", e->path);
	e->logged_error = 0;
	e->pause_end = clock_monotonic_ms() + e->spent_us / 1000 * PAUSE_TIMES;
	if (e->is_behind)
		e->due = MAX_OF(e->due, e->pause_end);
	return 0;
}

static int work_finish(struct export *e) {
	char end[END_SIZE];
	int r = 0;

	end_make(end, e->count, XXH3_128bits_digest(e->hash));
	if (e->work == WRITING)
		r = writing_finish(e, end);
	else if (!file_ends_with(e, end))
		export_note_change(e);
	if (r == 0)
		work_end(e);
	return r;
}

/* -- when -------------------------------------------------------------------------------------- */

void export_begin(struct export *e) {
	e->is_unknown = true;
	e->due = clock_monotonic_ms() + DELAY_MS;
}

void export_note_change(struct export *e) {
	if (e->is_behind)
		return;
	e->is_behind = true;
	e->due = MAX_OF(clock_monotonic_ms() + DELAY_MS, e->pause_end);
}

int64_t export_due(const struct export *e) {
	return e->work != IDLE ? 0 : e->due;
}

static int64_t now_us(void) {
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void export_step(struct export *e) {
	int64_t begun = now_us();
	bool begins = e->work == IDLE;
	int r = begins ? work_begin(e) : piece_add(e);

	e->spent_us += now_us() - begun;
	if (r == 0 && !begins)
		r = work_finish(e);
	if (r < 0)
		fail(e, r);
}

void export_finish(struct export *e) {
	if (e->work == COMPARING)
		work_end(e);
	while (e->work != IDLE)
		export_step(e);
	/* Changes that came meanwhile. */
	if (e->is_behind)
		export_step(e);
	while (e->work != IDLE)
		export_step(e);
}
