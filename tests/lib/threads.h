/* SPDX-License-Identifier: MIT */
#pragma once

/* Threads of a test. */

#include <check.h>
#include <pthread.h>
#include <semaphore.h>

static inline void thread_start(pthread_t *ret, void *(*run)(void *), void *data) {
	ck_assert_int_eq(pthread_create(ret, NULL, run, data), 0);
}

static inline void threads_join(const pthread_t *threads, size_t count) {
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}

static inline void semaphore_wait(sem_t *s) {
	while (sem_wait(s) != 0)
		;
}
