/* SPDX-License-Identifier: MIT */

/*
 * Runs a real berthd in a private directory, and the real berthctl.
 *
 * A test must leave nothing behind. berthd dies with the process that started it (PDEATHSIG), and
 * that process removes the directories when it exits. A test that Check kills can't remove them. So
 * all processes of the test program share a list of the directories, and the first process removes
 * what is left.
 */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "clock.h"

/* How long each action of berthd may take, also on slow machines and under valgrind. */
#define PATIENCE_MS   60000
#define INSTANCES_MAX 1024
#define CTL_ARGS_MAX  32

struct made_dir {
	char dir[64];
	pid_t owner;
};

static struct {
	unsigned count;
	struct made_dir dirs[INSTANCES_MAX];
} * made;
static pid_t first_process;

static void give_up(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void give_up(const char *format, ...) {
	va_list args;

	fputs("test harness: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	putc('\n', stderr);
	exit(EXIT_FAILURE);
}

/* -- directories ------------------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where) {
	(void)st, (void)type, (void)where;
	/* Ignore errors: the file may be gone, since a dying berthd may remove files, too. */
	(void)remove(path);
	return 0;
}

static void made_dir_remove(struct made_dir *n) {
	(void)nftw(n->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	n->dir[0] = '\0';
}

/* A forked process that exits doesn't remove the directories that its parent made. */
static void made_dirs_remove(void) {
	pid_t me = getpid();

	for (unsigned i = 0; i < made->count && i < INSTANCES_MAX; i++)
		if (made->dirs[i].dir[0] && (made->dirs[i].owner == me || first_process == me))
			made_dir_remove(&made->dirs[i]);
}

/* Runs before Check forks, so that all processes that Check forks share the list. */
__attribute__((constructor)) static void made_init(void) {
	made = mmap(NULL, sizeof(*made), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (made == MAP_FAILED)
		give_up("no memory");
	first_process = getpid();
	(void)atexit(made_dirs_remove);
}

static void directories_make(struct instance *i) {
	unsigned n;

	(void)snprintf(i->dir, sizeof(i->dir), "/dev/shm/berth-XXXXXX");
	if (!mkdtemp(i->dir))
		give_up("mkdtemp %s: %m", i->dir);
	n = __atomic_fetch_add(&made->count, 1, __ATOMIC_RELAXED);
	if (n >= INSTANCES_MAX)
		give_up("more than %d instances", INSTANCES_MAX);
	made->dirs[n].owner = getpid();
	strcpy(made->dirs[n].dir, i->dir);
	/* Tests that become another user than root must be able to reach the sockets. */
	(void)chmod(i->dir, 0755);
	(void)snprintf(i->runtime_dir, sizeof(i->runtime_dir), "%s/run", i->dir);
	(void)snprintf(i->state_dir, sizeof(i->state_dir), "%s/state", i->dir);
	if (mkdir(i->runtime_dir, 0755) < 0 || mkdir(i->state_dir, 0700) < 0)
		give_up("mkdir in %s: %m", i->dir);
	(void)setenv("BERTH_RUNTIME_DIR", i->runtime_dir, 1);
	(void)setenv("BERTH_STATE_DIR", i->state_dir, 1);
}

/* -- programs ---------------------------------------------------------------------------------- */

const char *program_path(const char *variable, const char *name) {
	static char path[4096];
	const char *given = variable ? getenv(variable) : NULL;
	char self[2048];
	ssize_t n;

	if (given && *given)
		return given;
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		give_up("readlink /proc/self/exe: %m");
	self[n] = '\0';
	for (char *slash = strrchr(self, '/'); slash; slash = strrchr(self, '/')) {
		*slash = '\0';
		(void)snprintf(path, sizeof(path), "%s/%s", self, name);
		if (access(path, X_OK) == 0)
			return path;
	}
	give_up("there is no %s above this program; run make, or set $%s", name,
		variable ?: "PATH");
}

static void die_with_parent(pid_t parent) {
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
}

static void berthd_exec(const struct instance *i, const char *path) {
	const char *argv[12] = {path};
	int n = 1;

	for (size_t k = 0; k < sizeof(i->args) / sizeof(i->args[0]) && i->args[k]; k++)
		argv[n++] = i->args[k];
	(void)setenv("BERTH_RUNTIME_DIR", i->runtime_dir, 1);
	(void)setenv("BERTH_STATE_DIR", i->state_dir, 1);
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("WATCHDOG_USEC");
	if (i->before_exec)
		i->before_exec();
	(void)execv(path, (char **)argv);
	fprintf(stderr, "exec %s: %m\n", path);
	_exit(EXIT_FAILURE);
}

static pid_t spawn(struct instance *i, const char *notify) {
	const char *path = program_path("BERTHD", "berthd");
	pid_t parent = getpid(), pid;
	char log[128];
	int fd;

	(void)fflush(NULL);
	pid = fork();
	if (pid < 0)
		give_up("fork: %m");
	if (pid > 0) {
		i->berthd = pid;
		return pid;
	}
	die_with_parent(parent);
	(void)snprintf(log, sizeof(log), "%s/log", i->dir);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0)
		_exit(EXIT_FAILURE);
	if (notify)
		(void)setenv("NOTIFY_SOCKET", notify, 1);
	else
		(void)unsetenv("NOTIFY_SOCKET");
	berthd_exec(i, path);
	return -1;
}

/* -- readiness --------------------------------------------------------------------------------- */

static void ready_wait(struct instance *i, int notify) {
	struct pollfd p[2] = {
		{.fd = notify, .events = POLLIN},
		{.fd = (int)syscall(SYS_pidfd_open, i->berthd, 0), .events = POLLIN},
	};
	char text[4096];
	ssize_t size;
	int n;

	for (;;) {
		n = poll(p, 2, PATIENCE_MS);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			give_up("berthd isn't ready after %d s; its log:\n%s", PATIENCE_MS / 1000,
				instance_log(i));
		size = p[0].revents & POLLIN ? recv(notify, text, sizeof(text) - 1, MSG_DONTWAIT)
					     : -1;
		text[size > 0 ? size : 0] = '\0';
		if (strncmp(text, "READY=1", 7) == 0 || strstr(text, "\nREADY=1"))
			break;
		if (!(p[0].revents & POLLIN) && (p[1].revents & POLLIN))
			give_up("berthd ended before it was ready; its log:\n%s", instance_log(i));
	}
	(void)close(p[1].fd);
}

/* -- instances --------------------------------------------------------------------------------- */

void instance_start(struct instance *i, const char *const args[]) {
	memset(i, 0, sizeof(*i));
	for (size_t k = 0; args && args[k]; k++) {
		if (k + 1 >= sizeof(i->args) / sizeof(i->args[0]))
			give_up("too many arguments for berthd");
		i->args[k] = args[k];
	}
	directories_make(i);
	instance_restart(i);
}

void instance_restart(struct instance *i) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char *path = address.sun_path;

	if (i->berthd)
		give_up("berthd runs already");
	(void)snprintf(path, sizeof(address.sun_path), "%s/notify", i->dir);
	(void)unlink(path);
	if (notify < 0 || bind(notify, (struct sockaddr *)&address, sizeof(address)) < 0)
		give_up("notify socket %s: %m", path);
	(void)spawn(i, path);
	ready_wait(i, notify);
	(void)close(notify);
	(void)unlink(path);
}

pid_t instance_spawn(struct instance *i) {
	return spawn(i, NULL);
}

int instance_kill(struct instance *i, int signal) {
	struct pollfd ended = {.events = POLLIN};
	int status = 0, n;

	if (!i->berthd || kill(i->berthd, signal) < 0)
		give_up("berthd (%d) can't be sent signal %d: %m", (int)i->berthd, signal);
	if (signal == SIGCONT || signal == 0)
		return 0;
	if (signal == SIGSTOP) {
		(void)waitpid(i->berthd, &status, WUNTRACED);
		return status;
	}
	/* A pidfd is readable once the process has ended, even while the process is a zombie. */
	ended.fd = (int)syscall(SYS_pidfd_open, i->berthd, 0);
	do
		n = ended.fd < 0 ? 1 : poll(&ended, 1, PATIENCE_MS);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		give_up("berthd didn't end within %d s of signal %d; its log:\n%s",
			PATIENCE_MS / 1000, signal, instance_log(i));
	(void)close(ended.fd);
	(void)waitpid(i->berthd, &status, 0);
	i->berthd = 0;
	return status;
}

void instance_end(struct instance *i) {
	if (i->berthd) {
		(void)kill(i->berthd, SIGCONT);
		(void)instance_kill(i, SIGKILL);
	}
	for (unsigned k = 0; k < made->count && k < INSTANCES_MAX; k++)
		if (strcmp(made->dirs[k].dir, i->dir) == 0)
			made_dir_remove(&made->dirs[k]);
}

/* Reads the descriptor to its end into *buffer, which it enlarges if necessary. */
static const char *read_all(int fd, char **buffer, size_t *size) {
	size_t used = 0;
	ssize_t n;

	do {
		if (*size - used < 4096) {
			*size = *size * 2 + 65536;
			*buffer = realloc(*buffer, *size);
			if (!*buffer)
				give_up("no memory");
		}
		n = read(fd, *buffer + used, *size - used - 1);
		if (n > 0)
			used += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	(*buffer)[used] = '\0';
	return *buffer;
}

const char *instance_log(const struct instance *i) {
	static char *buffer;
	static size_t size;
	const char *text;
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/log", i->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return "";
	text = read_all(fd, &buffer, &size);
	(void)close(fd);
	return text;
}

/* -- berthctl ---------------------------------------------------------------------------------- */

int ctl(const char **ret_output, ...) {
	static char *buffer;
	static size_t size;
	const char *argv[CTL_ARGS_MAX] = {program_path("BERTHCTL", "berthctl")};
	const char *text;
	pid_t parent = getpid(), pid;
	int ends[2], status, null, n = 0;
	va_list args;

	va_start(args, ret_output);
	do {
		if (++n >= CTL_ARGS_MAX)
			give_up("too many arguments for berthctl");
		argv[n] = va_arg(args, const char *);
	} while (argv[n]);
	va_end(args);
	if (pipe2(ends, O_CLOEXEC) < 0)
		give_up("pipe: %m");
	(void)fflush(NULL);
	pid = fork();
	if (pid < 0)
		give_up("fork: %m");
	if (pid == 0) {
		null = open("/dev/null", O_RDONLY);
		die_with_parent(parent);
		if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(ends[1], STDOUT_FILENO) < 0 ||
			dup2(ends[1], STDERR_FILENO) < 0)
			_exit(EXIT_FAILURE);
		(void)execv(argv[0], (char **)argv);
		fprintf(stderr, "exec %s: %m\n", argv[0]);
		_exit(EXIT_FAILURE);
	}
	(void)close(ends[1]);
	text = read_all(ends[0], &buffer, &size);
	(void)close(ends[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			give_up("waitpid for berthctl: %m");
	if (ret_output)
		*ret_output = text;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* -- time -------------------------------------------------------------------------------------- */

bool eventually(bool (*holds)(void *data), void *data) {
	long end = clock_monotonic_ms() + PATIENCE_MS;
	useconds_t pause = 500;

	while (!holds(data)) {
		if (clock_monotonic_ms() > end)
			return false;
		(void)usleep(pause);
		pause = pause < 20000 ? pause * 2 : pause;
	}
	return true;
}
