/* SPDX-License-Identifier: MIT */

/*
 * Runs berthd's real code for sessions, ranges, directory and recount. Messages, deaths of
 * processes, and an administrator, give berthd work. The administrator revokes slots, sets limits,
 * and removes and creates accounts. A killed berthd loses its private memory: the next berthd has
 * only the shared files.
 */

#include <string.h>

#include "counter.h"
#include "hooks.h"
#include "name.h"
#include "parties.h"
#include "recount.h"
#include "sessions.h"
#include "verdict.h"
#include "view.h"

struct daemon {
	bool up;
	struct sd_event loop;
	struct segment segment;
	struct directory *directory;
	struct sessions *sessions;
	struct recount *recount;
	struct session *session[PROCESSES]; /* NULL: the process isn't connected */
	uint64_t next_act;
};

static struct daemon *daemon_now;

/* -- start ------------------------------------------------------------------------------------- */

static void on_ended(struct session *s) {
	for (uint32_t p = 0; daemon_now && p < PROCESSES; p++)
		if (daemon_now->session[p] == s) {
			daemon_now->session[p] = NULL;
			processes[p].connected = false;
		}
}

static void on_account(void *data, uint32_t account, uint32_t flags) {
	(void)data, (void)account, (void)flags;
}

static void must(int r, const char *what) {
	if (r < 0)
		verdict_fault("berthd: %s: %s", what, strerror(-r));
}

/* Finds out which accounts exist after a start. An account that the last berthd was creating or
 * removing when it was killed may exist or not. */
static void accounts_learn(struct daemon *d) {
	for (uint32_t a = 1; a < CELLS; a++)
		truth.removed[a] = !(entry_flags(load_relaxed(&world.entry[a].word)) & ENTRY_LIVE);
	for (uint32_t n = 0; n < NAMES; n++) {
		struct name name;

		must(name_load(names[n].text, &name), "a name");
		truth.account[n] = directory_lookup(d->directory, &name);
	}
	for (uint32_t a = 1; a < CELLS; a++)
		truth_limit_acknowledged(a);
}

void daemon_start(void) {
	struct daemon *d = arena_take(sizeof(*d));
	bool first = load_relaxed(&world.names->table_bits) == 0;

	d->segment.map = world_map(DAEMON);
	d->segment.names = world.names;
	must(directory_new(&d->segment, on_account, NULL, &d->directory), "the directory");
	must(sessions_new(&d->loop, &d->segment, &d->sessions), "the sessions");
	sessions_on_ended(d->sessions, on_ended);
	must(recount_new(&d->loop, d->directory, d->sessions, &d->recount), "the recount");
	daemon_now = d;
	d->up = true;
	for (uint32_t n = 0; first && n < NAMES; n++)
		if (plan.names >> n & 1)
			must(daemon_create(
				     n, n == NAMES - 1 ? BERTH_LIMIT_NONE : 1 + below(plan.limit)),
				"making an account");
	if (!first)
		accounts_learn(d);
	d->next_act = operations + below_log(plan.pause);
}

/* All connections end. Processes that wait for an answer connect again and ask again. */
void daemon_kill(void) {
	daemon_now = NULL;
	for (uint32_t p = 0; p < PROCESSES; p++) {
		processes[p].connected = false;
		processes[p].hung_up = false;
		processes[p].mail.posted = false;
	}
	for (uint32_t n = 0; n < RECORDS; n++)
		if (truth.revoking[n])
			truth_doubt(n, false);
}

/* -- messages ---------------------------------------------------------------------------------- */

static int ranges_answer(struct session *s, struct mail *m) {
	int r = 0;

	if (!session_is_open(s))
		return -ECONNRESET;
	if (plan.one_range)
		return BERTH_NO_SYSTEM_RESOURCES;
	while (m->ranges < MIN_OF(m->count, ELEMENTS(m->range)) && r >= 0) {
		r = session_grant(s, &m->range[m->ranges]);
		m->ranges += r >= 0;
	}
	return m->ranges > 0 ? 0 : BERTH_NO_SYSTEM_RESOURCES;
}

static int hello_answer(struct daemon *d, struct process *p, struct mail *m) {
	struct session_claim claim = {
		.pid = (pid_t)p->pid,
		.pidfd = -1,
		.resume_session = m->resume_session,
		.resume_serial = m->resume_serial,
	};
	struct session *s;
	int r = sessions_open(d->sessions, &claim, &s, &m->resumed);

	if (r < 0)
		return r == -ESRCH ? -ECONNRESET : BERTH_NO_SYSTEM_RESOURCES;
	if (p->pid != (uint32_t)claim.pid)
		return -ECONNRESET;
	d->session[p->index] = s;
	p->connected = true;
	m->session = session_index(s);
	m->serial = session_identity(s)->serial;
	m->ranges = !m->resumed && session_grant(s, &m->range[0]) >= 0;
	return 0;
}

static int mail_answer(struct daemon *d, struct process *p, struct mail *m) {
	struct session *s = d->session[p->index];
	int r;

	m->ranges = 0;
	if (m->kind == MAIL_HELLO)
		return hello_answer(d, p, m);
	if (!s)
		return -ECONNRESET;
	if (m->kind == MAIL_RANGES)
		return ranges_answer(s, m);
	if (m->kind == MAIL_RESOLVE)
		return truth.account[m->name] != 0 ? 0 : BERTH_NO_SUCH_USER;
	if (sessions_owner(d->sessions, m->record) != s)
		return -ECONNRESET;
	r = counter_finish_seized(d->segment.map, m->record);
	if (r > 0)
		verdict_fault("settling record %u: a count is smaller than its weight", m->record);
	return r == -ENOMEM ? BERTH_NO_SYSTEM_RESOURCES : 0;
}

static bool process_serve(struct daemon *d, struct process *p) {
	uint32_t pid = p->pid;
	struct mail m;

	if (p->hung_up) {
		struct session *s = d->session[p->index];

		p->hung_up = false;
		d->session[p->index] = NULL;
		if (s)
			session_disconnected(s, p->goodbye);
		return true;
	}
	if (!p->mail.posted)
		return false;
	m = p->mail;
	m.code = mail_answer(d, p, &m);
	/* If the process was killed meanwhile, another one may run in its place. */
	if (p->pid != pid)
		return true;
	m.posted = false;
	m.answered = true;
	p->mail = m;
	return true;
}

static bool source_is_due(const struct sd_event_source *s) {
	if (s->enabled == SD_EVENT_OFF)
		return false;
	return s->on_time || !process_lives((uint32_t)s->fd);
}

static bool sources_serve(struct daemon *d) {
	for (struct sd_event_source *s = d->loop.sources; s; s = s->next) {
		if (!source_is_due(s))
			continue;
		if (s->enabled == SD_EVENT_ONESHOT)
			s->enabled = SD_EVENT_OFF;
		if (s->on_time)
			(void)s->on_time(s, 0, s->data);
		else
			(void)s->on_io(s, s->fd, 1, s->data);
		return true;
	}
	return false;
}

bool daemon_serve(void) {
	uint32_t first = below(PROCESSES);

	for (uint32_t i = 0; i < PROCESSES; i++)
		if (process_serve(daemon_now, &processes[(first + i) % PROCESSES]))
			return true;
	return sources_serve(daemon_now);
}

/* -- the administrator ------------------------------------------------------------------------- */

int daemon_revoke(uint32_t record) {
	int r;

	truth_doubt(record, true);
	r = view_revoke(daemon_now->segment.map, record);
	truth_doubt(record, false);
	if (r != 0 && r != -ENOENT && r != -EAGAIN)
		verdict_fault("revoking record %u: %d", record, r);
	return r;
}

int daemon_limit(uint32_t name, uint32_t limit) {
	uint32_t account = truth.account[name];
	int r = account == 0 ? -ENOENT
			     : directory_set(daemon_now->directory, account, limit, ENTRY_USABLE);

	if (r == 0)
		truth_limit_acknowledged(account);
	return r;
}

int daemon_create(uint32_t name, uint32_t limit) {
	int above = names[name].parent;
	uint32_t parent = above >= 0 ? truth.account[above] : 0, account;
	struct name n;
	int r;

	if (truth.account[name] != 0 || (above >= 0 && parent == 0))
		return -EEXIST;
	must(name_load(names[name].text, &n), "a name");
	r = directory_create(daemon_now->directory, &n, parent, limit, ENTRY_USABLE, &account);
	if (r < 0)
		return r;
	truth_limit_acknowledged(account);
	return 0;
}

int daemon_remove(uint32_t name) {
	uint32_t account = truth.account[name];
	int r = account == 0 ? -ENOENT : directory_remove(daemon_now->directory, account);

	if (r < 0) {
		if (r != -ENOENT)
			truth_limit_acknowledged(account);
		return r;
	}
	truth.account[name] = 0;
	truth.removed[account] = true;
	truth_limit_acknowledged(account);
	return 0;
}

void daemon_close_records(uint32_t process) {
	struct map *m = world_map(DAEMON);
	const struct session_entry *e;

	for (uint32_t n = BERTH_RANGE; n < RECORDS; n++) {
		uint32_t owner = load_relaxed(map_owner(m, n / BERTH_RANGE));

		e = owner != 0 ? map_session(m, owner - 1) : NULL;
		if (!e || load_relaxed(&e->pid) != processes[process].pid)
			continue;
		if (counter_close(m, n) != 0)
			verdict_fault("closing record %u", n);
	}
}

/* Looks at records, beginning with a random one. Revokes the first held slot that it finds, and
 * sometimes more slots. */
static void act_revoke(void) {
	const uint32_t granted = RECORDS - BERTH_RANGE;
	uint32_t first = below(granted), count = one_in(4) ? granted : 16;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t record = BERTH_RANGE + (first + i) % granted;

		if (daemon_revoke(record) == 0 && !one_in(4))
			return;
	}
}

static void act(void) {
	uint32_t which = below(plan.revoke + plan.limits + plan.removal + plan.recount), name;

	if (which < plan.revoke) {
		act_revoke();
	} else if (which < plan.revoke + plan.limits) {
		(void)daemon_limit(below(NAMES - 1), below(4) + below(plan.limit));
	} else if (which >= plan.revoke + plan.limits + plan.removal) {
		recount_request(daemon_now->recount);
	} else {
		/* Creates an account that doesn't exist, or removes an account that exists. berthd
		 * gives a new account the index that was freed last. */
		name = below(NAMES - 1);
		if (plan.names >> name & 1 && truth.account[name] == 0)
			(void)daemon_create(name, 1 + below(plan.limit));
		else if (plan.names >> name & 1)
			(void)daemon_remove(name);
	}
}

static bool is_wanted(void *data) {
	struct daemon *d = data;

	for (uint32_t p = 0; p < PROCESSES; p++)
		if (processes[p].hung_up || processes[p].mail.posted)
			return true;
	for (const struct sd_event_source *s = d->loop.sources; s; s = s->next)
		if (source_is_due(s))
			return true;
	return !winding_up && operations >= d->next_act;
}

void daemon_body(struct coroutine *c) {
	c->began = accesses;
	if (!daemon_now)
		daemon_start();
	for (;;) {
		if (!daemon_serve() && !winding_up && operations >= daemon_now->next_act) {
			act();
			daemon_now->next_act = operations + below_log(plan.pause);
		}
		operations++;
		c->began = accesses;
		coroutine_await(is_wanted, daemon_now);
	}
}
