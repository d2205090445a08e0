/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the files of berthctl share. ctl-main.c reads the command line and calls one verb; a verb
 * (ctl-accounts.c, ctl-holders.c, ctl-import.c, ctl-status.c, ctl-run.c) asks the daemon through
 * ctl-admin.c and shows what it got through ctl-table.c or ctl-json.c. ctl-rows.c fetches accounts
 * for list and export; ctl-lines.c is the text format of import and export, without any I/O.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "protocol.h"

#ifndef BERTH_VERSION
#define BERTH_VERSION "(unknown)"
#endif

/* Exit statuses; the last three are sysexits(3)'s EX_UNAVAILABLE, EX_TEMPFAIL and EX_NOPERM. */
enum ctl_status {
	CTL_OK = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_UNREACHABLE = 69,
	CTL_DENIED = 75,
	CTL_NOT_ALLOWED = 77,
};

/* What the command line said. */
struct ctl {
	const struct ctl_verb *verb;
	const char *runtime_dir; /* never NULL */
	bool json;
	bool help;
	bool terminal; /* standard output is one */
	bool force;
	bool all;
	uint64_t slot;  /* as MESSAGE_REVOKE takes it; 0: not given */
	uint32_t pid;   /* 0: not given */
	uint32_t given; /* enum ctl_option: what there was */
	uint32_t weight;
	const char *label;
	int denied_status;
	int admin_fd; /* -1: not connected yet */
};

/* A verb gets its operands, argv[argc] being NULL, and returns an exit status. */
typedef int (*ctl_verb_run)(struct ctl *c, int argc, char **argv);

struct ctl_verb {
	const char *name;
	const char *args; /* synopsis of what follows the name */
	const char *line; /* what it does, in one line */
	const char *text; /* the rest of `help VERB`: options, examples */
	uint32_t options; /* enum ctl_option that it takes beside the global ones */
	int args_min, args_max;
	ctl_verb_run run;
};

enum ctl_option {
	CTL_OPTION_JSON = 1 << 0,
	CTL_OPTION_FORCE = 1 << 1,
	CTL_OPTION_ALL = 1 << 2,
	CTL_OPTION_SLOT = 1 << 3,
	CTL_OPTION_PID = 1 << 4,
	CTL_OPTION_WEIGHT = 1 << 5,
	CTL_OPTION_LABEL = 1 << 6,
	CTL_OPTION_STATUS = 1 << 7,
};

extern const struct ctl_verb ctl_verbs[];
extern const size_t ctl_verb_count;
const struct ctl_verb *ctl_verb_find(const char *name); /* NULL: none such */

/* -- ctl-help.c -------------------------------------------------------------------------------- */

extern const char help_set[], help_get[], help_list[], help_delete[], help_holders[], help_revoke[],
	help_import[], help_export[], help_status[], help_run[], help_help[];

void help_print(void);
void help_print_verb(const struct ctl_verb *v);

/* -- ctl-admin.c: messages to people, and calls to the daemon ---------------------------------- */

/* "berthctl: …" and a newline on standard error. */
void ctl_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, and where to read on. Returns CTL_USAGE. */
int ctl_usage(const struct ctl *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A name, label or other text of strangers as a person may see it. */
#define CTL_SHOWN_SIZE (4 * MESSAGE_NAME_SIZE)
struct ctl_shown {
	char text[CTL_SHOWN_SIZE];
};
const char *ctl_show(struct ctl_shown *s, const char *text);
const char *ctl_show_bytes(struct ctl_shown *s, const char *text, size_t size);

/* CTL_OK, or says which rule the name breaks and returns CTL_USAGE. */
int ctl_check_account(const struct ctl *c, const char *name);
int ctl_check_account_or_template(const struct ctl *c, const char *name);

/* Which exit status a code of <berth.h> is. */
int ctl_status_of(uint32_t code);

/* "5" or "unlimited", for a limit as the messages have it. */
#define CTL_LIMIT_SIZE 16
const char *ctl_limit_text(uint32_t limit, char to[CTL_LIMIT_SIZE]);

/* Asks berthd and waits for a reply of exactly reply_size bytes, connecting first where that hasn't
 * happened yet. `about` is what the request concerns, for messages; NULL: nothing in particular.
 * Returns an exit status; what isn't CTL_OK has been reported. */
int admin_call(
	struct ctl *c, const char *about, const void *request, void *reply, size_t reply_size);
void admin_close(struct ctl *c);

/* A reply whose size was right but that makes no sense. Reports it; returns CTL_FAILED. */
int admin_nonsense(void);

/* -- ctl-json.c -------------------------------------------------------------------------------- */

/* Writes JSON to a stream; strings are made valid whatever bytes they have. A key is NULL in an
 * array and at the top. */
struct json {
	FILE *out;
	bool follows; /* something stands before on this level */
	unsigned depth;
};

void json_open(struct json *j, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                 /* '}' or ']' */
void json_string(struct json *j, const char *key, const char *text);
void json_string_or_null(struct json *j, const char *key, const char *text); /* null if empty */
void json_number(struct json *j, const char *key, uint64_t n);
void json_true(struct json *j, const char *key);
void json_null(struct json *j, const char *key);
void json_limit(struct json *j, const char *key, uint32_t limit); /* MESSAGE_UNLIMITED: null */
void json_time(struct json *j, const char *key, uint64_t ms);     /* 0: null */

/* "2026-01-31T23:59:59Z" of ms since 1970. */
#define TIME_TEXT_SIZE 40
const char *time_text(uint64_t ms, char to[TIME_TEXT_SIZE]);

/* -- ctl-table.c ------------------------------------------------------------------------------- */

struct table_column {
	const char *title;
	bool right; /* numbers */
	bool cut;   /* may be cut where a terminal is too narrow */
};

#define TABLE_CELL_SIZE CTL_SHOWN_SIZE

struct table {
	const struct table_column *columns;
	size_t column_count;
	const void *rows;
	size_t row_count;
	/* Writes what stands in one cell: valid UTF-8 without control characters. */
	void (*cell)(const void *rows, size_t row, size_t column, char to[TABLE_CELL_SIZE]);
	/* Rows to be pointed out; may be NULL. */
	bool (*alarming)(const void *rows, size_t row);
};

/* Prints on standard output: fitted to a terminal, in full into anything else. An exit status. */
int table_print(const struct ctl *c, const struct table *t);

/* -- ctl-rows.c -------------------------------------------------------------------------------- */

/* An account or template as list and export want it: a tenth of the message's row. */
struct row {
	char *name;
	uint32_t limit; /* MESSAGE_UNLIMITED: none */
	uint32_t current;
	uint32_t peak;
	uint32_t flags; /* enum row_flag */
	uint64_t denied;
};

struct rows {
	struct row *row;
	size_t count, capacity;
};

/* Everything that a pattern ("": all) matches, by name in the order of bytes, templates last. */
int rows_fetch(struct ctl *c, const char *pattern, uint32_t flags, struct rows *ret);
void rows_deinit(struct rows *rows);

/* Where the limit comes from: "account", "template" or "none". */
const char *row_source(uint32_t flags);
void row_json(struct json *j, const struct row *row);

/* -- the verbs --------------------------------------------------------------------------------- */

int verb_set(struct ctl *c, int argc, char **argv);
int verb_get(struct ctl *c, int argc, char **argv);
int verb_list(struct ctl *c, int argc, char **argv);
int verb_delete(struct ctl *c, int argc, char **argv);
int verb_holders(struct ctl *c, int argc, char **argv);
int verb_revoke(struct ctl *c, int argc, char **argv);
int verb_import(struct ctl *c, int argc, char **argv);
int verb_export(struct ctl *c, int argc, char **argv);
int verb_status(struct ctl *c, int argc, char **argv);
int verb_run(struct ctl *c, int argc, char **argv);
int verb_help(struct ctl *c, int argc, char **argv);
