/* SPDX-License-Identifier: MIT */

/*
 * Opens sessions, watches their processes, and ends them.
 *
 * Invariant: the threads of at most one session may place the records of a range.
 *
 * To end a session:
 *   E1 its entry says ENDING, and the process acquires nothing any more;
 *   E2 berthd seizes and closes every record, and repeats this until all are closed;
 *   E3 the entry says ENDED;
 *   E4 once the process can't place a record any more (`dead`), berthd clears the owners of the
 *      ranges;
 *   E5 the entry says NONE.
 * If berthd dies between E1 and E3, the entry says ENDING. If it dies between E3 and E5, the entry
 * says ENDED. In both cases the next berthd continues from E2; to repeat a step changes nothing. A
 * process that had read the entry before E1 may still place a record; berthd closes that record
 * when it repeats E2.
 */

#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "array.h"
#include "counter.h"
#include "clock.h"
#include "log.h"
#include "loop.h"
#include "procfs.h"
#include "sessions.h"

#define RETRY_USEC 20000

struct session {
	struct sessions *all;
	uint32_t index;
	struct session_identity identity;
	int pidfd; /* -1: it couldn't be opened; berthd tries again */
	sd_event_source *death;
	uint32_t range_head;
	bool dead; /* the process is dead, runs a new image, or said BYE: ranges are reusable */
	bool connected;
	enum session_state state;
	void *user;
};

struct sessions {
	sd_event *event;
	struct segment *segment;
	struct ranges *ranges;
	struct session **session; /* by index */
	uint32_t size;
	uint32_t count;
	sd_event_source *retry; /* tries again to watch or end sessions */
	bool full_logged;
	void (*ended)(struct session *s);
};

uint32_t sessions_count(const struct sessions *all) {
	return all->count;
}

uint32_t sessions_granted(const struct sessions *all) {
	return ranges_granted(all->ranges) * BERTH_RANGE;
}

struct ranges *sessions_ranges(const struct sessions *all) {
	return all->ranges;
}

void sessions_on_ended(struct sessions *all, void (*ended)(struct session *s)) {
	all->ended = ended;
}

struct session *sessions_owner(const struct sessions *all, uint32_t record) {
	uint32_t owner = ranges_owner(all->ranges, record / BERTH_RANGE);

	return owner < all->size ? all->session[owner] : NULL;
}

uint32_t session_index(const struct session *s) {
	return s->index;
}

const struct session_identity *session_identity(const struct session *s) {
	return &s->identity;
}

bool session_is_open(const struct session *s) {
	return s->state == SESSION_OPEN;
}

void session_set_user(struct session *s, void *user) {
	s->user = user;
}

void *session_user(const struct session *s) {
	return s->user;
}

void session_set_disconnected(struct session *s) {
	s->connected = false;
}

static struct session_entry *entry_of(struct session *s) {
	return map_session(s->all->segment->map, s->index);
}

static void state_write(struct session *s, enum session_state state) {
	s->state = state;
	store_total(
		&entry_of(s)->state, state); /* pairs with the process's load before it acquires */
}

/* -- ending ------------------------------------------------------------------------------------ */

static void session_free(struct session *s) {
	struct sessions *all = s->all;

	if (all->ended)
		all->ended(s);
	(void)sd_event_source_disable_unref(s->death);
	close_cleanup(&s->pidfd);
	all->session[s->index] = NULL;
	all->count--;
	all->full_logged = false;
	free(s);
}

/* E2. False: the process keeps placing a record, or there is no memory. */
static bool session_close_records(struct session *s) {
	bool all_closed = true;
	uint32_t damaged = 0;

	for (uint32_t range = s->range_head; range != RANGE_NONE;
		range = ranges_next(s->all->ranges, range))
		for (uint32_t i = 0; i < BERTH_RANGE; i++) {
			int r = counter_close(s->all->segment->map, range * BERTH_RANGE + i);

			if (r == COUNTER_NEEDS_RECOUNT)
				damaged++;
			else if (r < 0)
				all_closed = false;
		}
	if (damaged > 0)
		log_warning("%u slots of process %d contradicted the counts of their accounts; "
			    "releasing them all the same",
			damaged, s->identity.pid);
	return all_closed;
}

static void retry_later(struct sessions *all);

/* Ends the session as far as possible now. True: the session was freed. */
static bool session_end(struct session *s) {
	if (s->state == SESSION_OPEN)
		state_write(s, SESSION_ENDING); /* E1 */
	if (s->state == SESSION_ENDING) {
		if (!session_close_records(s)) {
			retry_later(s->all);
			return false;
		}
		state_write(s, SESSION_ENDED); /* E3 */
	}
	if (!s->dead)
		return false;
	ranges_take_back(s->all->ranges, &s->range_head); /* E4 */
	state_write(s, SESSION_NONE);                     /* E5 */
	session_free(s);
	return true;
}

static int on_death(sd_event_source *source, int fd, uint32_t events, void *data) {
	struct session *s = data;

	(void)source, (void)fd, (void)events;
	log_debug("Process %d is dead; releasing its slots", s->identity.pid);
	s->dead = true;
	(void)sd_event_source_set_enabled(s->death, SD_EVENT_OFF);
	(void)session_end(s);
	return 0;
}

void session_disconnected(struct session *s, bool goodbye) {
	s->connected = false;
	if (goodbye)
		s->dead = true;
	(void)session_end(s);
}

/* -- watching ---------------------------------------------------------------------------------- */

/* -ESRCH: the process is dead. Other errors: it can't be watched now, and may live. */
static int session_watch(struct session *s) {
	uint64_t start;
	int r;

	if (s->death)
		return 0;
	if (s->pidfd < 0)
		s->pidfd = (int)syscall(SYS_pidfd_open, s->identity.pid, 0);
	if (s->pidfd < 0)
		return -errno;
	/* Another process may have the pid by now. But if the process that has the pid now started
	 * when the session's process started, it is the session's process. Then this process also
	 * had the pid when the pidfd was opened, so the pidfd refers to it. */
	r = process_start_time(s->identity.pid, &start);
	if (r == -ESRCH ||
		(r == 0 && s->identity.start_time != 0 && start != s->identity.start_time))
		return -ESRCH;
	return sd_event_add_io(s->all->event, &s->death, s->pidfd, EPOLLIN, on_death, s);
}

/* Watches and ends the sessions that couldn't be watched or ended a moment ago. */
static int on_retry(sd_event_source *source, uint64_t usec, void *data) {
	struct sessions *all = data;

	(void)source, (void)usec;
	for (uint32_t i = 0; i < all->size; i++) {
		struct session *s = all->session[i];

		if (s && !s->death && !s->dead) {
			int r = session_watch(s);

			if (r == -ESRCH)
				s->dead = true;
			else if (r < 0)
				retry_later(all);
		}
		if (s && (s->state != SESSION_OPEN || s->dead))
			(void)session_end(s);
	}
	return 0;
}

static void retry_later(struct sessions *all) {
	timer_set(all->retry, RETRY_USEC);
}

/* -- opening ----------------------------------------------------------------------------------- */

static struct session *session_make(struct sessions *all, uint32_t index) {
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->all = all;
	s->index = index;
	s->pidfd = -1;
	s->range_head = RANGE_NONE;
	all->session[index] = s;
	all->count++;
	return s;
}

/* The state is written last: no process reads an entry that isn't OPEN. */
static void entry_write(struct session *s, enum session_state state) {
	struct session_entry *e = entry_of(s);

	store_relaxed(&e->serial, s->identity.serial);
	store_relaxed(&e->pid, (uint32_t)s->identity.pid);
	store_relaxed(&e->uid, s->identity.uid);
	store_relaxed(&e->start_time, s->identity.start_time);
	store_relaxed(&e->image, s->identity.image);
	store_relaxed(&e->comm[0], s->identity.comm[0]);
	store_relaxed(&e->comm[1], s->identity.comm[1]);
	store_relaxed(&e->opened, s->identity.opened);
	state_write(s, state);
}

static void entry_read(const struct session_entry *e, struct session_identity *ret) {
	*ret = (struct session_identity){
		.serial = load_relaxed(&e->serial),
		.pid = (pid_t)load_relaxed(&e->pid),
		.uid = load_relaxed(&e->uid),
		.start_time = load_relaxed(&e->start_time),
		.image = load_relaxed(&e->image),
		.comm = {load_relaxed(&e->comm[0]), load_relaxed(&e->comm[1])},
		.opened = load_relaxed(&e->opened),
	};
}

static int session_create(
	struct sessions *all, struct session_claim *claim, uint64_t start, struct session **ret) {
	uint32_t index = 0;
	struct session *s;
	char comm[16];
	int r;

	while (index < all->size && all->session[index])
		index++;
	if (index == all->size) {
		r = segment_grow_sessions(all->segment);
		if (r == -ENOSPC && !all->full_logged) {
			all->full_logged = true;
			log_event(LOG_WARNING, EVENT_FULL, NULL,
				"All %u sessions are in use; refusing further servers with "
				"NO_SYSTEM_RESOURCES (8). Raise --max-sessions",
				all->segment->map->layout.max_sessions);
		}
		if (r >= 0)
			r = array_extend(&all->session, &all->size,
				load_relaxed(&all->segment->names->sessions));
		if (r < 0)
			return r;
	}
	s = map_session(all->segment->map, index) ? session_make(all, index) : NULL;
	if (!s)
		return -ENOMEM;
	s->identity.pid = claim->pid;
	s->identity.uid = claim->uid;
	s->identity.start_time = start;
	s->identity.image = claim->image;
	s->identity.opened = clock_wall_ms();
	process_comm(claim->pid, comm);
	memcpy(s->identity.comm, comm, sizeof(s->identity.comm));
	s->pidfd = claim->pidfd;
	claim->pidfd = -1;
	do
		s->identity.serial = add_total(&all->segment->map->header->next_serial, 1);
	while (s->identity.serial == 0);
	r = session_watch(s);
	if (r < 0) {
		session_free(s);
		return r;
	}
	entry_write(s, SESSION_OPEN);
	*ret = s;
	return 0;
}

int sessions_open(struct sessions *all, struct session_claim *claim, struct session **ret,
	bool *ret_resumed) {
	struct session *s = NULL;
	uint64_t start;
	int r = 0;

	if (process_start_time(claim->pid, &start) < 0)
		start = 0;
	/* Ends the sessions that the process opened before it called exec(), and those of an
	 * earlier process that had the same pid. */
	for (uint32_t i = 0; i < all->size; i++) {
		bool is_other;

		s = all->session[i];
		if (!s || s->identity.pid != claim->pid)
			continue;
		is_other = start != 0 && s->identity.start_time != 0 &&
			   s->identity.start_time != start;
		if (!is_other && s->identity.image == claim->image)
			continue;
		/* The threads of the old program are gone, so none of them can place a record. */
		if (!is_other)
			log_debug(
				"Process %d runs a new program; releasing the slots of the old one",
				s->identity.pid);
		s->dead = true;
		(void)session_end(s);
	}
	*ret_resumed = false;
	if (claim->resume_serial != 0 && claim->resume_session < all->size) {
		s = all->session[claim->resume_session];
		*ret_resumed = s && s->identity.serial == claim->resume_serial &&
			       s->identity.pid == claim->pid && s->identity.start_time == start &&
			       s->identity.image == claim->image && s->state == SESSION_OPEN &&
			       !s->connected;
	}
	if (!*ret_resumed)
		r = session_create(all, claim, start, &s);
	close_cleanup(&claim->pidfd);
	if (r < 0)
		return r;
	s->connected = true;
	*ret = s;
	return 0;
}

int session_grant(struct session *s, uint32_t *ret_range) {
	return ranges_grant(s->all->ranges, s->index, &s->range_head, ret_range);
}

uint32_t sessions_rewrite(struct sessions *all) {
	uint32_t wrong = 0;

	for (uint32_t i = 0; i < all->size; i++) {
		struct session_entry *e = map_session(all->segment->map, i);
		struct session *s = all->session[i];
		struct session_identity found;
		uint32_t state;

		if (!e)
			continue;
		state = load_relaxed(&e->state);
		if (s) {
			entry_read(e, &found);
			if (state == (uint32_t)s->state &&
				memcmp(&found, &s->identity, sizeof(found)) == 0)
				continue;
			entry_write(s, s->state);
		} else {
			if (state == SESSION_NONE)
				continue;
			store_total(&e->state, SESSION_NONE);
		}
		wrong++;
	}
	return wrong;
}

/* -- adopting ---------------------------------------------------------------------------------- */

static int session_adopt(struct sessions *all, uint32_t index) {
	struct session_entry *e = map_session(all->segment->map, index);
	uint32_t state;
	struct session *s;

	if (!e)
		return -ENOMEM;
	state = load_relaxed(&e->state);
	if (state == SESSION_NONE)
		return 0;
	s = session_make(all, index);
	if (!s)
		return -ENOMEM;
	entry_read(e, &s->identity);
	s->state = state == SESSION_OPEN ? SESSION_OPEN : SESSION_ENDING;
	if (s->identity.pid <= 0)
		s->dead = true;
	return 0;
}

/* Gives each range to the session that owns it. Makes a range without a session free. */
static int adopt_ranges(struct sessions *all) {
	for (uint32_t range = ranges_end(all->ranges); range-- > 1;) {
		uint32_t owner;
		int r = ranges_read_owner(all->ranges, range, &owner);

		if (r < 0)
			return r;
		if (owner < all->size && all->session[owner])
			ranges_adopt(all->ranges, range, owner, &all->session[owner]->range_head);
		else
			r = ranges_reclaim(all->ranges, range);
		if (r < 0)
			return r;
	}
	return 0;
}

static int resume_range(const struct session *s, uint32_t range) {
	struct map *m = s->all->segment->map;

	for (uint32_t k = 0; k < BERTH_RANGE; k++) {
		uint32_t record = range * BERTH_RANGE + k;
		/* Opens records of a range that a dead berthd was about to grant. -EBUSY: the
		 * record is open already. */
		int r = s->state == SESSION_OPEN ? counter_open(m, record) : 0;

		/* -EAGAIN is no failure: the process itself has changed the record meanwhile. */
		if (r != -ENOMEM)
			r = counter_finish(m, record);
		if (r == -ENOMEM)
			return r;
	}
	return 0;
}

/* Finishes what the dead berthd had begun with records of living processes. */
static int resume_records(struct sessions *all) {
	for (uint32_t i = 0; i < all->size; i++) {
		struct session *s = all->session[i];

		for (uint32_t range = s ? s->range_head : RANGE_NONE; range != RANGE_NONE;
			range = ranges_next(all->ranges, range)) {
			int r = resume_range(s, range);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

static void adopt_watches(struct sessions *all) {
	uint32_t living = 0, dead = 0;

	for (uint32_t i = 0; i < all->size; i++) {
		struct session *s = all->session[i];
		int r = s ? session_watch(s) : 0;

		if (!s)
			continue;
		if (r == -ESRCH)
			s->dead = true;
		else if (r < 0)
			retry_later(all);
		living += !s->dead;
		dead += s->dead;
		if (s->dead || s->state != SESSION_OPEN)
			(void)session_end(s);
	}
	if (living + dead > 0)
		log_info("%u sessions go on; released the slots of %u whose processes had died",
			living, dead);
}

int sessions_new(sd_event *event, struct segment *segment, struct sessions **ret) {
	struct sessions *all = calloc(1, sizeof(*all));
	int r;

	if (!all)
		return -ENOMEM;
	all->event = event;
	all->segment = segment;
	r = ranges_new(segment, &all->ranges);
	if (r >= 0)
		r = array_extend(
			&all->session, &all->size, load_relaxed(&segment->names->sessions));
	for (uint32_t i = 0; r >= 0 && i < all->size; i++)
		r = session_adopt(all, i);
	if (r >= 0)
		r = adopt_ranges(all);
	if (r >= 0)
		r = resume_records(all);
	if (r >= 0)
		/* The timer is made now, since later there may be no memory for it. */
		r = timer_new(event, on_retry, all, &all->retry);
	if (r < 0) {
		sessions_free(all);
		return r;
	}
	adopt_watches(all);
	*ret = all;
	return 0;
}

void sessions_free(struct sessions *all) {
	if (!all)
		return;
	for (uint32_t i = 0; i < all->size; i++)
		if (all->session[i])
			session_free(all->session[i]);
	(void)sd_event_source_disable_unref(all->retry);
	ranges_free(all->ranges);
	free(all->session);
	free(all);
}
