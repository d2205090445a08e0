#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs a test program and everything that it starts, berthd and berthctl included, under memcheck;
# what that has to say goes to $REPORTS:
#
#     BUILD=build REPORTS=directory tests/valgrind/memcheck.sh PROGRAM
set -eu

tools=$PWD/$BUILD/tests/valgrind
# cp and the like are not ours; a process that execs is looked at anew.
exec "$tools/pidfd-server" env LD_PRELOAD="$tools/pidfd.so" valgrind --quiet --vgdb=no --trace-children=yes \
	--trace-children-skip='/bin/*,/usr/bin/*' --leak-check=full --errors-for-leak-kinds=definite \
	--show-leak-kinds=definite --num-callers=20 --log-file="$REPORTS/%p" "$@"
