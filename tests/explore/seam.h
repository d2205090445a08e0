/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * gcc includes this header before every source under test (-include). Its macros replace libc's
 * memory, clock, threads and system calls by the explorer's. So a run's memory is freed with the
 * run, and a run depends on nothing but its seed.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BERTH_EXPLORED 1 /* atomic.h tests this */

void *seam_new(size_t size);
void *seam_grow(void *p, size_t size);
void seam_free(void *p);
long seam_syscall(long number, ...);
int seam_key(pthread_key_t *ret, void (*at_end)(void *));
int seam_specific(const void *p);
uint32_t seam_entries_max(void);
uint32_t seam_kept_part(void);

#define calloc(n, size)          seam_new((n) * (size))
#define malloc(size)             seam_new(size)
#define aligned_alloc(to, size)  seam_new(size)
#define reallocarray(p, n, size) seam_grow((p), (n) * (size))
#define free(p)                  seam_free(p)
#define close(fd)                ((void)(fd), 0)
#define fopen(path, mode)        ((FILE *)NULL)
#define syscall(...)             seam_syscall(__VA_ARGS__)
#define time(t)                  ((time_t)1)
#define clock_gettime(clock, t)  ((void)(clock), *(t) = (struct timespec){.tv_sec = 1}, 0)

#define mmap(p, size, ...)       seam_new(size)
#define munmap(p, size)          0
#define madvise(p, size, advice) 0

/* The plan (parties.h) sets how many accounts and records a thread keeps (path-cache.c). */
#define ENTRIES_MAX seam_entries_max()
#define KEPT_PART   seam_kept_part()

/* libberth takes each coroutine for a thread. */
#define pthread_once(once, call)        ((void)(once), (call)(), 0)
#define pthread_key_create(key, at_end) seam_key((key), (at_end))
#define pthread_setspecific(key, p)     seam_specific(p)
