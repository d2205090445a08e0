/* SPDX-License-Identifier: MIT */

/*
 * Makes a new store from an export.
 *
 *   1. limits.new/ is made anew, with all limits, committed and synced.
 *   Without a store in limits/: 2. limits.new/ is renamed to limits/; 3. the directory is synced.
 *   With one: 2. limits.new/ is renamed to limits.DATE/; 3. limits/ and limits.DATE/ are exchanged;
 *   4. the directory is synced.
 *   If the command dies before limits/ has changed (2 without a store, 3 with one), there may be a
 *   limits.new/, which the next run makes anew, or a limits.DATE/ that isn't needed. After the
 *   change, the new store is in limits/, and the old store, if there was one, is in limits.DATE/.
 *   No limits.DATE/ is ever removed.
 *
 * The command holds the lock of the state directory, which berthd holds while it serves.
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "bounds.h"
#include "check.h"
#include "dir.h"
#include "export.h"
#include "limits.h"
#include "import-format.h"
#include "name.h"
#include "protocol.h"
#include "restore-file.h"
#include "util.h"

#define fail(error, ...) (fprintf(stderr, "berthd: " __VA_ARGS__), fputc('\n', stderr), (error))

/* How many names with a date are tried, if names of the same second exist already. */
#define DATES_TRIED 100

struct restore {
	const char *state_dir, *file;
	char *limits, *new, *aside; /* paths of the directories */
	char *text;
	struct lines lines;
	bool store_is_there, store_is_damaged;
};

/* -- the file ---------------------------------------------------------------------------------- */

/* Reads the file up to the first NUL, since no export has a NUL, and checks it. */
static int file_read(struct restore *r) {
	FILE *f = fopen(r->file, "re");
	const struct lines *l = &r->lines;
	size_t capacity = 0, length, line, shown, count = 0;
	const char *wrong;
	ssize_t n;
	int error;

	if (!f)
		return fail(-errno, "can't open %s: %s", r->file, strerror(errno));
	n = getdelim(&r->text, &capacity, '\0', f);
	error = n < 0 && !feof(f) ? -errno : 0;
	(void)fclose(f);
	if (error < 0)
		return fail(error, "can't read %s: %s", r->file, strerror(-error));
	length = n < 0 ? 0 : (size_t)n;

	wrong = export_objection(r->text, length, &line, &count);
	if (wrong)
		return fail(-EINVAL,
			"%s:%zu: %s. Nothing was changed. Restore another export, or, if the "
			"limits in it are right, give it to berthctl import while berthd serves",
			r->file, line, wrong);
	if (lines_parse(&r->lines, r->text, length) < 0)
		return fail(-ENOMEM, "no memory for the limits in %s", r->file);
	/* Prints the wrong lines as berthctl import does. */
	shown = MIN_OF(l->error_count, (size_t)LINES_ERRORS_SHOWN);
	for (size_t i = 0; i < shown; i++)
		fprintf(stderr, "%s:%u: %s\n", r->file, l->error[i].line, l->error[i].text);
	if (l->error_count > shown)
		fprintf(stderr, "%s: and %zu more\n", r->file, l->error_count - shown);
	if (l->error_count)
		return fail(-EINVAL, "nothing was changed");
	if (l->count != count)
		return fail(-EINVAL,
			"%s:%zu: there are %zu limits, but the last line says %zu. "
			"Nothing was changed",
			r->file, line, l->count, count);
	return 0;
}

/* -- the store that is there ------------------------------------------------------------------- */

/* Checks the store in a child, as berthd does when it starts. */
static int store_judge(struct restore *r, bool force) {
	struct check check = {.fd = -1};
	struct check_report report;
	struct limits *limits = NULL;
	const struct lmdb *lmdb;
	int result;

	r->store_is_there = access(r->limits, F_OK) == 0;
	if (!r->store_is_there)
		return 0;
	result = limits_new(r->limits, &limits);
	if (result == 0) {
		lmdb = limits_lmdb(limits);
		result = check_begin(&check, &lmdb, 1);
	}
	if (result == 0)
		check_next(&check, &report);
	check_end(&check);
	limits_free(limits);
	if (result < 0)
		return fail(result, "can't start the process that checks %s: %s", r->limits,
			strerror(-result));

	r->store_is_damaged = report.error == -EUCLEAN || report.error == -ENOENT;
	if (report.error == -EUCLEAN)
		printf("The store in %s is damaged, %s.\n", r->limits, report.text);
	if (r->store_is_damaged || force)
		return 0;
	if (report.error == 0)
		return fail(-EEXIST,
			"the store in %s is sound and has %zu limits and templates. Nothing was "
			"changed. To move it aside and restore %s all the same, add --force",
			r->limits, report.entries, r->file);
	return fail(report.error,
		"can't check the store in %s: %s. Nothing was changed. To move it aside "
		"unchecked, add --force",
		r->limits, strerror(-report.error));
}

/* -- the new store ----------------------------------------------------------------------------- */

/* Removes the limits.new/ of a run that was killed. */
static int leftovers_remove(const struct restore *r) {
	static const char *const names[] = {
		"data.mdb", "lock.mdb", "data.mdb.new", "data.mdb.new-lock"};
	_cleanup_close_ int dir = open(r->new, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return errno == ENOENT ? 0 : -errno;
	for (size_t i = 0; i < ELEMENTS(names); i++)
		if (unlinkat(dir, names[i], 0) < 0 && errno != ENOENT)
			return -errno;
	return rmdir(r->new) < 0 ? -errno : 0;
}

static int new_make(struct restore *r) {
	const struct lines *l = &r->lines;
	_cleanup_free_ struct limit_change *changes = calloc(l->count + 1, sizeof(*changes));
	struct limits *limits = NULL;
	int result = changes ? leftovers_remove(r) : -ENOMEM;

	/* Puts a NUL behind each name in the text, so that the changes can refer to the names
	 * there. */
	for (size_t i = 0; changes && i < l->count; i++) {
		const struct lines_entry *e = &l->entry[i];

		r->text[e->name - r->text + e->length] = '\0';
		changes[i] = (struct limit_change){.name = e->name,
			.limit = e->limit == MESSAGE_UNLIMITED ? BERTH_LIMIT_NONE : e->limit,
			.order = (uint32_t)i};
	}
	if (result == 0)
		result = limits_new(r->new, &limits);
	if (result == 0)
		result = limits_make(limits);
	if (result == 0)
		result = limits_write(limits, changes, l->count); /* 1 */
	limits_free(limits);
	if (result == 0)
		result = dir_sync(r->new);
	return result < 0 ? fail(result, "can't make a new store in %s: %s. Nothing was changed",
				    r->new, strerror(-result))
			  : 0;
}

/* Step 2 if there is a store: renames limits.new/ to a name with a date that doesn't exist yet. */
static int aside_name(struct restore *r) {
	char date[32];
	time_t now = time(NULL);
	struct tm tm;

	(void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	for (int i = 1; i <= DATES_TRIED; i++) {
		free(r->aside);
		if (asprintf(&r->aside, i == 1 ? "%s.%s" : "%s.%s-%d", r->limits, date, i) < 0) {
			r->aside = NULL;
			return -ENOMEM;
		}
		if (renameat2(AT_FDCWD, r->new, AT_FDCWD, r->aside, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int new_install(struct restore *r) {
	int result;

	if (r->store_is_there)
		result = aside_name(r); /* 2 */
	else
		result = rename(r->new, r->limits) < 0 ? -errno : 0; /* 2 */
	if (result == 0 && r->store_is_there &&
		renameat2(AT_FDCWD, r->limits, AT_FDCWD, r->aside, RENAME_EXCHANGE) < 0) /* 3 */
		result = -errno;
	if (result < 0)
		return fail(result, "can't put the new store in the place of %s: %s", r->limits,
			strerror(-result));
	if (r->aside)
		printf("Moved the %sstore aside, to %s.\n", r->store_is_damaged ? "damaged " : "",
			r->aside);
	result = dir_sync(r->state_dir);
	return result < 0 ? fail(result,
				    "%s is the new store, but the disk may not have it yet (%s); "
				    "see the kernel's log, and run this again with --force",
				    r->limits, strerror(-result))
			  : 0;
}

/* -- the command ------------------------------------------------------------------------------- */

int restore_file(const char *state_dir, const char *path, bool force) {
	struct restore r = {.state_dir = state_dir,
		.file = path,
		.limits = dir_path(state_dir, "limits"),
		.new = dir_path(state_dir, "limits.new")};
	int lock = -1, result = r.limits && r.new ? 0 : fail(-ENOMEM, "no memory");
	struct stat st;

	if (result == 0)
		result = file_read(&r);
	/* If another user made the files, berthd couldn't open them. */
	if (result == 0 && stat(state_dir, &st) == 0 && st.st_uid != geteuid())
		result = fail(-EPERM,
			"%s belongs to the user %u; run this as that user (runuser -u)", state_dir,
			(unsigned)st.st_uid);
	if (result == 0)
		result = dir_lock(state_dir, 0700, &lock);
	if (result == 0)
		result = store_judge(&r, force);
	if (result == 0)
		result = new_make(&r);
	if (result == 0)
		result = new_install(&r);
	if (result == 0)
		printf("Restored %zu limits from %s; start berthd.\n", r.lines.count, path);
	lines_deinit(&r.lines);
	close_cleanup(&lock);
	free(r.text);
	free(r.aside);
	free(r.new);
	free(r.limits);
	return result;
}
