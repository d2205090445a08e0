/* SPDX-License-Identifier: MIT */

/* Pins processes to the machine's CPUs, and describes the machine beside the figures. */

#include <dirent.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "bench.h"

static cpu_set_t allowed;
static unsigned cpu_count;
static int cpu_number[CPU_SETSIZE];

void cpus_init(void) {
	bench_check(sched_getaffinity(0, sizeof(allowed), &allowed) == 0, "sched_getaffinity");
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			cpu_number[cpu_count++] = cpu;
}

unsigned cpus_count(void) {
	return cpu_count;
}

void cpus_pin_worker(unsigned worker) {
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu_number[cpu_count - 1 - worker % cpu_count], &one);
	bench_check(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
}

void cpus_pin_servers(bool pin) {
	cpu_set_t others = allowed;

	if (pin && cpu_count > 1)
		CPU_CLR(cpu_number[cpu_count - 1], &others);
	bench_check(sched_setaffinity(0, sizeof(others), &others) == 0, "sched_setaffinity");
}

/* -- processes --------------------------------------------------------------------------------- */

/* The text after `field` in the last line that begins with `field`, as much as fits; "": there is
 * no such line. */
static const char *field_text(const char *path, const char *field) {
	static char found[128];
	char line[256];
	FILE *f = fopen(path, "re");

	found[0] = '\0';
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, field, strlen(field)) == 0)
			(void)snprintf(found, sizeof(found), "%.*s",
				(int)strcspn(line + strlen(field), "\n"), line + strlen(field));
	if (f)
		(void)fclose(f);
	return found;
}

static double field_read(const char *path, const char *field) {
	return strtod(field_text(path, field), NULL);
}

double process_bytes(pid_t pid, const char *field) {
	char path[64];
	bool proportional = strcmp(field, "Pss:") == 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid,
		proportional ? "smaps_rollup" : "status");
	return field_read(path, field) * 1024;
}

static double free_bytes_on(const char *dir) {
	struct statvfs st;

	return statvfs(dir, &st) == 0 ? (double)st.f_bavail * (double)st.f_frsize : 0;
}

bool machine_has(double bytes) {
	return field_read("/proc/meminfo", "MemAvailable:") * 1024 >= bytes &&
	       free_bytes_on(bench.dir) >= bytes && free_bytes_on(bench.disk) >= bytes;
}

double process_switches(pid_t pid) {
	char path[64 + 256];
	double switches = 0;
	struct dirent *thread;
	DIR *tasks;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	bench_check(tasks != NULL, path);
	while ((thread = readdir(tasks))) {
		(void)snprintf(
			path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, thread->d_name);
		switches += field_read(path, "voluntary_ctxt_switches:");
	}
	(void)closedir(tasks);
	return switches;
}

/* -- the description --------------------------------------------------------------------------- */

static void describe_disk(struct machine *m) {
	static const struct {
		long type;
		const char *name;
	} known[] = {
		{TMPFS_MAGIC, "tmpfs, where a sync costs nothing"},
		{EXT4_SUPER_MAGIC, "ext4"},
		{XFS_SUPER_MAGIC, "xfs"},
		{BTRFS_SUPER_MAGIC, "btrfs"},
		{OVERLAYFS_SUPER_MAGIC, "overlayfs"},
	};
	struct statfs st;

	bench_check(statfs(bench.out, &st) == 0, bench.out);
	m->syncs = st.f_type != TMPFS_MAGIC;
	(void)snprintf(m->disk, sizeof(m->disk), "file system %#lx", (unsigned long)st.f_type);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].type == st.f_type)
			(void)snprintf(m->disk, sizeof(m->disk), "%s", known[i].name);
}

const struct machine *machine_describe(void) {
	static struct machine m;
	struct utsname kernel = {0};
	const char *cpu;

	if (m.cpus)
		return &m;
	m.cpus = cpu_count;
	cpu = field_text("/proc/cpuinfo", "model name\t: ");
	(void)snprintf(m.cpu, sizeof(m.cpu), "%s", *cpu ? cpu : "unknown CPU");
	describe_disk(&m);
	(void)getloadavg(&m.load, 1);
	(void)uname(&kernel);
	(void)snprintf(m.kernel, sizeof(m.kernel), "%s %.60s %.20s", kernel.sysname, kernel.release,
		kernel.machine);
#ifdef __clang__
	(void)snprintf(m.compiler, sizeof(m.compiler), "%.60s", __VERSION__);
#else
	(void)snprintf(m.compiler, sizeof(m.compiler), "GCC %.56s", __VERSION__);
#endif
	(void)snprintf(m.command, sizeof(m.command), "make bench%s%s%.100s",
		bench.quick ? " QUICK=1" : "", bench.only ? " ONLY=" : "",
		bench.only ? bench.only : "");
	return &m;
}
