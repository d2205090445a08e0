#!/bin/sh
# SPDX-License-Identifier: MIT
#
# `make demo`: runs the real berthd, berthctl and libberth.so in a private directory, with small servers
# (demo-server.c) that acquire slots of one account. Removes the directory and kills its processes, however
# it ends.
set -eu

build=${BUILD:-build}
pids='' dir='' berthd=''
LC_ALL=C.UTF-8
export LC_ALL

# -- looks and cleaning up --------------------------------------------------------------------

bold='' dim='' red='' green='' off=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ] && [ "${TERM-dumb}" != dumb ]; then
	bold=$(printf '\033[1m') dim=$(printf '\033[2m') off=$(printf '\033[0m')
	red=$(printf '\033[31m') green=$(printf '\033[32m')
fi

# Begins a chapter. On a terminal it waits a second, so that the last chapter can be read.
title() {
	if [ -t 1 ]; then sleep 1; fi
	printf '\n%s%s%s\n\n' "$bold" "$1" "$off"
}
explain() { printf '%s\n' "$@"; }
show() { printf '  %s$ %s%s\n' "$dim" "$*" "$off"; }
indent() { sed 's/^/  /'; }

# A process that was started a moment ago may be in $! but not in $pids yet.
cleanup() {
	trap '' HUP INT TERM
	# shellcheck disable=SC2086
	kill -KILL $pids ${!-} 2>/dev/null || true
	wait
	[ -z "$dir" ] || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

fail() {
	printf '\ndemo: %s\n' "$*" >&2
	[ ! -s "$dir/log" ] || { echo 'The log of berthd:' && cat "$dir/log"; } >&2
	exit 1
}

# -- what the demo does -----------------------------------------------------------------------

berthctl() { "$build/berthctl" "$@"; }

start_berthd() {
	group=$(id -g -n)
	"$build/berthd" --group "$group" --admin-group "$group" 2>>"$dir/log" &
	berthd=$!
	pids="$pids $berthd"
	until berthctl status >/dev/null 2>&1; do
		kill -0 "$berthd" 2>/dev/null || fail 'berthd does not start'
		sleep 0.05
	done
}

kill_hard() {
	kill -KILL "$1"
	wait "$1" 2>/dev/null || true
}

# start_server N: starts server N, waits for the result of its acquire, and prints it.
start_server() {
	mkfifo "$dir/server-$1"
	"$build/tests/install/demo-server" alice "server $1" >"$dir/server-$1" &
	pid=$!
	pids="$pids $pid"
	read -r line <"$dir/server-$1" || fail "server $1 died"
	case $line in
	has*) colour=$green ;;
	*) colour=$red ;;
	esac
	printf '  server %s (pid %s) %s%s%s\n' "$1" "$pid" "$colour" "$line" "$off" |
		fold -s -w 92 | sed '2,$s/^/    /; s/ $//'
}

# Reads the next line that server 6 prints.
read_line() { read -r line <&3 || fail 'server 6 died'; }

# What berthd knows about the slots of servers 1 and 3, which don't change: slot, process, time.
staying() { berthctl holders alice --json | grep '"server [13]"' | sed 's/,$//'; }

dir=$(mktemp -d /dev/shm/berth-demo.XXXXXX 2>/dev/null || mktemp -d)
BERTH_RUNTIME_DIR=$dir/run BERTH_STATE_DIR=$dir/state
export BERTH_RUNTIME_DIR BERTH_STATE_DIR

explain "This is berth at work, in $dir, which goes away at the end."

title '1. A limit'
explain 'berthd is running. The administrator lets alice have 3 slots at once:' ''
start_berthd
show berthctl set alice 3
berthctl set alice 3

title '2. Five servers want a slot each'
explain 'They are separate processes that know nothing of each other. Each acquires a slot for alice,' \
	'in memory that they share, and keeps it. Two of them are denied:' ''
start_server 1 && start_server 2
victim=$pid
start_server 3 && start_server 4 && start_server 5
printf '\n'
show berthctl holders alice
berthctl holders alice | indent

title '3. A holder is killed'
explain 'Server 2 gets SIGKILL, so it cannot release its slot. berthd notices its death and releases the' \
	'slot. Server 6 waits for this, and tries to acquire:' ''
mkfifo "$dir/go" "$dir/server-6"
"$build/tests/install/demo-server" alice 'server 6' "$victim" <"$dir/go" >"$dir/server-6" &
pids="$pids $!"
# A plain exec that is interrupted would end the shell without running its trap.
command exec 4>"$dir/go" 3<"$dir/server-6" || fail 'server 6 does not start'
read_line
show kill -KILL "$victim"
kill_hard "$victim"
read_line
printf '  server 6 %shas the slot%s, %s%s ms%s after the kernel reported that server 2 is dead\n' \
	"$green" "$off" "$bold" "$line" "$off"

title '4. berthd is killed, too'
explain 'Server 6 knows alice by now. It goes on without berthd, and releases and acquires for a second:' ''
before=$(staying)
[ -n "$before" ] || fail 'servers 1 and 3 hold nothing'
show kill -KILL "$berthd"
kill_hard "$berthd"
echo go >&4
read_line
printf '  server 6 got its slot %s%s million times%s in that second\n' "$bold" "$line" "$off"
read_line
explain '' 'It holds the third slot again, and the limit still holds. It asks for a fourth slot:' ''
printf '  server 6 %s%s%s\n' "$red" "${line%%:*}" "$off"

title '5. berthd returns'
explain 'It finds all holders in shared memory, also the one that acquired its slot while berthd was dead:' ''
start_berthd
show berthctl holders alice
berthctl holders alice | indent
[ "$(staying)" = "$before" ] || fail "servers 1 and 3 held these slots before: $before"
explain '' 'Servers 1 and 3 hold the same slots since the same time: no slot was lost, none leaked.'
echo go >&4
