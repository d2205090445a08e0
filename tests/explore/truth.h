/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The truth is what the explorer itself records about accounts, limits and held slots,
 * independently of the shared words. Not everything in it is certain: a slot that berthd has begun
 * to revoke may be held or not.
 */

#include "berth.h"
#include "coroutine.h"

/* The accounts that may exist. The last account, "many", has no limit: its slots are held only to
 * keep records in use. */
#define NAMES 12u
extern const struct name_known {
	const char *text;
	int parent; /* index in names[]; -1: none */
} names[NAMES];

/* A slot that a process has acquired. */
struct holding {
	berth_slot slot;
	uint32_t session, serial; /* the session in which it was acquired */
	uint32_t record, weight;
	uint32_t name;
	uint32_t level[BERTH_LEVELS_MAX], depth; /* the accounts of its path */
	bool used;                               /* false: this struct is free */
	bool certain;      /* certainly held: no party has begun to release or revoke it */
	uint8_t releasing; /* threads that are releasing it */
	bool told;         /* a thread was told that the slot was released or revoked */
	bool succeeded;    /* a thread was told that it released the slot */
};

struct truth {
	uint32_t account[NAMES];   /* the account's index; 0: the account doesn't exist */
	uint32_t held[CELLS];      /* the weights of the slots that are certainly held */
	bool removed[CELLS];       /* no account has this index */
	bool revoking[RECORDS];    /* berthd is revoking the record's slot */
	uint64_t doubted[RECORDS]; /* the access at which a revocation last began or ended */
	/* The access (its number, see hooks.h) at which the session ended; UINT64_MAX: a thread is
	 * closing it. */
	uint64_t ended[SESSIONS];
};

extern struct truth truth;

void truth_reset(void);

/* Records a slot that an acquire has just returned. The slot is certainly held, unless berthd may
 * have revoked it since access `began`, at which the acquire began. */
void truth_hold(struct holding *h, uint64_t began);
/* True if berthd has neither revoked the slot nor ended its session since the access `since`. */
bool truth_is_untouched(const struct holding *h, uint64_t since);
/* Called when a slot is about to be released, or its process has died: the slot isn't certainly
 * held any more. */
void truth_drop(struct holding *h);

/* Called when berthd begins to revoke the slot that the record holds (`begins`), and when this
 * revocation has ended (not `begins`). */
void truth_doubt(uint32_t record, bool begins);
/* Called when the state of the session was written. Unless the state is OPEN, berthd will revoke
 * the session's slots. */
void truth_session_written(uint32_t session);

/* Called when a thread begins to close the session. The thread releases the session's slots, and
 * then calls truth_session_ended(). */
void truth_session_ending(uint32_t session);
/* Called when the session has ended: its slots aren't certainly held any more. */
void truth_session_ended(uint32_t session);

/* Called when the word of an account's entry was written. Until berthd acknowledges the new limit,
 * the former limits stay in force, too. If the word has ENTRY_LIVE, an account has this index. */
void truth_entry_written(uint32_t account);
/* Called when berthd has acknowledged the limit: only this limit is in force now. */
void truth_limit_acknowledged(uint32_t account);
/* The highest limit in force. */
uint32_t truth_limit(uint32_t account);
