/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Descriptors of the library that the application may close behind its back, as daemons do
 * (closefrom).
 *
 * The kernel may then give the number to another file. So the library uses a descriptor, and closes
 * it, only while its device and inode are those of the file that the library opened.
 */

#include "map.h"

struct descriptor {
	int fd; /* -1: none */
	uint64_t dev, ino;
};

/* Takes fd, whatever it returns. Errors as fstat(). */
int descriptor_set(struct descriptor *d, int fd);
bool descriptor_is_ours(const struct descriptor *d);
/* Closes it if it is still ours. */
void descriptor_close(struct descriptor *d);

/* If the map has this number for a file of its own, the map doesn't use or close it any more: the
 * application has closed that file, and the number is a newer map's. */
void map_file_forget(struct map *m, struct map_file *file, int fd);

/* Gives a map a new descriptor of the same file if the application has closed the old one. Takes
 * *fd in that case and sets it to -1. */
void map_file_renew(struct map *m, struct map_file *file, int *fd);
