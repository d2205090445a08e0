#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Checks the manual pages that `make install` installs: both formatters accept them without a warning, and every
# example prints what the page says, with the installed programs and library and a berthd of its own.
#
# An example is the next .Bd block after a comment of the page:
#     .\" example: NAME [ARGUMENT...]   a C program, compiled as C and as C++
#     .\" before: COMMAND               a command that an administrator runs before it
#     .\" output: NAME                  the output of that program
#     .\" shell: NAME                   a session: commands after "$ ", and their output
#     .\" words: NAME, declares: NAME   for tests/docs/drift.sh
# A session may use the programs of earlier examples on the page, and the file /tmp/try.
set -eu

root=$(mktemp -d /dev/shm/berth-test.XXXXXX)
berthd='' runner=''
stop_berthd() {
	[ -z "$berthd" ] || { kill -KILL "$berthd" && wait "$berthd"; } 2>/dev/null || true
	berthd=''
}
cleanup() {
	# timeout ends a session and all processes that it started.
	[ -z "$runner" ] || kill -TERM "$runner" 2>/dev/null || true
	stop_berthd
	wait
	rm -rf "$root"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

LC_ALL=C.UTF-8
export LC_ALL
unset MAKEFLAGS MFLAGS MAKELEVEL BERTH_RUNTIME_DIR BERTH_STATE_DIR || true

failures=0
step() { printf -- '-- %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*"; failures=$((failures + 1)); }

# -- reading pages ----------------------------------------------------------------------------

# block PAGE KIND NAME: prints the block after that comment, as a reader sees it.
block() {
	awk -v kind="$2:" -v name="$3" '
	$1 == ".\\\"" && $2 == kind && $3 == name { wanted = 1; next }
	wanted && /^\.Bd/ { inside = 1; next }
	inside && /^\.Ed/ { exit }
	inside' "$1" |
		sed 's/\\(aq/'\''/g; s/\\(dq/"/g; s/\\(em/—/g; s/\\-/-/g; s/\\&//g; s/\\e/\\/g'
}

# names PAGE KIND: prints the names of all blocks of that kind.
names() { sed -n "s/^\\.\\\\\" $2: \\([a-z]*\\).*/\\1/p" "$1"; }
# These print the arguments in the comment `example: NAME`, and the command in the comment `before:` after it.
arguments() { sed -n "s/^\\.\\\\\" example: $2 //p" "$1"; }
before() {
	awk -v name="$2" '$2 == "example:" { mine = $3 == name }
	mine && $2 == "before:" { sub(/^[^:]*: /, ""); print }' "$1"
}

# Replaces numbers that differ between runs, and spaces whose number depends on them.
normalise() {
	sed -E 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z/TIME/g; s/ +/ /g
	s/^[0-9]+:[0-9]+ ([^ ]+ [0-9]+) [0-9]+ [0-9]+ /SLOT \1 PID UID /
	s/"slot":"[0-9:]+"/"slot":SLOT/g; s/"pid":[0-9]+,"uid":[0-9]+/"pid":PID,"uid":UID/g'
}

# same EXPECTED PRINTED NAME: fails if the output of the example NAME isn't the expected one.
same() {
	normalise <"$1" >"$root/expected"
	normalise <"$2" >"$root/printed"
	diff "$root/expected" "$root/printed" || fail "$3: the page has (<), but the example prints (>)"
}

# -- a berthd for one example -----------------------------------------------------------------

start_berthd() {
	stop_berthd
	rm -rf "$root/work/run" "$root/work/state"
	BERTH_RUNTIME_DIR=$root/work/run BERTH_STATE_DIR=$root/work/state
	export BERTH_RUNTIME_DIR BERTH_STATE_DIR
	group=$(id -g -n)
	"$prefix/sbin/berthd" --group "$group" --admin-group "$group" 2>>"$root/log" &
	berthd=$!
	until "$prefix/bin/berthctl" status >/dev/null 2>&1; do
		kill -0 "$berthd" 2>/dev/null || { cat "$root/log" && exit 1; }
		sleep 0.02
	done
}

# -- examples ---------------------------------------------------------------------------------

# compile PAGE NAME: compiles the program as C to work/NAME, and as C++ to work/NAME-cxx.
compile() {
	block "$1" example "$2" >"$root/work/$2.c"
	# shellcheck disable=SC2046 # lists of options must be split
	gcc -std=c99 -Wall -Wextra -Wpedantic -Werror "$root/work/$2.c" \
		$(pkg-config --cflags --libs berth) -o "$root/work/$2" &&
		g++ -std=c++17 -Wall -Wpedantic -Werror -x c++ "$root/work/$2.c" -x none \
			$(pkg-config --cflags --libs berth) -o "$root/work/$2-cxx"
}

# run_program PAGE NAME: runs the program if the page has its output. Sessions run the other programs.
run_program() {
	block "$1" output "$2" >"$root/output"
	[ -s "$root/output" ] || return 0
	start_berthd
	sh -euc "$(before "$1" "$2")"
	for program in "$root/work/$2" "$root/work/$2-cxx"; do
		# shellcheck disable=SC2046 # arguments must be split
		"$program" $(arguments "$1" "$2") >"$root/got" 2>&1 ||
			fail "$program exits with $?"
		same "$root/output" "$root/got" "$(basename "$1"), example '$2'"
	done
}

# session PAGE NAME: makes a script of the block, which prints each command before it runs it.
session() {
	block "$1" shell "$2" | sed "s|/tmp/try|$root/work/try|g" >"$root/output"
	awk -v q="'" '/^\$ / {
		command = substr($0, 3); shown = $0
		gsub(q, q "\\" q q, shown)
		print "status=$?; printf " q "%s\\n" q " " q shown q "; (exit $status)"
		print command
	} END { print "wait; exit 0" }' "$root/output" >"$root/script"
	if grep -q '^\$ berthd .*&$' "$root/output"; then
		stop_berthd
		unset BERTH_RUNTIME_DIR BERTH_STATE_DIR
	else
		start_berthd
	fi
	(cd "$root/work" && exec timeout 60 sh "$root/script") >"$root/got" 2>&1 </dev/null &
	runner=$!
	wait "$runner" || fail "the session '$2' exits with $?"
	runner=''
	same "$root/output" "$root/got" "$(basename "$1"), session '$2'"
}

# -- the test ---------------------------------------------------------------------------------

step 'install'
tree=$root/tree
prefix=$tree/usr
make -s BUILD="$BUILD" DESTDIR="$tree" PREFIX=/usr install
mkdir "$root/work"
PATH=$prefix/sbin:$prefix/bin:$PATH
LD_LIBRARY_PATH=$prefix/lib
PKG_CONFIG_PATH=$prefix/lib/pkgconfig
PKG_CONFIG_SYSROOT_DIR=$tree
export PATH LD_LIBRARY_PATH PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR

step 'every page is clean for mandoc and for man-db'
pages=$(find "$prefix/share/man" -type f | sort)
for page in $pages; do
	mandoc -T lint -W warning "$page" || fail "mandoc on $page"
	# This reports style, too. mandoc looks for other pages in an index that may not exist, so a later step checks
	# references.
	mandoc -T lint "$page" 2>/dev/null |
		grep -v 'STYLE: referenced manual not found:' >"$root/style" || true
	[ ! -s "$root/style" ] || { cat "$root/style"; fail "mandoc on the style of $page"; }
	man -l --warnings -P cat "$page" >"$root/rendered" 2>"$root/warnings" ||
		fail "man -l $page"
	[ ! -s "$root/warnings" ] || { cat "$root/warnings"; fail "man -l --warnings $page"; }
	[ "$(wc -l <"$root/rendered")" -gt 20 ] || fail "man shows hardly anything of $page"
done
link=$prefix/share/man/man3/berth_release.3
[ "$(readlink "$link")" = berth_acquire.3 ] || fail 'there is no page for berth_release'

step 'every reference names a page that exists'
# shellcheck disable=SC2086 # a list
sed -n 's/^\.Xr \(berth[a-z_-]*\) \([0-9]\).*/\1.\2/p' $pages | sort -u |
	while read -r page; do
		[ -e "$prefix/share/man/man${page##*.}/$page" ] || echo "$page"
	done >"$root/dangling"
[ ! -s "$root/dangling" ] || fail "no such page: $(tr '\n' ' ' <"$root/dangling")"

count=0
for page in $pages; do
	for name in $(names "$page" example); do
		step "$(basename "$page"): the program '$name'"
		compile "$page" "$name" || { fail "'$name' doesn't compile"; continue; }
		run_program "$page" "$name"
		count=$((count + 1))
	done
	for name in $(names "$page" shell); do
		step "$(basename "$page"): the session '$name'"
		session "$page" "$name"
		count=$((count + 1))
	done
done
echo "$count examples"
[ "$count" -ge 10 ] || fail 'fewer than 10 examples were found'
[ "$failures" = 0 ]
