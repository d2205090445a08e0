#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Checks that includes run one way. A file can include the headers of the folders that the Makefile's may_* list for
# its folder, and no other header: this script tries the compiler with the flags that make uses for each folder. It
# also checks that includes form no circle, that README.md names every folder, and that tests/README.md names a test for
# every file.
set -eu

root=$(mktemp -d /dev/shm/berth-test.XXXXXX)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM
LC_ALL=C.UTF-8
export LC_ALL
unset MAKEFLAGS MFLAGS MAKELEVEL || true

failures=0
step() { printf -- '-- %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*"; failures=$((failures + 1)); }

# headers FOLDER: the headers of a folder itself. product: all sources of the product.
headers() { find "$1" -maxdepth 1 -name '*.h' -printf '%f\n' | sort; }
product() { find client daemon -name '*.[ch]' | sort; }
# Each line is "FOLDER: FOLDERS whose headers it may include".
make -s print-layers >"$root/layers"
folders=$(cut -d: -f1 "$root/layers")
may() { sed -n "s|^$1:||p" "$root/layers"; }

# try FOLDER FILE: compiles FILE with the flags that make uses for files of FOLDER.
for folder in $folders; do
	make -s print-flags "FOLDER=$folder" >"$root/flags-$(echo "$folder" | tr / -)"
done
try() {
	eval "gcc $(cat "$root/flags-$(echo "$1" | tr / -)") -Werror -iquote $1 -fsyntax-only -x c $2"
}

# has HEADER...: prints lines of C with which the compiler tells whether it finds each header.
has() {
	for header in "$@"; do
		printf '#if __has_include("%s")\n#pragma message "found %s"\n#endif\n' "$header" "$header"
	done
}

# The Makefile may change. But each FOLDER here must never include headers of the folders after it.
step 'the Makefile allows no include that must never be allowed'
while read -r folder never; do
	[ -d "$folder" ] || fail "there is no folder $folder"
	for other in $never; do
		[ -d "$other" ] || fail "there is no folder $other"
		case " $(may "$folder") " in *" $other "*) fail "may_$folder allows $other" ;; esac
	done
done <<END
client/wire client/core client/lib client/ctl daemon daemon/base
client/core client/lib client/ctl daemon daemon/base daemon/shared
client/lib client/ctl daemon daemon/base daemon/shared daemon/holders
client/ctl client/core client/lib daemon daemon/base
daemon client/lib client/ctl
daemon/base client/core client/lib daemon daemon/store daemon/shared daemon/holders daemon/server
daemon/store client/core client/lib daemon daemon/shared daemon/accounts daemon/holders daemon/server
daemon/shared client/lib daemon daemon/store daemon/accounts daemon/holders daemon/upkeep daemon/server
daemon/accounts client/lib daemon daemon/store daemon/holders daemon/upkeep daemon/server
daemon/holders client/lib daemon daemon/store daemon/accounts daemon/upkeep daemon/server
daemon/upkeep client/lib daemon daemon/server
daemon/server client/lib client/ctl daemon
END

step 'the files of each folder find the headers that they may include, and these compile'
[ "$(wc -l <"$root/layers")" -ge 11 ] || fail 'fewer than 11 folders were found'
for folder in $folders; do
	for seen in $folder $(may "$folder"); do headers "$seen"; done | sort -u >"$root/seen"
	sed 's/.*/#include "&"/' "$root/seen" >"$root/right.c"
	echo '#include "berth.h"' >>"$root/right.c"
	try "$folder" "$root/right.c" || fail "a file of $folder can't include a header that it may include"
done

step 'they find no other header'
tried=0
for folder in $folders; do
	for seen in $folder $(may "$folder"); do headers "$seen"; done | sort -u >"$root/seen"
	for other in $folders; do
		headers "$other" | comm -23 - "$root/seen" >"$root/hidden"
		[ -s "$root/hidden" ] || continue
		# This includes one header. For the others, the compiler says whether it would find them. Then
		# -nostdinc hides the system's headers, since one of ours may have the same name.
		# shellcheck disable=SC2046 # a list must be split
		has $(cat "$root/hidden") >"$root/asked.c"
		tried=$((tried + $(wc -l <"$root/hidden")))
		wrong=$(while read -r header; do
			[ -e "/usr/include/$header" ] || echo "$header"
		done <"$root/hidden" | head -n 1)
		printf '#include "%s"\n' "$wrong" >"$root/wrong.c"
		if try "$folder" "$root/wrong.c" 2>"$root/errors" ||
			! grep -q "$wrong: No such file" "$root/errors"; then
			fail "a file of $folder can include $wrong of $other"
		fi
		if try "$folder" "-nostdinc -Wno-error $root/asked.c" 2>&1 | sed -n 's/.*found \(.*\.h\).*/\1/p' |
			sort -u >"$root/found" && [ -s "$root/found" ]; then
			fail "a file of $folder, which may not include $other, has" \
				"$(tr '\n' ' ' <"$root/found")"
		fi
	done
done
echo "$tried wrong includes"
[ "$tried" -ge 200 ] || fail 'fewer than 200 wrong includes were tried'

step 'no include has a path, and no folder sees two headers with the same name'
# shellcheck disable=SC2046 # lists of files must be split
grep -nE '^#[[:space:]]*include[[:space:]]*"[^"]*/' $(product) include/*.h >"$root/paths" || true
[ ! -s "$root/paths" ] || { cat "$root/paths"; fail 'these includes name a folder'; }
for folder in $folders; do
	for seen in $folder $(may "$folder") include; do headers "$seen"; done | sort | uniq -d >"$root/twice"
	[ ! -s "$root/twice" ] || fail "a file of $folder sees two headers with each of these names: $(tr '\n' ' ' <"$root/twice")"
done

step 'no file includes a header of a layer above its own'
find client daemon include -name '*.h' >"$root/headers"
# shellcheck disable=SC2046
awk -v layers="$root/layers" -v headers="$root/headers" -v edges="$root/edges" '
	BEGIN {
		while ((getline line <layers) > 0) { split(line, half, ":"); may[half[1]] = half[2] }
		while ((getline line <headers) > 0) is_there[line] = 1
	}
	match($0, /^#[ \t]*include[ \t]*"/) {
		header = substr($0, RLENGTH + 1); sub(/".*/, "", header)
		folder = FILENAME; sub(/\/[^\/]*$/, "", folder)
		n = split(folder " include " may[folder], seen, " ")
		for (i = 1; i <= n && !((seen[i] "/" header) in is_there); i++);
		if (i > n) print FILENAME ": includes " header
		else print FILENAME, seen[i] "/" header >edges
	}' $(product) >"$root/climbs"
[ ! -s "$root/climbs" ] || { cat "$root/climbs"; fail 'these headers are in a layer above, or do not exist'; }
awk '{ split($0, half, ":"); n = split(half[2], below, " ")
	for (i = 1; i <= n; i++) print half[1], below[i] }' "$root/layers" >"$root/arrows"
tsort "$root/arrows" >/dev/null 2>"$root/circle" || { cat "$root/circle"; fail 'the folders of may_* form a circle'; }

step 'the includes of files form no circle'
[ "$(wc -l <"$root/edges")" -ge 200 ] || fail 'fewer than 200 includes were found'
tsort "$root/edges" >/dev/null 2>"$root/circle" || { cat "$root/circle"; fail 'headers include each other'; }

step 'include/ has only berth.h, and README.md names every folder'
[ "$(find include -type f)" = include/berth.h ] || fail "include/ has $(find include -type f | tr '\n' ' ')"
sed -n '/^    include\/berth\.h/,/^[^ ]/p' README.md >"$root/diagram"
for folder in client/*/ daemon/*/ tests/*/; do
	grep -qF " $folder " "$root/diagram" || fail "the tree in README.md doesn't show $folder"
done
grep -oE '^ +(client|daemon|tests)/[a-z]+/' "$root/diagram" | while read -r folder; do
	[ -d "$folder" ] || echo "$folder"
done >"$root/gone"
[ ! -s "$root/gone" ] || fail "the tree in README.md shows folders that don't exist: $(tr '\n' ' ' <"$root/gone")"

step 'tests/README.md says which test to run after a change of any file'
sed -n '/^## Which test to run/,/^## W/s/^| \(.*\) |$/\1/p' tests/README.md >"$root/table"
cut -d '|' -f 1 "$root/table" >"$root/changed"
for file in $(product | grep '\.c$'); do
	name=$(basename "$file" .c)
	[ -e "tests/unit/test-$name.c" ] || grep -qF -e "\`$file\`" -e "\`${file%/*}/\`" "$root/changed" ||
		fail "there is no unit/test-$name, and tests/README.md names no test for $file"
done
tr '\140' '\n' <"$root/changed" | grep -E '^[a-z/-]+(\.c|/)$' | while read -r file; do
	[ -e "$file" ] || echo "$file"
done >"$root/gone"
tr '\140' '\n' <"$root/table" | grep -E '^(unit/|integration/)?(test|fuzz)-[a-z-]+$' | sort -u | while read -r test; do
	[ -n "$(find tests -path "*/$test.c")" ] || echo "$test"
done >>"$root/gone"
[ ! -s "$root/gone" ] || fail "tests/README.md names files or tests that don't exist: $(tr '\n' ' ' <"$root/gone")"

step 'compile_commands.json has every source'
json=$BUILD/compile_commands.json
make -s BUILD="$BUILD" "$json"
string='"([^"\\[:cntrl:]]|\\["\\])*"'
sed '1d;$d' "$json" |
	grep -vE "^\\{\"directory\": $string, \"file\": $string, \"command\": $string\\},?\$" >"$root/odd" || true
[ ! -s "$root/odd" ] || { cat "$root/odd"; fail "$json has lines that aren't valid JSON"; }
[ "$(sed -n '1p;$p' "$json" | tr -d '\n')" = '[]' ] || fail "$json isn't an array"
[ "$(grep -c '},$' "$json")" = "$(($(grep -c '^{' "$json") - 1))" ] || fail "$json has wrong commas"
sed -n 's/.*"file": "\([^"]*\)".*/\1/p' "$json" | sort >"$root/listed"
find client daemon tests -name '*.c' | sort >"$root/sources"
diff "$root/sources" "$root/listed" || fail "sources (<) and files in $json (>) differ"
command=$(sed -n '/"file": "daemon\/main.c"/{s/.*"command": "\(.*\)"},*$/\1/;s/\\\(.\)/\1/g;p}' "$json")
eval "$command -fsyntax-only" || fail "the command for daemon/main.c doesn't compile it: $command"

[ "$failures" = 0 ]
