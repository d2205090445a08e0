/* SPDX-License-Identifier: MIT */

/* The verbs import and export: limits from a file to the daemon, all or none, and back. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "ctl.h"
#include "lines.h"
#include "clock.h"
#include "message.h"
#include "util.h"

/* How long an import must take before a terminal hears of it, and how often then. */
#define PROGRESS_MS 200

/* Room for so many bytes at least, before each read. */
#define READ_MIN 65536

/* -- the file ---------------------------------------------------------------------------------- */

struct text {
	char *at;
	size_t length, capacity;
};

static int text_read_some(struct text *t, int fd) {
	ssize_t n = array_reserve(&t->at, &t->capacity, t->length + READ_MIN);

	if (n < 0)
		return (int)n;
	do
		n = read(fd, t->at + t->length, t->capacity - t->length);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	t->length += (size_t)n;
	return n > 0;
}

static int text_read(struct text *t, const char *path) {
	bool standard = strcmp(path, "-") == 0;
	_cleanup_close_ int own = standard ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	int fd = standard ? STDIN_FILENO : own;
	int r;

	if (fd < 0)
		return -errno;
	do
		r = text_read_some(t, fd);
	while (r > 0);
	return r;
}

static int errors_print(const struct lines *l, const char *file) {
	size_t shown = MIN_OF(l->error_count, (size_t)LINES_ERRORS_SHOWN);

	for (size_t i = 0; i < shown; i++)
		ctl_error("%s:%" PRIu32 ": %s", file, l->error[i].line, l->error[i].text);
	if (l->error_count > shown)
		ctl_error("%s: … and %zu more lines are wrong", file, l->error_count - shown);
	ctl_error("%s: nothing was imported; mend the file and import it again", file);
	return CTL_FAILED;
}

/* -- sending ----------------------------------------------------------------------------------- */

/* One MESSAGE_IMPORT_LINES being filled. */
struct chunk {
	struct message_import_lines message;
	char bytes[MESSAGE_SIZE_MAX - sizeof(struct message_import_lines)];
};

_Static_assert(sizeof(struct chunk) == MESSAGE_SIZE_MAX, "wire format");

static bool chunk_add(struct chunk *k, const struct lines_entry *e) {
	uint8_t length = (uint8_t)e->length;
	char *to = k->bytes + k->message.bytes;

	if (k->message.bytes + sizeof(e->limit) + 1 + length > sizeof(k->bytes))
		return false;
	memcpy(to, &e->limit, sizeof(e->limit));
	memcpy(to + sizeof(e->limit), &length, 1);
	memcpy(to + sizeof(e->limit) + 1, e->name, length);
	k->message.bytes += (uint32_t)sizeof(e->limit) + 1 + length;
	k->message.count++;
	return true;
}

static int chunk_send(struct ctl *c, struct chunk *k) {
	struct message_done done;
	uint32_t size = (uint32_t)sizeof(k->message) + k->message.bytes;
	int r;

	if (k->message.count == 0)
		return CTL_OK;
	k->message.header = message_header_make(MESSAGE_IMPORT_LINES, size, 0);
	r = admin_call(c, NULL, k, &done, sizeof(done));
	k->message.count = 0;
	k->message.bytes = 0;
	return r;
}

/* On standard error, where it disturbs no output; false at the end clears it. */
static void progress_show(size_t sent, size_t count, bool more) {
	static int64_t next;
	static bool shown;
	int64_t now = clock_monotonic_ms();

	if (!isatty(STDERR_FILENO))
		return;
	if (next == 0)
		next = now + PROGRESS_MS;
	if (more && now >= next) {
		fprintf(stderr, "\rimporting: %zu of %zu", sent, count);
		next = now + PROGRESS_MS;
		shown = true;
	} else if (!more && shown) {
		fputs("\r\033[K", stderr);
	}
}

static int lines_send(struct ctl *c, const struct lines *l) {
	static struct chunk chunk;
	int r = CTL_OK;

	for (size_t i = 0; r == CTL_OK && i < l->count; i++) {
		if (chunk_add(&chunk, &l->entry[i]))
			continue;
		progress_show(i, l->count, true);
		r = chunk_send(c, &chunk);
		(void)chunk_add(&chunk, &l->entry[i]); /* fits: the chunk is empty now */
	}
	if (r == CTL_OK)
		r = chunk_send(c, &chunk);
	return r;
}

static int lines_import(struct ctl *c, const struct lines *l) {
	struct message_import request = {MESSAGE_HEADER(MESSAGE_IMPORT_BEGIN, request)};
	struct message_done done;
	int r;

	r = admin_call(c, NULL, &request, &done, sizeof(done));
	if (r != CTL_OK)
		return r;
	r = lines_send(c, l);
	if (r == CTL_OK) {
		request.header = MESSAGE_HEADER(MESSAGE_IMPORT_COMMIT, request);
		progress_show(l->count, l->count, true);
		r = admin_call(c, NULL, &request, &done, sizeof(done));
	}
	progress_show(l->count, l->count, false);
	return r;
}

static void imported_print(const struct ctl *c, size_t count) {
	struct json j = {.out = stdout};

	if (!c->json) {
		printf("imported %zu %s\n", count, count == 1 ? "limit" : "limits");
		return;
	}
	json_open(&j, NULL, '{');
	json_number(&j, "imported", count);
	json_close(&j, '}');
}

static int text_import(struct ctl *c, const struct text *t, const char *file) {
	struct lines lines = {0};
	int status = CTL_OK;
	int r = lines_parse(&lines, t->at, t->length);

	if (r < 0) {
		ctl_error("%s: %s", file, strerror(-r));
		status = CTL_FAILED;
	} else if (lines.error_count > 0) {
		status = errors_print(&lines, file);
	} else if (lines.count > 0) {
		status = lines_import(c, &lines);
	}
	if (status == CTL_OK)
		imported_print(c, lines.count);
	lines_deinit(&lines);
	return status;
}

int verb_import(struct ctl *c, int argc, char **argv) {
	bool standard = strcmp(argv[0], "-") == 0;
	struct ctl_shown shown;
	const char *file = standard ? "standard input" : ctl_show(&shown, argv[0]);
	struct text text = {0};
	int status = CTL_FAILED;
	int r = text_read(&text, argv[0]);

	(void)argc;
	if (r < 0)
		ctl_error("can't read %s: %s", file, strerror(-r));
	else
		status = text_import(c, &text, file);
	free(text.at);
	return status;
}

/* -- export ------------------------------------------------------------------------------------ */

int verb_export(struct ctl *c, int argc, char **argv) {
	struct rows rows;
	int r;

	(void)argc;
	(void)argv;
	r = rows_fetch(c, "", MESSAGE_LIST_CONFIGURED, &rows);
	if (r != CTL_OK)
		return r;
	printf("# berth limits, %zu accounts and templates\n", rows.count);
	for (size_t i = 0; i < rows.count; i++)
		line_write(stdout, rows.row[i].name, rows.row[i].limit);
	rows_deinit(&rows);
	return CTL_OK;
}
