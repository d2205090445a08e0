/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Makes, adopts and grows the two shared files.
 *
 * berthd adopts a segment of this boot and this layout. It replaces a segment that is damaged or of
 * another boot. It also replaces a segment that no process uses, if the capacities differ from the
 * wanted ones, or if some records have used up their seqs. other-layout.c decides about a segment
 * of another layout.
 */

#include "map.h"

struct segment {
	struct map *map;
	struct directory_header *names; /* map->names, but writable */
	int segment_fd, directory_fd;   /* for clients; the directory's is read-only */
	int runtime_fd;                 /* the runtime directory */
	bool adopted;                   /* false: the segment was made now */
};

struct capacities {
	uint32_t accounts, slots, sessions;
};

/* -EPROTONOSUPPORT: the segment has another layout. On failure the log says why. */
int segment_open(const char *runtime_dir, const struct capacities *want, struct segment **ret);
void segment_close(struct segment *s); /* NULL is fine; the files stay */

/* Each function allocates more accounts, records or sessions, and publishes them. -ENOSPC: the
 * table has its full size; -ENOMEM: the file system is full. */
int segment_grow_accounts(struct segment *s);
int segment_grow_slots(struct segment *s);
int segment_grow_sessions(struct segment *s);

/* Allocates a part of the directory. The part reads as zeros until it is written. */
int segment_allocate_directory(struct segment *s, uint64_t offset, uint64_t length);
