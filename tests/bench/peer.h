/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Peers: berth, and what people would use instead of it. Each peer counts the slots of several
 * objects, which are accounts to berth. Peers that know names find an object by its name, others by
 * its number.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>

#include "bench.h"

enum object {
	OBJECT_FREE,    /* has a free slot for every process that measures */
	OBJECT_FULL,    /* has one slot; peers_fill() starts a process that holds it */
	OBJECT_KILLED,  /* has one slot, for peer_frees_slot() */
	OBJECT_COUNTED, /* has one slot, for peer_remembers() */
	OBJECT_OWN,     /* this and the following: one object for each process */
	OBJECTS = OBJECT_OWN + 8,
};

#define FREE_LIMIT 10u

struct peer {
	const char *name;
	const char *operations; /* what an acquire and a release do */
	const char *loses;      /* what is lost when a process that holds slots is killed */
	const char *forgets;    /* what is lost when the process that counts is killed */
	/* Called once, in the driver. Returns NULL, or why the peer can't be measured here. */
	const char *(*start)(void);
	void (*stop)(void);
	/* Kills the process that counts, and starts it again; NULL: no process counts. */
	void (*restart)(void);
	/* Called in each process that uses the peer; NULL: there is nothing to do. */
	void (*open)(void);
	bool (*take)(unsigned object); /* acquires a slot; false: the limit is reached */
	void (*give)(unsigned object); /* releases the slot that was acquired last */
	/* `pairs` acquires a slot and releases it, n times. `denials` tries to acquire a slot and
	 * is denied, n times. */
	void (*pairs)(unsigned object, unsigned long n);
	void (*denials)(unsigned object, unsigned long n);
	const char *missing; /* what start() returned */
};

/* Defines pairs and denials with direct calls, since the time of calls by pointer would be
 * measured, too. */
#define PEER_LOOPS(peer)                                                        \
	static void peer##_pairs(unsigned object, unsigned long n) {            \
		while (n-- > 0) {                                               \
			bench_check(peer##_take(object), #peer " is full");     \
			peer##_give(object);                                    \
		}                                                               \
	}                                                                       \
	static void peer##_denials(unsigned object, unsigned long n) {          \
		while (n-- > 0)                                                 \
			bench_check(!peer##_take(object), #peer " isn't full"); \
	}

/* Sets the members of a struct peer to the functions that every peer has. */
#define PEER_FUNCTIONS(peer)                                                                    \
	.start = peer##_start, .take = peer##_take, .give = peer##_give, .pairs = peer##_pairs, \
	.denials = peer##_denials

/* Makes a mutex that processes share. */
void mutex_init(pthread_mutex_t *mutex, bool robust);

/* Locks or unlocks a byte of a file. False: another open file has locked it. */
static inline bool byte_change(int fd, unsigned byte, short type) {
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return true;
	bench_check(errno == EAGAIN || errno == EACCES, "fcntl F_OFD_SETLK");
	return false;
}

/* Returns the number of an object's slots. */
unsigned object_limit(unsigned object);
/* Returns an object's name. The function is inline, so that it costs each peer the same. */
extern const char *const object_names[OBJECTS];
static inline const char *object_name(unsigned object) {
	return object_names[object];
}

extern struct peer peer_berth, peer_floor, peer_floor_narrow, peer_sem, peer_named, peer_table,
	peer_table_robust, peer_mutex, peer_undo, peer_ofd, peer_lmdb, peer_redis, peer_daemon;

/* All peers, NULL-terminated. The first is berth. The second is sem_t, with which berth is
 * compared. */
extern struct peer *const peers[];

/* Starts all peers; later calls do nothing. */
void peers_start(void);
/* Starts processes that hold the slots of OBJECT_FULL; later calls do nothing. */
void peers_fill(void);
void peers_stop(void);
/* Kills a process that holds a slot. Returns true if the slot is free again within half a
 * second. */
bool peer_frees_slot(const struct peer *p);
/* Restarts the process that counts. Returns true if the peer still knows that another process holds
 * a slot. */
bool peer_remembers(const struct peer *p);
