#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Shows that the stall explorer finds faults. A mutant is a copy of the sources without one safety step. The
# explorer must find a fault in each mutant.
#
#     tests/explore/mutants.sh BUILD SECONDS [NAME]...
#
# For each mutant (or only for the given NAMEs), the explorer plays its scripts, and then does random runs for
# SECONDS of CPU time. Prints a line for each mutant. Exit status 1: the explorer found no fault in some mutant.
set -eu

build=$1 seconds=$2
shift 2
work=$build/mutants/tree found=0 missed=0

trap 'exit 130' HUP INT TERM

# Copies the sources and the objects that exist, so that make compiles only the changed source.
tree_make() {
	rm -rf "$work"
	mkdir -p "$work/tests" "$work/build/tests"
	cp -a Makefile client daemon include packaging "$work"
	cp -a tests/lib tests/explore "$work/tests"
	cp -a "$build/explored" "$work/build"
	cp -a "$build/tests/explore" "$work/build/tests"
}

names=$*

# miss NAME WHY
miss() {
	printf '%-34s %s\n' "$1" "$2"
	missed=$((missed + 1))
}

# mutant NAME FILE SED-SCRIPT: makes the mutant, and has the explorer search for a fault in it.
mutant() {
	case " $names " in '  ' | *" $1 "*) ;; *) return 0 ;; esac
	tree_make
	sed -E "$3" "$2" >"$work/$2"
	if cmp -s "$2" "$work/$2"; then
		miss "$1" "sed changes nothing in $2"
		return 0
	fi
	log=$build/mutants/$1.log
	if ! make -s -C "$work" BUILD=build build/tests/explore/explore >"$log" 2>&1; then
		miss "$1" 'does not compile'
		return 0
	fi
	explorer=$work/build/tests/explore/explore
	if "$explorer" --script --stride 5 >"$log" && "$explorer" --seconds "$seconds" >>"$log"; then
		miss "$1" 'no fault found'
		return 0
	fi
	printf '%-34s %s\n' "$1" "$(sed -n 's/^explore: \(script [^,]*, .*: .*\)/\1/p
		s/^explore: \(seed .*\)/\1/p' "$log" | head -n 1)"
	found=$((found + 1))
}

mkdir -p "$build/mutants"

mutant no-note client/core/counter-step.h \
	's/return counter_note\(m, tag\);/return 0;/'
mutant no-look-on-the-way-up client/core/counter.c \
	's/noted > base \+ level \|\| load_acquire\(&p->at\.record->place\) != p->place/noted == UINT64_MAX/'
mutant no-look-at-the-place client/core/counter.c \
	's/noted > base \+ level \|\| load_acquire\(&p->at\.record->place\) != p->place/noted > base + level/'
mutant base-of-the-old-look client/core/counter.c \
	's/^	if \(charged == 0\) \{$/	if (charged == 0 \&\& !(load_acquire(\&at.record->place) == p.place \&\& *ret_seq)) {/; s/^	uint32_t charged = counter_acquire_fast\(m, at, request, ret_seq\);/	uint32_t charged = (*ret_seq = 0, counter_acquire_fast(m, at, request, ret_seq));/'
mutant no-seal client/core/counter.c \
	's/: cell_bump_from\(l->cell, seen\);/: 0;/'
mutant no-note-before-the-seal client/core/counter.c \
	's/r = record_note\(at\.record, now\.seq\);/r = 0;/'
mutant no-bump-after-a-word daemon/shared/directory-write.c \
	's/^	return counter_bump\(d->map, account\);/	return 0;/'
mutant no-bump-after-a-limit daemon/shared/directory-write.c \
	's/return word_store\(d, account, entry_pack\(limit, flags \| ENTRY_LIVE, generation\)\);/return store_release(\&map_entry(d->map, account)->word, entry_pack(limit, flags | ENTRY_LIVE, generation)), 0;/'
mutant bump-that-changes-nothing client/core/counter.c \
	's/\(struct pair\)\{seen\.first \+ 1, seen\.second\}/(struct pair){seen.first, seen.second}/'
mutant no-note-at-removal daemon/shared/directory-write.c \
	's/r = counter_note_cell\(d->map, account\);/r = 0;/'
mutant no-bump-at-the-start daemon/shared/directory-write.c \
	's/r = load_relaxed\(&e->word\) == 0 \? 0 : counter_bump\(d->map, a\);/r = 0;/'
mutant nothing-finished-at-the-start daemon/holders/sessions.c \
	's/r = counter_finish\(m, record\);/r = 0;/'
mutant step-down-made-again client/core/counter.c \
	's/if \(step_newest\(p->at\.number, noted, seen\.second\) >= seq\)/if (step_newest(p->at.number, noted, seen.second) == seq)/'
mutant release-of-any-slot client/core/counter.c \
	's/step_newest\(p->at\.number, noted, seen\.second\) != held\)/seq_step(step_newest(p->at.number, noted, seen.second)) != seq_step(held))/'
mutant revoked-in-its-own-cycle client/core/counter.c \
	's/seq_base\(seen\.seq\) \+ BERTH_CYCLE;/seq_base(seen.seq);/'
mutant placed-by-an-old-look client/core/counter.c \
	's/if \(load_acquire\(&p->at\.record->noted\) != noted\)/if (0)/; s/cas16\(&p->at\.record->place, \(struct pair\)\{place, noted\},/cas16(\&p->at.record->place, (struct pair){load_acquire(\&p->at.record->place), load_acquire(\&p->at.record->noted)},/'
mutant no-note-at-once client/core/counter-fast.h \
	's/(unlikely|likely)\(counter_note\(m, seen\.second\) (== 0|< 0)\)/\1(0 \2)/'
mutant no-place-at-once client/core/counter-fast.h \
	's/unlikely\(load_acquire\(&at\.record->place\) != place\)/unlikely(0)/'
mutant no-account-at-once client/lib/acquire.c \
	's/if \(unlikely\(\(word & mask\) != expected\)\)/if (0)/'
mutant no-limit-at-once client/lib/acquire.c \
	's/if \(unlikely\(count > entry_limit\(word\)\)\) \{/if (count > entry_limit(word) + 1) {/'
mutant owned-by-any client/lib/acquire.c \
	's/if \(unlikely\(load_acquire\(&local->token\) != c->owned_token\)\)/if (token_is_slot(load_acquire(\&local->token)))/'
mutant entry-of-the-same-thread client/lib/acquire.c \
	's/load_relaxed\(&local->stamp\) != e->stamp/!cache_has_entry_of(c, local)/'
mutant entries-with-old-stamps client/lib/path-cache.c \
	's/^	c->stamp = add_relaxed\(&stamps, ENTRIES_MAX\) \+ 1;/	c->stamp = c->stamp ? c->stamp : add_relaxed(\&stamps, ENTRIES_MAX) + 1;/'
mutant stack-without-changes client/lib/pool.c \
	's/\(struct pair\)\{top, seen\.second \+ 1\}/(struct pair){top, seen.second}/'
mutant closed-while-another-releases client/lib/pool.c \
	's/if \(local_is_claimed\(local, r\)\)/if (token_is_slot(token) \&\& r != -ENOMEM)/'
mutant token-of-any-slot client/lib/pool.c \
	's/if \(unlikely\(!token_is_slot_of\(token, cycle\)\)\)/if (unlikely(!token_is_slot(token)))/'
mutant no-turn-of-states daemon/holders/sessions.c \
	's/^		state_write\(s, SESSION_ENDING\); .*/		s->state = SESSION_ENDING;/'
mutant closed-without-taking-back client/core/counter.c \
	's/r = record_finish_seized\(m, at, RECORD_CLOSED\);/r = 0, (void)cas(\&at.record->place, load_acquire(\&at.record->place), 0);/'

echo "faults were found in $found of $((found + missed)) mutants"
[ "$missed" = 0 ]
