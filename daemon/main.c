/* SPDX-License-Identifier: MIT */

/* berthd: keeps the limits of accounts, and the shared memory in which servers count slots. */

#include <malloc.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "log.h"
#include "manager.h"
#include "other-layout.h"
#include "restore-file.h"

/* This is malloc's default threshold. Once main() has set it, malloc no longer raises the threshold
 * to the size of the largest freed block. A raised one makes malloc keep large freed blocks. */
#define LARGE_BLOCK 131072

int main(int argc, char **argv) {
	struct manager *manager;
	struct options options;
	int r;

	(void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
	r = options_parse(&options, argc, argv);
	if (r != 0)
		return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	if (options.check_segment)
		return other_layout_check(options.runtime_dir);
	(void)umask(0077);
	log_init();
	if (options.restore)
		return restore_file(options.state_dir, options.restore, options.force) < 0
			       ? EXIT_FAILURE
			       : EXIT_SUCCESS;
	r = manager_new(&options, &manager);
	if (r < 0)
		return r == -EPROTONOSUPPORT ? EXIT_OTHER_VERSION : EXIT_FAILURE;
	r = manager_run(manager);
	manager_free(manager);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
