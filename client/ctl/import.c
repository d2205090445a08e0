/* SPDX-License-Identifier: MIT */

/* The verb import: sends the limits of a file to berthd. berthd sets all of them at the end, or
 * none. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "call.h"
#include "clock.h"
#include "exit-status.h"
#include "import-format.h"
#include "json.h"
#include "message.h"
#include "show.h"
#include "util.h"
#include "verbs.h"

/* On a terminal, the progress is shown each time this much time has passed. */
#define PROGRESS_MS 200

/* Each read may fill at least this many bytes. */
#define READ_MIN 65536

/* -- the file ---------------------------------------------------------------------------------- */

struct text {
	char *at;
	size_t length, capacity;
};

static int text_read(struct text *t, const char *path) {
	bool standard = strcmp(path, "-") == 0;
	_cleanup_close_ int own = standard ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	int fd = standard ? STDIN_FILENO : own;
	ssize_t n;
	int r;

	if (fd < 0)
		return -errno;
	do {
		r = array_reserve(&t->at, &t->capacity, t->length + READ_MIN);
		if (r < 0)
			return r;
		n = read(fd, t->at + t->length, t->capacity - t->length);
		if (n < 0 && errno != EINTR)
			return -errno;
		t->length += n > 0 ? (size_t)n : 0;
	} while (n != 0);
	return 0;
}

static int errors_print(const struct lines *l, const char *file) {
	size_t shown = MIN_OF(l->error_count, (size_t)LINES_ERRORS_SHOWN);

	for (size_t i = 0; i < shown; i++)
		report_error("%s:%" PRIu32 ": %s", file, l->error[i].line, l->error[i].text);
	if (l->error_count > shown)
		report_error("%s: … and %zu more lines are wrong", file, l->error_count - shown);
	return report_error("%s: nothing was imported; correct the file and import it again", file);
}

/* -- sending ----------------------------------------------------------------------------------- */

/* A MESSAGE_IMPORT_LINES that is being filled. */
struct chunk {
	struct message_import_lines message;
	char bytes[MESSAGE_SIZE_MAX - sizeof(struct message_import_lines)];
};

_Static_assert(sizeof(struct chunk) == MESSAGE_SIZE_MAX, "wire format");

/* False: the chunk is full. */
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

static int chunk_send(struct chunk *k) {
	struct message_done done;
	uint32_t size = (uint32_t)sizeof(k->message) + k->message.bytes;
	int r;

	if (k->message.count == 0)
		return CTL_OK;
	k->message.header = message_header_make(MESSAGE_IMPORT_LINES, size, 0);
	r = call_berthd(NULL, k, &done, sizeof(done));
	k->message.count = 0;
	k->message.bytes = 0;
	return r;
}

/* Shows the progress on standard error, if that is a terminal. more is false at the end: then
 * the line is cleared. */
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

static int lines_import(const struct lines *l) {
	static struct chunk chunk;
	struct message_import request = {MESSAGE_HEADER(MESSAGE_IMPORT_BEGIN, request)};
	struct message_done done;
	int r;

	r = call_berthd(NULL, &request, &done, sizeof(done));
	if (r != CTL_OK)
		return r;
	for (size_t i = 0; r == CTL_OK && i < l->count; i++) {
		if (chunk_add(&chunk, &l->entry[i]))
			continue;
		progress_show(i, l->count, true);
		r = chunk_send(&chunk);
		(void)chunk_add(&chunk, &l->entry[i]); /* it fits, as the chunk is empty now */
	}
	if (r == CTL_OK)
		r = chunk_send(&chunk);
	if (r == CTL_OK) {
		request.header = MESSAGE_HEADER(MESSAGE_IMPORT_COMMIT, request);
		progress_show(l->count, l->count, true);
		r = call_berthd(NULL, &request, &done, sizeof(done));
	}
	progress_show(l->count, l->count, false);
	return r;
}

/* -- the verb ---------------------------------------------------------------------------------- */

static int import_file(char **operands) {
	bool standard = strcmp(operands[0], "-") == 0;
	struct shown shown;
	const char *file = standard ? "standard input" : show_text(&shown, operands[0]);
	struct json j = {.out = stdout};
	struct text text = {0};
	struct lines lines = {0};
	int status = CTL_OK, r;

	r = text_read(&text, operands[0]);
	if (r < 0) {
		status = report_error("can't read %s: %s", file, strerror(-r));
		goto out;
	}
	r = lines_parse(&lines, text.at, text.length);
	if (r < 0)
		status = report_error("%s: %s", file, strerror(-r));
	else if (lines.error_count > 0)
		status = errors_print(&lines, file);
	else if (lines.count > 0)
		status = lines_import(&lines);
	if (status == CTL_OK && globals.json) {
		json_open(&j, NULL, '{');
		json_number(&j, "imported", lines.count);
		json_close(&j, '}');
	} else if (status == CTL_OK) {
		printf("imported %zu %s\n", lines.count, lines.count == 1 ? "limit" : "limits");
	}
out:
	lines_deinit(&lines);
	free(text.at);
	return status;
}

const struct verb verb_import = {
	.name = "import",
	.operands = "FILE",
	.operands_min = 1,
	.operands_max = 1,
	.takes_json = true,
	.line = "Set the limits in a file, all or none",
	.text = "Sets the limits in FILE ('-': standard input): all of them, or none if\n"
		"anything in it is wrong. Accounts that aren't in it keep their limits.\n"
		"\n"
		"A line is ACCOUNT LIMIT. The last word is the limit (0 to 1048575, or\n"
		"'unlimited'), and the text before it is the account or template. That may\n"
		"contain spaces, but spaces and tabs around it are dropped. A line whose first\n"
		"character is '#' is a comment. Empty lines are skipped, and lines may end in\n"
		"CR LF. No account may occur twice.\n"
		"\n"
		"If a name begins or ends with a space, or begins with '#', its line is TAB\n"
		"ACCOUNT TAB LIMIT: nothing between the two tabs is dropped.\n",
	.examples = "  berthctl import limits.txt\n"
		    "  printf '%s\\n' 'alice 5' '*@example.com 100' | berthctl import -\n",
	.call = import_file,
};
