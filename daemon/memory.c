/* SPDX-License-Identifier: MIT */

/* Gives memory back: an idle berthd is small, whatever it has done before. */

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "util.h"

/* The allocator's own, but fixed: by itself it rises to the largest block that was ever freed. */
#define LARGE_BLOCK 131072

void memory_init(void) {
	(void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
}

void memory_give_back(void) {
	(void)malloc_trim(0);
}

/* Only what nobody can have written to: code and constants of a program or library. */
static int object_forget(struct dl_phdr_info *info, size_t size, void *data) {
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size, (void)data;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		uintptr_t begin = (info->dlpi_addr + part->p_vaddr) / page * page;
		uintptr_t end = info->dlpi_addr + part->p_vaddr + part->p_filesz;

		if (part->p_type == PT_LOAD && !(part->p_flags & PF_W))
			(void)madvise((void *)begin, end - begin, MADV_DONTNEED);
	}
	return 0;
}

void memory_forget_start(void) {
	memory_give_back();
	(void)dl_iterate_phdr(object_forget, NULL);
}
