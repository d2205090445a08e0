/* SPDX-License-Identifier: MIT */

/* Makes, adopts and grows the segment and the directory. */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "log.h"
#include "name.h"
#include "procfs.h"
#include "segment.h"

/* How much a table grows at a time: 256 KiB of cells, entries or records. */
#define STEP_ACCOUNTS 4096u
#define STEP_SLOTS    4096u
#define STEP_SESSIONS 256u

/* -- allocation -------------------------------------------------------------------------------- */

static int file_allocate(int fd, uint64_t offset, uint64_t length) {
	uint64_t begin = offset / 4096 * 4096, end = ROUND_UP(offset + length, 4096);
	struct statvfs vfs;

	/* Other services use the same tmpfs, so berthd leaves a megabyte free. */
	if (fstatvfs(fd, &vfs) == 0 &&
		(uint64_t)vfs.f_bavail * vfs.f_frsize <= end - begin + (1u << 20))
		return -ENOMEM;
	while (fallocate(fd, 0, (off_t)begin, (off_t)(end - begin)) < 0) {
		if (errno == EINTR)
			continue;
		return errno == ENOSPC || errno == EDQUOT ? -ENOMEM : -errno;
	}
	return 0;
}

/* Allocates the elements `from` to `to` - 1 of a part. */
static int part_allocate(int fd, uint64_t part, uint64_t size, uint32_t from, uint32_t to) {
	return file_allocate(fd, part + from * size, (to - from) * size);
}

int segment_allocate_directory(struct segment *s, uint64_t offset, uint64_t length) {
	return file_allocate(s->map->directory.fd, offset, length);
}

static uint32_t next_end(uint32_t now, uint32_t step, uint32_t end) {
	return end - now < step ? end : now + step;
}

/* The segment_grow functions allocate all that belongs to the new elements, and then publish them.
 * If berthd dies in between, the next berthd allocates the same pages again, which changes
 * nothing. */
int segment_grow_accounts(struct segment *s) {
	const struct layout *l = &s->map->layout;
	uint32_t now = load_relaxed(&s->names->accounts);
	uint32_t to = next_end(now, STEP_ACCOUNTS, l->accounts_end);
	int r;

	if (to == now)
		return -ENOSPC;
	r = part_allocate(s->map->segment.fd, l->cells, sizeof(struct cell), now, to);
	if (r >= 0)
		r = part_allocate(s->map->segment.fd, l->dirty, 1, now / BERTH_DIRTY_GROUP,
			to / BERTH_DIRTY_GROUP + 1);
	if (r >= 0)
		r = part_allocate(s->map->directory.fd, l->entries, sizeof(struct entry), now, to);
	if (r < 0)
		return r;
	store_release(&s->names->accounts, to); /* pairs with map_has_account() */
	return 0;
}

int segment_grow_slots(struct segment *s) {
	const struct layout *l = &s->map->layout;
	uint32_t now = load_relaxed(&s->names->slots);
	uint32_t to = next_end(now, STEP_SLOTS, l->records_end);
	int r;

	if (to == now)
		return -ENOSPC;
	r = part_allocate(s->map->segment.fd, l->records, sizeof(struct record), now, to);
	if (r >= 0)
		r = part_allocate(s->map->segment.fd, l->owners, sizeof(uint32_t),
			now / BERTH_RANGE, to / BERTH_RANGE);
	if (r >= 0)
		r = part_allocate(s->map->segment.fd, l->waits, sizeof(uint64_t), now, to);
	if (r >= 0)
		r = part_allocate(
			s->map->segment.fd, l->calls, 1, now / BERTH_RANGE, to / BERTH_RANGE);
	if (r < 0)
		return r;
	store_release(&s->names->slots, to); /* pairs with map_has_record() */
	return 0;
}

int segment_grow_sessions(struct segment *s) {
	const struct layout *l = &s->map->layout;
	uint32_t now = load_relaxed(&s->names->sessions);
	uint32_t to = next_end(now, STEP_SESSIONS, l->max_sessions);
	int r;

	if (to == now)
		return -ENOSPC;
	r = part_allocate(s->map->segment.fd, l->sessions, sizeof(struct session_entry), now, to);
	if (r >= 0)
		r = part_allocate(s->map->segment.fd, l->refusals,
			BERTH_REFUSALS * sizeof(struct refusal), now, to);
	if (r < 0)
		return r;
	store_release(&s->names->sessions, to);
	return 0;
}

/* -- new files --------------------------------------------------------------------------------- */

static int file_make(int runtime_fd, const char *name, uint64_t size, const void *header) {
	_cleanup_close_ int fd = -1;
	ssize_t n;
	int kept;

	(void)unlinkat(runtime_fd, name, 0);
	fd = openat(runtime_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	if (file_allocate(fd, 0, 4096) < 0)
		return -ENOSPC;
	n = pwrite(fd, header, 4096, 0);
	if (n != 4096)
		return n < 0 ? -errno : -ENOSPC;
	kept = fd;
	fd = -1;
	return kept;
}

static int headers_make(const struct capacities *want, struct segment_header *segment,
	struct directory_header *directory) {
	int r = boot_id_read(segment->boot_id);

	if (r < 0)
		return r;
	segment->magic = BERTH_SEGMENT_MAGIC;
	segment->version = directory->version = BERTH_LAYOUT_VERSION;
	segment->fingerprint = directory->fingerprint = BERTH_FINGERPRINT;
	directory->magic = BERTH_DIRECTORY_MAGIC;
	memcpy(directory->boot_id, segment->boot_id, sizeof(segment->boot_id));
	if (getrandom(&directory->hash_seed, sizeof(directory->hash_seed), 0) < 0) {
		log_error("Can't get random bytes: %s", strerror(errno));
		return -errno;
	}
	directory->max_accounts = want->accounts;
	directory->max_slots = want->slots;
	directory->max_sessions = want->sessions;
	/* Serial numbers begin at a random one, to differ from those in an earlier segment. */
	atomic_init(&segment->next_serial, (uint32_t)directory->hash_seed);
	return 0;
}

/*
 * Invariant: no client gets a pair of files that don't belong together.
 *   1 berthd writes both files, as segment.new and directory.new;
 *   2 it renames directory.new to directory;
 *   3 it renames segment.new to segment.
 * If berthd dies before 2, the next berthd that makes files removes the files of 1. If it dies
 * between 2 and 3, `directory` doesn't have the inode number of `segment`, so the next start makes
 * both files anew. No client was served yet.
 */
static int files_make(int runtime_fd, const struct capacities *want, struct map **ret) {
	_Alignas(64) struct segment_header segment = {0};
	struct directory_header directory = {0};
	_cleanup_close_ int segment_fd = -1, directory_fd = -1;
	struct layout l;
	struct stat st;
	int r;

	if (!layout_init(&l, want->accounts, want->slots, want->sessions))
		return -EINVAL;
	r = headers_make(want, &segment, &directory);
	if (r < 0)
		return r;
	segment_fd = file_make(runtime_fd, "segment.new", l.segment_size, &segment);
	if (segment_fd < 0)
		return segment_fd;
	if (fstat(segment_fd, &st) < 0)
		return -errno;
	directory.segment_ino = st.st_ino;
	directory_fd = file_make(runtime_fd, "directory.new", l.directory_size, &directory);
	if (directory_fd < 0)
		return directory_fd;
	if (renameat(runtime_fd, "directory.new", runtime_fd, "directory") < 0 ||
		renameat(runtime_fd, "segment.new", runtime_fd, "segment") < 0)
		return -errno;
	r = map_new(segment_fd, directory_fd, PROT_READ | PROT_WRITE, ret);
	segment_fd = directory_fd = -1; /* map_new() has taken them */
	return r;
}

/* -- adopting ---------------------------------------------------------------------------------- */

static bool anyone_lives(struct map *m) {
	for (uint32_t i = 0; i < load_relaxed(&m->names->sessions); i++) {
		const struct session_entry *e = map_session(m, i);

		if (e && load_relaxed(&e->state) != SESSION_NONE &&
			process_may_live(
				(pid_t)load_relaxed(&e->pid), load_relaxed(&e->start_time)))
			return true;
	}
	return false;
}

static int file_open(int runtime_fd, const char *name) {
	int fd = openat(runtime_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

/* 0: berthd can use the files. -EUCLEAN: they are damaged; -ESTALE: they are of another boot. */
static int map_is_current(struct map *m) {
	uint8_t boot_id[16];
	int r = boot_id_read(boot_id);

	if (r < 0)
		return r;
	if (memcmp(m->names->boot_id, boot_id, sizeof(boot_id)) != 0)
		return -ESTALE;
	if (load_relaxed(&m->names->accounts) > m->layout.accounts_end ||
		load_relaxed(&m->names->slots) > m->layout.records_end ||
		load_relaxed(&m->names->sessions) > m->layout.max_sessions)
		return -EUCLEAN;
	return 0;
}

/* Maps the existing files. -ENOENT: there are none; -EUCLEAN, -ESTALE: new ones must be made. */
static int files_adopt(int runtime_fd, const struct capacities *want, struct map **ret) {
	int directory_fd = file_open(runtime_fd, "directory"), segment_fd;
	struct map *m;
	int r;

	if (directory_fd < 0)
		return directory_fd;
	segment_fd = file_open(runtime_fd, "segment");
	if (segment_fd < 0) {
		close_cleanup(&directory_fd);
		return segment_fd;
	}
	r = map_new(segment_fd, directory_fd, PROT_READ | PROT_WRITE, &m);
	if (r < 0)
		return r;
	r = map_is_current(m);
	/* Only a new segment replaces records that have used up their seqs. */
	if (r >= 0 && load_relaxed(&m->names->retired) > 0 && !anyone_lives(m))
		r = -ESTALE;
	if (r >= 0 &&
		(m->layout.max_accounts != want->accounts || m->layout.max_slots != want->slots ||
			m->layout.max_sessions != want->sessions)) {
		if (!anyone_lives(m))
			r = -ESTALE;
		else
			log_warning(
				"The capacities on the command line differ from those in use "
				"(%u accounts, %u slots, %u sessions); keeping the latter until "
				"berthd starts while no server has a session",
				m->layout.max_accounts, m->layout.max_slots,
				m->layout.max_sessions);
	}
	if (r < 0) {
		map_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

/* Servers may still map the segment that berthd replaces. Sets the entries of their sessions to
 * ENDED, so that these servers open new sessions in the new segment. This may fail in damaged
 * files. */
static void files_abandon(int runtime_fd) {
	_cleanup_close_ int directory_fd = file_open(runtime_fd, "directory");
	_cleanup_close_ int segment_fd = file_open(runtime_fd, "segment");
	const uint32_t ended = SESSION_ENDED;
	struct directory_header names;
	struct layout l;

	if (directory_fd < 0 || segment_fd < 0 ||
		pread(directory_fd, &names, sizeof(names), 0) != (ssize_t)sizeof(names) ||
		names.magic != BERTH_DIRECTORY_MAGIC || names.fingerprint != BERTH_FINGERPRINT ||
		!layout_init(&l, names.max_accounts, names.max_slots, names.max_sessions))
		return;
	for (uint32_t i = 0; i < MIN_OF(load_relaxed(&names.sessions), l.max_sessions); i++)
		(void)!pwrite(segment_fd, &ended, sizeof(ended),
			(off_t)(l.sessions + i * sizeof(struct session_entry) +
				offsetof(struct session_entry, state)));
}

/* Logs why berthd doesn't use the files that it found. 0: new files are to be made. */
static int log_not_adopted(const char *runtime_dir, int r) {
	switch (r) {
	case -EUCLEAN:
		log_event(LOG_ERR, EVENT_DAMAGED, NULL,
			"%s/segment or %s/directory is damaged; making new ones. Slots that "
			"servers "
			"hold in the old ones are not counted any more",
			runtime_dir, runtime_dir);
		return 0;
	case -ESTALE:
		log_info("The segment is of another boot, or no server uses it; making a new one");
		return 0;
	case -ENOENT:
		return 0;
	default:
		log_error("Can't open the segment in %s: %s", runtime_dir, strerror(-r));
		return r;
	}
}

/* -- open and close ---------------------------------------------------------------------------- */

/* Clients get a separate descriptor of the directory, which doesn't allow writing. */
static int segment_prepare(struct segment *s) {
	int r;

	s->names = (struct directory_header *)s->map->names;
	s->segment_fd = fcntl(s->map->segment.fd, F_DUPFD_CLOEXEC, 3);
	s->directory_fd = openat(s->runtime_fd, "directory", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (s->segment_fd < 0 || s->directory_fd < 0)
		return -errno;
	if (load_relaxed(&s->names->accounts) > 0)
		return 0;
	r = segment_grow_accounts(s);
	if (r < 0)
		log_error("Can't make room for accounts in the runtime directory (%s); its file "
			  "system is full",
			strerror(-r));
	return r;
}

int segment_open(const char *runtime_dir, const struct capacities *want, struct segment **ret) {
	struct segment *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->segment_fd = s->directory_fd = -1;
	s->runtime_fd = open(runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->runtime_fd < 0) {
		r = -errno;
		log_error("Can't open the runtime directory %s: %s", runtime_dir, strerror(-r));
		goto fail;
	}
	r = files_adopt(s->runtime_fd, want, &s->map);
	s->adopted = r >= 0;
	if (r < 0) {
		r = log_not_adopted(runtime_dir, r);
		if (r >= 0) {
			files_abandon(s->runtime_fd);
			r = files_make(s->runtime_fd, want, &s->map);
			if (r < 0)
				log_error("Can't make a new segment in the runtime directory: %s",
					strerror(-r));
		}
	}
	if (r >= 0)
		r = segment_prepare(s);
	if (r < 0)
		goto fail;
	*ret = s;
	return 0;

fail:
	segment_close(s);
	return r;
}

void segment_close(struct segment *s) {
	if (!s)
		return;
	map_free(s->map);
	close_cleanup(&s->segment_fd);
	close_cleanup(&s->directory_fd);
	close_cleanup(&s->runtime_fd);
	free(s);
}
