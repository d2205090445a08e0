/* SPDX-License-Identifier: MIT */

/*
 * The torture test kills, stops and restarts servers and berthd, revokes slots and changes limits,
 * as fast as possible. The counts must be exact all the time.
 *
 * The test checks every return code (client.c), and that no count is larger than the limits allow
 * (observer.c). Now and then it stops all processes, wherever they are, and compares the counts
 * with the sums of the records (audit.c). A process may die only if the test killed it. At the end
 * every count must be 0, every record must be closed, and the store must have the same limits and
 * counts.
 */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "audit.h"
#include "harness.h"
#include "torture.h"

#define GRACE_S 90 /* the watchdog ends a run that lasts this much longer than it may */

#define AUDIT_US 200000

/* A soak that is planned for SOAK_S seconds or more must reach its totals (torture.h). If
 * necessary, it may last SOAK_PATIENCE times as long as planned. */
#define SOAK_S        300
#define SOAK_PATIENCE 4

/* -- processes --------------------------------------------------------------------------------- */

struct run {
	struct torture *t;
	struct instance berthd;
	struct map *m;
	uint64_t random;
	uint32_t seconds;
	bool stops;
	bool soak;    /* berthd isn't killed, and the test checks that nothing grows */
	pid_t anchor; /* the leader of the process group of all clients and their children */
	pid_t admin, observer, probe;
	int64_t stopped_until[TORTURE_CLIENTS_MAX]; /* us; 0: the client runs */
	int64_t kill_at, berthd_at, stop_at, audit_at;
};

static struct run run;

static pid_t fork_or_die(void) {
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		torture_die("fork");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

static void client_start(unsigned place) {
	uint64_t seed = torture_random(&run.random);
	pid_t pid = fork_or_die();

	if (pid == 0) {
		(void)setpgid(0, run.anchor);
		/* berthd, the administrator and the observer have a higher priority. */
		(void)setpriority(PRIO_PROCESS, 0, 5);
		torture_client(run.t, place, seed);
	}
	(void)setpgid(pid, run.anchor);
	run.stopped_until[place] = 0;
	store_relaxed(&run.t->client[place], pid);
}

/* The client's index in t->client, or -1. */
static int place_of(pid_t pid) {
	for (unsigned i = 0; i < run.t->clients; i++)
		if (load_relaxed(&run.t->client[i]) == pid)
			return (int)i;
	return -1;
}

/* Clients, and their children, may exit with 0, or die of SIGKILL. The administrator, the observer
 * and the probe may only exit with 0. berthd may not end: instance_kill() waits for a berthd that
 * it kills, so this function doesn't see that death. */
static void judge_death(pid_t pid, const siginfo_t *info) {
	bool killed = info->si_code == CLD_KILLED && info->si_status == SIGKILL;
	bool ended = info->si_code == CLD_EXITED && info->si_status == 0;
	const char *what = pid == run.berthd.berthd ? "berthd"
			   : pid == run.admin       ? "the administrator"
			   : pid == run.observer    ? "the observer"
			   : pid == run.probe       ? "the probe"
						    : NULL;

	if (what && !ended)
		torture_fail(run.t, "%s (%d) died: %s %d", what, (int)pid,
			info->si_code == CLD_EXITED ? "exit status" : "signal", info->si_status);
	else if (pid == run.berthd.berthd)
		torture_fail(run.t, "berthd (%d) ended by itself", (int)pid);
	else if (!killed && !ended)
		torture_fail(run.t, "client %d died: %s %d", (int)pid,
			info->si_code == CLD_EXITED ? "exit status" : "signal", info->si_status);
}

/* Waits for all processes that have ended, judges their deaths, and starts new clients in place of
 * old ones. */
static void reap(void) {
	siginfo_t info;

	for (;;) {
		int place;

		info.si_pid = 0;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
			return;
		place = place_of(info.si_pid);
		judge_death(info.si_pid, &info);
		if (info.si_pid == run.berthd.berthd)
			run.berthd.berthd = 0;
		if (place < 0)
			continue;
		store_relaxed(&run.t->client[place], 0);
		if (load_relaxed(&run.t->finish) == 0)
			client_start((unsigned)place);
	}
}

/* -- kills and stops --------------------------------------------------------------------------- */

static void client_kill(void) {
	uint32_t a = torture_below(&run.random, run.t->clients);
	uint32_t b = torture_below(&run.random, run.t->clients);
	/* Clients with a high index live longer, except in a soak. berthd keeps the ranges of a
	 * lost session until the process is dead, and a soak looks for ranges that aren't freed
	 * even then. */
	pid_t pid = load_relaxed(&run.t->client[run.soak ? a : MIN_OF(a, b)]);

	if (pid > 0 && kill(pid, SIGKILL) == 0)
		(void)add_relaxed(&run.t->figures.client_kills, 1);
}

static void client_stop(int64_t now) {
	uint32_t place = torture_below(&run.random, run.t->clients);
	pid_t pid = load_relaxed(&run.t->client[place]);

	if (pid <= 0 || run.stopped_until[place] || kill(pid, SIGSTOP) < 0)
		return;
	run.stopped_until[place] = now + 1000 + torture_below(&run.random, 19000);
	(void)add_relaxed(&run.t->figures.stops, 1);
}

static void clients_continue(int64_t now) {
	for (uint32_t place = 0; place < run.t->clients; place++)
		if (run.stopped_until[place] && run.stopped_until[place] <= now) {
			run.stopped_until[place] = 0;
			(void)kill(load_relaxed(&run.t->client[place]), SIGCONT);
		}
}

/* Kills berthd if it runs, else starts it. The next kill comes mostly while berthd works and
 * sometimes while it starts; the next start comes mostly at once. */
static void berthd_kill_or_start(int64_t now) {
	if (run.berthd.berthd == 0) {
		(void)instance_spawn(&run.berthd);
		run.berthd_at = now + (torture_once_in(&run.random, 4)
						      ? torture_below(&run.random, 30000)
						      : 50000 + torture_below(&run.random, 300000));
		return;
	}
	(void)instance_kill(&run.berthd, SIGKILL);
	(void)add_relaxed(&run.t->figures.berthd_kills, 1);
	run.berthd_at =
		now + (torture_once_in(&run.random, 3) ? torture_below(&run.random, 40000) : 0);
}

/* -- audits: all processes are stopped --------------------------------------------------------- */

static struct processes processes(void) {
	return (struct processes){run.anchor, run.berthd.berthd};
}

static bool admin_has_acted(void *data) {
	(void)data;
	return load_total(&run.t->freeze) == 2 || torture_failed(run.t);
}

/* True when the observer has taken *data samples. */
static bool observer_has_sampled(void *data) {
	return load_relaxed(&run.t->figures.samples) >= *(uint64_t *)data || torture_failed(run.t);
}

/* While the clients are stopped, the administrator changes limits and revokes slots, and the
 * observer takes samples. */
static void freeze(const struct processes *all) {
	uint64_t samples;

	if (run.berthd.berthd == 0)
		berthd_kill_or_start(torture_now_us());
	else
		(void)kill(all->berthd, SIGCONT);
	store_total(&run.t->freeze, 1);
	if (!eventually(admin_has_acted, NULL))
		torture_fail(run.t, "berthd doesn't answer while all clients are stopped");
	/* The observer is in the middle of a round. Waits for the end of the next round. */
	samples = load_relaxed(&run.t->figures.samples) + 2 * TORTURE_ROUND;
	if (!eventually(observer_has_sampled, &samples))
		torture_fail(run.t, "the observer takes no samples");
	store_total(&run.t->freeze, 0);
	/* Resumes the clients one by one, so that the observer sees the first operation of each. */
	for (unsigned i = 0; i < run.t->clients; i++)
		if (load_relaxed(&run.t->client[i]) > 0) {
			(void)kill(load_relaxed(&run.t->client[i]), SIGCONT);
			torture_sleep_us(300);
		}
}

static void audit(void) {
	struct processes all = processes();
	char why[512];

	if (!torture_stop(&all))
		torture_fail(run.t, "SIGSTOP doesn't stop all processes");
	else if (!audit_counts(run.m, why))
		torture_fail(run.t, "%s", why);
	else
		(void)add_relaxed(&run.t->figures.audits, 1);
	if (!torture_failed(run.t) && torture_once_in(&run.random, 2))
		freeze(&all);
	memset(run.stopped_until, 0, sizeof(run.stopped_until));
	torture_signal(&all, SIGCONT);
}

/* -- the run ----------------------------------------------------------------------------------- */

/* True if this run is a soak that must reach its totals (torture.h), and hasn't reached them
 * yet. */
static bool soak_lacks_totals(void) {
	return run.soak && run.seconds >= SOAK_S && torture_soak_wants_more(run.t);
}

static bool is_over(int64_t began, int64_t now) {
	int64_t length = (int64_t)run.seconds * 1000000;

	return now - began >= length * (soak_lacks_totals() ? SOAK_PATIENCE : 1) ||
	       torture_failed(run.t);
}

static void torment(void) {
	int64_t began = torture_now_us();

	for (int64_t now = began; !is_over(began, now); now = torture_now_us()) {
		reap();
		clients_continue(now);
		if (now >= run.kill_at) {
			client_kill();
			run.kill_at =
				now + (run.soak ? 20000 : 2000) + torture_below(&run.random, 3000);
		}
		if (run.stops && now >= run.stop_at) {
			client_stop(now);
			run.stop_at = now + torture_below(&run.random, 10000);
		}
		if (run.soak)
			torture_soak_sample(run.t, run.m, &run.berthd, now);
		else if (now >= run.berthd_at)
			berthd_kill_or_start(now);
		if (now >= run.audit_at) {
			audit();
			run.audit_at = now + AUDIT_US / 2 + torture_below(&run.random, AUDIT_US);
			/* A soak must reach its number of operations. It makes fewer audits, since
			 * these take most of the time on a busy machine. */
			if (run.soak)
				run.audit_at = torture_now_us() + 10 * AUDIT_US;
		}
		torture_sleep_us(500);
	}
	if (soak_lacks_totals())
		torture_fail(run.t, "fewer than %llu operations or %d kills",
			(unsigned long long)TORTURE_SOAK_OPERATIONS, TORTURE_SOAK_KILLS);
}

static bool first_limits_are_set(void *data) {
	(void)data;
	return load_relaxed(&run.t->figures.limits) >= TORTURE_NAMES || torture_failed(run.t);
}

static void start(void) {
	uint64_t seed = torture_random(&run.random);

	/* run.anchor leads the clients' process group, which exists until its leader is waited
	 * for, even if all clients are dead. */
	run.anchor = fork_or_die();
	if (run.anchor == 0)
		for (;;)
			(void)pause();
	(void)setpgid(run.anchor, run.anchor);
	run.m = torture_map(run.t);
	run.admin = fork_or_die();
	if (run.admin == 0)
		torture_admin(run.t, seed);
	if (!eventually(first_limits_are_set, NULL))
		torture_fail(run.t, "the first limits aren't set");
	run.observer = fork_or_die();
	if (run.observer == 0)
		torture_observer(run.t);
	for (unsigned i = 0; i < run.t->clients; i++)
		client_start(i);
	if (run.soak) {
		run.probe = fork_or_die();
		if (run.probe == 0) {
			(void)setpgid(0, run.anchor);
			torture_probe(run.t);
		}
		(void)setpgid(run.probe, run.anchor);
	}
	run.berthd_at = torture_now_us() + 200000;
}

/* -- the end ----------------------------------------------------------------------------------- */

static bool clients_are_gone(void *data) {
	(void)data;
	reap();
	for (unsigned i = 0; i < run.t->clients; i++)
		if (load_relaxed(&run.t->client[i]) != 0)
			return false;
	return true;
}

static bool process_is_gone(void *data) {
	reap();
	return kill(*(pid_t *)data, 0) < 0;
}

/* Half of the clients exit, and half are killed. */
static void clients_end(void) {
	struct processes all;

	if (run.berthd.berthd == 0)
		(void)instance_spawn(&run.berthd);
	all = processes();
	torture_signal(&all, SIGCONT);
	store_total(&run.t->finish, 1);
	for (unsigned i = 0; i < run.t->clients; i += 2)
		if (load_relaxed(&run.t->client[i]) > 0)
			(void)kill(load_relaxed(&run.t->client[i]), SIGKILL);
	if (!eventually(clients_are_gone, NULL))
		torture_fail(run.t, "the clients don't end");
	if (run.soak && !eventually(process_is_gone, &run.probe))
		torture_fail(run.t, "the probe doesn't end");
	if (!eventually(process_is_gone, &run.admin))
		torture_fail(run.t, "the administrator doesn't end");
	/* Killed clients have left children behind. */
	(void)kill(-run.anchor, SIGKILL);
}

static bool is_empty(void *data) {
	reap();
	return audit_is_empty(run.m, data);
}

static void check_empty(const char *when) {
	char what[512] = "";

	if (!eventually(is_empty, what))
		torture_fail(run.t, "%s: %s", when, what);
}

static void finish(void) {
	clients_end();
	if (!torture_failed(run.t))
		check_empty("after all clients had ended");
	/* Another start on the same files must change nothing. */
	if (!torture_failed(run.t)) {
		(void)instance_kill(&run.berthd, SIGKILL);
		instance_restart(&run.berthd);
		check_empty("after a last restart");
	}
	store_total(&run.t->finish, 2);
	if (!eventually(process_is_gone, &run.observer))
		torture_fail(run.t, "the observer doesn't end");
	if (torture_failed(run.t))
		return;
	torture_judge_end(run.t, run.m, &run.berthd);
}

/* -- the program ------------------------------------------------------------------------------- */

/* Kills the clients; the other processes die by PDEATHSIG. */
static void on_alarm(int signal) {
	static const char text[] = "torture: the test hangs; the watchdog ends it\n";

	(void)signal;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	if (run.anchor > 0)
		(void)kill(-run.anchor, SIGKILL);
	_exit(EXIT_FAILURE);
}

static unsigned long long number_or_die(const char *text, unsigned long long max) {
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end || n > max) {
		fprintf(stderr, "torture: '%s' is not a number up to %llu\n", text, max);
		exit(2);
	}
	return n;
}

static void options_parse(int argc, char **argv, uint64_t *ret_seed, uint32_t *ret_clients) {
	static const struct option options[] = {
		{"seconds", required_argument, NULL, 't'},
		{"seed", required_argument, NULL, 's'},
		{"no-stop", no_argument, NULL, 'n'},
		{"clients", required_argument, NULL, 'c'},
		{"soak", no_argument, NULL, 'k'},
		{NULL, 0, NULL, 0},
	};
	int id;

	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 't')
			run.seconds = (uint32_t)number_or_die(optarg, 10000000);
		else if (id == 's')
			*ret_seed = number_or_die(optarg, UINT64_MAX);
		else if (id == 'n')
			run.stops = false;
		else if (id == 'k')
			run.soak = true;
		else if (id == 'c')
			*ret_clients = (uint32_t)number_or_die(optarg, TORTURE_CLIENTS_MAX);
	}
	if (optind < argc || *ret_clients == 0) {
		fprintf(stderr,
			"Usage: torture [--seconds N] [--seed N (0: a new one)] [--no-stop] "
			"[--clients N] [--soak]\n");
		exit(2);
	}
}

static void prepare(uint64_t seed, uint32_t clients) {
	char path[128];

	run.random = seed;
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)signal(SIGALRM, on_alarm);
	(void)alarm((run.soak ? SOAK_PATIENCE : 1) * run.seconds + GRACE_S);
	instance_start(&run.berthd, NULL);
	if (run.soak && ctl(NULL, "set", "probe", "4", NULL) != 0)
		torture_die("berthctl set probe");
	(void)snprintf(path, sizeof(path), "%s/torture", run.berthd.dir);
	run.t = torture_attach(path);
	(void)snprintf(run.t->path, sizeof(run.t->path), "%s", path);
	(void)snprintf(
		run.t->runtime_dir, sizeof(run.t->runtime_dir), "%s", run.berthd.runtime_dir);
	run.t->seed = seed;
	run.t->clients = clients;
}

int main(int argc, char **argv) {
	uint64_t seed = 0;
	uint32_t clients = 10;

	/* This process was a client before it called exec. */
	if (argc == 5 && strcmp(argv[1], "--client") == 0)
		torture_client(torture_attach(argv[2]), (unsigned)number_or_die(argv[3], 63),
			number_or_die(argv[4], UINT64_MAX));
	run.seconds = 30;
	run.stops = true;
	options_parse(argc, argv, &seed, &clients);
	if (seed == 0)
		(void)!getrandom(&seed, sizeof(seed), 0);
	printf("torture: --seed %llu --seconds %u --clients %u%s%s, %d bits of sequence\n",
		(unsigned long long)seed, run.seconds, clients, run.stops ? "" : " --no-stop",
		run.soak ? " --soak" : "", BERTH_SEQ_BITS);
	(void)fflush(stdout);
	prepare(seed, clients);
	start();
	torment();
	finish();
	torture_print_figures(run.t);
	if (run.soak)
		torture_soak_judge(run.t);
	if (torture_failed(run.t)) {
		const char *log = instance_log(&run.berthd), *at = log + strlen(log);

		for (int lines = 0; at > log && lines < 12; at--)
			lines += at[-1] == '\n';
		printf("torture: FAILED: %s\nThe end of berthd's log:\n%s\n", run.t->failure, at);
	}
	printf("%d passed, %d failed\n", !torture_failed(run.t), torture_failed(run.t));
	instance_end(&run.berthd);
	return torture_failed(run.t) ? EXIT_FAILURE : EXIT_SUCCESS;
}
