/* SPDX-License-Identifier: MIT */

/* berthd: keeps accounts' limits and counts their slots. */

#include <stdlib.h>
#include <sys/stat.h>

#include "log.h"
#include "manager.h"
#include "memory.h"
#include "other-layout.h"

int main(int argc, char **argv) {
	struct manager *manager;
	struct options options;
	int r;

	memory_init();
	r = options_parse(&options, argc, argv);
	if (r != 0)
		return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	if (options.check_segment)
		return other_layout_check(options.runtime_dir);
	(void)umask(0077);
	log_init();
	r = manager_new(&options, &manager);
	if (r < 0)
		return r == -EPROTONOSUPPORT ? EXIT_OTHER_RELEASE : EXIT_FAILURE;
	r = manager_run(manager);
	manager_free(manager);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
