/* SPDX-License-Identifier: MIT */

/* Keeps a handle's session: connects, says HELLO, resumes after the daemon's restart, asks for
 * names and records, replaces a session that was lost, and begins anew in a forked child. */

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "berth.h"
#include "clock.h"
#include "message.h"
#include "session.h"

/* Of a daemon that hangs up on our HELLO because it is just being restarted. */
#define HELLO_PAUSE_MS 20

/* How many ranges a session asks for at once, at most. */
#define RANGES_ASKED 64u

union reply {
	struct message_header header;
	struct message_failed failed;
	struct message_welcome welcome;
	struct message_resolved resolved;
	struct message_ranges_granted granted;
	struct message_done done;
};

/* A request, how long its reply is if the code is 0, and the reply. */
struct question {
	const void *request;
	size_t reply_length;
	union reply reply;
};

/* Every handle; `next` is written before the handle is linked, so that the list is whole at any
 * instant at which another thread may fork. The lock is taken after a handle's own. */
static struct berth *handles;
static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;

/* -- sessions ---------------------------------------------------------------------------------- */

struct session session_none = {.number = UINT64_MAX};

static void session_free(struct session *s) {
	if (!s)
		return;
	cache_free_all(s);
	pool_free(s->pool);
	map_free(s->map);
	free(s);
}

static int session_fill(struct session *s, const struct message_welcome *w) {
	int r;

	s->entry = map_session(s->map, w->session);
	if (!s->entry)
		return -EUCLEAN;
	s->map->session = s->entry;
	r = pool_new(s->map, s->slots, &s->pool);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < w->range_count; i++) {
		r = pool_add_range(s->pool, w->range[i]);
		if (r < 0)
			return r == -ENOMEM ? r : -EUCLEAN;
	}
	return 0;
}

/* A number that no session of the process has had; and whose lowest bits, which slots bear, none has that
 * the handle remembers. */
static uint64_t number_take(const struct berth *b) {
	static _Atomic uint64_t numbers;
	const struct session *current = load_relaxed(&b->current);
	uint64_t number, slot;

	do {
		number = add_relaxed(&numbers, 1) + 1;
		slot = number << SESSION_SHIFT;
	} while (slot == 0 || (current && session_gave(current, slot)) ||
		 session_find_retired(b, slot));
	return number;
}

/* Takes the descriptors. */
static int session_new(const struct berth *b, const struct message_welcome *w,
	int fds[MESSAGE_FDS_MAX], struct session **ret) {
	const uint32_t open[2] = {SESSION_OPEN, w->serial};
	struct session *s = calloc(1, sizeof(*s));
	int directory = fds[0], segment = fds[1], r;
	uint64_t word;

	fds[0] = fds[1] = -1;
	if (!s) {
		close_cleanup(&directory);
		close_cleanup(&segment);
		return -ENOMEM;
	}
	s->index = w->session;
	s->serial = w->serial;
	s->number = number_take(b);
	s->slots = s->number << SESSION_SHIFT;
	memcpy(&word, open, sizeof(word));
	store_relaxed(&s->open, word);
	r = map_new(segment, directory, PROT_READ, &s->map);
	if (r >= 0)
		r = session_fill(s, w);
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void map_file_forget(struct map *m, struct map_file *file, int fd) {
	(void)pthread_mutex_lock(&m->lock);
	if (fd >= 0 && file->fd == fd)
		file->fd = -1;
	(void)pthread_mutex_unlock(&m->lock);
}

/* If a number has been given again, and to the same file at that, since the application closed it,
 * then it isn't another map's to use and close: neither the session's before, nor another handle's. */
static void map_claim_files(struct map *m) {
	(void)pthread_mutex_lock(&handles_lock);
	for (struct berth *b = handles; b; b = b->next) {
		struct session *s = load_acquire(&b->current);

		if (!s || s->map == m)
			continue;
		map_file_forget(s->map, &s->map->segment, m->segment.fd);
		map_file_forget(s->map, &s->map->directory, m->directory.fd);
	}
	(void)pthread_mutex_unlock(&handles_lock);
}

/* Under b->lock. The old one is findable among the retired before it ceases to be current, so that
 * a slot of it is never unknown. */
static void session_publish(struct berth *b, struct session *s) {
	struct session *old = load_relaxed(&b->current);

	s->handle = b;
	map_claim_files(s->map);
	if (old) {
		map_close_files(old->map);
		old->older = load_relaxed(&b->retired);
		/* Pairs with session_find_retired(). */
		store_release(&b->retired, old);
	}
	/* Pair with the loads in fast.c, library.c and session_get(). */
	store_release(&b->current, s);
	store_release(&b->fast, s);
}

void sessions_each(void (*call)(struct session *s, void *data), void *data) {
	(void)pthread_mutex_lock(&handles_lock);
	for (struct berth *b = handles; b; b = b->next) {
		struct session *current = load_acquire(&b->current);

		if (current)
			call(current, data);
		for (struct session *s = load_acquire(&b->retired); s; s = s->older)
			if (s != current)
				call(s, data);
	}
	(void)pthread_mutex_unlock(&handles_lock);
}

struct session *session_find_retired(const struct berth *b, uint64_t slot) {
	struct session *s = load_acquire(&b->retired);

	while (s && !session_gave(s, slot))
		s = s->older;
	return s;
}

/* -- the socket -------------------------------------------------------------------------------- */

static bool socket_is_ours(const struct berth *b) {
	struct stat st;

	return b->fd >= 0 && fstat(b->fd, &st) == 0 && st.st_dev == b->dev && st.st_ino == b->ino;
}

static void socket_close(struct berth *b) {
	if (socket_is_ours(b))
		(void)close(b->fd);
	b->fd = -1;
}

/* Takes fd. */
static int socket_set(struct berth *b, int fd) {
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int r = -errno;

		close_cleanup(&fd);
		return r;
	}
	b->dev = st.st_dev;
	b->ino = st.st_ino;
	b->owed = false;
	b->fd = fd;
	return 0;
}

/* -- HELLO ------------------------------------------------------------------------------------- */

/* Tells this exec image from the one before and after it: the kernel gives each 16 random bytes. */
static uint64_t image_hash(void) {
	const void *random = (const void *)(uintptr_t)getauxval(AT_RANDOM);

	return random ? XXH3_64bits(random, 16) : 0;
}

static int welcome_check(const struct message_welcome *w, const struct session *resume) {
	if (w->range_count > ELEMENTS(w->range) || w->serial == 0)
		return -EBADMSG;
	if (!w->resumed)
		return 0;
	return resume && w->session == resume->index && w->serial == resume->serial ? 0 : -EBADMSG;
}

static int hello_send(
	int fd, const struct session *resume, int64_t deadline, union reply *reply, int *fds) {
	struct message_hello hello = {
		.header = MESSAGE_HEADER(MESSAGE_HELLO, struct message_hello),
		.fingerprint = BERTH_FINGERPRINT,
		.image = image_hash(),
		.resume_session = resume ? resume->index : 0,
		.resume_serial = resume ? resume->serial : 0,
	};
	_cleanup_close_ int pidfd = -1;
	size_t size = sizeof(*reply);
	int r;

	pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	/* Whatever the reason, a filter's EPERM included: not a matter of the daemon's policy. */
	if (pidfd < 0)
		return -ENOSYS;
	r = message_ask(fd, &hello, pidfd, deadline);
	/* If berthd hung up before it received the request, it may have sent the reason. */
	if (r == 0 || r == -ECONNRESET)
		r = message_answer(fd, &hello, reply, &size, fds, deadline);
	if (r < 0)
		return r;
	if (reply->header.code != 0)
		return reply->header.code <= INT32_MAX ? (int)reply->header.code : -EBADMSG;
	return size == sizeof(reply->welcome) ? welcome_check(&reply->welcome, resume) : -EBADMSG;
}

/* Gives a map whose descriptors the application closed new ones of the same files. */
static void map_file_renew(struct map *m, struct map_file *file, int *fd) {
	struct stat now, new;
	bool ours;

	(void)pthread_mutex_lock(&m->lock);
	/* The same file under the same number: the old one was closed, the number given again. */
	ours = file->fd >= 0 && file->fd != *fd && fstat(file->fd, &now) == 0 &&
	       now.st_dev == file->dev && now.st_ino == file->ino;
	if (!ours && fstat(*fd, &new) == 0 && new.st_dev == file->dev &&new.st_ino == file->ino) {
		file->fd = *fd;
		*fd = -1;
	}
	(void)pthread_mutex_unlock(&m->lock);
}

/* Uses what it needs of the descriptors. */
static int welcome_accept(struct berth *b, struct session *resume, const struct message_welcome *w,
	int fds[MESSAGE_FDS_MAX]) {
	struct session *s;
	int r;

	if (w->resumed) {
		map_file_renew(resume->map, &resume->map->directory, &fds[0]);
		map_file_renew(resume->map, &resume->map->segment, &fds[1]);
		map_claim_files(resume->map);
		return 0;
	}
	/* The kernel drops those that this process has no numbers left for. */
	if (fds[0] < 0 || fds[1] < 0)
		return -EMFILE;
	r = session_new(b, w, fds, &s);
	if (r >= 0)
		session_publish(b, s);
	return r;
}

/* Hanging up would do; the word says that no thread of ours has a record any more, so that the session's
 * place and records are free at once. */
static void bye_send(int fd) {
	struct message_bye bye = {.header = MESSAGE_HEADER(MESSAGE_BYE, struct message_bye)};

	(void)message_send(fd, &bye, sizeof(bye), NULL, 0);
}

static int connect_once(struct berth *b, struct session *resume, int64_t deadline) {
	_cleanup_close_ int fd = -1;
	int fds[MESSAGE_FDS_MAX] = {-1, -1};
	union reply reply = {{0}};
	int r;

	socket_close(b);
	r = message_connect(b->runtime_dir, "berth.sock", deadline, &fd);
	if (r >= 0)
		r = hello_send(fd, resume, deadline, &reply, fds);
	if (r == 0)
		r = welcome_accept(b, resume, &reply.welcome, fds);
	/* A session that we can't use is not to wait for our death. */
	if (r < 0 && fd >= 0 && (!resume || (reply.welcome.serial && !reply.welcome.resumed)))
		bye_send(fd);
	for (size_t i = 0; i < MESSAGE_FDS_MAX; i++)
		close_cleanup(&fds[i]);
	if (r != 0)
		return r;
	r = socket_set(b, fd);
	fd = -1;
	return r;
}

static bool pause_before(int64_t deadline) {
	struct timespec pause = {.tv_nsec = HELLO_PAUSE_MS * 1000000};

	if (clock_monotonic_ms() + HELLO_PAUSE_MS >= deadline)
		return false;
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return true;
}

/* Under b->lock. resume NULL: a new session in any case. */
static int session_connect(struct berth *b, struct session *resume, int64_t deadline) {
	int r;

	do
		r = connect_once(b, resume, deadline);
	while (r == -ECONNRESET && pause_before(deadline));
	return r;
}

/* -- asking ------------------------------------------------------------------------------------ */

static int ranges_add(struct session *s, const struct message_ranges_granted *granted) {
	uint32_t added = 0;

	if (granted->count > MESSAGE_RANGES_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < granted->count; i++)
		added += pool_add_range(s->pool, granted->range[i]) == 0;
	return added > 0 ? 0 : -ENOMEM;
}

/* A reply that came too late for its question. What it grants is the session's all the same, until
 * its end. */
static int reply_skip(struct berth *b, int64_t deadline) {
	union reply late = {{0}};
	int r = message_skip(b->fd, &late, sizeof(late), deadline);

	if (r == 0 && late.header.opcode == MESSAGE_RANGES && late.header.code == 0)
		(void)ranges_add(load_relaxed(&b->current), &late.granted);
	return r;
}

/* Sends the question, unless an earlier one's reply doesn't come. */
static int question_ask(struct berth *b, struct question *q, int64_t deadline) {
	int r = b->owed ? reply_skip(b, deadline) : 0;

	if (r < 0)
		return r;
	b->owed = false;
	r = message_ask(b->fd, q->request, -1, deadline);
	/* Whoever hung up before our question came may have said why. */
	b->owed = r == 0 || r == -ECONNRESET;
	return b->owed ? 0 : r;
}

static int question_await(struct berth *b, struct question *q, int64_t deadline) {
	size_t size = sizeof(q->reply);
	int r = message_answer(b->fd, q->request, &q->reply, &size, NULL, deadline);

	if (r < 0)
		return r;
	b->owed = false;
	if (q->reply.header.code != 0 && q->reply.header.code <= INT32_MAX)
		return (int)q->reply.header.code;
	return size == q->reply_length ? 0 : -EBADMSG;
}

/* The daemon is slow, or memory short: nothing is wrong with the connection. */
static bool connection_stands(int r) {
	return r == -ETIMEDOUT || r == -ENOMEM || r == -ENOBUFS;
}

/* A socket whose exchange went wrong is given up, but not one that will do again: hanging up would
 * end the session and revoke what it holds. A late reply is skipped before the next question. */
static int exchange(struct berth *b, struct question *q, int64_t deadline) {
	int r;

	if (!socket_is_ours(b))
		return -ECONNRESET;
	r = question_ask(b, q, deadline);
	if (r == 0)
		r = question_await(b, q, deadline);
	if (r >= 0 || connection_stands(r))
		return r;
	socket_close(b);
	return r == -EBADF || r == -ENOTCONN || r == -ENOTSOCK ? -ECONNRESET : r;
}

/* Under b->lock, of the current session. -ESHUTDOWN: it isn't current any more. A daemon may die and
 * be replaced more than once meanwhile. */
static int ask(struct berth *b, struct session *s, struct question *q, int64_t deadline) {
	for (bool again = false;; again = true) {
		int r = exchange(b, q, deadline);

		if (r != -ECONNRESET || (again && !pause_before(deadline)))
			return r;
		r = session_connect(b, s, deadline);
		if (r != 0)
			return r;
		if (load_relaxed(&b->current) != s)
			return -ESHUTDOWN;
	}
}

/* What a thread brings back as it was when it leaves. */
struct visit {
	int error;
	int cancel;
	bool locked;
};

/* Waits for threads that are asking, each of which has a deadline too; whatever the clock says, where
 * the C library has a lock that waits by the monotonic one, and ThreadSanitizer needn't know of it. */
static int lock_until(pthread_mutex_t *lock, int64_t deadline) {
#if defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
	const struct timespec until = {
		.tv_sec = deadline / 1000, .tv_nsec = deadline % 1000 * 1000000};

	return -pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until);
#else
	int64_t left = MAX_OF(deadline - clock_monotonic_ms(), 0);
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	left += until.tv_nsec / 1000000;
	until.tv_sec += left / 1000;
	until.tv_nsec = left % 1000 * 1000000;
	return -pthread_mutex_timedlock(lock, &until);
#endif
}

static int enter(struct berth *b, int64_t deadline, struct visit *v) {
	int r;

	v->error = errno;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &v->cancel);
	r = lock_until(&b->lock, deadline);
	v->locked = r == 0;
	return r;
}

static void leave(struct berth *b, const struct visit *v) {
	if (v->locked)
		(void)pthread_mutex_unlock(&b->lock);
	(void)pthread_setcancelstate(v->cancel, NULL);
	errno = v->error;
}

static bool is_current(const struct berth *b, const struct session *s) {
	return load_relaxed(&b->current) == s;
}

int session_get(struct berth *b, int64_t deadline, struct session **ret) {
	struct visit v;
	int r = enter(b, deadline, &v);

	if (r == 0 && is_current(b, NULL))
		r = session_connect(b, NULL, deadline);
	if (r == 0)
		*ret = load_relaxed(&b->current);
	leave(b, &v);
	return r;
}

int session_replace(struct berth *b, const struct session *s, int64_t deadline) {
	struct visit v;
	int r = enter(b, deadline, &v);

	/* Without asking to resume: the entry says that there is nothing to go on with. */
	if (r == 0 && is_current(b, s))
		r = session_connect(b, NULL, deadline);
	leave(b, &v);
	return r;
}

int session_renew(struct berth *b, struct session *s, int64_t deadline) {
	struct visit v;
	int r = enter(b, deadline, &v);

	if (r == 0 && is_current(b, s) && !map_files_are_ours(s->map))
		r = session_connect(b, s, deadline);
	leave(b, &v);
	return r;
}

static int ranges_ask(struct berth *b, struct session *s, uint32_t count, int64_t deadline) {
	struct message_ranges request = {
		.header = MESSAGE_HEADER(MESSAGE_RANGES, struct message_ranges),
		.count = MAX_OF(MIN_OF(count, MESSAGE_RANGES_MAX), 1),
	};
	struct question q = {&request, sizeof(q.reply.granted), {{0}}};
	int r = ask(b, s, &q, deadline);

	return r == 0 ? ranges_add(s, &q.reply.granted) : r;
}

int session_grow(struct berth *b, struct session *s, uint32_t seen, int64_t deadline) {
	struct visit v;
	int r = enter(b, deadline, &v);

	/* Doubling keeps the questions few, for one slot held as for a hundred; and so many are added
	 * quickly enough for a thread not to be held up. */
	if (r == 0 && is_current(b, s) && pool_ranges(s->pool) == seen) {
		r = ranges_ask(b, s, pool_ranges_usable(s->pool, RANGES_ASKED), deadline);
		store_relaxed(&s->pool->is_full, r == BERTH_NO_SYSTEM_RESOURCES);
	}
	leave(b, &v);
	return r == -ESHUTDOWN ? 0 : r;
}

static int name_ask(struct berth *b, struct session *s, const char *account, int64_t deadline) {
	struct message_resolve request = {
		.header = MESSAGE_HEADER(MESSAGE_RESOLVE, struct message_resolve)};
	struct question q = {&request, sizeof(q.reply.resolved), {{0}}};

	message_name_set(&request.name, account);
	return ask(b, s, &q, deadline);
}

int session_resolve(struct berth *b, struct session *s, const char *account, int64_t deadline) {
	struct visit v;
	int r = enter(b, deadline, &v);

	if (r == 0 && is_current(b, s))
		r = name_ask(b, s, account, deadline);
	leave(b, &v);
	return r == -ESHUTDOWN ? 0 : r;
}

static int settle_ask(struct berth *b, struct session *s, uint32_t record, int64_t deadline) {
	struct message_finish_release request = {
		.header = MESSAGE_HEADER(MESSAGE_FINISH_RELEASE, struct message_finish_release),
		.record = record,
	};
	struct question q = {&request, sizeof(q.reply.done), {{0}}};

	return ask(b, s, &q, deadline);
}

int session_settle(struct berth *b, struct session *s, uint32_t record, int64_t deadline) {
	struct visit v;
	int r = enter(b, deadline, &v);

	if (r == 0 && is_current(b, s))
		r = settle_ask(b, s, record, deadline);
	leave(b, &v);
	if (r == -ESHUTDOWN)
		r = 0;
	/* Also when the session is over: then the daemon settles all of it. */
	return r;
}

/* -- handles, and forked children -------------------------------------------------------------- */

#define FORK_WIPED     0u
#define FORK_REPAIRING 2u

/* Stands in until there is a page, and for good where the kernel gives none: then the handlers of
 * fork(3) alone notice. */
static _Atomic uint32_t fork_word_plain = FORK_OURS;
_Atomic uint32_t *session_fork_word = &fork_word_plain;

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* The parent's, of which this process has a copy. A thread that isn't here may have had its map
 * locked. */
static void session_drop(struct session *s) {
	if (s)
		(void)pthread_mutex_init(&s->map->lock, NULL);
	session_free(s);
}

/* No other thread uses it. */
static void sessions_drop(struct berth *b, void (*drop)(struct session *)) {
	struct session *s = load_relaxed(&b->retired), *older;

	/* The same if another thread forked in the middle of session_publish(). */
	if (load_relaxed(&b->current) != s)
		drop(load_relaxed(&b->current));
	store_relaxed(&b->fast, &session_none);
	store_relaxed(&b->current, NULL);
	store_relaxed(&b->retired, NULL);
	for (; s; s = older) {
		older = s->older;
		drop(s);
	}
}

static void handles_repair(void) {
	int error = errno, cancel;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	(void)pthread_mutex_init(&handles_lock, NULL);
	for (struct berth *b = handles; b; b = b->next) {
		(void)pthread_mutex_init(&b->lock, NULL);
		socket_close(b);
		sessions_drop(b, session_drop);
	}
	/* Pairs with session_check_fork(). */
	store_release(session_fork_word, FORK_OURS);
	(void)pthread_setcancelstate(cancel, NULL);
	errno = error;
}

/* In a child that clone(2) made, handlers haven't run: the first thread to come repairs, others
 * wait for it. */
void session_fork_repair(void) {
	if (cas32(session_fork_word, FORK_WIPED, FORK_REPAIRING))
		handles_repair();
	while (load_acquire(session_fork_word) == FORK_REPAIRING)
		(void)sched_yield();
}

static void fork_prepare(void) {
	(void)pthread_mutex_lock(&handles_lock);
}

static void fork_parent(void) {
	(void)pthread_mutex_unlock(&handles_lock);
}

static void fork_watch(void) {
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	void *page;

	(void)pthread_atfork(fork_prepare, fork_parent, handles_repair);
	page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return;
	if (madvise(page, size, MADV_WIPEONFORK) < 0) {
		(void)munmap(page, size);
		return;
	}
	session_fork_word = page;
	store_release(session_fork_word, FORK_OURS);
}

static void handle_link(struct berth *b) {
	(void)pthread_mutex_lock(&handles_lock);
	b->next = handles;
	handles = b;
	(void)pthread_mutex_unlock(&handles_lock);
}

static void handle_unlink(const struct berth *b) {
	struct berth **at = &handles;

	(void)pthread_mutex_lock(&handles_lock);
	while (*at && *at != b)
		at = &(*at)->next;
	if (*at)
		*at = b->next;
	(void)pthread_mutex_unlock(&handles_lock);
}

int session_handle_new(const char *runtime_dir, int timeout_ms, struct berth **ret) {
	struct berth *b;

	(void)pthread_once(&fork_once, fork_watch);
	session_check_fork();
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->runtime_dir = strdup(runtime_dir);
	if (!b->runtime_dir) {
		free(b);
		return -ENOMEM;
	}
	store_relaxed(&b->fast, &session_none);
	b->timeout_ms = timeout_ms;
	b->fd = -1;
	(void)pthread_mutex_init(&b->lock, NULL);
	handle_link(b);
	*ret = b;
	return 0;
}

void session_handle_free(struct berth *b) {
	struct session *s = load_relaxed(&b->current);

	/* First, so that no thread that is just ending has a record of ours in its hands. */
	handle_unlink(b);
	/* A thread that is still inside may place a record of ours yet: then the ranges are ours until the
	 * process is dead. */
	if (s && cache_close(s) && pool_close(s->pool) && socket_is_ours(b))
		bye_send(b->fd);
	socket_close(b);
	sessions_drop(b, session_free);
	(void)pthread_mutex_destroy(&b->lock);
	free(b->runtime_dir);
	free(b);
}
