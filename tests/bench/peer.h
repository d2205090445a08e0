/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a slot can be had from: berth, and what people would use instead. Each peer counts the slots
 * of several objects, that is, accounts: by name where it knows names, else by number.
 */

#include <stdbool.h>

enum object {
	OBJECT_ROOMY,   /* has room for all who measure */
	OBJECT_FULL,    /* has none: somebody holds its only slot */
	OBJECT_DEATH,   /* whoever holds its only slot is killed */
	OBJECT_COUNTED, /* the process that counts its only slot is killed */
	OBJECT_OWN,     /* and following: one for each process */
	OBJECTS = OBJECT_OWN + 8,
};

#define ROOMY_LIMIT 10u

struct peer {
	const char *name;
	const char *operations; /* that make up a pair */
	const char *loses;      /* when a process that uses it is killed */
	const char *forgets;    /* when the process that counts is killed, and started again */
	/* Once, in the driver. Returns NULL, or why it can't be measured here. */
	const char *(*start)(void);
	void (*stop)(void);
	void (*restart)(void); /* kill -9 of the process that counts; NULL: there is none */
	/* In each process that uses it. */
	void (*open)(void);
	bool (*take)(unsigned object); /* false: the limit is reached */
	void (*give)(unsigned object); /* what was taken last */
	/* So many acquisitions, each released at once; so many denials. */
	void (*pairs)(unsigned object, unsigned long n);
	void (*denials)(unsigned object, unsigned long n);
	const char *missing; /* what start returned */
};

/* Loops without a call by pointer in them. */
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

/* The highest count of an object. */
unsigned object_limit(unsigned object);
/* Its name, for peers that know names; inline, so that it costs each of them the same. */
extern const char *const object_names[OBJECTS];
static inline const char *object_name(unsigned object) {
	return object_names[object];
}

extern struct peer peer_berth, peer_floor, peer_floor_narrow, peer_sem, peer_named, peer_table,
	peer_table_robust, peer_mutex, peer_undo, peer_ofd, peer_lmdb, peer_redis, peer_daemon;

/* berth first, then sem_t, which berth is compared with; NULL-terminated. */
extern struct peer *const peers[];

/* Once; later calls do nothing. */
void peers_start(void);
/* Has somebody hold the only slot of OBJECT_FULL; once, likewise. */
void peers_fill(void);
void peers_stop(void);
/* Kills a holder, and looks whether its slot is free again soon. */
bool peer_gives_back(const struct peer *p);
/* Kills the process that counts, and looks whether it still knows of a holder. */
bool peer_remembers(const struct peer *p);
