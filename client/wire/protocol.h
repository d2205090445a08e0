/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is said on berth.sock and admin.sock: SOCK_SEQPACKET, one message a packet, one reply a
 * request, in order. Native byte order (both ends are one machine). Every message has its exact
 * size; sizes, opcodes and versions that aren't known are answered with 87 or 1306 and, where the
 * stream can't be trusted any more, a hang-up. The header and struct message_failed are the same in
 * every version: 1306 is said in the version of the request, so that its sender can read it.
 *
 * A reply bears the request's opcode and a code of <berth.h>. A reply with a code other than 0 is a
 * struct message_failed, which says in one sentence what was wrong and what to do.
 */

#include <stdint.h>

#include "bounds.h"

#define MESSAGE_MAGIC     0x48545242u /* "BRTH" */
#define MESSAGE_VERSION   2u
#define MESSAGE_SIZE_MAX  65536u
#define MESSAGE_FDS_MAX   2
#define MESSAGE_TEXT_SIZE 512
#define MESSAGE_NAME_SIZE 256

enum message_opcode {
	/* berth.sock */
	MESSAGE_HELLO = 1,
	MESSAGE_RESOLVE,
	MESSAGE_RANGES,
	MESSAGE_FINISH_RELEASE,
	MESSAGE_BYE,
	/* admin.sock */
	MESSAGE_SET = 32,
	MESSAGE_GET,
	MESSAGE_LIST,
	MESSAGE_DELETE,
	MESSAGE_HOLDERS,
	MESSAGE_REVOKE,
	MESSAGE_STATUS,
	MESSAGE_IMPORT_BEGIN,
	MESSAGE_IMPORT_LINES,
	MESSAGE_IMPORT_COMMIT,
};

struct message_header {
	uint32_t magic;
	uint16_t version;
	uint16_t opcode;
	uint32_t length; /* of the whole message */
	uint32_t code;   /* a reply's; 0 in requests */
};

_Static_assert(sizeof(struct message_header) == 16, "wire format");

struct message_failed {
	struct message_header header;
	char text[MESSAGE_TEXT_SIZE]; /* NUL-terminated */
};

/* A name on the wire: NUL-terminated, the rest zeros; empty where the request allows none. */
struct message_name {
	char text[MESSAGE_NAME_SIZE];
};

/* -- berth.sock ------------------------------------------------------------------------------ */

/* First on every connection, with the caller's pidfd. resume_serial other than 0 asks to go on with
 * the session that this process has already; refused (with a new session in its place) unless it is
 * still open and this process's. */
struct message_hello {
	struct message_header header;
	uint64_t fingerprint; /* BERTH_FINGERPRINT */
	uint64_t image;       /* hash of AT_RANDOM */
	uint32_t resume_session;
	uint32_t resume_serial;
};

/* With two descriptors, the directory's (read-only) and the segment's. */
struct message_welcome {
	struct message_header header;
	uint32_t session;
	uint32_t serial;
	uint32_t resumed; /* 1: the old session goes on, with the ranges it has; range_count is 0 */
	uint32_t range_count;
	uint32_t range[4]; /* range n is the records 16n … 16n+15 */
};

/* After success the name is in the directory. */
struct message_resolve {
	struct message_header header;
	struct message_name name;
};
struct message_resolved {
	struct message_header header;
	uint32_t account;
	uint32_t generation;
};

/* More records, in ranges: at least one, at most `count` of them (and 256). */
#define MESSAGE_RANGES_MAX 256
struct message_ranges {
	struct message_header header;
	uint32_t count;
	uint32_t reserved;
};
struct message_ranges_granted {
	struct message_header header;
	uint32_t count;
	uint32_t reserved;
	uint32_t range[MESSAGE_RANGES_MAX];
};

/* Finish a release that this process had no memory left for. Reply: struct message_done. */
struct message_finish_release {
	struct message_header header;
	uint32_t record;
	uint32_t reserved;
};

/* The session is over and nothing of this process will touch its records again. No reply. */
struct message_bye {
	struct message_header header;
};

/* -- admin.sock ------------------------------------------------------------------------------ */

struct message_done {
	struct message_header header;
	uint64_t affected; /* slots revoked, lines imported … */
};

#define MESSAGE_UNLIMITED UINT32_MAX

struct message_set {
	struct message_header header;
	struct message_name name; /* an account or a template */
	uint32_t limit;
	uint32_t reserved;
};

/* One account or template. */
enum row_flag {
	ROW_CONFIGURED = 1 << 0,  /* the limit is its own */
	ROW_BY_TEMPLATE = 1 << 1, /* the limit is that of a template */
	ROW_IS_TEMPLATE = 1 << 2, /* it is a template; the counts are 0 */
	ROW_ANCESTOR = 1 << 3,    /* there only because accounts below it are; no limit */
};
struct message_row {
	struct message_name name;
	uint32_t limit; /* MESSAGE_UNLIMITED: none */
	uint32_t current;
	uint32_t peak;
	uint32_t waiting;
	uint64_t denied;
	uint32_t flags;
	uint32_t reserved;
};

struct message_get {
	struct message_header header;
	struct message_name name;
};
struct message_got {
	struct message_header header;
	struct message_row row;
};

/* Pages: begin with cursor 0, go on with `next` until it is 0. A page may be empty. */
#define MESSAGE_LIST_CONFIGURED 1u /* flags: only what an administrator set: what export wants */
#define MESSAGE_ROWS_MAX        64
struct message_list {
	struct message_header header;
	struct message_name pattern; /* empty: all; else as a template matches */
	uint32_t cursor;
	uint32_t flags;
};
struct message_listed {
	struct message_header header;
	uint32_t next;
	uint32_t count;
	struct message_row row[MESSAGE_ROWS_MAX]; /* sent in full */
};

#define MESSAGE_DELETE_FORCE 1u /* flags: revoke its slots first */
struct message_delete {
	struct message_header header;
	struct message_name name;
	uint32_t flags;
	uint32_t reserved;
};

/* A slot as it is shown, and as MESSAGE_REVOKE takes it. */
#define MESSAGE_RECORD_MAX ((UINT64_C(1) << 22) - 1)
#define MESSAGE_SEQ_MAX    ((UINT64_C(1) << 42) - 1)
static inline uint64_t message_slot(uint64_t record, uint64_t seq) {
	return record << 42 | seq;
}
static inline uint64_t message_slot_record(uint64_t slot) {
	return slot >> 42;
}
static inline uint64_t message_slot_seq(uint64_t slot) {
	return slot & MESSAGE_SEQ_MAX;
}

struct message_holder {
	uint64_t slot;  /* as message_slot() has it: a cell's tag */
	uint64_t since; /* ms since 1970 */
	uint32_t weight;
	uint32_t pid;
	uint32_t uid;
	uint32_t reserved;
	char comm[16];
	char label[BERTH_LABEL_SIZE];
	struct message_name account; /* the one that was acquired; the one asked for or below it */
};
#define MESSAGE_HOLDERS_MAX 64
struct message_holders {
	struct message_header header;
	struct message_name name;
	uint32_t cursor;
	uint32_t reserved;
};
struct message_held {
	struct message_header header;
	uint32_t next;
	uint32_t count;
	struct message_holder holder[MESSAGE_HOLDERS_MAX]; /* sent in full */
};

/* Revokes the slots that match all that is given; at least one must be, or flags ALL. */
#define MESSAGE_REVOKE_ALL 1u
struct message_revoke {
	struct message_header header;
	struct message_name name; /* empty: any account */
	uint64_t slot;            /* 0: any */
	uint32_t pid;             /* 0: any */
	uint32_t flags;
};
struct message_revoked {
	struct message_header header;
	uint64_t revoked;  /* slots */
	uint64_t finished; /* releases that had begun, and had not come to their end */
};

struct message_status {
	struct message_header header;
};
struct message_status_reply {
	struct message_header header;
	char version[16];
	uint32_t pid;
	uint32_t reserved;
	uint64_t started; /* ms since 1970, this daemon process */
	uint32_t accounts, accounts_by_template, accounts_max;
	uint32_t slots_held, slots_granted, slots_max;
	uint32_t slots_retired; /* records that have used up their seqs */
	uint32_t sessions, sessions_max;
	uint32_t templates;
	uint32_t configured; /* accounts with a limit of their own */
	uint32_t reserved1;
	uint64_t denied;
	uint64_t checkpointed; /* ms since 1970; 0: not yet */
	char runtime_dir[MESSAGE_NAME_SIZE];
	char state_dir[MESSAGE_NAME_SIZE];
};

/* Import: BEGIN, LINES as often as needed, COMMIT (or hang up: nothing has changed then). Each is
 * answered by struct message_done. */
struct message_import {
	struct message_header header;
};
/* Followed by `count` times { uint32_t limit; uint8_t length; char name[length]; }, packed. */
struct message_import_lines {
	struct message_header header;
	uint32_t count;
	uint32_t bytes;
};
