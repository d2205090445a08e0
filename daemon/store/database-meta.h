/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The two meta pages that a file of LMDB's begins with, as bytes, and our seals in them.
 *
 * Transaction n writes meta page n % 2, and LMDB goes by the page that names the later one. It has
 * no sum of them, so a changed byte could pass for the transaction before, or send LMDB anywhere.
 * Therefore berthd puts a seal beside each, in the part of the page that LMDB never writes.
 */

#include <stdint.h>

#define META_PAGES 2u
#define META_BYTES 272 /* of such a page, with its seal */

/* What every page of LMDB's begins with. */
struct page_header {
	size_t number;
	uint16_t reserved, flags;
	uint16_t lower, upper; /* the free space; of pages continued, how many they are */
};

/* Where a tree begins, and what it holds. */
struct tree {
	uint32_t page_size; /* of the free pages' tree alone */
	uint16_t flags, depth;
	size_t branches, leaves, continued, entries;
	size_t root;
};

enum { TREE_FREE, TREE_TABLES, META_TREES };

struct meta_page {
	struct page_header header;
	uint32_t magic, version;
	uint64_t address;
	size_t map_size;
	struct tree tree[META_TREES];
	size_t last; /* page that any transaction used; the file may be shorter */
	size_t txn;
};

struct metas {
	struct meta_page page[META_PAGES];
	size_t page_size;
	unsigned newest;
};

/* Reads both from an open file. -EUCLEAN: a byte of them isn't what LMDB or we wrote. */
int metas_read(int fd, struct metas *ret);

/* Seals meta page `n` as it stands, unless it is; doesn't sync. */
int meta_seal(int fd, size_t page_size, unsigned n);

/* What is written of a meta page, to be put back. */
struct meta_bytes {
	char bytes[META_BYTES];
};

int meta_save(int fd, size_t page_size, unsigned n, struct meta_bytes *ret);
int meta_restore(int fd, size_t page_size, unsigned n, const struct meta_bytes *bytes);
