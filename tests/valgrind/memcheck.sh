#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs a test program under memcheck, and all programs that it starts, berthd and berthctl included. memcheck
# writes its reports into the directory $REPORTS:
#
#     BUILD=build REPORTS=directory tests/valgrind/memcheck.sh PROGRAM
set -eu

tools=$PWD/$BUILD/tests/valgrind
# memcheck skips the system's programs, such as cp. When a process calls exec, valgrind starts anew for it.
exec "$tools/pidfd-server" env LD_PRELOAD="$tools/pidfd.so" valgrind --quiet --vgdb=no --trace-children=yes \
	--trace-children-skip='/bin/*,/usr/bin/*' --leak-check=full --errors-for-leak-kinds=definite \
	--show-leak-kinds=definite --num-callers=20 --log-file="$REPORTS/%p" "$@"
