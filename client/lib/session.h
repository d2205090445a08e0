/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A session with berthd: the shared files as this process maps them, the records that berthd
 * granted, and the path caches of the threads that use them.
 */

#include "protocol.h"
#include "pool.h"

struct session {
	struct berth *handle;  /* that has the session */
	struct session *older; /* the session that the handle retired before this one */
	struct map *map;
	struct pool *pool;
	struct session_entry *entry; /* in the segment; this process writes its denials only */
	uint32_t index;              /* of the entry */
	uint32_t serial;
	uint64_t number;    /* from 1; no other session of this process has it, now or ever */
	uint64_t slot_bits; /* from `number`: what the numbers of its slots have in common */
	/* The entry's state and serial while the session is open; threads_keep_out() stores another
	 * value. */
	_Atomic uint64_t open;
	_Atomic(struct cache *) caches;
	_Atomic bool counts_denials; /* a thread counts its denials in the entry (denials.h) */
};

/* Stands for "no session" on the fast path: no thread has a cache with its number. */
extern struct session session_none;

/* Makes a session from berthd's reply to HELLO. Takes ownership of descriptors (directory,
 * segment), and sets those that it has taken to -1. -EUCLEAN: the files or the message contradict
 * each other; -ENOMEM; or an error of map_new(). */
int session_new(uint64_t number, const struct message_welcome *w, int fds[MESSAGE_FDS_MAX],
	struct session **ret);
/* Frees the session, its pool, its caches and its map. NULL is fine. */
void session_free(struct session *s);

/* True if the slot's number bears the bits of this session. */
static _always_inline_ bool session_gave_slot(const struct session *s, uint64_t slot) {
	return (slot ^ s->slot_bits) >> SLOT_SESSION_SHIFT == 0;
}

/* False once berthd has begun to end the session. Pairs with berthd's store of the state, which
 * precedes the closing of the records. */
static _always_inline_ bool session_is_open(const struct session *s) {
	return likely(load_acquire(&s->entry->open) == load_relaxed(&s->open));
}

/* -- descriptors ------------------------------------------------------------------------------- */

/*
 * The application may close descriptors of the library, as daemons do (closefrom). The kernel may
 * then give the number of such a descriptor to another file. So the library uses a descriptor, and
 * closes it, only while its device and inode are those of the file that the library opened.
 */

struct descriptor {
	int fd; /* -1: none */
	uint64_t dev, ino;
};

/* Takes ownership of fd, even if it fails. Errors as fstat(). */
int descriptor_set(struct descriptor *d, int fd);
bool descriptor_is_ours(const struct descriptor *d);
/* Closes the descriptor if it still refers to the library's file. */
void descriptor_close(struct descriptor *d);

/* Gives a map a new descriptor of the same file if the application has closed the old one. In that
 * case, takes ownership of *fd, and sets *fd to -1. */
void map_file_renew(struct map *m, struct map_file *file, int *fd);
