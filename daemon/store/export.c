/* SPDX-License-Identifier: MIT */

/*
 * Writes the export.
 *
 *   Invariant: after the first export, limits.export or limits.export.1 is there and whole.
 *   1. limits.export.new is written and synced; 2. limits.export is renamed to limits.export.1;
 *   3. limits.export.new is renamed to limits.export; 4. the directory is synced.
 *   If berthd dies before 2, the former export stays. There may be a limits.export.new, which the
 *   next export overwrites. If it dies between 2 and 3, only limits.export.1 is left.
 *
 * The worker thread writes the whole file at once. Meanwhile changes wait: as long as a sync takes
 * if there are few limits, about a second if there are 1,000,000. An export is due a few seconds
 * after the first change that the last export lacks. The pause after an export is nine times as
 * long as that export took.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bounds.h"
#include "clock.h"
#include "dir.h"
#include "export.h"
#include "import-format.h"
#include "log.h"
#include "protocol.h"
#include "util.h"

#define DELAY_MS    3000  /* from a change to the export */
#define RETRY_MS    30000 /* after a failure */
#define PAUSE_TIMES 9     /* the pause after an export is this many times as long as the export */
#define END_SIZE    128   /* of the buffer for the last line */

static const char header[] =
	"# All limits and templates of a berthd, which wrote this file. Counts and peaks aren't in "
	"it.\n"
	"# If the store is damaged, stop berthd and run: berthd --restore FILE (see berthd(8)).\n"
	"# Into a berthd that serves: berthctl import FILE.\n";

#define END_FORMAT "# end: %zu limits and templates, checksum %016" PRIx64 "%016" PRIx64 "\n"

struct export {
	char *dir, *path, *previous, *new;
	struct limits *limits;
	int64_t due;       /* CLOCK_MONOTONIC ms; INT64_MAX: the file lacks nothing */
	int64_t pause_end; /* the next export isn't due before then */
	int logged_error;  /* 0: the last export succeeded */
};

/* -- the last line ----------------------------------------------------------------------------- */

/* Makes the last line. text: all lines before it. */
static void end_make(char to[static END_SIZE], size_t count, const char *text, size_t length) {
	XXH128_hash_t hash = XXH3_128bits(text, length);

	(void)snprintf(to, END_SIZE, END_FORMAT, count, hash.high64, hash.low64);
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
	for (const char *p = text; (p = memchr(p, '\n', (size_t)(last - p))); p++)
		++*ret_line;
	if (size < sizeof(end)) {
		memcpy(end, last, size);
		end[size] = '\0';
	}
	if (size >= sizeof(end) || end[size - 1] != '\n' ||
		sscanf(end, "# end: %zu limits and templates, checksum ", ret_count) != 1)
		return "the last line has no checksum, so the file is no export of berthd's, or "
		       "not the whole of one";
	end_make(right, *ret_count, text, (size_t)(last - text));
	if (strcmp(end, right) != 0)
		return "the checksum is wrong, so the file has changed since berthd wrote it";
	return NULL;
}

char *export_newest(const char *state_dir) {
	static const char *const names[] = {EXPORT_NAME, EXPORT_PREVIOUS};

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		char *path = dir_path(state_dir, names[i]);

		if (!path || access(path, F_OK) == 0)
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
	e->due = INT64_MAX;
	e->dir = strdup(state_dir);
	e->path = dir_path(state_dir, EXPORT_NAME);
	e->previous = dir_path(state_dir, EXPORT_PREVIOUS);
	e->new = dir_path(state_dir, EXPORT_NAME ".new");
	if (!e->dir || !e->path || !e->previous || !e->new) {
		export_free(e);
		return -ENOMEM;
	}
	*ret = e;
	return 0;
}

void export_free(struct export *e) {
	if (!e)
		return;
	free(e->dir);
	free(e->path);
	free(e->previous);
	free(e->new);
	free(e);
}

void export_note_change(struct export *e) {
	if (e->due == INT64_MAX)
		e->due = MAX_OF(clock_monotonic_ms() + DELAY_MS, e->pause_end);
}

int64_t export_due(const struct export *e) {
	return e->due;
}

/* -- writing ----------------------------------------------------------------------------------- */

struct printer {
	FILE *out;
	size_t count;
};

static int limit_print(void *data, const char *name, uint32_t limit) {
	struct printer *p = data;

	line_write(p->out, name, limit == BERTH_LIMIT_NONE ? MESSAGE_UNLIMITED : limit);
	p->count++;
	return 0;
}

/* True if the file has the size and the last line of `text`. end: the length of that line. */
static bool file_is_same(const char *path, const char *text, size_t size, size_t end) {
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char found[END_SIZE];
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size == size &&
	       pread(fd, found, end, (off_t)(size - end)) == (ssize_t)end &&
	       memcmp(found, text + size - end, end) == 0;
}

static int export_try(struct export *e) {
	_cleanup_free_ char *text = NULL;
	char end[END_SIZE] = "";
	size_t size;
	struct printer p = {.out = open_memstream(&text, &size)};
	int r;

	if (!p.out)
		return -ENOMEM;
	fputs(header, p.out);
	r = limits_read(e->limits, limit_print, &p);
	if (fflush(p.out) == 0) {
		end_make(end, p.count, text, size);
		fputs(end, p.out);
	}
	if (fclose(p.out) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0 || file_is_same(e->path, text, size, strlen(end)))
		return r;
	r = dir_write_file(e->new, text, size); /* 1 */
	if (r < 0) {
		(void)unlink(e->new);
		return r;
	}
	if (rename(e->path, e->previous) < 0 && errno != ENOENT) /* 2 */
		return -errno;
	if (rename(e->new, e->path) < 0) /* 3 */
		return -errno;
	return dir_sync(e->dir); /* 4 */
}

void export_write(struct export *e) {
	int64_t begun = clock_monotonic_ms(), now;
	int r = export_try(e);

	now = clock_monotonic_ms();
	e->pause_end = now + (now - begun) * PAUSE_TIMES;
	e->due = r < 0 ? now + RETRY_MS : INT64_MAX;
	if (r == e->logged_error)
		return;
	e->logged_error = r;
	if (r == 0)
		log_notice("the export %s is written again", e->path);
	else
		log_event(LOG_WARNING, EVENT_UNEXPORTED, NULL,
			"can't write the export %s: %s; %s; trying again. The limits are stored "
			"all the same",
			e->path, strerror(-r), lmdb_advice(r));
}
