#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The demo leaves no process and no directory behind, whenever it is interrupted. Its processes are found
# by a variable in their environment.
set -eu

TMPDIR=$(mktemp -d /dev/shm/berth-test.XXXXXX)
trap 'rm -rf "$TMPDIR"' EXIT
mark=BERTH_TEST_MARK=$TMPDIR

survivors() {
	for process in /proc/[0-9]*; do
		if tr '\0' '\n' 2>/dev/null <"$process/environ" | grep -qxF "$mark"; then
			printf '%s ' "${process#/proc/}"
			tr '\0' ' ' <"$process/cmdline" || true
			echo
		fi
	done 2>/dev/null
}

# interrupt SIGNAL SECONDS
interrupt() {
	status=0
	env "$mark" timeout --foreground -s "$1" "$2" tests/install/demo.sh >"$TMPDIR/out" 2>&1 || status=$?
	dir=$(sed -n 's/^This is berth at work, in \(.*\), which.*/\1/p' "$TMPDIR/out")
	left=$(survivors)
	if [ -n "$left" ] || { [ -n "$dir" ] && [ -e "$dir" ]; }; then
		printf 'SIG%s after %s s (status %s) leaves the directory %s and the processes: %s\n' \
			"$1" "$2" "$status" "$dir" "$left"
		cat "$TMPDIR/out"
		exit 1
	fi
	echo "SIG$1 after $2 s: nothing left (status $status)"
}

for seconds in 0.01 0.02 0.03 0.05 0.07 0.1 0.15 0.2 0.4 0.8 1.1; do
	interrupt INT "$seconds"
	interrupt TERM "$seconds"
done
interrupt HUP 0.1
