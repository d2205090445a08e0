#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs a test program and all programs that it starts, berthd and berthctl included, under memcheck. Its
# reports go to the directory $REPORTS:
#
#     BUILD=build REPORTS=directory tests/valgrind/memcheck.sh PROGRAM
set -eu

tools=$PWD/$BUILD/tests/valgrind
# Programs of the system, such as cp, are skipped. A process that calls exec gets a new memcheck.
exec "$tools/pidfd-server" env LD_PRELOAD="$tools/pidfd.so" valgrind --quiet --vgdb=no --trace-children=yes \
	--trace-children-skip='/bin/*,/usr/bin/*' --leak-check=full --errors-for-leak-kinds=definite \
	--show-leak-kinds=definite --num-callers=20 --log-file="$REPORTS/%p" "$@"
