/* SPDX-License-Identifier: MIT */

/* Finds a segment of another layout and the processes that have sessions in it, and removes the
 * segment if no process needs it, or if it is to be abandoned. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "array.h"
#include "layout.h"
#include "log.h"
#include "name.h"
#include "other-layout.h"
#include "procfs.h"
#include "util.h"

/* -- fields that all layouts have at the same place -------------------------------------------- */

struct common_header {
	uint64_t magic;
	uint32_t version;
	uint32_t reserved0;
	uint64_t fingerprint;
	uint8_t boot_id[16];
	uint64_t segment_ino;
	uint64_t reserved1;
	uint64_t hash_seed;
	uint32_t max_accounts, max_slots, max_sessions;
	uint32_t accounts, slots, sessions;
};

struct common_entry {
	uint32_t state; /* 0: not in use */
	uint32_t serial;
	uint32_t pid;
	uint32_t uid;
	uint64_t start_time;
	uint64_t image;
	char comm[16];
	uint64_t opened;
	uint8_t others[72];
};

#define TABLE_OFFSET 4096

#define IS_AT(common, ours, field)                                                                \
	_Static_assert(                                                                           \
		offsetof(struct common, field) == offsetof(struct ours, field) &&                 \
			sizeof(((struct common *)0)->field) == sizeof(((struct ours *)0)->field), \
		#field " of " #ours " is where all layouts have it")

IS_AT(common_header, directory_header, magic);
IS_AT(common_header, directory_header, version);
IS_AT(common_header, directory_header, fingerprint);
IS_AT(common_header, directory_header, boot_id);
IS_AT(common_header, directory_header, segment_ino);
IS_AT(common_header, directory_header, max_sessions);
IS_AT(common_header, directory_header, sessions);
IS_AT(common_entry, session_entry, state);
IS_AT(common_entry, session_entry, pid);
IS_AT(common_entry, session_entry, start_time);
IS_AT(common_entry, session_entry, comm);
_Static_assert(sizeof(struct common_entry) == sizeof(struct session_entry), "entries are as long");
_Static_assert(sizeof(struct segment_header) == TABLE_OFFSET, "the table follows the header");
_Static_assert(SESSION_NONE == 0, "0 is no session");

/* -- looking ----------------------------------------------------------------------------------- */

struct process {
	pid_t pid;
	char comm[16]; /* from the kernel, or else from the session's entry */
};

struct other_layout {
	uint32_t version;
	bool of_this_boot;
	size_t count, capacity;
	/* Sorted by pid. Each process that may live is in here once. If the segment is of another
	 * boot, a process is in here only if it started at the time that its entry says. */
	struct process *process;
};

static int process_compare(const void *a, const void *b) {
	pid_t one = ((const struct process *)a)->pid, other = ((const struct process *)b)->pid;

	return (one > other) - (one < other);
}

/* Adds each process that has an entry and may live. An entry whose session has ended counts, too,
 * since its process would open a new session in this segment. */
static int table_read(int segment_fd, uint32_t sessions, struct other_layout *o) {
	struct common_entry entry[32];
	size_t n;

	for (uint32_t i = 0; i < sessions; i += (uint32_t)n) {
		ssize_t bytes = pread(segment_fd, entry, sizeof(entry),
			TABLE_OFFSET + (off_t)i * (off_t)sizeof(*entry));

		if (bytes < 0)
			return -errno;
		n = MIN_OF((size_t)bytes / sizeof(*entry), (size_t)(sessions - i));
		if (n == 0)
			return 0; /* the file ends */
		for (const struct common_entry *e = entry; e < entry + n; e++) {
			struct process *p;
			int r;

			if (e->state == 0 || (!o->of_this_boot && e->start_time == 0) ||
				!process_may_live((pid_t)e->pid, e->start_time))
				continue;
			r = array_reserve(&o->process, &o->capacity, o->count + 1);
			if (r < 0)
				return r;
			p = &o->process[o->count++];
			p->pid = (pid_t)e->pid;
			/* Clients can write over the entry, so the kernel's text is preferred. */
			process_comm(p->pid, p->comm);
			if (!p->comm[0])
				memcpy(p->comm, e->comm, sizeof(p->comm));
		}
	}
	return 0;
}

/* --check-segment may run as root in a directory of another user, who could place a link or a FIFO
 * there. So no link is followed, and a FIFO doesn't block. */
static int file_open(int runtime_fd, const char *name) {
	int fd = openat(runtime_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* -ENOENT: there is no segment of another layout (segment.c handles a damaged segment, and one of
 * this layout). The caller frees ret->process, whatever is returned. */
static int other_layout_find(const char *runtime_dir, int *ret_fd, struct other_layout *ret) {
	_cleanup_close_ int directory_fd = -1, segment_fd = -1;
	struct common_header header;
	uint8_t boot_id[16];
	size_t kept = 0;
	ssize_t n;
	int r;

	*ret = (struct other_layout){0};
	*ret_fd = open(runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret_fd < 0)
		return -errno;
	/* The header comes from the file `directory`, to which clients can't write. */
	directory_fd = file_open(*ret_fd, "directory");
	if (directory_fd < 0)
		return directory_fd;
	n = pread(directory_fd, &header, sizeof(header), 0);
	if (n < 0)
		return -errno;
	if (n != sizeof(header) || header.magic != BERTH_DIRECTORY_MAGIC ||
		(header.version == BERTH_LAYOUT_VERSION && header.fingerprint == BERTH_FINGERPRINT))
		return -ENOENT;
	r = boot_id_read(boot_id);
	if (r < 0)
		return r;
	segment_fd = file_open(*ret_fd, "segment");
	if (segment_fd < 0)
		return segment_fd;
	ret->version = header.version;
	ret->of_this_boot = memcmp(header.boot_id, boot_id, sizeof(boot_id)) == 0;
	r = table_read(segment_fd, MIN_OF(header.sessions, header.max_sessions), ret);
	/* A process has an entry for each of its sessions, but is listed once. */
	if (ret->count > 0)
		qsort(ret->process, ret->count, sizeof(*ret->process), process_compare);
	for (size_t i = 0; i < ret->count; i++)
		if (kept == 0 || ret->process[i].pid != ret->process[kept - 1].pid)
			ret->process[kept++] = ret->process[i];
	ret->count = kept;
	return r;
}

/* -- messages ---------------------------------------------------------------------------------- */

#define LISTED_MAX 20

#define COMM_SHOWN_SIZE (4 * 16 + 1)

static const char *comm_show(const struct process *p, char to[COMM_SHOWN_SIZE]) {
	return name_escape(p->comm, strnlen(p->comm, sizeof(p->comm)), to, COMM_SHOWN_SIZE);
}

/* Prints, for instance, "1234 (imapd), 1301 (smtpd) and 3 more". */
static const char *processes_show(const struct other_layout *o, char *to, size_t size) {
	char comm[COMM_SHOWN_SIZE];
	size_t listed = MIN_OF(o->count, LISTED_MAX), used = 0;

	for (size_t i = 0; i < listed && used < size; i++)
		used += (size_t)snprintf(to + used, size - used, "%s%d (%s)", i > 0 ? ", " : "",
			(int)o->process[i].pid, comm_show(&o->process[i], comm));
	if (o->count > listed && used < size)
		(void)snprintf(to + used, size - used, " and %zu more", o->count - listed);
	return to;
}

#define WHAT_TO_DO                                                                           \
	"Stop these servers, start berthd, and start the servers again, so that they load "  \
	"the library of this version. Or start berthd with --abandon-segment: then these "   \
	"servers keep the old segment, and don't see the slots of other servers until they " \
	"are restarted"

/* -- decisions --------------------------------------------------------------------------------- */

static int make_way(
	const char *runtime_dir, int runtime_fd, const struct other_layout *o, bool abandon) {
	bool is_used = o->of_this_boot && o->count > 0;
	char list[2048], layout[32], processes[32];
	const char *const fields[] = {layout, processes, NULL};

	(void)snprintf(layout, sizeof(layout), "LAYOUT=%u", o->version);
	(void)snprintf(processes, sizeof(processes), "PROCESSES=%zu", o->count);
	if (is_used && !abandon) {
		log_event(LOG_ERR, EVENT_OTHER_LAYOUT, fields,
			"%s/segment was made by another version of berthd with another layout (%u, "
			"not %d), and these processes still count in it: %s. Leaving it alone and "
			"exiting with status %d. " WHAT_TO_DO,
			runtime_dir, o->version, BERTH_LAYOUT_VERSION,
			processes_show(o, list, sizeof(list)), EXIT_OTHER_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (is_used)
		log_event(LOG_WARNING, EVENT_ABANDONED, fields,
			"Abandoning %s/segment of layout %u, as --abandon-segment says, and making "
			"a new one. These servers go on with the old segment and count only among "
			"themselves until they are restarted: %s",
			runtime_dir, o->version, processes_show(o, list, sizeof(list)));
	else
		log_notice("%s/segment is of layout %u, and %s; making a new one of layout %d",
			runtime_dir, o->version,
			o->of_this_boot ? "no server counts in it any more" : "of another boot",
			BERTH_LAYOUT_VERSION);
	/* The file `directory` is removed first: if berthd dies in between, the next start finds no
	 * pair of files. Servers keep the files that they map, and their sessions stay open, since
	 * nothing is written to these files. */
	if (unlinkat(runtime_fd, "directory", 0) < 0 && errno != ENOENT)
		return -errno;
	return unlinkat(runtime_fd, "segment", 0) < 0 && errno != ENOENT ? -errno : 0;
}

int other_layout_make_way(const char *runtime_dir, bool abandon) {
	_cleanup_close_ int runtime_fd = -1;
	struct other_layout o;
	int r = other_layout_find(runtime_dir, &runtime_fd, &o);

	if (r >= 0)
		r = make_way(runtime_dir, runtime_fd, &o, abandon);
	if (r == -ENOENT)
		r = 0;
	if (r < 0 && r != -EPROTONOSUPPORT)
		log_error("Can't look for a segment of another layout in %s: %s", runtime_dir,
			strerror(-r));
	free(o.process);
	return r;
}

int other_layout_check(const char *runtime_dir) {
	_cleanup_close_ int runtime_fd = -1;
	char comm[COMM_SHOWN_SIZE];
	struct other_layout o;
	int r = other_layout_find(runtime_dir, &runtime_fd, &o), status;

	if (r < 0 && r != -ENOENT) {
		fprintf(stderr,
			"berthd: can't look for a segment in %s: %s; run this as root, or as "
			"berthd's user\n",
			runtime_dir, strerror(-r));
		return EXIT_FAILURE;
	}
	/* The boot id doesn't matter here: in a container a service may see another boot id than a
	 * shell (systemd-nspawn mounts its own boot id over the kernel's). */
	if (o.count == 0)
		printf("Nothing in %s keeps this berthd from starting.\n", runtime_dir);
	else
		printf("%s/segment has layout %u, and this berthd has layout %d: it doesn't start "
		       "while servers of the other version count in that segment.\n" WHAT_TO_DO
		       ".\nThese processes count in it:\n",
			runtime_dir, o.version, BERTH_LAYOUT_VERSION);
	for (size_t i = 0; i < o.count; i++)
		printf("%7d %s\n", (int)o.process[i].pid, comm_show(&o.process[i], comm));
	status = o.count == 0 ? EXIT_SUCCESS : EXIT_OTHER_VERSION;
	free(o.process);
	return status;
}
