/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The two shared files, made or found again, and grown.
 *
 * A segment that is there is adopted if it is of this boot and this layout. One of another boot, or
 * damaged, makes way for a new one here; one of another layout in other-layout.c, if at all.
 */

#include "map.h"

struct segment {
	struct map *map;
	struct directory_header *names; /* map->names, to be written */
	int segment_fd, directory_fd;   /* what clients are given; the directory's is read-only */
	int runtime_fd;                 /* the runtime directory */
	bool adopted;
};

struct capacities {
	uint32_t accounts, slots, sessions;
};

/* -EPROTONOSUPPORT: another layout. The log says what is wrong. */
int segment_open(const char *runtime_dir, const struct capacities *want, struct segment **ret);
void segment_close(struct segment *s); /* NULL is fine; the files stay */

/* Makes room for more of a kind and publishes it. -ENOSPC: the table is as large as it may become;
 * -ENOMEM: the file system has no room. */
int segment_grow_accounts(struct segment *s);
int segment_grow_slots(struct segment *s);
int segment_grow_sessions(struct segment *s);

/* Allocates a stretch of the directory, zeros. */
int segment_allocate_directory(struct segment *s, uint64_t offset, uint64_t length);
