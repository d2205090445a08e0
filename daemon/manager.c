/* SPDX-License-Identifier: MIT */

/*
 * Opens the parts of berthd, each after the parts that it needs, and closes them.
 *
 * The sockets are opened late: when berthd serves the first client, every stored limit is in force,
 * and every slot of a dead process is released. store_begin() is called early: it forks a process
 * that checks the store's files while berthd goes through the segment. berthd must have no second
 * thread when it forks. Stored counts are restored while berthd serves.
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

/* -- the store --------------------------------------------------------------------------------- */

static int on_store(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct manager *m = data;

	(void)source, (void)fd, (void)events;
	store_dispatch(m->context.store);
	return 0;
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

static int manager_open_limits(struct manager *m) {
	struct context *c = &m->context;
	int r = store_wait(c->store);

	if (r >= 0)
		r = restore_limits(c->accounts, c->store);
	if (r >= 0)
		r = store_start(c->store);
	if (r >= 0)
		r = recount_new(
			c->event, accounts_directory(c->accounts), c->sessions, &c->recount);
	if (r >= 0)
		r = checkpoint_new(c->event, c->accounts, c->store, c->recount, &c->checkpoint);
	if (r >= 0)
		r = checkpoint_restore(c->checkpoint, c->segment->adopted);
	if (r >= 0)
		r = sd_event_add_io(
			c->event, &m->store_ready, store_fd(c->store), EPOLLIN, on_store, m);
	return r;
}

static int manager_open(struct manager *m) {
	const struct options *o = &m->options;
	struct context *c = &m->context;
	int r;

	m->opening = "the event loop";
	r = sd_event_new(&c->event);
	if (r >= 0)
		r = manager_catch_signals(m);
	if (r < 0)
		return r;
	m->opening = "the directories";
	r = dir_lock(o->runtime_dir, 0755, &m->runtime_lock);
	if (r >= 0)
		r = dir_lock(o->state_dir, 0700, &m->state_lock);
	if (r < 0)
		return r;
	m->opening = "the store";
	r = store_begin(o->state_dir, &c->store);
	if (r < 0)
		return r;
	m->opening = "the shared counts";
	r = other_layout_make_way(o->runtime_dir, o->abandon_segment);
	if (r >= 0)
		r = segment_open(o->runtime_dir, &o->capacities, &c->segment);
	if (r >= 0)
		r = sigbus_guard(c->event, c->segment->map);
	if (r >= 0)
		r = accounts_new(c->segment, &c->accounts);
	if (r < 0)
		return r;
	m->opening = "the sessions of before";
	r = sessions_new(c->event, c->segment, &c->sessions);
	if (r < 0)
		return r;
	sessions_on_ended(c->sessions, clients_session_ended);
	m->opening = "the limits";
	r = manager_open_limits(m);
	if (r < 0)
		return r;
	m->opening = "the sockets";
	r = connections_new(c, &m->connections);
	if (r >= 0)
		r = sockets_new(c, m->connections, &m->sockets);
	if (r < 0)
		return r;
	m->opening = "the checkpoints";
	r = checkpoint_start(c->checkpoint);
	return r < 0 ? r : sd_event_set_watchdog(c->event, true);
}

int manager_new(const struct options *options, struct manager **ret) {
	struct manager *m = calloc(1, sizeof(*m));
	struct rlimit files;
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
	/* Each session takes two descriptors, so berthd raises its limit of descriptors. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	r = manager_open(m);
	/* other-layout.c or the store has logged which files of another version it found. */
	if (r == -EPROTONOSUPPORT)
		sockets_refuse_waiting(BERTH_REVISION_MISMATCH,
			"berthd " BERTH_VERSION " doesn't start, since what it found was made by "
			"another version; its log says what to do: journalctl -t berthd");
	else if (r < 0)
		log_error("Can't start: %s: %s", m->opening, strerror(-r));
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
	/* store_free() finishes all jobs and so sends their replies, for which the connections must
	 * still be open. */
	store_free(m->context.store);
	/* connections_free() ends imports, which removes accounts. For each of these accounts the
	 * checkpoint would call the store, which is closed. So the checkpoint is freed before the
	 * connections. */
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

int manager_run(struct manager *m) {
	struct accounts_totals totals = accounts_totals(m->context.accounts);
	const struct timespec pause = {.tv_nsec = MEMORY_PAUSE_MS * 1000000};
	bool logged = false;
	int r;

	log_event(LOG_INFO, EVENT_SERVING, NULL,
		"berthd " BERTH_VERSION " serves %s with %u accounts configured and %zu templates",
		m->options.runtime_dir, totals.configured,
		templates_count(accounts_templates(m->context.accounts)));
	(void)sd_notifyf(0, "READY=1\nSTATUS=Serving %s, %u accounts configured",
		m->options.runtime_dir, totals.configured);
	/* sd-event may need memory to dispatch its sources. If there is none, the sources wait, and
	 * berthd tries again after a pause. */
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
