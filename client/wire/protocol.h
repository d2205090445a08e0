/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The messages on berth.sock and admin.sock. message.h sends and receives them.
 *
 * The sockets are SOCK_SEQPACKET. A packet is one message. Each request, except BYE, has one reply,
 * and the replies come in the order of the requests. Numbers have the machine's byte order, since
 * both ends are on one machine. All padding is explicit, and `reserved` is 0.
 *
 * Each message has an exact size. berthd answers an unknown size or opcode with
 * BERTH_INVALID_PARAMETER, and an unknown version with BERTH_REVISION_MISMATCH; if it can't trust
 * the rest of the connection, it then hangs up. struct message_header and struct message_failed are
 * the same in every version. The reply BERTH_REVISION_MISMATCH has the version of the request, so
 * that the sender can read it.
 *
 * A reply has the opcode of its request and a code of <berth.h>. If the code isn't BERTH_SUCCESS,
 * the reply is a struct message_failed. Its text says in one sentence what was wrong and what to
 * do.
 */

#include <stdint.h>

#include "bounds.h"

#define MESSAGE_MAGIC     0x48545242u /* "BRTH" */
#define MESSAGE_VERSION   2u
#define MESSAGE_SIZE_MAX  65536u /* bytes of a message */
#define MESSAGE_FDS_MAX   2      /* descriptors that come with a message */
#define MESSAGE_TEXT_SIZE 512    /* with the NUL */
#define MESSAGE_NAME_SIZE 256    /* with the NUL */

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
	uint32_t length; /* of the whole message, in bytes */
	uint32_t code;   /* enum berth_code; 0 in requests */
};

_Static_assert(sizeof(struct message_header) == 16, "wire format");

struct message_failed {
	struct message_header header;
	char text[MESSAGE_TEXT_SIZE]; /* NUL-terminated */
};

/* The name of an account or a template: NUL-terminated, padded with zeros. It is empty if the name
 * is optional in the request, and the sender gives none. */
struct message_name {
	char text[MESSAGE_NAME_SIZE];
};

/* -- berth.sock -------------------------------------------------------------------------------- */

/* The first request on every connection of berth.sock. The client's pidfd comes with it. If
 * resume_serial isn't 0, the client asks to resume a session that it has already. If that session
 * is no longer open, or belongs to another process, berthd opens a new session instead. Reply:
 * struct message_welcome. */
struct message_hello {
	struct message_header header;
	uint64_t fingerprint; /* BERTH_FINGERPRINT */
	uint64_t image;       /* hash of AT_RANDOM */
	uint32_t resume_session;
	uint32_t resume_serial;
};

/* Two descriptors come with this message: first the directory's (read-only), then the segment's. */
struct message_welcome {
	struct message_header header;
	uint32_t session; /* its index in the segment */
	uint32_t serial;
	uint32_t resumed; /* 1: the old session is resumed and keeps its ranges; range_count is 0 */
	uint32_t range_count;
	uint32_t range[4]; /* range n has the records 16n … 16n+15 */
};

/* Asks berthd to put an account into the directory if it isn't there. Reply: struct
 * message_resolved. */
struct message_resolve {
	struct message_header header;
	struct message_name name;
};
struct message_resolved {
	struct message_header header;
	uint32_t account;
	uint32_t generation;
};

/* Asks for more ranges of records. berthd grants at least one range, and at most `count` or
 * MESSAGE_RANGES_MAX, whichever is less. If no range is left, it replies BERTH_NO_SYSTEM_RESOURCES.
 * Reply: struct message_ranges_granted. */
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
	uint32_t range[MESSAGE_RANGES_MAX]; /* sent in full */
};

/* Asks berthd to complete a release that the client has begun and can't complete for lack of memory
 * (counter_finish_seized()). Reply: struct message_done. */
struct message_finish_release {
	struct message_header header;
	uint32_t record;
	uint32_t reserved;
};

/* Ends the session. The client promises that none of its threads will touch a record of the session
 * again. No reply. */
struct message_bye {
	struct message_header header;
};

/* -- admin.sock -------------------------------------------------------------------------------- */

struct message_done {
	struct message_header header;
	uint64_t affected; /* slots revoked by DELETE, or lines imported; otherwise 0 */
};

/* Stands for "unlimited" in a message. The code and the shared files use BERTH_LIMIT_NONE instead.
 * message_limit() converts a limit for a message; limit_of_message() converts the limit of a
 * message back. */
#define MESSAGE_UNLIMITED UINT32_MAX
static inline uint32_t message_limit(uint32_t limit) {
	return limit == BERTH_LIMIT_NONE ? MESSAGE_UNLIMITED : limit;
}
static inline uint32_t limit_of_message(uint32_t limit) {
	return limit == MESSAGE_UNLIMITED ? BERTH_LIMIT_NONE : limit;
}

/* Sets the limit of an account or a template. Reply: struct message_done. */
struct message_set {
	struct message_header header;
	struct message_name name;
	uint32_t limit; /* up to BERTH_COUNT_MAX, or MESSAGE_UNLIMITED */
	uint32_t reserved;
};

/* An account or a template, as replies show it. */
enum row_flag {
	ROW_CONFIGURED = 1 << 0,  /* an administrator has set the limit */
	ROW_BY_TEMPLATE = 1 << 1, /* the account has the limit of a template */
	ROW_IS_TEMPLATE = 1 << 2, /* this is a template; the counts are 0 */
	ROW_ANCESTOR = 1 << 3, /* the account has no limit; it exists as the ancestor of others */
};
struct message_row {
	struct message_name name;
	uint32_t limit;   /* MESSAGE_UNLIMITED: none */
	uint32_t current; /* slots held, by weight; as in struct berth_usage */
	uint32_t peak;    /* the highest `current` so far */
	uint32_t waiting; /* 0 */
	uint64_t denied;  /* acquires that this level refused */
	uint32_t flags;
	uint32_t reserved;
};

/* Asks for one account or template. Reply: struct message_got. */
struct message_get {
	struct message_header header;
	struct message_name name;
};
struct message_got {
	struct message_header header;
	struct message_row row;
};

/* Asks for accounts and templates, in pages. The client begins with cursor 0, and then asks with
 * the reply's `next` as cursor until `next` is 0. A page may be empty. Reply: struct
 * message_listed. */
#define MESSAGE_LIST_CONFIGURED 1u /* flags: only those whose limit an administrator has set */
#define MESSAGE_ROWS_MAX        64
struct message_list {
	struct message_header header;
	struct message_name pattern; /* a name or a template; empty: all */
	uint32_t cursor;
	uint32_t flags;
};
struct message_listed {
	struct message_header header;
	uint32_t next;
	uint32_t count;
	struct message_row row[MESSAGE_ROWS_MAX]; /* sent in full */
};

/* Deletes an account or a template. Reply: struct message_done. */
#define MESSAGE_DELETE_FORCE 1u /* flags: revoke its slots first */
struct message_delete {
	struct message_header header;
	struct message_name name;
	uint32_t flags;
	uint32_t reserved;
};

/* The number of a slot, which is the tag of the step that took it: record:22 | seq:42.
 * MESSAGE_HOLDERS shows it, and MESSAGE_REVOKE takes it. */
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
	uint64_t slot;  /* message_slot() */
	uint64_t since; /* ms since 1970 */
	uint32_t weight;
	uint32_t pid;
	uint32_t uid;
	uint32_t reserved;
	char comm[16];
	char label[BERTH_LABEL_SIZE];
	struct message_name account; /* of the slot: the one asked for, or one below it */
};
#define MESSAGE_HOLDERS_MAX 64

/* Asks for the held slots of an account and of the accounts below it, in pages as MESSAGE_LIST.
 * Reply: struct message_held. */
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

/* Revokes the slots that match every condition that the request gives. The request must give at
 * least one condition, or the flag MESSAGE_REVOKE_ALL. Reply: struct message_revoked. */
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
	uint64_t finished; /* releases that had begun, and that berthd has completed */
};

/* Asks for berthd's state. Reply: struct message_status_reply. */
struct message_status {
	struct message_header header;
};
struct message_status_reply {
	struct message_header header;
	char version[16];
	uint32_t pid;
	uint32_t reserved;
	uint64_t started; /* when this process of berthd started: ms since 1970 */
	uint32_t accounts, accounts_by_template, accounts_max;
	uint32_t slots_held, slots_granted, slots_max;
	uint32_t slots_retired; /* retired records: those that have used up their seqs */
	uint32_t sessions, sessions_max;
	uint32_t templates;
	uint32_t configured; /* accounts with a limit of their own */
	uint32_t reserved1;
	uint64_t denied;
	uint64_t checkpointed; /* when the last checkpoint was stored: ms since 1970; 0: none yet */
	char runtime_dir[MESSAGE_NAME_SIZE];
	char state_dir[MESSAGE_NAME_SIZE];
};

/* An import is IMPORT_BEGIN, IMPORT_LINES as often as needed, then IMPORT_COMMIT. If the client
 * hangs up before it commits, nothing is changed. The reply to each of these requests is a struct
 * message_done. */
struct message_import {
	struct message_header header;
};
/* `count` elements follow this struct, packed: { uint32_t limit; uint8_t length; char name[length];
 * }. */
struct message_import_lines {
	struct message_header header;
	uint32_t count;
	uint32_t bytes;
};
