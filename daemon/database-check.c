/* SPDX-License-Identifier: MIT */

/*
 * Reads a whole database before it is used, in a child, since LMDB dies of some kinds of damage.
 *
 * A byte that changes on the disk: LMDB has no sums. It is found in a name or value by the entry's
 * own, in the order of the names, in the branches that lead to them by looking up the first and the
 * last name of each leaf, and in what LMDB looks at only when it writes by the rules of its pages.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "database-lmdb.h"
#include "layout.h"
#include "util.h"

#define PAGE_BRANCH    1u /* flags of a page of LMDB */
#define PAGE_LEAF      2u
#define PAGE_CONTINUED 4u
#define META_PAGES     2u    /* that a file of LMDB begins with */
#define TABLE_FLAGS    0x7Fu /* the others are of the file as a whole */
#define PAGE_SIZE_MIN  512u
#define PAGE_SIZE_MAX  32768u

static void assertion_failed(MDB_env *env, const char *message) {
	(void)env;
	(void)message;
	_exit(EUCLEAN);
}

/* Looking it up must lead to this very entry. */
static bool is_found(MDB_txn *txn, MDB_dbi table, MDB_val *key) {
	MDB_val found;

	return key->mv_size == 0 || (mdb_get(txn, table, key, &found) == 0 &&
					    found.mv_data == (char *)key->mv_data + key->mv_size);
}

/* Whether an entry may stand after another: in order, and where a leaf ends, the last of it and the
 * first of the next are found; then so are all between. */
static bool follows(MDB_txn *txn, MDB_dbi table, MDB_val *before, MDB_val *key) {
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	bool same = (uintptr_t)before->mv_data / page == (uintptr_t)key->mv_data / page;

	if (before->mv_size > 0 && mdb_cmp(txn, table, before, key) >= 0)
		return false;
	return same || (is_found(txn, table, before) && is_found(txn, table, key));
}

/* The pages of one transaction that are free: how many, then their numbers, from the last on. */
static bool is_free_list(const MDB_val *value, size_t pages, bool *is_free) {
	const size_t *list = value->mv_data;
	size_t n = value->mv_size / sizeof(*list);

	if (n == 0 || value->mv_size % sizeof(*list) != 0 || list[0] >= n)
		return false;
	for (size_t i = 1; i <= list[0]; i++) {
		if (list[i] < META_PAGES || list[i] >= (i == 1 ? pages : list[i - 1]))
			return false;
		is_free[list[i]] = true;
	}
	return true;
}

/* What every page of LMDB's begins with, but for the two metas. */
struct page_header {
	size_t number;
	uint16_t reserved, flags;
	uint16_t lower, upper; /* the free space; see pages_continued() */
	uint16_t nodes[];      /* their places, `lower` bytes from the beginning at most */
};

/* Reading doesn't notice these: LMDB looks at them when it writes. */
static bool page_is_sound(const struct page_header *h, size_t number, size_t page) {
	uint16_t first = (uint16_t)page;

	if (h->number != number || (h->flags != PAGE_BRANCH && h->flags != PAGE_LEAF) ||
		h->lower < sizeof(*h) || h->lower > h->upper || h->upper > page)
		return false;
	for (size_t i = 0; i < (h->lower - sizeof(*h)) / 2; i++)
		first = MIN_OF(first, h->nodes[i]);
	return h->lower % 2 == 0 && h->upper == first;
}

/* Of a page that others continue: how many they are, with it. */
static uint32_t pages_continued(const struct page_header *h) {
	uint32_t n;

	memcpy(&n, &h->lower, sizeof(n));
	return n;
}

/* What both metas say of the table of free pages, whose flags LMDB believes when it writes. */
struct meta_page {
	struct page_header header; /* 16 bytes, with nothing in its free space */
	uint32_t magic, version;
	void *address;
	size_t map_size;
	uint32_t page_size;
	uint16_t flags, depth;
};

static int check_metas(const struct database *d, size_t page, size_t pages) {
	_cleanup_free_ char *path = database_path(d, "data.mdb");
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	struct stat st;

	if (fd < 0)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (pages > (size_t)st.st_size / page)
		return -EUCLEAN;
	for (size_t n = 0; n < META_PAGES; n++) {
		struct meta_page meta;
		ssize_t got = pread(fd, &meta, sizeof(meta), (off_t)(n * page));

		if (got < 0)
			return -errno;
		if (got != (ssize_t)sizeof(meta) || meta.page_size != page ||
			(meta.flags & TABLE_FLAGS) != MDB_INTEGERKEY)
			return -EUCLEAN;
	}
	return 0;
}

static int check_pages(const struct database *d, const bool *is_free, size_t pages, size_t page) {
	_cleanup_free_ char *path = database_path(d, "data.mdb");
	_cleanup_free_ struct page_header *h = malloc(page);
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (!h || fd < 0)
		return -ENOMEM;
	for (size_t n = META_PAGES; n < pages; n++) {
		ssize_t got = is_free[n] ? 0 : pread(fd, h, page, (off_t)(n * page));

		if (got < 0)
			return -errno;
		if (is_free[n])
			continue;
		if ((size_t)got != page)
			return -EUCLEAN;
		if (h->number == n && h->flags == PAGE_CONTINUED)
			n += MAX_OF(pages_continued(h), 1u) - 1;
		else if (!page_is_sound(h, n, page))
			return -EUCLEAN;
	}
	return 0;
}

/* What the entries of a table must be, besides in order. */
struct expectation {
	const struct database *d; /* NULL: anything */
	size_t free_lists;        /* not 0: lists of free pages, of so many pages there are */
	bool *is_free;            /* gets them */
};

static bool is_expected(const struct expectation *e, const MDB_val *key, const MDB_val *value) {
	char name[BERTH_NAME_MAX + 1];

	if (e->free_lists > 0)
		return is_free_list(value, e->free_lists, e->is_free);
	return !e->d || database_entry_check(e->d, key, value, name) == 0;
}

/* Every entry of a table is read, and there are as many as the table says: more would be a ring of
 * damaged pages that never ends. */
static int check_entries(MDB_cursor *cursor, size_t entries, const struct expectation *e) {
	MDB_txn *txn = mdb_cursor_txn(cursor);
	MDB_dbi table = mdb_cursor_dbi(cursor);
	MDB_val key, value, before = {0};
	size_t seen = 0;
	int r;

	while ((r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		if (++seen > entries || !is_expected(e, &key, &value))
			return -EUCLEAN;
		/* Lists of free pages are never looked up. */
		if (e->free_lists == 0 && !follows(txn, table, &before, &key))
			return -EUCLEAN;
		before = key;
	}
	if (r != MDB_NOTFOUND)
		return database_translate(r);
	if (e->free_lists == 0 && !is_found(txn, table, &before))
		return -EUCLEAN;
	return seen == entries ? 0 : -EUCLEAN;
}

static int check_table(MDB_txn *txn, MDB_dbi table, const struct expectation *e) {
	MDB_cursor *cursor;
	MDB_stat stat;
	int r = mdb_stat(txn, table, &stat);

	if (r == 0)
		r = mdb_cursor_open(txn, table, &cursor);
	if (r != 0)
		return database_translate(r);
	r = check_entries(cursor, stat.ms_entries, e);
	mdb_cursor_close(cursor);
	return r;
}

/* LMDB believes it, and uses it when it writes. */
static bool page_size_is_sound(size_t size) {
	return size >= PAGE_SIZE_MIN && size <= PAGE_SIZE_MAX && (size & (size - 1)) == 0;
}

/* The free pages, the table of tables, the format's and ours. */
static int check_tables(const struct database *d, MDB_env *env, MDB_txn *txn, MDB_dbi values) {
	const struct expectation any = {0}, ours = {.d = d};
	struct expectation lists = {0};
	const MDB_dbi free_pages = 0;
	MDB_dbi tables, meta;
	MDB_envinfo info;
	MDB_stat stat;
	int r = database_translate(mdb_env_info(env, &info));

	/* The size of its pages is the file's own, and not always the kernel's. */
	if (r == 0)
		r = database_translate(mdb_env_stat(env, &stat));
	if (r == 0 && !page_size_is_sound(stat.ms_psize))
		r = -EUCLEAN;
	if (r == 0)
		r = check_metas(d, stat.ms_psize, info.me_last_pgno + 1);
	if (r < 0)
		return r;
	lists.free_lists = info.me_last_pgno + 1;
	lists.is_free = calloc(lists.free_lists, sizeof(bool));
	if (!lists.is_free)
		return -ENOMEM;
	r = check_table(txn, free_pages, &lists);
	if (r == 0)
		r = check_pages(d, lists.is_free, lists.free_lists, stat.ms_psize);
	free(lists.is_free);
	if (r == 0)
		r = database_translate(mdb_dbi_open(txn, NULL, 0, &tables));
	if (r == 0)
		r = check_table(txn, tables, &any);
	if (r == 0)
		r = database_translate(mdb_dbi_open(txn, META_TABLE, 0, &meta));
	if (r == 0)
		r = check_table(txn, meta, &any);
	return r < 0 ? r : check_table(txn, values, &ours);
}

static int check_all(const struct database *d) {
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi values;
	int r;

	/* LMDB enlarges a map that is too small for the file; the child needs no room to grow. */
	r = database_env_open(d->dir, MDB_RDONLY | MDB_NOLOCK, 1 << 20, &env);
	/* -EINVAL: its header sends LMDB to where no file reaches. */
	if (r < 0)
		return r == -EINVAL ? -EUCLEAN : r;
	(void)mdb_env_set_assert(env, assertion_failed);
	r = database_translate(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn));
	if (r == 0)
		r = database_format_check(d, txn, &values);
	if (r == 0)
		r = check_tables(d, env, txn, values);
	return r; /* the process ends here, and the rest with it */
}

__attribute__((noreturn)) static void check_child(const struct database *d) {
	static const int deadly[] = {SIGBUS, SIGSEGV, SIGABRT, SIGILL, SIGFPE};
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Nor may it keep the lock of a parent that is killed. */
	(void)close_range(STDERR_FILENO + 1, ~0u, 0);
	/* Its death is an answer, and no news for a core collector. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	/* The daemon's own handlers know nothing of this file. */
	for (size_t i = 0; i < ELEMENTS(deadly); i++)
		(void)signal(deadly[i], SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	_exit(-check_all(d));
}

static bool signal_means_damage(int sig) {
	return sig == SIGBUS || sig == SIGSEGV || sig == SIGABRT || sig == SIGILL || sig == SIGFPE;
}

int database_check(const struct database *d) {
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (pid == 0)
		check_child(d);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status))
		return -WEXITSTATUS(status);
	return signal_means_damage(WTERMSIG(status)) ? -EUCLEAN : -ECANCELED;
}
