/* SPDX-License-Identifier: MIT */
#pragma once

/* The private directory of a test (`dir`), and functions that read and write files. */

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char dir[32];

static inline void dir_make(void) {
	strcpy(dir, "/dev/shm/berth-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline void dir_remove(void) {
	(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct dir_path {
	char text[128];
};

/* The path of a file in the directory. */
static inline struct dir_path dir_path(const char *name) {
	struct dir_path p;

	ck_assert_int_lt(snprintf(p.text, sizeof(p.text), "%s/%s", dir, name), (int)sizeof(p.text));
	return p;
}

/* Reads the whole file. The caller frees the result. */
static inline char *file_read(const char *path, size_t *ret_size) {
	FILE *f = fopen(path, "re");
	struct stat st;
	char *content;

	ck_assert_msg(f != NULL, "%s", path);
	ck_assert_int_eq(fstat(fileno(f), &st), 0);
	*ret_size = (size_t)st.st_size;
	content = calloc(1, *ret_size + 1);
	ck_assert_uint_eq(fread(content, 1, *ret_size, f), *ret_size);
	(void)fclose(f);
	return content;
}

static inline void file_write(const char *path, const char *content, size_t size) {
	FILE *f = fopen(path, "we");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(content, 1, size, f), size);
	ck_assert_int_eq(fclose(f), 0);
}
