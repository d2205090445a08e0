/* SPDX-License-Identifier: MIT */

/*
 * Runs inputs through a fuzzer once, without libFuzzer:
 *
 *     fuzz-NAME [FILE]...     (if there is no FILE: all files of tests/fuzz/seeds/NAME)
 */

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static int run_file(const char *path) {
	FILE *f = fopen(path, "re");
	uint8_t *copy;
	static uint8_t buffer[1 << 20];
	size_t size;

	if (!f) {
		perror(path);
		return EXIT_FAILURE;
	}
	size = fread(buffer, 1, sizeof(buffer), f);
	(void)fclose(f);
	printf("%s, %zu bytes\n", path, size);
	(void)fflush(stdout);
	/* The copy has the exact size, so that sanitizers notice a read beyond its end. */
	copy = malloc(size ? size : 1);
	if (!copy)
		return EXIT_FAILURE;
	memcpy(copy, buffer, size);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	return EXIT_SUCCESS;
}

static int run_seeds(const char *program) {
	const char *name = strrchr(program, '/');
	char dir[256], path[600];
	struct dirent **found;
	int n, failed = 0;

	name = name ? name + 1 : program;
	(void)snprintf(dir, sizeof(dir), "tests/fuzz/seeds/%s",
		strncmp(name, "fuzz-", 5) == 0 ? name + 5 : name);
	n = scandir(dir, &found, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, found[i]->d_name);
		if (found[i]->d_name[0] != '.')
			failed |= run_file(path);
		free(found[i]);
	}
	if (n <= 2) {
		fprintf(stderr, "no seeds in %s\n", dir);
		return EXIT_FAILURE;
	}
	free(found);
	return failed;
}

int main(int argc, char **argv) {
	int failed = 0;

	if (argc < 2)
		return run_seeds(argv[0]);
	for (int i = 1; i < argc; i++)
		failed |= run_file(argv[i]);
	return failed;
}
