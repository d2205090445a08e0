/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the explorer itself knows, whatever the shared words say: which accounts there are, which
 * limits have been in force when, and which slots are held for certain.
 */

#include "berth.h"
#include "coroutine.h"

/* Names, and the parent of each; the first NAMES_FLAT have none. */
#define NAMES 12u
extern const struct name_known {
	const char *text;
	int parent; /* -1: none */
} names[NAMES];

struct holding {
	berth_slot slot;
	uint32_t session, serial; /* of its session */
	uint32_t record, weight;
	uint32_t name;
	uint32_t level[BERTH_LEVELS_MAX], depth; /* accounts */
	bool used;                               /* this place is */
	bool certain;      /* nobody has released or revoked it, or has begun to */
	uint8_t releasing; /* so many threads are */
	bool told;         /* one of them what became of it */
	bool succeeded;    /* that it released it */
};

struct truth {
	uint32_t account[NAMES];   /* its index; 0: there is no such account */
	uint32_t held[CELLS];      /* for certain, by weight */
	bool removed[CELLS];       /* the index is nobody's */
	uint64_t doubted[RECORDS]; /* the access at which berthd last had to do with it */
	bool revoking[RECORDS];
	uint64_t ended[SESSIONS];
};

extern struct truth truth;

void truth_reset(void);

/* The accounts of a name's path, as berthd has made them. 0: there is none. */
uint32_t truth_path(uint32_t name, uint32_t ret[BERTH_LEVELS_MAX]);

/* A slot that an acquire, begun at access `began`, has just returned: it is certain unless berthd may have
 * revoked it since. */
void truth_hold(struct holding *h, uint64_t began);
/* True if berthd can't have revoked it since, nor ended its session. */
bool truth_is_untouched(const struct holding *h, uint64_t since);
/* It is about to be released, or its process has died. */
void truth_drop(struct holding *h);

/* berthd begins, and ends, to revoke whatever the record holds. */
void truth_doubt(uint32_t record, bool begins);
/* The session's entry was written: if it isn't open, its slots are revoked now or soon. */
void truth_session_written(uint32_t session);

/* From here on until it has ended, slots of it may be released by the thread that closes it. */
void truth_session_ending(uint32_t session);
/* Its slots aren't its holders' any more. */
void truth_session_ended(uint32_t session);

/* The word of an account's entry was written: the limit is one of those in force, the only one as soon
 * as berthd has acknowledged it; and where it is LIVE, the account has this index. */
void truth_entry_written(uint32_t account);
void truth_limit_acknowledged(uint32_t account);
/* The highest that is in force. */
uint32_t truth_limit(uint32_t account);
