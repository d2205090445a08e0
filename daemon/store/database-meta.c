/* SPDX-License-Identifier: MIT */

/* Reads, judges and seals the meta pages of a file of LMDB's.
 *
 *   Invariant: whenever the file is open for writing, both meta pages are sealed: each has the sum of
 *   its page beside it.
 *   1. LMDB writes the pages of transaction n and syncs them;
 *   2. LMDB writes meta page n % 2, whose seal is that of n-2 now;
 *   3. the seal of n is written there, in the same sector; 4. the page is synced.
 *   Death, or loss of power, before 2: both pages are sealed. Between 2 and 3 the newer page is one
 *   round ahead of its seal, the older one is sealed; opening the file seals it. A failure from 2 on
 *   puts back what was there, and syncs it; where the disk refuses that, too, the page stays ahead of
 *   its seal, and whoever asked is told that the next start may find the change (-ENOTRECOVERABLE).
 *   No other state can come about, so any other is damage: also a meta page whose transaction reads
 *   as n+2 or n-2.
 *   Files that nobody sealed yet, such as a compacted copy, have zeroes there. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "database-meta.h"
#include "database-lmdb.h"
#include "util.h"

#define PAGE_META     8u
#define META_MAGIC    0xBEEFC0DEu
#define META_VERSION  1u
#define TABLE_FLAGS   0x7Fu /* the others are of the file as a whole */
#define PAGE_SIZE_MIN 512u
#define PAGE_SIZE_MAX 32768u

#define SEAL_OFFSET 256

/* The sum first: it alone makes a seal, should a disk take half of it. */
struct seal {
	uint64_t sum, txn; /* both 0: none */
};

_Static_assert(sizeof(struct meta_page) <= SEAL_OFFSET, "a seal is behind what LMDB writes");
_Static_assert(SEAL_OFFSET + sizeof(struct seal) <= PAGE_SIZE_MIN, "and in the same sector");
_Static_assert(SEAL_OFFSET + sizeof(struct seal) == META_BYTES, "behind which there is nothing");

static int read_all(int fd, void *to, size_t size, off_t at) {
	ssize_t n;

	do
		n = pread(fd, to, size, at);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (size_t)n == size ? 0 : -EUCLEAN;
}

static uint64_t meta_sum(const struct meta_page *meta) {
	return XXH3_64bits(meta, sizeof(*meta));
}

static int meta_read(int fd, size_t at, struct meta_page *ret_meta, struct seal *ret_seal) {
	int r = read_all(fd, ret_meta, sizeof(*ret_meta), (off_t)at);

	return r < 0 ? r : read_all(fd, ret_seal, sizeof(*ret_seal), (off_t)at + SEAL_OFFSET);
}

static bool seal_is_absent(const struct seal *seal) {
	return seal->txn == 0 && seal->sum == 0;
}

static bool seal_fits(const struct seal *seal, const struct meta_page *meta) {
	return seal->sum == meta_sum(meta);
}

/* After 2 and before 3. One that differs in its transaction alone was never written so. */
static bool seal_is_behind(const struct seal *seal, const struct meta_page *meta) {
	struct meta_page before = *meta;

	before.txn -= META_PAGES;
	return seal->txn == before.txn && seal->sum != meta_sum(&before);
}

static bool page_size_is_sound(size_t size) {
	return size >= PAGE_SIZE_MIN && size <= PAGE_SIZE_MAX && (size & (size - 1)) == 0;
}

static bool meta_is_sound(const struct meta_page *m, size_t number, size_t page_size) {
	return m->header.number == number && m->header.flags == PAGE_META &&
	       m->magic == META_MAGIC && m->version == META_VERSION &&
	       m->tree[TREE_FREE].page_size == page_size && m->txn % META_PAGES == number &&
	       (m->tree[TREE_FREE].flags & TABLE_FLAGS) == MDB_INTEGERKEY &&
	       m->tree[TREE_TABLES].flags == 0 && m->last <= SIZE_MAX / page_size - 1 &&
	       (m->last + 1) * page_size <= m->map_size;
}

int metas_read(int fd, struct metas *ret) {
	struct metas m = {0};
	struct seal seal[META_PAGES];
	unsigned older;

	for (unsigned n = 0; n < META_PAGES; n++) {
		int r = meta_read(fd, n * m.page_size, &m.page[n], &seal[n]);

		if (r < 0)
			return r;
		m.page_size = m.page[0].tree[TREE_FREE].page_size;
		if (!page_size_is_sound(m.page_size) || !meta_is_sound(&m.page[n], n, m.page_size))
			return -EUCLEAN;
	}
	m.newest = m.page[1].txn > m.page[0].txn;
	older = 1 - m.newest;
	if (m.page[older].txn + 1 != m.page[m.newest].txn)
		return -EUCLEAN;
	if (!seal_is_absent(&seal[older]) && !seal_fits(&seal[older], &m.page[older]))
		return -EUCLEAN;
	if (!seal_is_absent(&seal[m.newest]) && !seal_fits(&seal[m.newest], &m.page[m.newest]) &&
		!seal_is_behind(&seal[m.newest], &m.page[m.newest]))
		return -EUCLEAN;
	*ret = m;
	return 0;
}

static int write_all(int fd, const void *from, size_t size, size_t at) {
	const char *p = from;

	while (size > 0) {
		ssize_t n = pwrite(fd, p, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		at += (size_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int meta_seal(int fd, size_t page_size, unsigned n) {
	struct meta_page meta;
	struct seal seal, before;
	int r = meta_read(fd, n * page_size, &meta, &before);

	if (r < 0)
		return r;
	seal = (struct seal){meta_sum(&meta), meta.txn};
	if (memcmp(&seal, &before, sizeof(seal)) == 0)
		return 0;
	return write_all(fd, &seal, sizeof(seal), n * page_size + SEAL_OFFSET); /* 3 */
}

int meta_save(int fd, size_t page_size, unsigned n, struct meta_bytes *ret) {
	return read_all(fd, ret->bytes, sizeof(ret->bytes), (off_t)(n * page_size));
}

int meta_restore(int fd, size_t page_size, unsigned n, const struct meta_bytes *bytes) {
	return write_all(fd, bytes->bytes, sizeof(bytes->bytes), n * page_size);
}
