#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs a fuzzer for $FUZZ_SECONDS, on its seeds and on the inputs in $BUILD/corpus. The fuzzer keeps new inputs
# there, and writes an input that fails to $BUILD/found. The last line is a summary.
#
#     BUILD=build-fuzz FUZZ_SECONDS=60 tests/fuzz/run.sh FUZZER
set -eu

name=$(basename "$1" | sed 's/^fuzz-//')
corpus=$BUILD/corpus/$name
mkdir -p "$corpus" "$BUILD/found"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM

status=0
"$1" -max_total_time="$FUZZ_SECONDS" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
	-artifact_prefix="$BUILD/found/$name-" "$corpus" "tests/fuzz/seeds/$name" >"$log" 2>&1 ||
	status=$?
tail -n 60 "$log"
awk -v name="$name" '/^stat::number_of_executed_units/ { runs = $2 }
	{ for (i = 1; i < NF; i++) if ($i == "cov:") coverage = $(i + 1)
		else if ($i == "corp:") corpus = $(i + 1) }
	END { printf "%s: %d inputs, coverage %d, corpus %s\n", name, runs, coverage, corpus }' "$log"
exit "$status"
