/* SPDX-License-Identifier: MIT */

/* Gives memory back: an idle berthd is small, whatever it has done before. */

#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"
#include "util.h"

/* The allocator's own, but fixed: by itself it rises to the largest block that was ever freed. */
#define LARGE_BLOCK 131072

/* Of a page's entry in /proc/PID/pagemap: it is a file's. */
#define PAGEMAP_FILE (UINT64_C(1) << 61)

void memory_init(void) {
	(void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
}

void memory_give_back(void) {
	(void)malloc_trim(0);
}

/* Whether the page is here as its file has it. Where a debugger or a probe has put a breakpoint, or
 * the linker an address, it is a copy of our own, which would be lost. */
static bool page_is_the_files(int pagemap, uintptr_t page) {
	uint64_t entry;

	return pread(pagemap, &entry, sizeof(entry), (off_t)(page * sizeof(entry))) ==
		       sizeof(entry) &&
	       (entry & PAGEMAP_FILE);
}

static int object_forget(struct dl_phdr_info *info, size_t size, void *data) {
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const int *pagemap = data;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];
		uintptr_t begin = (info->dlpi_addr + part->p_vaddr) / page;
		uintptr_t end = (info->dlpi_addr + part->p_vaddr + part->p_filesz) / page;

		if (part->p_type != PT_LOAD || (part->p_flags & PF_W))
			continue;
		for (uintptr_t n = begin; n <= end; n++)
			if (page_is_the_files(*pagemap, n))
				(void)madvise((void *)(n * page), page, MADV_DONTNEED);
	}
	return 0;
}

void memory_forget_start(void) {
	_cleanup_close_ int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	memory_give_back();
	if (pagemap >= 0)
		(void)dl_iterate_phdr(object_forget, &pagemap);
}
