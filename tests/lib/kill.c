/* SPDX-License-Identifier: MIT */

/* Reads berthd's files without the library, and sends it requests without waiting (kill.h). */

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "audit.h"
#include "counter.h"
#include "clock.h"
#include "kill.h"
#include "message.h"

#define PATIENCE_MS 60000

/* -- the shared files -------------------------------------------------------------------------- */

static int file_open(const char *dir, const char *name) {
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return open(path, O_RDWR | O_CLOEXEC);
}

struct map *kill_map(const char *runtime_dir) {
	int segment = file_open(runtime_dir, "segment");
	int directory = file_open(runtime_dir, "directory");
	struct map *m = NULL;

	if (segment < 0 || directory < 0) {
		close_cleanup(&segment);
		close_cleanup(&directory);
		return NULL;
	}
	return map_new(segment, directory, PROT_READ, &m) < 0 ? NULL : m;
}

uint32_t kill_unfinished(struct map *m) {
	struct snapshot s;
	uint32_t found = 0;

	for (uint32_t n = 1; n < load_acquire(&m->names->slots); n++)
		found += counter_record(m, n, &s) < 0 || place_state(s.place) == RECORD_SEIZED ||
			 (place_state(s.place) == RECORD_PLACED && seq_goes_down(s.seq));
	return found;
}

uint32_t kill_sessions(struct map *m, pid_t pid) {
	uint32_t found = 0;

	for (uint32_t i = 0; i < load_acquire(&m->names->sessions); i++) {
		const struct session_entry *e = map_session(m, i);

		found += e && load_acquire(&e->state) != SESSION_NONE &&
			 (pid == 0 || load_relaxed(&e->pid) == (uint32_t)pid);
	}
	return found;
}

uint32_t kill_stray_ranges(struct map *m) {
	uint32_t found = 0;

	for (uint32_t range = 1; range < load_acquire(&m->names->slots) / BERTH_RANGE; range++) {
		_Atomic uint32_t *owner = map_owner(m, range);
		uint32_t session = owner ? load_acquire(owner) : 0; /* the index plus 1 */
		const struct session_entry *e = session > 0 ? map_session(m, session - 1) : NULL;

		found += session > 0 && (!e || load_acquire(&e->state) == SESSION_NONE);
	}
	return found;
}

static uint32_t account_find(struct map *m, const char *name, uint64_t *ret_word) {
	struct name n;
	uint32_t account;

	if (name_load(name, &n) < 0 || directory_find(m, &n, &account, ret_word) < 0)
		return 0;
	return account;
}

uint32_t kill_count(struct map *m, const char *account) {
	uint64_t word;

	return counter_count(m, account_find(m, account, &word));
}

int64_t kill_limit_in_force(struct map *m, const char *account) {
	uint64_t word;

	if (account_find(m, account, &word) == 0 || !(entry_flags(word) & ENTRY_CONFIGURED))
		return KILL_ABSENT;
	return entry_limit(word);
}

/* -- records left halfway ---------------------------------------------------------------------- */

static bool range_is_of(struct map *m, uint32_t range, pid_t pid) {
	_Atomic uint32_t *owner = map_owner(m, range);
	const struct session_entry *e;

	if (!owner || load_acquire(owner) == 0)
		return false;
	e = map_session(m, load_acquire(owner) - 1);
	return e && load_acquire(&e->state) == SESSION_OPEN &&
	       load_relaxed(&e->pid) == (uint32_t)pid;
}

/* Returns the last free record of the process. Returns 0 if the process has none. */
static uint32_t free_record_of(struct map *m, pid_t pid) {
	for (uint32_t n = load_acquire(&m->names->slots); n-- > 1;)
		if (range_is_of(m, n / BERTH_RANGE, pid) &&
			place_state(load_acquire(&map_record(m, n)->place)) == RECORD_FREE)
			return n;
	return 0;
}

/* Makes a step of the record at one level, after noting the tag that the cell has (N1). */
static bool step_make(
	struct map *m, uint32_t account, uint32_t number, uint64_t seq, int32_t weight) {
	struct cell *cell = map_cell(m, account);

	for (int i = 0; cell && i < 1000; i++) {
		struct pair seen = cell_load(cell);
		struct pair next = {seen.first + ((uint64_t)(int64_t)weight << BERTH_COUNT_SHIFT),
			tag_pack(number, seq)};

		if (counter_note(m, seen.second) == 0 && cas16(&cell->count, seen, next))
			return true;
	}
	return false;
}

/* Seizes the record (V1), and notes its newest step (N1). */
static bool record_seize(struct record *record, uint64_t place, uint64_t newest) {
	uint64_t noted = load_acquire(&record->noted);

	return cas(&record->place, place,
		       place_pack(RECORD_SEIZED, place_top(place), place_weight(place),
			       place_account(place))) &&
	       (noted >= newest || cas(&record->noted, noted, newest));
}

bool kill_leave_halfway(struct map *m, pid_t pid, const char *account, enum kill_halfway halfway) {
	uint32_t number = free_record_of(m, pid), level[2];
	struct record *record = map_record(m, number);
	uint64_t place, base, word;
	struct pair seen;
	bool done;

	level[0] = account_find(m, account, &word);
	level[1] = account_ancestor(m, level[0], 1);
	if (number == 0 || level[1] == 0)
		return false;
	place = place_pack(RECORD_PLACED, 1, 2, level[0]);
	/* Make P1 with a base far above all seqs that the record has used. P1 fails if the owner
	 * has changed the record meanwhile. */
	seen = (struct pair){load_acquire(&record->place), load_acquire(&record->noted)};
	base = seq_rest(seen.second) + (uint64_t)25 * BERTH_CYCLE;
	done = cas16(&record->place, seen, (struct pair){place, base}) &&
	       step_make(m, level[0], number, seq_up(base, 0), 2);
	if (halfway != KILL_CHARGE)
		done = done && step_make(m, level[1], number, seq_up(base, 1), 2);
	if (halfway == KILL_SEIZED || halfway == KILL_AMID_V2)
		done = done && record_seize(record, place, halfway == KILL_SEIZED ? 0 : base + 2);
	if (halfway == KILL_RELEASE || halfway == KILL_AMID_V2)
		done = done && step_make(m, level[1], number, seq_down(base, 1), -2);
	if (halfway == KILL_REVOKE)
		done = done && step_make(m, level[1], number, seq_down(base + BERTH_CYCLE, 1), -2);
	return done;
}

/* -- the store --------------------------------------------------------------------------------- */

static int64_t value_get(MDB_env *env, const char *table, const char *name) {
	MDB_val key = {strlen(name), (char *)name}, value;
	int64_t found = KILL_FAILED;
	uint32_t first;
	MDB_txn *txn;
	MDB_dbi dbi;
	int r;

	if (mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0)
		return found;
	r = mdb_dbi_open(txn, table, 0, &dbi);
	if (r == 0)
		r = mdb_get(txn, dbi, &key, &value);
	if (r == 0 && value.mv_size >= sizeof(first)) {
		memcpy(&first, value.mv_data, sizeof(first));
		found = first;
	} else if (r == MDB_NOTFOUND) {
		found = KILL_ABSENT;
	}
	mdb_txn_abort(txn);
	return found;
}

int64_t kill_stored(const char *state_dir, const char *table, const char *name) {
	int64_t found = KILL_FAILED;
	char path[256];
	MDB_env *env;

	(void)snprintf(path, sizeof(path), "%s/%s", state_dir, table);
	if (mdb_env_create(&env) != 0)
		return found;
	if (mdb_env_set_maxdbs(env, 4) == 0 &&
		mdb_env_open(env, path, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0600) == 0)
		found = value_get(env, table, name);
	mdb_env_close(env);
	return found;
}

/* -- admin.sock -------------------------------------------------------------------------------- */

int kill_connect(const char *runtime_dir) {
	int fd = -1;

	if (message_connect(runtime_dir, "admin.sock", clock_monotonic_ms() + PATIENCE_MS, &fd) < 0)
		return -1;
	return fd;
}

void kill_send_set(int fd, const char *name, uint32_t limit) {
	struct message_set set = {
		.header = MESSAGE_HEADER(MESSAGE_SET, set),
		.limit = limit,
	};

	message_name_set(&set.name, name);
	(void)message_send(fd, &set, sizeof(set), NULL, 0);
}

void kill_send_delete(int fd, const char *name) {
	struct message_delete delete = {
		.header = MESSAGE_HEADER(MESSAGE_DELETE, delete),
		.flags = MESSAGE_DELETE_FORCE,
	};

	message_name_set(&delete.name, name);
	(void)message_send(fd, &delete, sizeof(delete), NULL, 0);
}

void kill_send_revoke(int fd, const char *account, pid_t pid) {
	struct message_revoke revoke = {
		.header = MESSAGE_HEADER(MESSAGE_REVOKE, revoke),
		.pid = (uint32_t)pid,
	};

	message_name_set(&revoke.name, account);
	(void)message_send(fd, &revoke, sizeof(revoke), NULL, 0);
}

void kill_send_import(int fd, const struct kill_line *lines, uint32_t count) {
	const struct message_import begin = {.header = MESSAGE_HEADER(MESSAGE_IMPORT_BEGIN, begin)};
	const struct message_import commit = {
		.header = MESSAGE_HEADER(MESSAGE_IMPORT_COMMIT, commit)};
	char buffer[4096], *p = buffer + sizeof(struct message_import_lines);
	struct message_import_lines *head = (struct message_import_lines *)(void *)buffer;

	for (uint32_t i = 0; i < count; i++) {
		size_t length = strlen(lines[i].name);

		memcpy(p, &lines[i].limit, 4);
		p[4] = (char)length;
		memcpy(p + 5, lines[i].name, length);
		p += 5 + length;
	}
	*head = (struct message_import_lines){
		.header = message_header_make(MESSAGE_IMPORT_LINES, (uint32_t)(p - buffer), 0),
		.count = count,
		.bytes = (uint32_t)(p - buffer - (ptrdiff_t)sizeof(*head)),
	};
	(void)message_send(fd, &begin, sizeof(begin), NULL, 0);
	(void)message_send(fd, buffer, (size_t)(p - buffer), NULL, 0);
	(void)message_send(fd, &commit, sizeof(commit), NULL, 0);
}

uint32_t kill_replies(int fd, uint32_t *ret_code) {
	char buffer[4096];
	uint32_t count = 0;

	*ret_code = 0;
	/* If berthd died before it read all requests, recv() first returns an error and only then
	 * the replies. In this case the second round receives the replies. */
	for (int i = 0; i < 2; i++)
		for (;;) {
			struct message_header header;
			ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

			if (n < (ssize_t)sizeof(header))
				break;
			memcpy(&header, buffer, sizeof(header));
			if (*ret_code == 0)
				*ret_code = header.code;
			count++;
		}
	return count;
}

uint32_t kill_replies_wait(int fd, uint32_t count) {
	int64_t deadline = clock_monotonic_ms() + PATIENCE_MS;
	uint32_t first = 0;

	while (count > 0 && clock_monotonic_ms() < deadline) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint32_t code, received;

		(void)poll(&p, 1, 1000);
		received = kill_replies(fd, &code);
		if (first == 0)
			first = code;
		count -= MIN_OF(received, count);
	}
	return count == 0 ? first : UINT32_MAX;
}
