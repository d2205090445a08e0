/* SPDX-License-Identifier: MIT */

/* Lists the peers, defines berth as one of them, starts and stops all peers, and tests what a peer
 * loses by kills. */

#include <berth.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "peer.h"

struct peer *const peers[] = {&peer_berth, &peer_sem, &peer_floor_narrow, &peer_floor, &peer_named,
	&peer_table, &peer_table_robust, &peer_mutex, &peer_ofd, &peer_undo, &peer_lmdb,
	&peer_daemon, &peer_redis, NULL};

const char *const object_names[OBJECTS] = {"free@example.com", "full@example.com",
	"killed@example.com", "counted@example.com", "own0@example.com", "own1@example.com",
	"own2@example.com", "own3@example.com", "own4@example.com", "own5@example.com",
	"own6@example.com", "own7@example.com"};

unsigned object_limit(unsigned object) {
	return object > OBJECT_FREE && object < OBJECT_OWN ? 1 : FREE_LIMIT;
}

/* -- berth ------------------------------------------------------------------------------------- */

static struct berthd berthd;
static berth_slot berth_taken;

static const char *berth_start(void) {
	berthd_start(&berthd, 1000000, 1000000);
	for (unsigned object = 0; object < OBJECTS; object++) {
		char limit[16];

		(void)snprintf(limit, sizeof(limit), "%u", object_limit(object));
		berthd_set(object_name(object), limit);
	}
	return NULL;
}

static void berth_stop(void) {
	berthd_end(&berthd);
}

static void berth_restart(void) {
	(void)instance_kill(&berthd.instance, SIGKILL);
	instance_restart(&berthd.instance);
}

static void peer_berth_open(void) {
	handle_open(0);
}

static bool berth_take(unsigned object) {
	int code = berth_acquire(handle, object_name(object), &berth_taken);

	if (code == BERTH_CONNECTION_COUNT_LIMIT)
		return false;
	bench_must(code, "berth_acquire");
	return true;
}

static void berth_give(unsigned object) {
	(void)object;
	bench_must(berth_release(handle, berth_taken), "berth_release");
}

static void berth_pairs(unsigned object, unsigned long n) {
	handle_pairs(object_name(object), n);
}

static void berth_denials(unsigned object, unsigned long n) {
	const char *name = object_name(object);
	berth_slot slot;

	while (n-- > 0)
		bench_check(berth_acquire(handle, name, &slot) == BERTH_CONNECTION_COUNT_LIMIT,
			"a full account isn't full");
}

struct peer peer_berth = {
	.name = "berth",
	.operations = "berth_acquire + berth_release",
	.loses = "nothing: berthd gives its slots back",
	.forgets = "nothing: counts are in shared memory, limits on disk",
	.stop = berth_stop,
	.restart = berth_restart,
	.open = peer_berth_open,
	PEER_FUNCTIONS(berth),
};

/* -- all peers --------------------------------------------------------------------------------- */

#define PEERS (sizeof(peers) / sizeof(peers[0]) - 1)

static pid_t fillers[PEERS];

static void take_one(const void *peer, unsigned object) {
	const struct peer *p = peer;

	if (p->open)
		p->open();
	bench_check(p->take(object), "a holder's slot");
}

void peers_start(void) {
	static bool started;

	for (unsigned i = 0; i < PEERS && !started; i++)
		peers[i]->missing = peers[i]->start();
	started = true;
}

void peers_fill(void) {
	static bool filled;

	for (unsigned i = 0; i < PEERS && !filled; i++)
		if (!peers[i]->missing && peers[i]->denials)
			fillers[i] = bench_hold(take_one, peers[i], OBJECT_FULL);
	filled = true;
}

void peers_stop(void) {
	for (unsigned i = 0; i < PEERS; i++) {
		bench_kill(fillers[i]);
		fillers[i] = 0;
		if (peers[i]->stop)
			peers[i]->stop();
	}
}

/* -- kills ------------------------------------------------------------------------------------- */

#define FREED_WITHIN (500 * NS_OF_MS)

/* True if a child can acquire the slot within half a second. */
static bool slot_is_free(const struct peer *p, unsigned object) {
	pid_t pid = bench_fork();
	double end = bench_now() + FREED_WITHIN;
	int status;

	if (pid == 0) {
		if (p->open)
			p->open();
		while (!p->take(object))
			if (bench_now() > end)
				_exit(EXIT_FAILURE);
		_exit(EXIT_SUCCESS);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0;
}

bool peer_frees_slot(const struct peer *p) {
	bench_kill(bench_hold(take_one, p, OBJECT_KILLED));
	return slot_is_free(p, OBJECT_KILLED);
}

bool peer_remembers(const struct peer *p) {
	pid_t pid = bench_hold(take_one, p, OBJECT_COUNTED);
	bool remembers;

	p->restart();
	remembers = !slot_is_free(p, OBJECT_COUNTED);
	bench_kill(pid);
	return remembers;
}
