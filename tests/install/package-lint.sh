#!/bin/sh
# SPDX-License-Identifier: MIT
#
# `make packagetest`: checks the packages in build/deb without installing them. The build of the packages has
# run the tests already. The last line is "N passed, N failed".
set -u

deb=$BUILD/deb
log=$BUILD/packagetest.log
passed=0 failed=0
LC_ALL=C.UTF-8
export LC_ALL

# check SENTENCE FUNCTION: passes if the function succeeds and prints nothing.
check() {
	if "$2" >"$log" 2>&1 </dev/null && [ ! -s "$log" ]; then
		passed=$((passed + 1)) verdict=ok
	else
		failed=$((failed + 1)) verdict='not ok'
	fi
	printf '%s %d - %s\n' "$verdict" $((passed + failed)) "$1"
	[ "$verdict" = ok ] || head -n 60 "$log" | sed 's/^/    | /'
}

# With experimental tags. Every override must have a comment above it.
lint() {
	lintian --pedantic --display-info --display-experimental --tag-display-limit 0 \
		--allow-root "$deb"/*.changes
	for file in packaging/debian/*.lintian-overrides; do
		[ ! -e "$file" ] || awk '!/^#/ && !/^$/ && !explained { print FILENAME ": " $0 }
			{ explained = /^#/ || (explained && !/^$/) }' "$file"
	done
}

# Builds the source package again, as another user, in another directory, with other settings, without
# the tests; and compares the results.
build_again() {
	again=$(mktemp -d /var/tmp/berth-another-place.XXXXXX) || return 1
	cp "$deb"/*.dsc "$deb"/*.tar.* "$again"
	as=''
	if [ "$(id -u)" = 0 ]; then
		as='setpriv --reuid=65534 --regid=65534 --clear-groups'
		chown -R 65534:65534 "$again"
	fi
	# shellcheck disable=SC2016 # for the inner shell
	$as env -C "$again" TZ=Pacific/Kiritimati LC_ALL=C LANGUAGE=de HOME="$again" \
		DEB_BUILD_OPTIONS='nocheck parallel=1' sh -c 'umask 0022
			dpkg-source -x ./*.dsc && umask 0077 && cd ./*/ && dpkg-buildpackage -us -uc' \
		>"$log.again" 2>&1 || cat "$log.again"
	for file in "$deb"/*.deb "$deb"/*.dsc "$deb"/*.tar.*; do
		cmp "$file" "$again/${file##*/}"
	done
	rm -rf "$again" "$log.again"
}

# Compares the library with packaging/libberth.abi: the symbols that it exports and the types in berth.h. After
# an intended change, `make abi` updates that file; a change that breaks programs needs a new soname.
compare_abi() {
	abidiff packaging/libberth.abi "$deb/berth-$VERSION/build/libberth.so.0" >"$log.abi" ||
		cat "$log.abi"
	rm -f "$log.abi"
}

# dpkg-gensymbols has compared the symbols file with the library already.
compare_symbols() {
	sed -n 's/^\t\(berth_.*\);/\1/p' client/lib/libberth.map | sort >"$log.map"
	sed -n 's/^ \(berth_.*\)@.*/\1/p' packaging/debian/libberth0.symbols | diff "$log.map" -
	rm -f "$log.map"
}

# The completion offers the verbs of berthctl, and their options.
compare_completion() {
	ctl=$deb/berth-$VERSION/build/berthctl
	# shellcheck disable=SC2016 # for bash
	bash -c '. packaging/completions/berthctl; COMP_LINE="berthctl " COMP_WORDS=(berthctl "")
		COMP_CWORD=1; _berthctl; printf "%s\n" "${COMPREPLY[@]}"' | sort >"$log.verbs"
	"$ctl" help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p' | sort | diff "$log.verbs" -
	while read -r verb; do
		# shellcheck disable=SC2016
		bash -c '. packaging/completions/berthctl; _berthctl_options "$1"' bash "$verb" |
			sort >"$log.options"
		"$ctl" help "$verb" | sed -n 's/^  \(-[-a-zA-Z]*\).*/\1/p' |
			grep -vx -e -h -e --help -e --version -e --runtime-dir | sort |
			diff "$log.options" - | sed "s/^/$verb: /"
	done <"$log.verbs"
	rm -f "$log.verbs" "$log.options"
}

check 'lintian finds nothing, and every override has a reason' lint
check 'built elsewhere by another user with other settings, the packages have the same bytes' build_again
check 'the ABI is the one in libberth.abi' compare_abi
check 'the symbols file has the functions of the symbol map' compare_symbols
check 'the completion has the verbs and options of berthctl' compare_completion

echo "$passed passed, $failed failed" | tee "$BUILD/packagetest.summary"
[ "$failed" = 0 ]
