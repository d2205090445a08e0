#!/bin/sh
# SPDX-License-Identifier: MIT
#
# `make install`, as a packager and then a user meet it: what is there, what the library exports,
# and whether the example in README.md, compiled against the installed tree through pkg-config in
# C and C++, runs with the installed programs. Then `make uninstall` must leave no file.
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
make -s BUILD="$BUILD" DESTDIR="$tree" PREFIX=/usr install
for file in sbin/berthd bin/berthctl lib/libberth.so.0 lib/libberth.so lib/libberth.a \
	include/berth.h lib/pkgconfig/berth.pc share/doc/berth/LICENSE; do
	[ -f "$prefix/$file" ] || fail "there is no $file"
done

step 'the library exports what berth.h declares, and nothing else'
sed -n '/^BERTH_PUBLIC/s/.*\(berth_[a-z_]*\)(.*/\1/p' include/berth.h | sort >"$root/declared"
nm -D --defined-only "$prefix/lib/libberth.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
	sort >"$root/exported"
diff "$root/declared" "$root/exported" || fail 'exported (>) is not what is declared (<)'

step 'no run path into the build tree, and the soname'
for file in sbin/berthd bin/berthctl lib/libberth.so; do
	! readelf -d "$prefix/$file" | grep -E 'RPATH|RUNPATH' || fail "$file has a run path"
done
readelf -d "$prefix/lib/libberth.so" | grep -q 'SONAME.*\[libberth.so.0\]' || fail 'wrong soname'
readelf -d "$prefix/bin/berthctl" | grep -q 'NEEDED.*\[libberth.so.0\]' || fail 'wrong NEEDED'

step "the first C example in README.md, compiled as C, as C++ and with libberth.a"
awk '/^```/ { inside = $0 == "```c" && !seen++; next } inside' README.md >"$root/example.c"
[ -s "$root/example.c" ] || fail 'README.md has no C example'
flags="-Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags berth)"
# shellcheck disable=SC2046,SC2086 # lists of options are to be split
{
	gcc -std=c99 $flags "$root/example.c" -o "$root/example" $(pkg-config --libs berth)
	gcc -std=c99 $flags "$root/example.c" -o "$root/example-static" \
		"$prefix/lib/libberth.a" -pthread
	if command -v g++ >/dev/null; then
		g++ -x c++ $flags "$root/example.c" -x none -o "$root/example-cxx" \
			$(pkg-config --libs berth)
	else
		echo '(there is no g++)'
	fi
}

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
for example in "$root"/example "$root"/example-*; do
	[ -x "$example" ] || continue
	"$example" alice
	status=0
	said=$("$prefix/bin/berthctl" run alice -- "$example" alice 2>&1) || status=$?
	[ "$status" = 75 ] || fail "$example exits with $status where the limit is reached"
	case $said in
	*'limit on the number of concurrent connections for this account has been reached'*) ;;
	*) fail "$example says: $said" ;;
	esac
done

step 'uninstall leaves no file'
make -s BUILD="$BUILD" DESTDIR="$tree" PREFIX=/usr uninstall
left=$(find "$tree" ! -type d)
[ -z "$left" ] || fail "left: $left"
