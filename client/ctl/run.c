/* SPDX-License-Identifier: MIT */

/*
 * The verb run: holds a slot while a command runs.
 *
 * Signals: the terminal sends its signals (^C, ^\, hang-up) to berthctl and to the command, because
 * both are in one process group. A signal that a process has sent to berthctl alone is passed on to
 * the command. In both cases berthctl goes on waiting for the command, which decides what the
 * signal does: the slot must stay held as long as the command runs.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "berth.h"
#include "clock.h"
#include "exit-status.h"
#include "message.h"
#include "name.h"
#include "show.h"
#include "util.h"
#include "verbs.h"

static struct {
	uint32_t denied_status;
	uint32_t weight;
	const char *label; /* NULL: the command's name */
} options = {
	.denied_status = CTL_DENIED,
	.weight = 1,
};

static const struct option_row option_table[] = {
	{
		.name = "-E",
		.argument = "STATUS",
		.help = "exit with STATUS (0 to 255) if the limit is reached; otherwise 75",
		.number = &options.denied_status,
		.max = 255,
	},
	{
		.name = "--weight",
		.argument = "N",
		.help = "count for N slots, 1 to 4095; otherwise 1",
		.number = &options.weight,
		.min = 1,
		.max = BERTH_WEIGHT_MAX,
	},
	{
		.name = "--label",
		.argument = "TEXT",
		.help = "the label that 'berthctl holders' shows; otherwise COMMAND's name",
		.text = &options.label,
	},
	{0},
};

/* -- without a slot ---------------------------------------------------------------------------- */

/* Prints which level of the account's path can't take the weight: the deepest such level. */
static void full_level_print(struct berth *b, const char *account) {
	char name[MESSAGE_NAME_SIZE];
	struct shown shown;

	(void)snprintf(name, sizeof(name), "%s", account);
	for (size_t length = strlen(name); length > 0; length = name_parent(name, length)) {
		struct berth_usage usage = {.size = sizeof(usage)};

		name[length] = '\0';
		if (berth_query(b, name, &usage) != BERTH_SUCCESS ||
			(uint64_t)usage.current + options.weight <= usage.limit)
			continue;
		fprintf(stderr, " — %s holds %" PRIu32 " of %" PRIu32 "\n", show_text(&shown, name),
			usage.current, usage.limit);
		return;
	}
	fputs(" — the level that was full has room again\n", stderr);
}

/* Prints the command that sets the account's limit, quoted for a shell. */
static void hint_set_print(const char *account) {
	bool plain = !strpbrk(account, " \t\"'\\$`!#&()<>;|~[]{}");
	const char *quote = plain ? "" : "'";

	fprintf(stderr, "\nTo give it a limit: berthctl set %s%s", *account == '-' ? "-- " : "",
		quote);
	for (const char *p = account; *p; p++)
		if (*p == '\'')
			fputs("'\\''", stderr);
		else
			putc(*p, stderr);
	fprintf(stderr, "%s LIMIT\n", quote);
}

/* Says how many slots are retired, which only a restart of berthd mends; if none is, says where to
 * look. Asks berthd without reporting errors: this user may not be allowed to use admin.sock. */
static void hint_full_print(void) {
	struct message_status request = {MESSAGE_HEADER(MESSAGE_STATUS, request)};
	_cleanup_close_ int fd = -1;
	struct message_status_reply s;
	size_t size = sizeof(s);

	if (message_connect(globals.runtime_dir, "admin.sock", clock_monotonic_ms(), &fd) == 0 &&
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

/* Reports why there is no slot, and what to do. b is NULL if there is no session. Returns the exit
 * status. */
static int refusal_report(struct berth *b, const char *account, int code) {
	struct shown shown;
	const char *dir;

	fprintf(stderr, "%s: %s (%d, 0x%X)", show_text(&shown, account), berth_strerror(code), code,
		(unsigned)code);
	dir = show_text(&shown, globals.runtime_dir);
	if (code == BERTH_CONNECTION_COUNT_LIMIT && b) {
		full_level_print(b, account);
		return (int)options.denied_status;
	}
	if (code == BERTH_NO_SUCH_USER)
		hint_set_print(account);
	else if (code == BERTH_CONNECTION_REFUSED)
		fprintf(stderr,
			"\nNo process listens at %s/berth.sock: is berthd running? See: systemctl "
			"status berthd\n",
			dir);
	else if (code == BERTH_ACCESS_DENIED)
		fprintf(stderr,
			"\nOnly members of the group of %s/berth.sock may use it (by default: "
			"berth).\n",
			dir);
	else if (code == BERTH_NO_SYSTEM_RESOURCES)
		hint_full_print();
	else
		putc('\n', stderr);
	return exit_status_of((uint32_t)code);
}

/* -- the command ------------------------------------------------------------------------------- */

/* Runs the command, and passes signals on to it. Returns its exit status. */
static int command_run(char **argv) {
	static const int signals[] = {SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
	struct sigaction plain = {.sa_handler = SIG_DFL}, child;
	sigset_t waited, mask;
	struct shown shown;
	siginfo_t info;
	int signal, status, error;
	pid_t pid;

	(void)sigemptyset(&waited);
	for (size_t i = 0; i < ELEMENTS(signals); i++)
		(void)sigaddset(&waited, signals[i]);
	/* If berthctl's parent ignores SIGCHLD, the kernel would drop the command's status. */
	if (sigaction(SIGCHLD, &plain, &child) < 0 || sigprocmask(SIG_BLOCK, &waited, &mask) < 0)
		return report_error("can't set up signals: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return report_error(
			"can't start %s: %s", show_text(&shown, argv[0]), strerror(errno));
	if (pid == 0) {
		(void)sigaction(SIGCHLD, &child, NULL);
		(void)sigprocmask(SIG_SETMASK, &mask, NULL);
		(void)execvp(argv[0], argv);
		error = errno;
		report_error("can't run %s: %s", show_text(&shown, argv[0]), strerror(error));
		_exit(error == ENOENT ? 127 : 126);
	}
	/* SIGCHLDs may merge, and may come from a child that berthctl had before exec. So the loop
	 * looks for the command's end after every signal. */
	for (;;) {
		signal = sigwaitinfo(&waited, &info);
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		/* If the kernel sent the signal, the terminal's whole process group has received
		 * it, so the command has it already. */
		if (signal > 0 && signal != SIGCHLD && info.si_code != SI_KERNEL)
			(void)kill(pid, signal);
	}
}

/* -- the verb ---------------------------------------------------------------------------------- */

static int run(char **operands) {
	const char *account = operands[0];
	const char *slash = strrchr(operands[1], '/');
	/* The COMM that holders shows is "berthctl", so the label names the command. */
	const char *name = slash ? slash + 1 : operands[1];
	struct berth_options session = {
		.size = sizeof(session),
		.runtime_dir = globals.runtime_dir,
	};
	struct berth_request request = {
		.size = sizeof(request),
		.account = account,
		.weight = options.weight,
		.label = options.label ? options.label : name,
	};
	struct shown shown;
	struct berth *b;
	berth_slot slot;
	int code, status;

	code = berth_open_options(&session, &b);
	if (code != BERTH_SUCCESS)
		return refusal_report(NULL, account, code);
	code = berth_acquire_req(b, &request, &slot);
	if (code == BERTH_SUCCESS) {
		status = command_run(operands + 1);
		code = berth_release(b, slot);
		if (code == BERTH_CONNECTION_ABORTED)
			report_error("%s: the slot was revoked while the command ran",
				show_text(&shown, account));
	} else {
		status = refusal_report(b, account, code);
	}
	berth_close(b);
	return status;
}

const struct verb verb_run = {
	.name = "run",
	.operands = "ACCOUNT -- COMMAND...",
	.operands_min = 2,
	.operands_max = OPERANDS_UNLIMITED,
	.first = OPERAND_ACCOUNT,
	.runs_command = true,
	.options = option_table,
	.line = "Hold a slot while a command runs",
	.text = "Holds a slot of ACCOUNT while COMMAND runs, and exits with COMMAND's status.\n"
		"If signal N ended it, that is 128+N; if there is no such command, 127; if it\n"
		"can't be run, 126. If the limit is reached, COMMAND isn't run, and standard\n"
		"error says which level of ACCOUNT is full. berthctl passes the signals that it\n"
		"gets on to COMMAND. The user must be a member of the group of berth.sock.\n"
		"\n"
		"If berthctl itself is killed (SIGKILL), the slot is released although COMMAND\n"
		"goes on.\n",
	.examples = "  berthctl run backups -- rsync -a /srv /mnt\n"
		    "  berthctl run -E 0 --weight 2 reports -- ./nightly --full\n",
	.call = run,
};
