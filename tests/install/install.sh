#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Checks `make install` as a packager and a user see it: which files it installs, what the library
# exports, and whether the example in README.md runs with the installed programs. The example is
# compiled through pkg-config against the installed tree, as C and C++, dynamically and statically.
# Then `make uninstall` must leave no file.
set -eu

root=$(mktemp -d /dev/shm/berth-test.XXXXXX)
berthd=''
cleanup() {
	[ -z "$berthd" ] || kill -KILL "$berthd" 2>/dev/null || true
	rm -rf "$root"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

step() { printf -- '-- %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*"; exit 1; }

tree=$root/tree
prefix=$tree/usr
LD_LIBRARY_PATH=$prefix/lib
PKG_CONFIG_PATH=$prefix/lib/pkgconfig
PKG_CONFIG_SYSROOT_DIR=$tree
export LD_LIBRARY_PATH PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
unset MAKEFLAGS MFLAGS MAKELEVEL || true

step 'install into an empty tree'
make -s BUILD="$BUILD" DESTDIR="$tree" PREFIX=/usr install install-systemd
for file in sbin/berthd bin/berthctl lib/libberth.so.0 lib/libberth.so lib/libberth.a \
	include/berth.h lib/pkgconfig/berth.pc share/doc/berth/LICENSE share/man/man1/berthctl.1 \
	share/man/man3/berth_release.3 share/man/man7/berth-protocol.7 share/man/man8/berthd.8 \
	share/bash-completion/completions/berthctl lib/systemd/system/berthd@.socket \
	lib/sysusers.d/berth.conf lib/tmpfiles.d/berth.conf; do
	[ -f "$prefix/$file" ] || fail "$file is missing"
done

step 'the library exports what berth.h declares, and nothing else'
sed -n '/^BERTH_PUBLIC/s/.*\(berth_[a-z_]*\)(.*/\1/p' include/berth.h | sort >"$root/declared"
nm -D --defined-only "$prefix/lib/libberth.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	sort >"$root/exported"
diff "$root/declared" "$root/exported" || fail 'the exported functions (>) differ from the declared ones (<)'

step 'no run path into the build tree, and the soname'
for file in sbin/berthd bin/berthctl lib/libberth.so; do
	! readelf -d "$prefix/$file" | grep -E 'RPATH|RUNPATH' || fail "$file has a run path"
done
readelf -d "$prefix/lib/libberth.so" | grep -q 'SONAME.*\[libberth.so.0\]' || fail 'wrong soname'
readelf -d "$prefix/bin/berthctl" | grep -q 'NEEDED.*\[libberth.so.0\]' || fail 'wrong NEEDED'

step "the first C example in README.md, compiled by pkg-config as C and C++, dynamic and static"
awk '/^```/ { inside = $0 == "```c" && !seen++; next } inside' README.md >"$root/example.c"
[ -s "$root/example.c" ] || fail 'README.md has no C example'
flags="-Wall -Wextra -pedantic -Werror $(pkg-config --cflags berth)"
# shellcheck disable=SC2046,SC2086 # lists of options are to be split
for static in '' --static; do
	gcc -std=c99 $flags "$root/example.c" -o "$root/example-c$static" \
		${static:+-static} $(pkg-config $static --libs berth)
	g++ -std=c++17 -x c++ $flags "$root/example.c" -x none -o "$root/example-cxx$static" \
		${static:+-static} $(pkg-config $static --libs berth)
done
if readelf -d "$root/example-c--static" | grep NEEDED; then
	fail 'the static example needs a library at run time'
fi

step "a program may define functions that have the names of libberth's internal ones"
printf '%s\n' '#include <berth.h>' '#include <stddef.h>' \
	'int pool_new(void); int pool_new(void) { return 7; }' \
	'int main(void) { struct berth *b; return berth_open(NULL, &b) || pool_new() != 7; }' \
	>"$root/names.c"
# shellcheck disable=SC2046 # lists of options are to be split
gcc "$root/names.c" -static $(pkg-config --static --cflags --libs berth) -o "$root/names"

step 'the example and the installed programs together'
BERTH_RUNTIME_DIR=$root/run BERTH_STATE_DIR=$root/state
export BERTH_RUNTIME_DIR BERTH_STATE_DIR
group=$(id -g -n)
"$prefix/sbin/berthd" --group "$group" --admin-group "$group" &
berthd=$!
until "$prefix/bin/berthctl" status >/dev/null 2>&1; do
	kill -0 "$berthd" 2>/dev/null || fail 'berthd does not start'
	sleep 0.05
done
"$prefix/bin/berthctl" set alice 1
"$root/names" || fail 'libberth.a calls a function of the program'
for example in "$root"/example-*; do
	"$example" alice
	status=0
	output=$("$prefix/bin/berthctl" run alice -- "$example" alice 2>&1) || status=$?
	[ "$status" = 75 ] || fail "$example exits with $status when the limit is reached"
	case $output in
	*'limit on the number of concurrent connections for this account has been reached'*) ;;
	*) fail "$example prints: $output" ;;
	esac
done

step 'uninstall leaves no file'
make -s BUILD="$BUILD" DESTDIR="$tree" PREFIX=/usr uninstall
left=$(find "$tree" ! -type d)
[ -z "$left" ] || fail "these files are left: $left"

step 'LIBDIR, MANDIR and UNITDIR are respected'
set -- BUILD="$BUILD" DESTDIR="$tree" PREFIX=/opt LIBDIR=/opt/lib64 MANDIR=/opt/man \
	UNITDIR=/lib/systemd/system
make -s "$@" install install-systemd
for file in lib64/libberth.so.0 lib64/pkgconfig/berth.pc man/man8/berthd.8 \
	man/man3/berth_close.3; do
	[ -f "$tree/opt/$file" ] || fail "$file is missing"
done
grep -qx 'libdir=/opt/lib64' "$tree/opt/lib64/pkgconfig/berth.pc" ||
	fail 'berth.pc has a wrong libdir'
grep -q '^ExecStart=/opt/sbin/berthd ' "$tree/lib/systemd/system/berthd.service" ||
	fail 'berthd.service starts a wrong berthd'
make -s "$@" uninstall
left=$(find "$tree" ! -type d)
[ -z "$left" ] || fail "these files are left: $left"
