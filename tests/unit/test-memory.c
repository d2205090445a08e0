/* SPDX-License-Identifier: MIT */

/* What is given back is what the file has, and nothing that was written. */

#include <check.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "run.h"

#define PAGE 65536 /* that of any machine, or some */

/* Far enough from what else is read: the kernel brings what is around a page, too, and valgrind puts a
 * program where it isn't aligned. */
#define APART (3 * PAGE + PAGE / 2)

/* Constants, as code is; what they are is read as if it could change. */
static const char constants[5 * PAGE] __attribute__((aligned(PAGE))) = {[PAGE] = 1, [APART] = 2};

static char constant_at(size_t i) {
	return *(const volatile char *)&constants[i];
}

static bool is_here(const void *at) {
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(
		pread(fd, &entry, sizeof(entry),
			(off_t)((uintptr_t)at / (uintptr_t)sysconf(_SC_PAGESIZE) * sizeof(entry))),
		sizeof(entry));
	(void)close(fd);
	return entry >> 63;
}

/* As debuggers do to code. */
static void constant_write(size_t i, char byte) {
	char *page = (char *)(uintptr_t)&constants[i / PAGE * PAGE];

	ck_assert_int_eq(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
	*(volatile char *)(uintptr_t)&constants[i] = byte;
	ck_assert_int_eq(mprotect(page, PAGE, PROT_READ), 0);
}

START_TEST(pages_of_the_program_are_forgotten_but_for_those_that_were_written_to) {
	bool told;

	constant_write(PAGE, 42);
	ck_assert_int_eq(constant_at(APART), 2);
	told = is_here(&constants[APART]);
	memory_forget_start();
	if (told)
		ck_assert(!is_here(&constants[APART]));
	else
		printf("an emulator's addresses aren't the kernel's: not testing what is here\n");
	ck_assert_int_eq(constant_at(APART), 2);
	ck_assert_int_eq(constant_at(PAGE), 42);
}
END_TEST

int main(void) {
	const struct test tests[] = {
		{pages_of_the_program_are_forgotten_but_for_those_that_were_written_to},
		{NULL},
	};

	return run_suites({"memory", tests});
}
