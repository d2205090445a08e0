/* SPDX-License-Identifier: MIT */

/*
 * A peer that works across machines: Redis, with a script that counts leases. The bench starts a
 * Redis of its own, without network and disk, and calls it over a unix socket.
 *
 * The script is the usual one. The holders are a sorted set, ordered by the times at which their
 * leases end. The script removes the holders whose lease has ended, then counts the others.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "peer.h"

#define LEASE_MS   60000
#define START_MS   5000
#define REPLY_SIZE 128

/* KEYS: the account. ARGV: limit, holder, lease in ms. */
static const char acquire_script[] =
	"local t = redis.call('TIME') "
	"local now = t[1] * 1000 + math.floor(t[2] / 1000) "
	"redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) "
	"if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end "
	"redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2]) "
	"return 1";
/* KEYS: the account. ARGV: holder. */
static const char release_script[] = "return redis.call('ZREM', KEYS[1], ARGV[1])";

static pid_t server;
static char socket_path[108];
static int connection = -1;
static char acquire_sha[64], release_sha[64];

/* -- the protocol ------------------------------------------------------------------------------ */

struct command {
	size_t length;
	char text[1024];
};

/* Sends a command and receives a reply of one line, without its \r\n. */
static void redis_call(const struct command *c, char reply[REPLY_SIZE]) {
	size_t used = 0;

	bench_check(send(connection, c->text, c->length, 0) == (ssize_t)c->length, "send to redis");
	do {
		ssize_t n = recv(connection, reply + used, REPLY_SIZE - 1 - used, 0);

		bench_check(n > 0, "recv from redis");
		used += (size_t)n;
		reply[used] = '\0';
	} while (used < 2 || reply[used - 1] != '\n');
	reply[used - 2] = '\0';
	if (reply[0] == '-')
		fprintf(stderr, "bench: redis: %s\n", reply + 1);
	bench_check(reply[0] != '-', "a command of redis");
}

/* Formats a command, an array of strings in Redis's protocol RESP. */
static void command_format(struct command *c, const char *const words[]) {
	size_t count = 0, used;

	while (words[count])
		count++;
	used = (size_t)snprintf(c->text, sizeof(c->text), "*%zu\r\n", count);
	for (size_t i = 0; i < count; i++)
		used += (size_t)snprintf(c->text + used, sizeof(c->text) - used, "$%zu\r\n%s\r\n",
			strlen(words[i]), words[i]);
	bench_check(used < sizeof(c->text), "a command for redis is too long");
	c->length = used;
}

static void script_load(const char *script, char sha[64]) {
	const char *const words[] = {"SCRIPT", "LOAD", script, NULL};
	char reply[REPLY_SIZE];
	struct command load;

	command_format(&load, words);
	redis_call(&load, reply);
	/* The reply is "$40", the end of the line, and 40 digits. */
	bench_check(strlen(reply) == 5 + 40, "redis's answer to SCRIPT LOAD");
	memcpy(sha, reply + 5, 40);
}

static bool redis_connect(void) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, socket_path, sizeof(address.sun_path));
	connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bench_check(connection >= 0, "socket");
	if (connect(connection, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return true;
	(void)close(connection);
	connection = -1;
	return false;
}

/* -- the server -------------------------------------------------------------------------------- */

/* In Debian's redis-tools the server has another name. */
static const char *redis_find(void) {
	static const char *const paths[] = {"/usr/bin/redis-server", "/usr/local/bin/redis-server",
		"/usr/bin/redis-check-rdb", NULL};

	for (const char *const *p = paths; *p; p++)
		if (access(*p, X_OK) == 0)
			return *p;
	return NULL;
}

static const char *redis_start(void) {
	const struct timespec pause = {.tv_nsec = 10000000};
	const char *path = redis_find();
	double end = bench_now() + START_MS * NS_OF_MS;

	if (!path)
		return "redis-server isn't installed";
	(void)snprintf(socket_path, sizeof(socket_path), "%s/redis", bench.dir);
	server = bench_fork();
	if (server == 0) {
		bench_check(freopen("/dev/null", "w", stdout) != NULL, "/dev/null");
		(void)execl(path, "redis-server", "--port", "0", "--unixsocket", socket_path,
			"--dir", bench.dir, "--save", "", "--appendonly", "no", (char *)NULL);
		_exit(EXIT_FAILURE);
	}
	while (!redis_connect()) {
		if (bench_now() > end)
			return "redis-server didn't start";
		(void)nanosleep(&pause, NULL);
	}
	(void)close(connection);
	return NULL;
}

static void redis_stop(void) {
	bench_kill(server);
	server = 0;
}

static void redis_restart(void) {
	redis_stop();
	bench_check(redis_start() == NULL, "starting redis again");
}

/* -- the peer ---------------------------------------------------------------------------------- */

static struct command acquires[OBJECTS], releases[OBJECTS];

static void redis_open(void) {
	char holder[16], limit[16], lease[16];

	bench_check(redis_connect(), "connect to redis");
	script_load(acquire_script, acquire_sha);
	script_load(release_script, release_sha);
	(void)snprintf(holder, sizeof(holder), "%d", (int)getpid());
	(void)snprintf(lease, sizeof(lease), "%d", LEASE_MS);
	for (unsigned i = 0; i < OBJECTS; i++) {
		const char *name = object_name(i);
		const char *const acquire[] = {
			"EVALSHA", acquire_sha, "1", name, limit, holder, lease, NULL};
		const char *const release[] = {"EVALSHA", release_sha, "1", name, holder, NULL};

		(void)snprintf(limit, sizeof(limit), "%u", object_limit(i));
		command_format(&acquires[i], acquire);
		command_format(&releases[i], release);
	}
}

static bool redis_take(unsigned object) {
	char reply[REPLY_SIZE];

	redis_call(&acquires[object], reply);
	return strcmp(reply, ":1") == 0;
}

static void redis_give(unsigned object) {
	char reply[REPLY_SIZE];

	redis_call(&releases[object], reply);
	bench_check(strcmp(reply, ":1") == 0, "redis's answer to a release");
}

PEER_LOOPS(redis)

struct peer peer_redis = {
	.name = "Redis",
	.operations = "EVALSHA, twice, over a unix socket",
	.loses = "its slots, until their lease ends",
	.forgets = "all slots, without persistence, as here",
	.stop = redis_stop,
	.restart = redis_restart,
	.open = redis_open,
	PEER_FUNCTIONS(redis),
};
