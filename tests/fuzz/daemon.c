/* SPDX-License-Identifier: MIT */

/* Starts berthd in this process, talks to it as clients do, and removes what an input has left. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "audit.h"
#include "berth.h"
#include "clock.h"
#include "counter.h"
#include "daemon.h"
#include "log.h"
#include "message.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define forbid(p, size) ASAN_POISON_MEMORY_REGION((p), (size))
#define allow(p, size)  ASAN_UNPOISON_MEMORY_REGION((p), (size))
#else
#define forbid(p, size) ((void)(p), (void)(size))
#define allow(p, size)  ((void)(p), (void)(size))
#endif

#define PATIENCE_USEC 20000000
#define FD_END        128 /* larger than any descriptor */

static struct manager *manager;
static char dir[40], runtime_dir[48], state_dir[48];
static int own_pidfd = -1;
static unsigned fds_before;

struct manager *daemon_get(void) {
	return manager;
}

/* -- berthd ------------------------------------------------------------------------------------ */

/* Starts a shell that removes the directory when this process ends, even if it crashes. */
static void remove_at_end(void) {
	int ends[2];

	must(pipe2(ends, O_CLOEXEC) == 0);
	if (fork() == 0) {
		(void)setsid();
		(void)dup2(ends[0], STDIN_FILENO);
		/* Close the shell's output, or else a reader of the fuzzer's output would also wait
		 * for the shell. */
		(void)dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
		(void)dup2(STDOUT_FILENO, STDERR_FILENO);
		(void)close(ends[1]);
		(void)execlp("sh", "sh", "-c", "read -r _; rm -rf \"$0\"", dir, NULL);
		_exit(1);
	}
	(void)close(ends[0]);
}

/* True if the descriptor is open, and not of a file of the store. */
static bool is_open(int fd) {
	char link[32], path[64];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	return n > 0 &&
	       ((size_t)n < strlen(state_dir) || memcmp(path, state_dir, strlen(state_dir)) != 0);
}

/* Counts the open descriptors, without those of the store, whose worker opens and closes files at
 * any time. */
static unsigned fds_open(void) {
	unsigned count = 0;

	for (int fd = 0; fd < FD_END; fd++)
		count += is_open(fd);
	return count;
}

__attribute__((constructor)) static void daemon_start(void) {
	/* The capacities are small, so that inputs reach them. */
	struct options options = {
		.runtime_dir = runtime_dir,
		.state_dir = state_dir,
		.capacities = {.accounts = 100, .slots = 128, .sessions = 6},
	};
	sigset_t none;

	strcpy(dir, "/dev/shm/berth-fuzz-XXXXXX");
	must(mkdtemp(dir));
	remove_at_end();
	(void)snprintf(runtime_dir, sizeof(runtime_dir), "%s/run", dir);
	(void)snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
	(void)setenv("BERTH_LOG_LEVEL", "0", 1);
	log_init();
	must(manager_new(&options, &manager) == 0);
	/* The fuzzer handles the signals that berthd has blocked. */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	own_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	must(own_pidfd >= 0);
}

void daemon_begin(void) {
	fds_before = fds_open();
}

/* Replaces message_receive (the linker's --wrap). berthd's buffer has the size of the largest
 * message, so a shorter message has unused bytes behind it. This function makes a sanitizer report
 * reads of these bytes. */
ssize_t __real_message_receive(int fd, void *buffer, size_t size, int *ret_fds);
ssize_t __wrap_message_receive(int fd, void *buffer, size_t size, int *ret_fds);

ssize_t __wrap_message_receive(int fd, void *buffer, size_t size, int *ret_fds) {
	ssize_t n;

	allow(buffer, size);
	n = __real_message_receive(fd, buffer, size, ret_fds);
	if (n > 0)
		forbid((char *)buffer + n, size - (size_t)n);
	return n;
}

/* -- connections ------------------------------------------------------------------------------- */

/* Runs the event loop until it would wait. */
static void loop_run_pending(void) {
	while (sd_event_run(manager->context.event, 0) > 0)
		;
}

void peer_connect(struct peer *p, enum server_socket kind) {
	if (p->fd >= 0)
		return;
	*p = (struct peer){.fd = -1, .kind = kind};
	must(message_connect(runtime_dir, kind == SOCKET_ADMIN ? "admin.sock" : "berth.sock",
		     clock_monotonic_ms() + 1000, &p->fd) == 0);
}

void peer_hang_up(struct peer *p) {
	if (p->fd >= 0)
		(void)close(p->fd);
	p->fd = -1;
	loop_run_pending();
}

static bool packet_send(int fd, const void *packet, size_t length, unsigned fds, bool with_pidfd) {
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control = {0};
	struct iovec part = {(void *)(uintptr_t)packet, length};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

	if (fds > 0) {
		m.msg_control = control.space;
		m.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(fds * sizeof(int));
	}
	for (unsigned i = 0; i < fds; i++) {
		int send = i == 0 && with_pidfd ? own_pidfd : manager->context.segment->runtime_fd;

		memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &send, sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

/* Receives the next answer. Returns -EAGAIN if berthd has neither answered nor hung up. */
static ssize_t answer_receive(struct peer *p, void *buffer, size_t size) {
	int fds[MESSAGE_FDS_MAX];
	ssize_t n = message_receive(p->fd, buffer, size, fds);

	for (int i = 0; i < MESSAGE_FDS_MAX; i++)
		close_cleanup(&fds[i]);
	must(n != -EBADMSG && n != -EMSGSIZE);
	return n;
}

size_t peer_ask(struct peer *p, const void *packet, size_t length, unsigned fds, bool pidfd,
	const void **ret_answer) {
	static _Alignas(16) uint8_t answer[MESSAGE_SIZE_MAX];
	int64_t end = clock_monotonic_ms() + PATIENCE_USEC / 1000;
	ssize_t n = -EAGAIN;

	if (!packet_send(p->fd, packet, length, fds, pidfd)) {
		loop_run_pending();
		return 0;
	}
	loop_run_pending();
	if (p->mute)
		return 0;
	while ((n = answer_receive(p, answer, sizeof(answer))) == -EAGAIN) {
		must(clock_monotonic_ms() < end);
		must(sd_event_run(manager->context.event, 100000) >= 0);
	}
	if (n <= 0) {
		peer_hang_up(p);
		return 0;
	}
	*ret_answer = answer;
	return (size_t)n;
}

/* -- after an input ---------------------------------------------------------------------------- */

void daemon_check_counts(void) {
	static uint64_t sum[4096];
	struct map *m = manager->context.segment->map;
	uint32_t end = accounts_end(manager->context.accounts);

	must(end <= ELEMENTS(sum));
	memset(sum, 0, sizeof(sum));
	for (uint32_t n = 1; n < load_relaxed(&m->names->slots); n++) {
		struct snapshot s;

		must(counter_record(m, n, &s) == 0);
		/* No process is in the middle of an operation. */
		must(place_state(s.place) <= RECORD_PLACED);
		if (place_state(s.place) != RECORD_PLACED)
			continue;
		must(seq_charged(s.seq) == 0 || snapshot_is_held(s));
		for (uint32_t k = 0; k < seq_charged(s.seq); k++) {
			uint32_t account = account_ancestor(m, place_account(s.place), k);

			must(account != 0);
			sum[account] += place_weight(s.place);
		}
	}
	for (uint32_t a = 1; a < end; a++)
		must(counter_count(m, a) == sum[a]);
}

static void on_stored(void *data, int error) {
	must(error == 0);
	*(bool *)data = true;
}

/* Returns when the store has stored these limits, and has done all earlier jobs. */
static void limits_wait(const struct store_limit *limits, size_t count) {
	bool stored = false;

	must(store_put_limits(manager->context.store, limits, count, on_stored, &stored) == 0);
	while (!stored)
		must(sd_event_run(manager->context.event, 1000000) >= 0);
}

/* Deletes all limits, in the store and in force. */
static void limits_clear(void) {
	static struct store_limit limit[512];
	static char name[512][256];
	struct accounts *a = manager->context.accounts;
	uint32_t count = 0, is;

	for (uint32_t i = 1; i < accounts_end(a); i++)
		if ((entry_flags(accounts_word(a, i)) & ENTRY_CONFIGURED) &&
			directory_name(manager->context.segment->map, i, name[count]) == 0)
			count++;
	for (size_t i = 0; i < templates_count(accounts_templates(a)) && count < ELEMENTS(limit);
		i++)
		strcpy(name[count++], templates_at(accounts_templates(a), i, &is));
	for (uint32_t i = 0; i < count; i++)
		limit[i] = (struct store_limit){name[i], STORE_DELETE};
	limits_wait(limit, count);
	for (uint32_t i = 0; i < count; i++)
		must((strpbrk(name[i], "*?") ? accounts_delete_template(a, name[i])
					     : accounts_unconfigure(a, name[i])) == 0);
	accounts_tidy(a);
}

/* Ends all sessions, which are all of this process. If a process has called exec (has another
 * image) and then opens a session, berthd ends the sessions of its earlier images. So this function
 * opens a session as if from image 1, and then one as if from image 2, which also ends those of
 * image 1. */
static void sessions_clear(void) {
	struct sessions *all = manager->context.sessions;

	for (uint64_t image = 1; image <= 2; image++) {
		struct session_claim claim = {.pid = getpid(), .pidfd = -1, .image = image};
		struct session *s;
		bool resumed;

		must(sessions_open(all, &claim, &s, &resumed) == 0);
		if (image == 2)
			session_disconnected(s, true);
	}
	must(sessions_count(all) == 0);
	must(sessions_granted(all) == 0);
}

void daemon_reset(struct peer *peers, size_t count) {
	const struct store_limit nothing = {"nothing", STORE_DELETE};

	for (size_t i = 0; i < count; i++)
		peer_hang_up(&peers[i]);
	/* Changes that the connections asked for may still be waiting in the store. */
	limits_wait(&nothing, 1);
	sessions_clear();
	while (accounts_totals(manager->context.accounts).configured > 0 ||
		templates_count(accounts_templates(manager->context.accounts)))
		limits_clear();
	accounts_tidy(manager->context.accounts);
	must(accounts_totals(manager->context.accounts).by_template == 0);
	must(accounts_totals(manager->context.accounts).accounts == 0);
	must(fds_open() == fds_before);
}
