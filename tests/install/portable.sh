#!/bin/sh
# SPDX-License-Identifier: MIT
#
# `make portable`: berth with other compilers, another architecture and another C library.
#
#     gcc, clang   every program and test builds without a warning; the unit tests pass with clang
#     aarch64      cross-compiled against Debian's arm64 packages. Unit tests, integration tests and
#                  the torture test run under qemu-user, first with this machine's berthd, then with
#                  an arm64 one. test-crash is left out, since qemu-user has no ptrace; so is
#                  test-store, which maps LMDB's many GiB often, for seconds each time under qemu-user
#     musl         libberth only: a client of it, dynamic and static, with a berthd that uses glibc
#
# qemu-user shows that the arm64 code works, its compare-and-swaps included, with many processes and
# threads that share memory and are killed anywhere. But on x86 it never reorders plain stores, which
# arm64 hardware may do. So this script also checks the instructions: each access to a shared word
# must have the ordering that the source asks for.
#
#     tests/install/portable.sh [gcc|clang|aarch64|musl]...      none named: all of them
set -eu

jobs=$(nproc)
root=$(mktemp -d /dev/shm/berth-test.XXXXXX)
berthd='' passed=0 failed=0
cleanup() {
	trap '' HUP INT TERM
	[ -z "$berthd" ] || kill -KILL "$berthd" 2>/dev/null || true
	rm -rf "$root"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
unset MAKEFLAGS MFLAGS MAKELEVEL BERTH_RUNTIME_DIR BERTH_STATE_DIR || true

# try NAME COMMAND...: runs a command, and prints a line with its result; if it failed, also its output.
# Sets $verdict: after a failed build, callers don't test what an earlier run has built.
try() {
	name=$1 start=$(date +%s%3N) status=0
	shift
	printf '%-52s' "$name"
	"$@" >"$root/log" 2>&1 </dev/null || status=$?
	took=$(($(date +%s%3N) - start))
	verdict=ok
	[ "$status" = 0 ] || verdict="FAILED, status $status"
	printf '%6d.%d s  %s\n' $((took / 1000)) $((took % 1000 / 100)) "$verdict"
	if [ "$status" = 0 ]; then
		passed=$((passed + 1))
		sed -n 's/^\(torture: [0-9]* operations.*\)/    \1/p' "$root/log"
	else
		failed=$((failed + 1))
		tail -n 100 "$root/log" | sed 's/^/    | /'
	fi
	return 0
}

# build TREE TARGET... -- VARIABLE=VALUE...
build() {
	tree=$1 targets=''
	shift
	while [ "$1" != -- ]; do
		targets="$targets $1"
		shift
	done
	shift
	# shellcheck disable=SC2086 # a list
	make -s -j"$jobs" BUILD="$tree" WERROR=-Werror "$@" $targets
}

# -- compilers --------------------------------------------------------------------------------

test_gcc() {
	try 'gcc: everything builds' build build-gcc tests -- CC=gcc
}

test_clang() {
	try 'clang: everything builds' build build-clang tests -- CC=clang
	[ "$verdict" = ok ] || return 0
	for test in build-clang/tests/unit/test-*; do
		[ -x "$test" ] || continue
		try "clang: ${test##*/}" "$test"
	done
	try 'clang: torture' build-clang/tests/torture/torture --seconds 10
}

# -- aarch64 ----------------------------------------------------------------------------------

sysroot=$PWD/build-sysroot

# Unpacks Debian's packages for arm64, with this machine's apt sources and settings.
make_sysroot() {
	[ ! -e "$sysroot/usr/include/xxhash.h" ] || return 0
	rm -rf "$sysroot"
	# shellcheck source=/dev/null
	. /etc/os-release
	set --
	for file in /etc/apt/apt.conf.d/*; do
		set -- "$@" --aptopt="$file"
	done
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
		/etc/apt/sources.list.d/*.sources; do
		[ ! -s "$file" ] || sources="${sources-} $file"
	done
	# shellcheck disable=SC2086 # a list
	mmdebstrap --quiet --variant=extract --arch=arm64 \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
		--include=libc6-dev,liblmdb-dev,libsystemd-dev,libsmartcols-dev,libxxhash-dev \
		--include=check,libsubunit-dev "$@" "$VERSION_CODENAME" "$sysroot" ${sources-}
}

# has FUNCTION INSTRUCTION: true if the probe's function has that instruction.
has() {
	awk -v name="<$1>:" '$2 == name { inside = 1; next } /^$/ { inside = 0 }
		inside { print $2 }' "$root/code" | grep -qx "$2" ||
		{ echo "$1 ($march) has no $2"; return 1; }
}

# Checks the instructions that atomic.h's functions become, on processors with and without compare-and-swap
# instructions; and that every atomic change in the library is an acquire and a release.
orderings() {
	cat >"$root/probe.c" <<-'END'
		#include "atomic.h"
		uint64_t get(_Atomic uint64_t *p);
		uint64_t get(_Atomic uint64_t *p) { return load_acquire(p); }
		uint64_t get_total(_Atomic uint64_t *p);
		uint64_t get_total(_Atomic uint64_t *p) { return load_total(p); }
		void put(_Atomic uint64_t *p, uint64_t v);
		void put(_Atomic uint64_t *p, uint64_t v) { store_release(p, v); }
		void put_total(_Atomic uint64_t *p, uint64_t v);
		void put_total(_Atomic uint64_t *p, uint64_t v) { store_total(p, v); }
		bool change(_Atomic uint64_t *p, uint64_t old, uint64_t new);
		bool change(_Atomic uint64_t *p, uint64_t old, uint64_t new) {
			return cas(p, old, new);
		}
		bool change_pair(_Atomic uint64_t *p, struct pair old, struct pair new);
		bool change_pair(_Atomic uint64_t *p, struct pair old, struct pair new) {
			return cas16(p, old, new);
		}
	END
	for march in armv8-a armv8.1-a; do
		aarch64-linux-gnu-gcc --sysroot="$sysroot" -std=gnu11 -O2 -march=$march \
			-mno-outline-atomics -Iclient/core -Iclient/wire -c "$root/probe.c" -o "$root/probe.o" ||
			return 1
		aarch64-linux-gnu-objdump -d --no-show-raw-insn "$root/probe.o" >"$root/code"
		has get ldar && has get_total ldar && has put stlr && has put_total stlr &&
			has change_pair ldaxp && has change_pair stlxp || return 1
		case $march in
		armv8-a) has change ldaxr && has change stlxr || return 1 ;;
		*) has change casal || return 1 ;;
		esac
	done
	for object in core/counter core/wake lib/pool lib/path-cache lib/thread lib/acquire lib/acquire-general; do
		aarch64-linux-gnu-objdump -dr build-aarch64/client/$object.o
	done >"$root/code"
	grep -q aarch64_cas8_acq_rel "$root/code" || return 1
	! grep -E 'aarch64_(cas|swp|ldadd|ldset|ldclr)[48]_(relax|acq|rel)$' "$root/code" |
		grep -v 'ldadd[48]_relax' # statistics and serial numbers need no ordering
}

test_aarch64() {
	try 'aarch64: the packages that the build needs' make_sysroot
	try 'aarch64: everything builds' build build-aarch64 tests -- \
		CC="aarch64-linux-gnu-gcc --sysroot=$sysroot" AR=aarch64-linux-gnu-ar \
		OBJCOPY=aarch64-linux-gnu-objcopy
	[ "$verdict" = ok ] || return 0
	try 'aarch64: the instructions have their orderings' orderings
	QEMU_LD_PREFIX=$sysroot BERTH_TEST_EMULATOR=$(command -v qemu-aarch64-static)
	export QEMU_LD_PREFIX BERTH_TEST_EMULATOR
	for test in counter pool directory path-cache message name errors templates; do
		try "aarch64: test-$test" qemu-aarch64-static build-aarch64/tests/unit/test-$test
	done
	BERTHD=$PWD/build/berthd BERTHCTL=$PWD/build/berthctl
	export BERTHD BERTHCTL
	for test in slots death names; do
		try "aarch64: test-$test, berthd of this machine" \
			qemu-aarch64-static build-aarch64/tests/integration/test-$test
	done
	try 'aarch64: torture, berthd of this machine' \
		qemu-aarch64-static build-aarch64/tests/torture/torture --seconds 20
	printf '#!/bin/sh\nexec qemu-aarch64-static %s/build-aarch64/berthd "$@"\n' "$PWD" \
		>"$root/berthd"
	chmod +x "$root/berthd"
	BERTHD=$root/berthd
	try 'aarch64: torture, berthd of arm64' \
		qemu-aarch64-static build-aarch64/tests/torture/torture --seconds 20
	unset QEMU_LD_PREFIX BERTH_TEST_EMULATOR BERTHD BERTHCTL
}

# -- musl -------------------------------------------------------------------------------------

# The headers of the kernel and xxhash.h are searched after musl's own headers.
musl="musl-gcc -idirafter /usr/include -idirafter /usr/include/$(gcc -print-multiarch)"

musl_exports() {
	nm -D --defined-only --with-symbol-versions build-musl/libberth.so |
		awk '{ print $2, $3 }' | sort >"$root/exported"
	grep -v '^#' tests/install/libberth.exports | diff - "$root/exported" || return 1
	readelf -d build-musl/libberth.so | grep NEEDED >"$root/needed"
	! grep -v 'libc.so\]' "$root/needed"
}

# musl_client PROGRAM: the program gets a slot; then it is denied while another process holds the slot.
musl_client() {
	"$1" alice || return 1
	denied=0
	build/berthctl run alice -- "$1" alice || denied=$?
	[ "$denied" = 75 ]
}

musl_berthd() {
	group=$(id -g -n)
	build/berthd --group "$group" --admin-group "$group" &
	berthd=$!
	until build/berthctl status >/dev/null 2>&1; do
		kill -0 "$berthd" || return 1
		sleep 0.02
	done
	build/berthctl set alice 1
}

test_musl() {
	try 'musl: libberth builds' build build-musl \
		build-musl/libberth.so build-musl/libberth.a -- CC="$musl"
	[ "$verdict" = ok ] || return 0
	try 'musl: it exports the same symbols, and needs only libc' musl_exports
	awk '/^```/ { inside = $0 == "```c" && !seen++; next } inside' README.md >"$root/example.c"
	# shellcheck disable=SC2086 # a command and its options
	try 'musl: a client builds, dynamic and static' eval "
		musl-gcc -Wall -Wextra -Werror -Iinclude '$root/example.c' -Lbuild-musl -lberth \
			-Wl,-rpath,'$PWD/build-musl' -o '$root/dynamic' &&
		musl-gcc -Wall -Wextra -Werror -Iinclude '$root/example.c' -static \
			build-musl/libberth.a -o '$root/static'"
	BERTH_RUNTIME_DIR=$root/run BERTH_STATE_DIR=$root/state
	export BERTH_RUNTIME_DIR BERTH_STATE_DIR
	try 'musl: berthd with glibc starts' musl_berthd
	try 'musl: the dynamic client counts with it' musl_client "$root/dynamic"
	try 'musl: the static client counts with it' musl_client "$root/static"
	kill -TERM "$berthd"
	wait "$berthd" || true
	berthd=''
	unset BERTH_RUNTIME_DIR BERTH_STATE_DIR
}

[ $# -gt 0 ] || set -- gcc clang aarch64 musl
for part in "$@"; do
	"test_$part"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
