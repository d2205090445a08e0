/* SPDX-License-Identifier: MIT */

/* Reads /proc, and opens and polls pidfds. */

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "procfs.h"
#include "util.h"

int process_start_time(pid_t pid, uint64_t *ret) {
	_cleanup_close_ int fd = -1;
	char path[32], text[1024], *p;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return n < 0 ? -errno : -EIO;
	text[n] = 0;
	/* The last ')' ends field 2, the command's name, which may contain anything. The time is
	 * field 22. */
	p = strrchr(text, ')');
	for (int i = 0; p && i < 20; i++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, " %" SCNu64, ret) == 1 ? 0 : -EIO;
}

bool process_may_live(pid_t pid, uint64_t start_time) {
	_cleanup_close_ int pidfd = -1;
	struct pollfd p = {.events = POLLIN};
	uint64_t start;
	int r;

	if (pid <= 0)
		return false;
	/* From here on the pidfd refers to the same process, even if another gets the pid. */
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 && errno == ESRCH)
		return false;
	r = process_start_time(pid, &start);
	if (r == 0 && start_time != 0 && start != start_time)
		return false;
	if (pidfd < 0)
		return r != -ESRCH;
	/* /proc may hide a living process (hidepid), and shows zombies. So poll() decides: a pidfd
	 * becomes readable when all threads of the process have ended. */
	p.fd = pidfd;
	return poll(&p, 1, 0) <= 0;
}

pid_t pidfd_process(int pidfd, int *ret_error) {
	char path[48], line[128];
	int pid = -1;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	f = fopen(path, "re");
	*ret_error = f ? 0 : -errno;
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Pid: %d", &pid) == 1)
			break;
	(void)fclose(f);
	return pid;
}

void process_comm(pid_t pid, char ret[16]) {
	char path[32];
	FILE *f;

	memset(ret, 0, 16);
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(ret, 16, f))
		ret[strcspn(ret, "\n")] = 0;
	(void)fclose(f);
}

int boot_id_read_text(char ret[BOOT_ID_TEXT_SIZE]) {
	_cleanup_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char text[BOOT_ID_TEXT_SIZE] = "";

	if (fd < 0)
		return -errno;
	if (read(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1)
		return -EIO;
	memcpy(ret, text, sizeof(text));
	return 0;
}

int boot_id_read(uint8_t ret[16]) {
	char text[BOOT_ID_TEXT_SIZE];
	size_t n = 0;
	int r = boot_id_read_text(text);

	if (r < 0)
		return r;
	for (const char *p = text; *p && n < 16; p++) {
		unsigned byte;

		if (*p == '-')
			continue;
		if (sscanf(p, "%2x", &byte) != 1)
			return -EIO;
		ret[n++] = (uint8_t)byte;
		p++;
	}
	return n == 16 ? 0 : -EIO;
}
