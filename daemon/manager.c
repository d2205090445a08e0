/* SPDX-License-Identifier: MIT */

/*
 * Puts berthd together, in the order of the table `parts` below, since each part needs those before
 * it.
 *
 * The sockets come last: when berthd serves the first client, every stored limit is in force and
 * every slot of a dead process is released. The store is begun early, so that a process checks its
 * files while berthd goes through the segment; that process must be forked before there are
 * threads. Stored counts are restored while berthd serves.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "berth.h"
#include "checkpoint.h"
#include "clients.h"
#include "clock.h"
#include "dir.h"
#include "log.h"
#include "manager.h"
#include "other-layout.h"
#include "recount.h"
#include "restore.h"
#include "sigbus.h"
#include "sessions.h"
#include "sockets.h"

#define MEMORY_PAUSE_MS 20

/* Raises the limit of open files, since each session takes two descriptors. */
static void descriptors_raise(void) {
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* -- the store --------------------------------------------------------------------------------- */

static int on_store(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct manager *m = data;

	(void)source, (void)fd, (void)events;
	store_dispatch(m->context.store);
	return 0;
}

static int manager_begin_store(struct manager *m) {
	return store_begin(m->options.state_dir, &m->context.store);
}

static int manager_load_store(struct manager *m) {
	int r = store_wait(m->context.store);

	if (r >= 0)
		r = restore_limits(m->context.accounts, m->context.store);
	if (r >= 0)
		r = store_start(m->context.store);
	if (r >= 0)
		r = recount_new(m->context.event, accounts_directory(m->context.accounts),
			m->context.sessions, &m->context.recount);
	if (r >= 0)
		r = checkpoint_new(m->context.event, m->context.accounts, m->context.store,
			m->context.recount, &m->context.checkpoint);
	if (r >= 0)
		r = checkpoint_restore(m->context.checkpoint, m->context.segment->adopted);
	if (r >= 0)
		r = sd_event_add_io(m->context.event, &m->store_ready, store_fd(m->context.store),
			EPOLLIN, on_store, m);
	return r;
}

/* -- signals ----------------------------------------------------------------------------------- */

static int on_stop(sd_event_source *source, const struct signalfd_siginfo *si, void *data) {
	struct manager *m = data;

	(void)source;
	log_event(LOG_INFO, EVENT_STOPPING, NULL,
		"Got SIG%s; storing the counts and stopping. Servers go on with what they have",
		sigabbrev_np((int)si->ssi_signo));
	(void)sd_notify(0, "STOPPING=1\nSTATUS=Storing the counts");
	return sd_event_exit(m->context.event, 0);
}

static int manager_catch_signals(struct manager *m) {
	sigset_t set;
	int r;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(m->context.event, NULL, SIGTERM, on_stop, m);
	return r < 0 ? r : sd_event_add_signal(m->context.event, NULL, SIGINT, on_stop, m);
}

/* -- the parts --------------------------------------------------------------------------------- */

static int manager_open_counts(struct manager *m) {
	int r = other_layout_make_way(m->options.runtime_dir, m->options.abandon_segment);

	if (r >= 0)
		r = segment_open(
			m->options.runtime_dir, &m->options.capacities, &m->context.segment);
	if (r >= 0)
		r = sigbus_guard(m->context.event, m->context.segment->map);
	if (r >= 0)
		r = accounts_new(m->context.segment, &m->context.accounts);
	return r;
}

static int manager_open_sessions(struct manager *m) {
	int r = sessions_new(m->context.event, m->context.segment, &m->context.sessions);

	if (r >= 0)
		sessions_on_ended(m->context.sessions, clients_session_ended);
	return r;
}

static int manager_open_loop(struct manager *m) {
	int r = sd_event_new(&m->context.event);

	return r < 0 ? r : manager_catch_signals(m);
}

static int manager_lock(struct manager *m) {
	int r = dir_lock(m->options.runtime_dir, 0755, &m->runtime_lock);

	return r < 0 ? r : dir_lock(m->options.state_dir, 0700, &m->state_lock);
}

static int manager_open_sockets(struct manager *m) {
	int r = connections_new(&m->context, &m->connections);

	return r < 0 ? r : sockets_new(&m->context, m->connections, &m->sockets);
}

static int manager_start(struct manager *m) {
	int r = checkpoint_start(m->context.checkpoint);

	return r < 0 ? r : sd_event_set_watchdog(m->context.event, true);
}

/* The parts are made in this order. */
static const struct {
	const char *what;
	int (*open)(struct manager *m);
} parts[] = {
	{"the event loop", manager_open_loop},
	{"the directories", manager_lock},
	{"the store", manager_begin_store},
	{"the shared counts", manager_open_counts},
	{"the sessions of before", manager_open_sessions},
	{"the limits", manager_load_store},
	{"the sockets", manager_open_sockets},
	{"the checkpoints", manager_start},
};

static int manager_open(struct manager *m) {
	for (size_t i = 0; i < ELEMENTS(parts); i++) {
		int r = parts[i].open(m);

		/* other-layout.c and the store have logged what another release made. */
		if (r < 0 && r != -EPROTONOSUPPORT)
			log_error("Can't start: %s: %s", parts[i].what, strerror(-r));
		if (r < 0)
			return r;
	}
	return 0;
}

int manager_new(const struct options *options, struct manager **ret) {
	struct manager *m = calloc(1, sizeof(*m));
	int r;

	if (!m) {
		log_error("Can't start: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	if (!cas16_is_there()) {
		log_error("This processor has no cmpxchg16b, without which berth can't count; "
			  "install berth on a newer machine");
		free(m);
		return -ENOTSUP;
	}
	m->context.started = clock_wall_ms();
	m->options = *options;
	m->context.runtime_dir = options->runtime_dir;
	m->context.state_dir = options->state_dir;
	m->context.group = options->group;
	m->context.admin_group = options->admin_group;
	m->runtime_lock = m->state_lock = -1;
	descriptors_raise();
	r = manager_open(m);
	if (r == -EPROTONOSUPPORT)
		sockets_refuse_waiting(BERTH_REVISION_MISMATCH,
			"berthd " BERTH_VERSION " doesn't start, since what it found was made by "
			"another release; its log says what to do: journalctl -t berthd");
	if (r < 0) {
		manager_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void manager_free(struct manager *m) {
	if (!m)
		return;
	if (m->context.checkpoint)
		checkpoint_final(m->context.checkpoint);
	(void)sd_event_source_disable_unref(m->store_ready);
	/* store_free() lets the last replies out to the connections that wait for them. */
	store_free(m->context.store);
	/* The store is closed, so the checkpoint must not call it any more. It would call it for
	 * accounts that are removed because an import ends with its connection. So the checkpoint
	 * is freed before the connections. */
	checkpoint_free(m->context.checkpoint);
	sockets_free(m->sockets);
	connections_free(m->connections);
	recount_free(m->context.recount);
	sessions_free(m->context.sessions);
	accounts_free(m->context.accounts);
	(void)signal(SIGBUS, SIG_DFL);
	segment_close(m->context.segment);
	(void)sd_event_unref(m->context.event);
	close_cleanup(&m->state_lock);
	close_cleanup(&m->runtime_lock);
	free(m);
}

/* sd-event may need memory to dispatch its sources. Until there is memory again, they wait. */
static int loop_run(struct manager *m) {
	const struct timespec pause = {.tv_nsec = MEMORY_PAUSE_MS * 1000000};
	bool logged = false;
	int r;

	while ((r = sd_event_loop(m->context.event)) == -ENOMEM) {
		if (!logged)
			log_warning("No memory for the event loop; trying again until there is");
		logged = true;
		(void)nanosleep(&pause, NULL);
	}
	if (r < 0)
		log_error("Can't go on: the event loop failed: %s", strerror(-r));
	return r;
}

int manager_run(struct manager *m) {
	struct accounts_totals totals = accounts_totals(m->context.accounts);

	log_event(LOG_INFO, EVENT_SERVING, NULL,
		"berthd " BERTH_VERSION " serves %s with %u accounts configured and %zu templates",
		m->options.runtime_dir, totals.configured,
		templates_count(accounts_templates(m->context.accounts)));
	(void)sd_notifyf(0, "READY=1\nSTATUS=Serving %s, %u accounts configured",
		m->options.runtime_dir, totals.configured);
	return loop_run(m);
}
