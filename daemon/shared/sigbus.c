/* SPDX-License-Identifier: MIT */

/*
 * Survives SIGBUS on the shared files. The handler does only what a signal handler may do: it reads
 * the table of windows, maps a page, and writes to an eventfd. A fault anywhere else, such as in
 * the store's files, ends berthd, as it would without the handler.
 */

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "log.h"
#include "sigbus.h"

#define PAGE 4096u

static struct map *guarded;
static int fault_fd = -1;

static bool is_in(const struct map_file *file, uintptr_t address) {
	for (uint32_t i = 0; i < file->windows; i++) {
		uintptr_t base = (uintptr_t)load_acquire(&file->window[i]);

		if (base != 0 && address >= base && address < base + MAP_WINDOW)
			return true;
	}
	return false;
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context) {
	uintptr_t address = (uintptr_t)info->si_addr;
	int saved = errno;

	(void)context;
	if ((!is_in(&guarded->segment, address) && !is_in(&guarded->directory, address)) ||
		mmap((void *)(address / PAGE * PAGE), PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) {
		/* When the handler returns, the instruction faults again, which ends berthd. */
		(void)signal(signal_number, SIG_DFL);
		return;
	}
	(void)eventfd_write(fault_fd, 1);
	errno = saved;
}

static int on_fault(sd_event_source *source, int fd, uint32_t events, void *data) {
	eventfd_t pages = 0;

	(void)source, (void)events, (void)data;
	(void)eventfd_read(fd, &pages);
	log_event(LOG_ERR, EVENT_DAMAGED, NULL,
		"%llu pages of the shared counts are gone: a member of group berth truncated the "
		"segment. Going on without them; restart the servers, and berthd, to be counted "
		"again",
		(unsigned long long)pages);
	return 0;
}

int sigbus_guard(sd_event *event, struct map *m) {
	const struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO | SA_RESTART,
	};
	int r;

	if (fault_fd < 0)
		fault_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fault_fd < 0)
		return -errno;
	guarded = m;
	r = sd_event_add_io(event, NULL, fault_fd, EPOLLIN, on_fault, NULL);
	if (r < 0)
		return r;
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}
