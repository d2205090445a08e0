/* SPDX-License-Identifier: MIT */

/*
 * Starts, kills and closes processes. Also defines the functions of handle.h and ask.h in place of
 * the parts of libberth that keep handles and talk to berthd. Here messages are structs, and a
 * thread that waits for an answer pauses its coroutine. The rest of libberth is the real one.
 */

#include <string.h>

#include "ask.h"
#include "fork.h"
#include "clock.h"
#include "hooks.h"
#include "parties.h"
#include "process.h"
#include "pool.h"
#include "protocol.h"
#include "thread.h"
#include "verdict.h"

struct process processes[PROCESSES];
static uint32_t pids;

static _Atomic uint32_t never_forked = FORK_OURS;
_Atomic uint32_t *fork_word = &never_forked;

void fork_repair(void) {}

struct session session_none = {.number = UINT64_MAX};

static uint64_t sessions_made;

/* -- processes --------------------------------------------------------------------------------- */

void processes_reset(void) {
	memset(processes, 0, sizeof(processes));
	pids = 0;
	sessions_made = 0;
}

void process_start(uint32_t index) {
	struct process *p = &processes[index];

	memset(p, 0, sizeof(*p));
	p->index = index;
	p->pid = ++pids;
	p->alive = true;
	p->berth = arena_take(sizeof(*p->berth));
	store_release(&p->berth->fast, &session_none);
	p->berth->timeout_ms = 5000;
	p->berth->socket.fd = (int)index;
}

/* Ends the process's connection, too, as the kernel does when a process is killed. */
void process_kill(uint32_t index) {
	struct process *p = &processes[index];

	for (uint32_t i = 0; i < HOLDINGS; i++)
		if (p->holding[i].used)
			truth_drop(&p->holding[i]);
	/* Undoes truth_session_ending() if a thread was closing the session. */
	if (process_session(p))
		truth_session_ended(process_session(p)->index);
	p->alive = false;
	p->mail.posted = false;
	p->hung_up = true;
	p->goodbye = false;
}

void process_close(struct process *p) {
	struct session *s = process_session(p);
	bool claimed;

	if (!s || p->lock)
		return;
	p->lock = running;
	p->closed |= UINT64_C(1) << s->serial % 64;
	truth_session_ending(s->index);
	/* A program that closes its handle releases all slots that it holds. */
	for (struct holding *h = p->holding; h < p->holding + HOLDINGS; h++) {
		if (!h->used || h->slot == 0)
			continue;
		truth_drop(h);
		h->told = true;
		h->used = h->releasing > 0;
	}
	pool_release_all(s->pool);
	claimed = threads_keep_out(s) && pool_close(s->pool);
	s->older = load_relaxed(&p->berth->retired);
	store_release(&p->berth->retired, s);
	store_release(&p->berth->fast, &session_none);
	store_release(&p->berth->current, NULL);
	truth_session_ended(s->index);
	trace_text(claimed ? "says goodbye" : "hangs up");
	p->connected = false;
	p->goodbye = claimed;
	p->hung_up = true;
	p->lock = NULL;
}

bool process_lives(uint32_t pid) {
	for (uint32_t i = 0; i < PROCESSES; i++)
		if (processes[i].pid == pid)
			return processes[i].alive;
	return false;
}

/* -- asking ------------------------------------------------------------------------------------ */

static bool is_answered(void *data) {
	const struct process *p = data;

	return p->mail.answered || !p->mail.posted;
}

/* Sends p->mail and waits for the answer. Returns -ECONNRESET if the connection has ended. The
 * scheduler can't wait: if it calls this function, berthd answers at once. */
static int mail_send(struct process *p) {
	p->mail.posted = true;
	p->mail.answered = false;
	if (!running)
		(void)daemon_serve();
	while (running && !is_answered(p))
		coroutine_await(is_answered, p);
	return p->mail.answered ? p->mail.code : -ECONNRESET;
}

static int session_make(struct process *p, struct session **ret) {
	const struct mail *m = &p->mail;
	const uint32_t open[2] = {SESSION_OPEN, m->serial};
	struct session *s = arena_take(sizeof(*s));
	uint64_t word;
	int r;

	memcpy(&word, open, sizeof(word));
	store_relaxed(&s->open, word);
	s->handle = p->berth;
	s->index = m->session;
	s->serial = m->serial;
	s->number = ++sessions_made;
	s->slot_bits = s->number << SLOT_SESSION_SHIFT;
	s->map = world_map(p->index);
	s->entry = map_session(s->map, s->index);
	s->map->session = s->entry;
	r = pool_new(s->map, s->slot_bits, &s->pool);
	for (uint32_t i = 0; i < m->ranges && r == 0; i++)
		r = pool_add_range(s->pool, m->range[i]);
	*ret = s;
	return r;
}

/* Calls call() for each session of the process. libberth calls this function when a thread ends. */
void handles_each_session(void (*call)(struct session *s, void *data), void *data) {
	struct berth *b = processes[running->process].berth;
	struct session *current = load_acquire(&b->current);

	if (current)
		call(current, data);
	for (struct session *s = load_acquire(&b->retired); s; s = s->older)
		call(s, data);
}

static int session_connect(struct process *p, const struct session *resume) {
	struct berth *b = p->berth;
	struct session *s, *old;
	int r;

	do {
		p->mail = (struct mail){
			.kind = MAIL_HELLO,
			.resume_session = resume ? resume->index : 0,
			.resume_serial = resume ? resume->serial : 0,
		};
		r = mail_send(p);
	} while (r == -ECONNRESET);
	if (r != 0 || p->mail.resumed)
		return r;
	r = session_make(p, &s);
	if (r != 0)
		return r;
	old = load_relaxed(&b->current);
	if (old) {
		old->older = load_relaxed(&b->retired);
		store_release(&b->retired, old);
	}
	store_release(&b->current, s);
	store_release(&b->fast, s);
	return 0;
}

/* Sends m to berthd; the caller has the lock. Returns -ESHUTDOWN if s isn't the process's current
 * session any more. */
static int ask(struct process *p, const struct session *s, const struct mail *m) {
	for (;;) {
		int r = 0;

		if (!p->connected)
			r = session_connect(p, s);
		if (r != 0)
			return r;
		if (process_session(p) != s)
			return -ESHUTDOWN;
		p->mail = *m;
		r = mail_send(p);
		if (r != -ECONNRESET)
			return r;
		p->connected = false;
	}
}

static bool lock_is_free(void *data) {
	const struct process *p = data;

	return !p->lock;
}

/* Takes the lock of the handle's process. NULL: the deadline has passed. */
static struct process *enter(const struct berth *b, int64_t deadline) {
	struct process *p = &processes[b->socket.fd];

	while (running && p->lock) {
		coroutine_await(lock_is_free, p);
		if (clock_monotonic_ms() > deadline)
			return NULL;
	}
	p->lock = running;
	return p;
}

static int leave(struct process *p, int r) {
	p->lock = NULL;
	return r == -ESHUTDOWN ? 0 : r;
}

/* -- handle.h, ask.h --------------------------------------------------------------------------- */

int ask_session(struct berth *b, int64_t deadline, struct session **ret) {
	struct process *p = enter(b, deadline);
	int r = 0;

	if (!p)
		return -ETIMEDOUT;
	if (!process_session(p))
		r = session_connect(p, NULL);
	*ret = process_session(p);
	return leave(p, r);
}

int ask_new_session(const struct session *s, int64_t deadline) {
	struct process *p = enter(s->handle, deadline);
	int r = 0;

	if (!p)
		return -ETIMEDOUT;
	if (process_session(p) == s)
		r = session_connect(p, NULL);
	return leave(p, r);
}

int ask_files(struct session *s, int64_t deadline) {
	(void)s, (void)deadline;
	verdict_fault("libberth asks for a window, though all are mapped");
	return -ENOMEM;
}

/* If s is still the process's current session, sends m to berthd. */
static int ask_of_session(struct session *s, const struct mail *m, int64_t deadline) {
	struct process *p = enter(s->handle, deadline);

	if (!p)
		return -ETIMEDOUT;
	return leave(p, process_session(p) == s ? ask(p, s, m) : 0);
}

int ask_name(struct session *s, const char *account, int64_t deadline) {
	struct mail m = {.kind = MAIL_RESOLVE};

	while (m.name < NAMES - 1 && strcmp(names[m.name].text, account) != 0)
		m.name++;
	return ask_of_session(s, &m, deadline);
}

int ask_finish_release(struct session *s, uint32_t record, int64_t deadline) {
	const struct mail m = {.kind = MAIL_SETTLE, .record = record};

	return ask_of_session(s, &m, deadline);
}

int ask_ranges(struct session *s, uint32_t seen, int64_t deadline) {
	struct process *p = enter(s->handle, deadline);
	const struct mail m = {.kind = MAIL_RANGES, .count = 1};
	uint32_t added = 0;
	int r;

	if (!p)
		return -ETIMEDOUT;
	if (process_session(p) != s || pool_range_count(s->pool) != seen)
		return leave(p, 0);
	r = ask(p, s, &m);
	for (uint32_t i = 0; r == 0 && i < p->mail.ranges; i++)
		added += pool_add_range(s->pool, p->mail.range[i]) == 0;
	if (r == 0 && added == 0)
		r = -ENOMEM;
	store_relaxed(&s->pool->is_full, r == BERTH_NO_SYSTEM_RESOURCES);
	return leave(p, r);
}

struct session *handle_find_retired(const struct berth *b, uint64_t slot) {
	struct session *s = load_acquire(&b->retired);

	while (s && !session_gave_slot(s, slot))
		s = s->older;
	return s;
}
