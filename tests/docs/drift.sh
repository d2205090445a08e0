#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Checks that manual pages, README.md and --help agree with the code about options, verbs, codes, defaults, bounds
# and functions; and that libberth exports exactly the functions of tests/install/libberth.exports.
set -eu

root=$(mktemp -d /dev/shm/berth-test.XXXXXX)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM
LC_ALL=C.UTF-8 BERTH_RUNTIME_DIR=$root
export LC_ALL BERTH_RUNTIME_DIR

failures=0
step() { printf -- '-- %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*"; failures=$((failures + 1)); }

# same FILE FILE TEXT: fails with TEXT if the files differ.
same() { diff "$root/$1" "$root/$2" || fail "$3"; }

man=packaging/man
berthctl() { "$BUILD/berthctl" "$@"; }

# Renders each page as PAGE, and as PAGE.flat on one line, so that no text is split between lines.
for page in "$man"/*; do
	mandoc -T utf8 -O width=200 "$page" | col -bx >"$root/${page##*/}"
	tr -s ' \n' ' ' <"$root/${page##*/}" >"$root/${page##*/}.flat"
done

# says PAGE TEXT...: fails if the page lacks one of the texts.
says() {
	page=$1
	shift
	for text in "$@"; do
		grep -qF -- "$text" "$root/$page.flat" || fail "$page doesn't say '$text'"
	done
}

# entry PAGE TEXT: prints on one line the list entry that begins with TEXT, at the left margin of lists.
entry() {
	awk -v head="     $2 " '/^     [^ ]/ || /^[A-Z ]+$/ { inside = index($0 " ", head) == 1 }
		inside' "$root/$1" | tr -s ' \n' ' '
}

# define FILE NAME: prints the number to which the file defines NAME.
define() {
	number=$(sed -n "s/^#define $2 *\\([0-9]*\\)u*\\( .*\\)*\$/\\1/p" "$1")
	[ -n "$number" ] || number="(no $2 in $1)"
	echo "$number"
}

# -- berthd -----------------------------------------------------------------------------------

step "berthd's options: the table, --help and berthd(8)"
sed -n 's/^\t{"\([a-z-]*\)", \(required\|no\)_argument.*/--\1 \2/p' daemon/options.c |
	sort >"$root/table"
"$BUILD/berthd" --help >"$root/help"
sed -n 's/^  \(--[a-z-]*\) [A-Z].*/\1 required/p; s/^  \(--[a-z-]*\)   *[a-z].*/\1 no/p' \
	"$root/help" | sort >"$root/helped"
awk '/^     --/ { print $1, $2 ~ /^[A-Z]+$/ ? "required" : "no" }' "$root/berthd.8" |
	sort >"$root/paged"
[ -s "$root/table" ] || fail 'no options in daemon/options.c'
same table helped 'the table of options (<) and --help (>) differ'
same table paged 'the table of options (<) and berthd(8) (>) differ'

step "berthd's defaults and bounds: --help and berthd(8)"
for option in max-accounts max-slots max-sessions; do
	# shellcheck disable=SC2046 # default, then maximum
	set -- $(sed -n "/^  --$option /s/.*default \\([0-9]*\\), at most \\([0-9]*\\).*/\\1 \\2/p" \
		"$root/help")
	entry berthd.8 "--$option" | grep -qF "from 1 to ${2-?}, by default ${1-?}." ||
		fail "berthd(8) has other numbers for --$option than --help: $*"
done
for option in runtime-dir:RUNTIME_DIR state-dir:STATE_DIR; do
	path=$(sed -n "s/^#define DEFAULT_${option#*:} *\"\\(.*\\)\"/\\1/p" daemon/options.h client/wire/runtime-dir.h)
	entry berthd.8 "--${option%:*}" | grep -qF "by default ${path:-?}." ||
		fail "berthd(8) has another default for --${option%:*} than $path"
done
for socket in berth:group berth-admin:admin-group; do
	grep -q "_protocol, \"${socket%:*}\"}" daemon/server/sockets.c ||
		fail "daemon/server/sockets.c doesn't have the default group ${socket%:*}"
	entry berthd.8 "--${socket#*:}" | grep -qF "by default the group ${socket%:*}," ||
		fail "berthd(8) has another default for --${socket#*:}"
done

step "berthd's messages: the code and berthd(8)"
cat daemon/*.c daemon/*/*.c | tr -d '\n\t' | sed -E 's/" *"//g; s/%(llu|d)/%u/g' >"$root/messages"
sed -n '/^\.Bl -diag/,/^\.El/s/^\.It //p' $man/berthd.8 | sed 's/", "/"\n"/g' |
	sed 's/^"//; s/"$//; s/DIR/%s/g; s/\<N\>/%u/g' >"$root/paged"
[ "$(wc -l <"$root/paged")" -ge 10 ] || fail 'berthd(8) has fewer than 10 messages'
while read -r message; do
	grep -qF -- "$message" "$root/messages" || fail "berthd has no message '$message'"
done <"$root/paged"

step "berthd's units: packaging/systemd and berthd(8)"
units=packaging/systemd
for unit in "$units"/*.in; do
	unit=${unit##*/}
	says berthd.8 "${unit%.in}"
done
[ "$(grep -c -e '^Environment=BERTHD_OPTIONS=$' -e '^ExecStart=.* [$]BERTHD_OPTIONS$' \
	$units/berthd.service.in)" = 2 ] || fail 'berthd.service does not use BERTHD_OPTIONS'
says berthd.8 "the unit's variable BERTHD_OPTIONS" "as the user $(sed -n 's/^u \([^ ]*\) .*/\1/p' \
	$units/berth.sysusers)," "Members of $(sed -n 's/^g \([^ ]*\) .*/\1/p' $units/berth.sysusers) admin"
grep -q 'sysusers --inline "u berth-%i ' $units/prepare-instance ||
	fail 'instances have other users than berthd(8) says'

# -- berthctl ---------------------------------------------------------------------------------

step "berthctl's verbs: help, 'help VERB' and berthctl(1)"
verbs=$(berthctl help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p')
for verb in $verbs; do
	berthctl help "$verb" | sed -n '1s/^Usage: berthctl //p'
done >"$root/usages"
sed -n '/^   Verbs/,/^   The format/s/^ \{5\}\([a-z]\)/\1/p' "$root/berthctl.1" |
	sed 's/  .*//' >"$root/paged"
[ -s "$root/usages" ] || fail 'no verbs in berthctl help'
same usages paged 'the arguments of the verbs in help (<) and in berthctl(1) (>) differ'

step "berthctl's options: the tables, help, berthctl(1), and the options that berthctl accepts"
sed -n 's/^\t\t\.name = "\(--*[a-zA-Z-]*\)",$/\1/p' client/ctl/*.c | sort -u >"$root/options"
grep -e '^--' "$root/options" >"$root/table" || fail 'no options in client/ctl'
{ berthctl help && for verb in $verbs; do berthctl help "$verb"; done; } |
	grep -oE -- '--[a-z-]+' | grep -vxF -e --full | sort -u >"$root/helped"
sed '/^EXAMPLES/,$d' "$root/berthctl.1" | grep -oE -- '--[a-z-]+' | sort -u >"$root/paged"
same table helped 'the tables of options (<) and help (>) differ'
same table paged 'the tables of options (<) and berthctl(1) (>) differ'
everywhere='--runtime-dir --help --version -h'
for verb in $verbs; do
	berthctl help "$verb" | grep '^  -' >"$root/verb"
	entry berthctl.1 "$verb" >"$root/entry"
	while read -r option; do
		case " $everywhere " in *" $option "*) continue ;; esac
		value=1
		[ "$option" != --slot ] || value=1:1
		accepted=yes helped=no paged=no
		# The operands are wrong, so berthctl exits before it connects to berthd.
		! berthctl "$verb" "$option" $value / / / 2>&1 | grep -q 'has no option' ||
			accepted=no
		! grep -qwF -e "$option" "$root/verb" || helped=yes
		! grep -qwF -e "$option" "$root/entry" || paged=yes
		case $accepted$helped$paged in
		yesyesyes | nonono) ;;
		*) fail "$verb $option: accepted $accepted, in help $helped, on the page $paged" ;;
		esac
	done <"$root/options"
done

step 'exit statuses'
sed -n 's/^\tCTL_[A-Z_]* = \([0-9]*\),.*/\1/p' client/ctl/exit-status.h | sort -n >"$root/table"
berthctl help | sed -n '/^Exit status:/,/^$/s/^  \([0-9]*\) .*/\1/p' | sort -n >"$root/helped"
sed -n '/^EXIT STATUS/,/^EXAMPLES/s/^ \{5\}\([0-9][0-9]*\) .*/\1/p' "$root/berthctl.1" |
	sort -n >"$root/paged"
same table helped "berthctl's exit statuses (<) and those of help (>) differ"
same table paged "berthctl's exit statuses (<) and those of berthctl(1) (>) differ"
"$BUILD/berthd" --help | sed -n 's/^Exit status: //p' | grep -oE '[0-9]+' >"$root/helped"
sed -n '/^EXIT STATUS/,/^EXAMPLES/s/^ \{5\}\([0-9][0-9]*\) .*/\1/p' "$root/berthd.8" >"$root/paged"
same helped paged "berthd's exit statuses in --help (<) and in berthd(8) (>)"

# -- README.md --------------------------------------------------------------------------------

step "README.md: berthd's options, their defaults and bounds; berthctl's verbs; exit statuses"
"$BUILD/berthd" --help >"$root/help"
# shellcheck disable=SC2016 # the dollar and the backquotes are literal
{
	sed -nE 's/^  (--[a-z-]+) [A-Z].*\((\$BERTH_[A-Z_]*|default)[, ] *([^,)]*).*/\1 \3/p' "$root/help"
	sed -nE 's/^  (--[a-z-]+) .*(at most [0-9]+).*/\1 \2/p' "$root/help"
} | sort >"$root/helped"
awk -F ' *[|] *' '/^[|] `--/ {
	gsub(/`/, ""); split($2, option, " "); sub(/,.*/, "", $4); print option[1], $4
	if (match($5, /at most [0-9]+/)) print option[1], substr($5, RSTART, RLENGTH) }' README.md |
	sort >"$root/readme"
same helped readme 'options and defaults in berthd --help (<) and in README.md (>)'
tr '\n' ' ' <README.md >"$root/flat"
echo "$verbs" | sort >"$root/helped"
# shellcheck disable=SC2016
sed 's/.*[*]berthctl[*][*] has \([^;]*\);.*/\1/' "$root/flat" | grep -oE '`[a-z]+`' | tr -d '`' |
	sort >"$root/readme"
same helped readme 'verbs in berthctl help (<) and in README.md (>)'
for program in berthctl berthd; do
	"$BUILD/$program" --help | sed -n '/^Exit status:/,/^$/p' |
		grep -oE '(^  |[:,] )[0-9]+ ' | tr -dc '0-9\n' >"$root/helped"
	[ "$program" = berthd ] && part='[*]berthd[*][*]' || part='[*]berthctl[*][*]'
	sed "s/.*$part//; s/[*][*]berthctl.*//; s/.*Exit status: \([^.]*\)[.].*/\1/" "$root/flat" |
		grep -oE '(^|[;,] )[0-9]+ ' | tr -dc '0-9\n' >"$root/readme"
	same helped readme "exit statuses in $program --help (<) and in README.md (>)"
done

# -- environment ------------------------------------------------------------------------------

# reads PAGE FILE...: checks that the page has every variable BERTH_* that the files read, and no other.
reads() {
	page=$1
	shift
	sed -n 's/.*getenv("\(BERTH_[A-Z_]*\)").*/\1/p' "$@" | sort -u >"$root/read"
	awk '/^ENVIRONMENT/ { inside = 1; next } /^[A-Z]/ { inside = 0 }
		inside && /^     BERTH_/ { print $1 }' "$root/$page" | sort -u >"$root/paged"
	same read paged "variables that the code reads (<) and that $page has (>)"
}
step 'environment variables'
reads berthd.8 daemon/*.c daemon/*/*.c client/wire/*.h
reads berthctl.1 client/ctl/*.c client/wire/*.h
reads berth_open.3 client/lib/*.c client/wire/*.h

# -- numbers ----------------------------------------------------------------------------------

step 'the numbers in the pages are those of the code'
layout=client/core/layout.h bounds=client/wire/bounds.h
levels=$(define $bounds BERTH_LEVELS_MAX)
most=$(define $bounds BERTH_COUNT_MAX)
weight=$(define $bounds BERTH_WEIGHT_MAX)
name=$(define $bounds BERTH_NAME_MAX)
label=$(($(define $bounds BERTH_LABEL_SIZE) - 1))
range=$(define $layout BERTH_RANGE)
wait_ms=$(define client/lib/api.c TIMEOUT_MS)
share="$(define daemon/accounts/accounts.c UNCONFIGURED_NUMERATOR)/$(
	define daemon/accounts/accounts.c UNCONFIGURED_DENOMINATOR)"
says berthctl.1 "1 to $name bytes" "at most $levels:" "to $most, or" "1 to $weight; the default is 1" \
	"cut at $label bytes"
says berth.3 "1 to $name bytes" "at most $levels:" "up to $wait_ms milliseconds"
says berth_open.3 "up to $wait_ms milliseconds" "0 is $wait_ms."
says berth_acquire.3 "1 to $weight; 0 is 1" "cut at $label bytes" "more than $most slots"
says berthd.8 "in ranges of $range" "up to $((wait_ms / 1000)) seconds" \
	"about $(($(define daemon/upkeep/checkpoint.c CHECKPOINT_USEC) / 1000000)) second after"
says berth-protocol.7 "at most $levels levels" "in ranges of $range" \
	"A record has $((1 << ($(define $layout BERTH_SEQ_BITS) - 5))) cycles" \
	"group of $(define $layout BERTH_DIRTY_GROUP) cells"
[ "$share" = 3/4 ] || fail "pages say three quarters, but daemon/accounts/accounts.c has $share"
says berthd.8 'Three quarters of them'
says berth-security.7 'at most three quarters'
[ "$(define daemon/upkeep/recount.c PAUSE)" = 100 ] || fail 'PAUSE in daemon/upkeep/recount.c is not 100, as the pages say'
says berth-protocol.7 'a hundredth of the time'
[ "$(sed -n 's/^#define EXIT_USAGE *//p' daemon/options.h)" = 2 ] || fail 'EXIT_USAGE is not 2'

step "the words in berth-protocol(7)'s example are those that the code makes"
awk '/^\.\\" words:/ { wanted = 1 } /^\.Ed/ { wanted = 0 }
	wanted && $2 ~ /^0x/ { print $2, $3, $4, $6, $7, $8, $9 }' $man/berth-protocol.7 |
	sed -E 's/[(),]/ /g' >"$root/words"
cat >"$root/words.c" <<'END'
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "layout.h"

static enum record_state state_of(const char *name) {
	static const char *const names[] = {[RECORD_CLOSED] = "CLOSED", [RECORD_FREE] = "FREE",
		[RECORD_PLACED] = "PLACED", [RECORD_SEIZED] = "SEIZED"};

	for (unsigned i = 0; i < 4; i++)
		if (strcmp(names[i], name) == 0)
			return (enum record_state)i;
	return 4;
}

/* Each line is: COUNT TAG count record seq PLACE STATE noted. Checks the words for account 5, which has no
 * ancestors, and for weight 1; and that seqs step as the example shows. */
int main(void) {
	unsigned count, record;
	uint64_t word, tag, seq, place, noted;
	char line[256], state[32];
	int lines = 0, bad = 0;

	while (fgets(line, sizeof(line), stdin)) {
		uint64_t want = 0;
		int n = sscanf(line, "%" SCNx64 " %" SCNx64 " %u %u %" SCNu64 " %" SCNx64
			" %31s %" SCNu64, &word, &tag, &count, &record, &seq, &place, state, &noted);

		if (n == 8 && state_of(state) >= RECORD_PLACED)
			want = place_pack(state_of(state), 0, 1, 5);
		else if (n == 8)
			want = place_pack(state_of(state), 0, 0, 0);
		lines++;
		if (n < 8 || word != count_pack(count, 0) || tag != tag_pack(record, seq) ||
			place != want) {
			printf("the page has: %s    the code has: %016" PRIx64 " %016" PRIx64 " %016" PRIx64 "\n",
				line, count_pack(count, 0), tag_pack(record, seq), want);
			bad++;
		}
	}
	return bad || lines < 7 || seq_up(32, 0) != 33 || seq_down(32, 0) != 48 ||
	       seq_rest(48) + BERTH_CYCLE != 64;
}
END
gcc -std=gnu11 -iquote client/core -iquote client/wire "$root/words.c" -o "$root/words-check"
"$root/words-check" <"$root/words" || fail 'berth-protocol(7) has other words than the code'

# -- codes ------------------------------------------------------------------------------------

step 'codes: berth.h, api.c and berth(3)'
sed -n 's/^\tBERTH_\([A-Z_]*\) = \([0-9]*\),.*/\2 \1/p' include/berth.h | sort -n >"$root/header"
sed -n 's/^\t{BERTH_\([A-Z_]*\), "ERROR_\([A-Z_]*\)",.*/\1 \2/p' client/lib/api.c |
	while read -r code name; do
		awk -v c="$code" -v n="$name" '$2 == c { print $1, n }' "$root/header"
	done | sort -n >"$root/errors"
sed -n 's/^ \{5\}\([0-9]*\) BERTH_\([A-Z_]*\).*/\1 \2/p' "$root/berth.3" | sort -n >"$root/paged"
[ -s "$root/header" ] || fail 'no codes in berth.h'
same header errors 'codes of berth.h (<) and names in api.c (>)'
same header paged 'codes of berth.h (<) and of berth(3) (>)'

# -- functions and structs --------------------------------------------------------------------

step 'functions: berth.h, libberth.map, the pages, the exported symbols, and the committed list'
sed -n '/^BERTH_PUBLIC/s/.*\(berth_[a-z_]*\)(.*/\1/p' include/berth.h | sort >"$root/declared"
sed -n 's/^\t\([a-z_]*\);$/\1/p' client/lib/libberth.map | sort >"$root/mapped"
sed -n 's/^\.Fn \(berth_[a-z_]*\) ".*/\1/p' $man/*.3 | sort >"$root/paged"
sed -n 's/^.*Fn \(berth_[a-z_]*\) .*/\1/p' $man/berth.3 | grep -v '"' | sort -u >"$root/listed"
same declared mapped 'declared in berth.h (<), in libberth.map (>)'
same declared paged 'declared in berth.h (<), in a SYNOPSIS (>)'
same declared listed 'declared in berth.h (<), named in berth(3) (>)'
nm -D --defined-only --with-symbol-versions "$BUILD/libberth.so" |
	awk '{ print $2, $3 }' | sort >"$root/exported"
grep -v '^#' tests/install/libberth.exports >"$root/committed"
same committed exported 'tests/install/libberth.exports (<) and the symbols that libberth.so exports (>) differ'
nm -g --defined-only "$BUILD/libberth.a" | awk 'NF == 3 { print $3 }' | sort >"$root/archived"
same declared archived 'declared in berth.h (<), global in libberth.a (>)'

step 'the prototypes and structs of the pages are those of berth.h'
{
	echo '#include <stddef.h>'
	echo '#include <berth.h>'
	cat $man/*.3 | awk '
	/^\.Ft/ { sub(/^\.Ft /, ""); type = $0 }
	/^\.Fn berth_[a-z_]* "/ { name = $2; sub(/^[^"]*"/, ""); sub(/"$/, ""); gsub(/" "/, ", ")
		print type " " name "(" $0 ");" }
	/^\.\\" declares:/ { in_page = $3; next }
	in_page && /^\.Ed/ { print "_Static_assert(sizeof(struct " in_page ") == sizeof(struct page_" \
		in_page "), \"\");"; in_page = "" }
	in_page && /^struct/ { sub(/struct /, "struct page_") }
	in_page && !/^\./ { print }
	in_page && match($0, /[a-z_]+;/) { field[++n] = in_page "." substr($0, RSTART, RLENGTH - 1) }
	END { for (i = 1; i <= n; i++) { split(field[i], f, ".")
		print "_Static_assert(offsetof(struct " f[1] ", " f[2] ") == offsetof(struct page_" f[1] \
			", " f[2] "), \"\");"
		print "_Static_assert(_Generic(((struct " f[1] " *)0)->" f[2] \
			", __typeof__(((struct page_" f[1] " *)0)->" f[2] "): 1), \"\");" } }'
} >"$root/pages.c"
[ "$(grep -c '^_Static_assert' "$root/pages.c")" -ge 30 ] || fail 'the pages have fewer than 30 fields of structs'
gcc -std=gnu11 -Wall -Wextra -Werror -Iinclude -fsyntax-only "$root/pages.c" ||
	fail 'the declarations of the pages differ from those of berth.h'

[ "$failures" = 0 ]
