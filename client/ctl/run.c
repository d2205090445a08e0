/* SPDX-License-Identifier: MIT */

/*
 * The verb run: holds a slot while a command runs.
 *
 * Signals: the terminal's (^C, ^\, hang-up) reach the command by itself, as it is in the same
 * process group; those that another process sent to berthctl alone are passed on to it. In either
 * case berthctl waits for what the command makes of them, since the slot is the command's.
 */

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "berth.h"
#include "clock.h"
#include "ctl.h"
#include "message.h"
#include "name.h"
#include "util.h"

/* -- why not ----------------------------------------------------------------------------------- */

/* Which level of the account's path has no room; the account itself is asked first. */
static void full_level_print(struct berth *b, const char *account, uint32_t weight) {
	char name[MESSAGE_NAME_SIZE];
	struct ctl_shown shown;

	(void)snprintf(name, sizeof(name), "%s", account);
	for (size_t length = strlen(name); length > 0; length = name_parent(name, length)) {
		struct berth_usage usage = {.size = sizeof(usage)};

		name[length] = '\0';
		if (berth_query(b, name, &usage) != BERTH_SUCCESS)
			continue;
		if ((uint64_t)usage.current + weight <= usage.limit)
			continue;
		fprintf(stderr, " — %s holds %" PRIu32 " of %" PRIu32 "\n", ctl_show(&shown, name),
			usage.current, usage.limit);
		return;
	}
	fputs(" — a level of it was full a moment ago\n", stderr);
}

/* The command that would make a shell set the account's limit; names may have spaces. */
static void hint_set_print(const char *account) {
	bool plain = !strpbrk(account, " \t\"'\\$`!#&()<>;|~[]{}");
	const char *quote = plain ? "" : "'";

	fprintf(stderr, "\nTo give it a limit: berthctl set %s", quote);
	for (const char *p = account; *p; p++)
		if (*p == '\'')
			fputs("'\\''", stderr);
		else
			putc(*p, stderr);
	fprintf(stderr, "%s LIMIT\n", quote);
}

/* What is full, if this user may ask, and it is what berthd can't mend by itself. */
static void hint_table_print(const struct ctl *c) {
	struct message_status request = {MESSAGE_HEADER(MESSAGE_STATUS, request)};
	_cleanup_close_ int fd = -1;
	struct message_status_reply s;
	size_t size = sizeof(s);

	if (message_connect(c->runtime_dir, "admin.sock", clock_monotonic_ms(), &fd) == 0 &&
		message_call(fd, &request, &s, &size, clock_monotonic_ms() + 1000) == 0 &&
		size == sizeof(s) && s.header.code == 0 && s.slots_retired > 0)
		fprintf(stderr,
			"\nOf %" PRIu32 " slots, %" PRIu32 " have used up their sequence numbers. "
			"Restart berthd while no server uses it: that makes a new table.\n",
			s.slots_max, s.slots_retired);
	else
		fputs("\nA table, or memory, is full: berthd's log says which. See: berthctl "
		      "status\n",
			stderr);
}

static void hint_print(const struct ctl *c, const char *account, int code) {
	struct ctl_shown shown;
	const char *dir = ctl_show(&shown, c->runtime_dir);

	if (code == BERTH_NO_SUCH_USER)
		hint_set_print(account);
	else if (code == BERTH_CONNECTION_REFUSED)
		fprintf(stderr,
			"\nNobody answers at %s/berth.sock: is berthd running? See: systemctl "
			"status berthd\n",
			dir);
	else if (code == BERTH_ACCESS_DENIED)
		fprintf(stderr,
			"\nOnly members of the group of %s/berth.sock may use it (by default: "
			"berth).\n",
			dir);
	else if (code == BERTH_NO_SYSTEM_RESOURCES)
		hint_table_print(c);
	else
		putc('\n', stderr);
}

/* Returns the exit status. b may be NULL: there is no session. */
static int refusal_report(const struct ctl *c, struct berth *b, const char *account, int code) {
	struct ctl_shown shown;

	fprintf(stderr, "%s: %s (%d, 0x%X)", ctl_show(&shown, account), berth_strerror(code), code,
		(unsigned)code);
	if (code == BERTH_CONNECTION_COUNT_LIMIT && b) {
		full_level_print(b, account, c->weight);
		return c->denied_status;
	}
	hint_print(c, account, code);
	return ctl_status_of((uint32_t)code);
}

/* -- the command ------------------------------------------------------------------------------- */

/* What the command is to find as berthctl found it. */
struct inherited {
	sigset_t mask;
	struct sigaction child;
};

/* Blocks what is waited for. Returns false if the system is out of its mind. */
static bool signals_take(sigset_t *ret_waited, struct inherited *ret_old) {
	static const int waited[] = {SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
	struct sigaction plain = {.sa_handler = SIG_DFL};

	(void)sigemptyset(ret_waited);
	for (size_t i = 0; i < ELEMENTS(waited); i++)
		(void)sigaddset(ret_waited, waited[i]);
	/* A parent that ignores SIGCHLD would leave us without the command's status. */
	return sigaction(SIGCHLD, &plain, &ret_old->child) == 0 &&
	       sigprocmask(SIG_BLOCK, ret_waited, &ret_old->mask) == 0;
}

static void command_become(char **argv, const struct inherited *old) __attribute__((noreturn));

static void command_become(char **argv, const struct inherited *old) {
	struct ctl_shown shown;
	int error;

	(void)sigaction(SIGCHLD, &old->child, NULL);
	(void)sigprocmask(SIG_SETMASK, &old->mask, NULL);
	(void)execvp(argv[0], argv);
	error = errno;
	ctl_error("can't run %s: %s", ctl_show(&shown, argv[0]), strerror(error));
	_exit(error == ENOENT ? 127 : 126);
}

static int status_of_wait(int status) {
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Waits until the command has ended, passing on what is meant for it. */
static int command_wait(pid_t pid, const sigset_t *waited) {
	siginfo_t info;
	int status;

	for (;;) {
		int signal = sigwaitinfo(waited, &info);

		/* Merged SIGCHLDs and one of a child that we inherited: look each time. */
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status_of_wait(status);
		/* What the kernel sends it sends to the whole process group of the terminal. */
		if (signal > 0 && signal != SIGCHLD && info.si_code != SI_KERNEL)
			(void)kill(pid, signal);
	}
}

static int command_run(char **argv) {
	struct inherited old;
	struct ctl_shown shown;
	sigset_t waited;
	pid_t pid;

	if (!signals_take(&waited, &old)) {
		ctl_error("can't set up signals: %s", strerror(errno));
		return CTL_FAILED;
	}
	pid = fork();
	if (pid < 0) {
		ctl_error("can't start %s: %s", ctl_show(&shown, argv[0]), strerror(errno));
		return CTL_FAILED;
	}
	if (pid == 0)
		command_become(argv, &old);
	return command_wait(pid, &waited);
}

static int run_held(struct ctl *c, struct berth *b, const char *account, char **argv) {
	const char *slash = strrchr(argv[0], '/');
	struct berth_request request = {
		.size = sizeof(request),
		.account = account,
		.weight = c->weight,
		/* Holders would show that berthctl has it, which helps nobody. */
		.label = c->label ? c->label
			 : slash  ? slash + 1
				  : argv[0],
	};
	struct ctl_shown shown;
	berth_slot slot;
	int code, status;

	code = berth_acquire_req(b, &request, &slot);
	if (code != BERTH_SUCCESS)
		return refusal_report(c, b, account, code);
	status = command_run(argv);
	code = berth_release(b, slot);
	if (code == BERTH_CONNECTION_ABORTED)
		ctl_error("%s: the slot was revoked while the command ran",
			ctl_show(&shown, account));
	return status;
}

int verb_run(struct ctl *c, int argc, char **argv) {
	struct berth_options options = {
		.size = sizeof(options),
		.runtime_dir = c->runtime_dir,
	};
	struct berth *b;
	int code, status;

	(void)argc;
	status = ctl_check_account(c, argv[0]);
	if (status != CTL_OK)
		return status;
	code = berth_open_options(&options, &b);
	if (code != BERTH_SUCCESS)
		return refusal_report(c, NULL, argv[0], code);
	status = run_held(c, b, argv[0], argv + 1);
	berth_close(b);
	return status;
}
