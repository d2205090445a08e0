#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The checks of tests/install/system/run, a function each. They run as root in the container:
#
#     sh checks.sh FUNCTION [ARGUMENT]...
#
# A function ends at its first failure. tests/install/system/run prints its output if it fails; lines that
# begin with # are always printed.
set -eu

units='berthd.service berthd.socket berthd-admin.socket'
work=/root/work
mail=/run/berth@mail

fail() { printf 'FAILED: %s\n' "$*"; exit 1; }

# same WHAT EXPECTED FOUND
same() { [ "$2" = "$3" ] || fail "$1 is '$3', not '$2'"; }

eventually() {
	tries=600
	until "$@"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || fail "not within a minute: $*"
		sleep 0.1
	done
}

# -- states --------------------------------------------------------------------------------------

property() { systemctl show --value -p "$2" "$1"; }
main_pid() { property "${1:-berthd.service}" MainPID; }
is_active() { systemctl is-active --quiet "$@"; }
has_ended() { [ "$(property "$1" MainPID)" = 0 ]; }

# number ACCOUNT KEY: a number of `berthctl get ACCOUNT --json`.
number() { berthctl get "$1" --json | sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p"; }
holds() { [ "$(number "$1" current)" = "$2" ]; }

# The slots of alice and acme/bob. Those with the label "held" are held all the time or for a moment.
held_slots() {
	for account in alice acme/bob; do
		berthctl holders "$account" --json | grep '"slot"' | sed 's/,$//'
	done | sort
}

check_running() {
	for unit in ${1:-$units}; do
		is_active "$unit" || fail "$unit is $(property "$unit" ActiveState)"
	done
	same 'the list of failed units' '' "$(systemctl list-units --failed --plain --no-legend)"
}

check_files() {
	wanted='/run/berth 755 berth:berth
/run/berth/admin.sock 660 root:berth-admin
/run/berth/berth.sock 660 root:berth
/run/berth/directory 600 berth:berth
/run/berth/lock 600 berth:berth
/run/berth/segment 600 berth:berth
/var/lib/berth 700 berth:berth'
	found=$(stat -c '%n %a %U:%G' /run/berth /run/berth/* /var/lib/berth)
	[ "$found" = "$wanted" ] || fail "$found"
}

# A check calls note, does something that must not disturb the servers, then calls check_undisturbed.
note() {
	held_slots >$work/held
	[ -s $work/held ] || fail 'no slot is held'
	main_pid >$work/pid
	stat -c %i /run/berth/*.sock /run/berth/segment >$work/inodes
}

# True if no program that runs all the time has printed a failure.
no_failure() { ! grep -H FAILED $work/*.out; }

# Slots that are held all the time must be the same as before; those that come and go differ.
check_undisturbed() {
	eventually is_active berthd.service
	no_failure
	held_slots >$work/held.now
	lost=$(grep '"held"' $work/held | grep -Fxv -f $work/held.now || true)
	[ -z "$lost" ] || fail "these slots are lost: $lost"
	stat -c %i /run/berth/*.sock /run/berth/segment | diff $work/inodes - ||
		fail 'the sockets or the segment are new ones'
	check_files
	check_running
	# With the slots that are held and those that come and go, the limit is reached.
	status=0
	berthctl run --weight 3 alice -- true 2>$work/denied || status=$?
	[ "$status" = 75 ] || fail "an acquire beyond the limit has the status $status: $(cat $work/denied)"
}

# -- installation --------------------------------------------------------------------------------

list_files() {
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /packages \
		-o -path /next -o -path /checks -o -path $work -o -path /var/tmp -o -path /var/log \
		-o -path /var/cache/ldconfig -o -path /var/lib/dpkg -o -path /var/lib/systemd \) \
		-prune -o -print
	find /run /var/lib/systemd -xdev -path '*berth*'
	journalctl --list-catalog | grep berth || true
}

install_packages() {
	mkdir -p $work
	chmod 755 /root $work
	list_files | sort >$work/files.before
	dpkg -i /packages/*.deb
	check_running
	berthctl status >/dev/null
	check_files
}

check_units() {
	cd /lib/systemd/system
	output=$(systemd-analyze verify --man=no berthd.service berthd.socket berthd-admin.socket \
		berthd@mail.service berthd@mail.socket berthd-admin@mail.socket 2>&1)
	same 'the output of systemd-analyze verify' '' "$output"
	for unit in berthd.service berthd@mail.service; do
		systemd-analyze security --no-pager --offline=true --threshold=10 "$PWD/$unit" >$work/security ||
			{ cat $work/security; fail "$unit is exposed"; }
		# The unit must explain every option that is marked as exposed.
		exposed=$(sed -n 's/^✗ *\([A-Za-z]*\)=.*/\1/p' $work/security)
		[ -n "$exposed" ] || fail 'nothing is marked as exposed'
		for option in $exposed; do
			grep -q "^# \(.*, \)*$option=" "$(echo "$unit" | sed s/@mail/@/)" ||
				fail "$unit doesn't say why it has no $option="
		done
		sed -n "s/.*exposure level for \(.*\)/# \1/p" $work/security
	done
}

set_limit_before_boot() {
	berthctl set reboot 3
	berthctl run reboot -- true
}

check_after_boot() {
	check_running
	same 'the limit' 3 "$(number reboot limit)"
	same 'the count' 0 "$(number reboot current)"
	check_files
}

activate() {
	systemctl stop berthd.service
	! is_active berthd.service || fail 'berthd runs though it was stopped'
	check_files
	berthctl status >/dev/null
	check_running
	systemctl stop berthd.service
	useradd --system server
	usermod --append --groups berth server
	berthctl set first 1
	setpriv --reuid server --regid server --init-groups berthctl run first -- true
	check_running
	check_files
}

# When a socket starts, the directory is given to its user, but not the files in it. (A client that connects
# while systemd makes a socket may find it without its group.)
restart_sockets() {
	segment=$(stat -c %i /run/berth/segment)
	chown root:root /run/berth
	systemctl restart berthd.socket berthd-admin.socket
	eventually is_active berthd.service
	check_running
	check_files
	same 'the segment' "$segment" "$(stat -c %i /run/berth/segment)"
	setpriv --reuid server --regid server --init-groups berthctl run first -- true
}

# The hard limit of a process.
descriptors() { awk '/^Max open files/ { print $5 }' "/proc/$1/limits"; }

check_process() {
	pid=$(main_pid)
	# The machine may permit its containers fewer descriptors.
	same 'the limit of descriptors' 132096 "$(property berthd.service LimitNOFILE)"
	most=$(descriptors 1)
	[ "$most" -le 132096 ] || most=132096
	[ "$most" = 132096 ] || echo "# the machine has only $most descriptors for it"
	same 'its limit of descriptors' "$most" "$(descriptors "$pid")"
	same 'its user' berth "$(stat -c %U "/proc/$pid")"
	same 'its capabilities' '' \
		"$(grep '^Cap' "/proc/$pid/status" | grep -v '0000000000000000$' || true)"
	grep -q '^NoNewPrivs:.1' "/proc/$pid/status" || fail 'it may get new privileges'
	grep -q '^Seccomp:.2' "/proc/$pid/status" || fail 'there is no filter of system calls'
	same 'the OOM score adjustment' -900 "$(property berthd.service OOMScoreAdjust)"
	if sh -c 'echo -900 >/proc/self/oom_score_adj' 2>/dev/null; then
		same 'its OOM score adjustment' -900 "$(cat "/proc/$pid/oom_score_adj")"
	fi
	same 'its network' lo "$(sed -n 's/^ *\(.*\):.*/\1/p' "/proc/$pid/net/dev")"
	! nsenter -t "$pid" -m touch /etc/berth /var/lib/other /root/berth 2>/dev/null ||
		fail 'it can write outside of its directories'
	nsenter -t "$pid" -m touch /run/berth/x /var/lib/berth/x
	rm /run/berth/x /var/lib/berth/x
	same 'its watchdog' 30s "$(property berthd.service WatchdogUSec)"
	same 'the start limit' 0 "$(property berthd.service StartLimitIntervalUSec)"
	for socket in berthd.socket berthd-admin.socket; do
		same "the start limit of $socket" 0 "$(property $socket TriggerLimitIntervalUSec)"
	done
	# The root file system has no documents.
	same 'the list of files that differ from the package' '' "$(dpkg -V berthd berthctl libberth0 libberth-dev |
		grep -v '^missing  *[c ]* */usr/share/\(doc\|man\)/' || true)"
}

# -- at work -------------------------------------------------------------------------------------

build_workload() {
	# shellcheck disable=SC2046 # options
	gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -o $work/workload /checks/workload.c \
		-pthread $(pkg-config --cflags --libs berth)
	readelf -d $work/workload | grep -F '[libberth.so.0]'
	# shellcheck disable=SC2046
	gcc -std=c11 -D_GNU_SOURCE -o $work/workload-static /checks/workload.c \
		$(pkg-config --cflags berth) \
		"$(pkg-config --variable=libdir berth)/libberth.a" $(pkg-config --static --libs-only-other berth)
	! readelf -d $work/workload-static | grep libberth || fail 'the static program needs libberth.so'
}

# as_service NAME COMMAND...: runs the command as a service; its output goes to $work/NAME.out.
as_service() {
	name=$1
	shift
	systemd-run --quiet --unit="$name" -p User=server -p StandardOutput="file:$work/$name.out" "$@"
	eventually grep -q . "$work/$name.out"
	grep -q HOLDING "$work/$name.out" || fail "$(cat "$work/$name.out")"
}

start_workload() {
	berthctl set alice 7
	berthctl set 'acme/*' 5
	as_service alice $work/workload alice 5 held
	as_service bob $work/workload-static acme/bob 3 held
	note
	same 'the number of held slots' 8 "$(grep -c '"held"' $work/held)"
	check_undisturbed
}

restart() {
	note
	systemctl restart berthd.service
	check_undisturbed
	! grep -qx "$(main_pid)" $work/pid || fail 'the process is the same'
}

stop_start() {
	note
	systemctl stop berthd.service
	check_files
	systemctl start berthd.service
	check_undisturbed
}

is_another() { pid=$(main_pid) && [ "$pid" != 0 ] && [ "$pid" != "$1" ] && is_active berthd.service; }

# If the unit were stopped, the next server that connects would start it. So berthd is stopped by a signal,
# and killed before it has noticed the death.
die_meanwhile() {
	note
	berthctl set carol 4
	as_service carol $work/workload carol 2 held
	holders=$(berthctl holders carol)
	before=$(main_pid)
	kill -STOP "$before"
	systemctl kill --signal=KILL carol.service
	eventually has_ended carol.service
	kill -KILL "$before"
	eventually is_another "$before"
	eventually holds carol 0
	case $holders in *workload*) ;; *) fail "$holders" ;; esac
	systemctl reset-failed carol.service
	check_undisturbed
}

kill_twenty() {
	note
	for i in $(seq 20); do
		before=$(main_pid)
		kill -KILL "$before"
		# Some are killed as soon as they run again, some after they have answered a client.
		[ $((i % 4)) != 0 ] || berthctl get alice >/dev/null
		eventually is_another "$before"
	done
	check_undisturbed
	echo "# restarts: $(property berthd.service NRestarts)"
	[ "$(property berthd.service NRestarts)" -ge 20 ] || fail 'it was not restarted 20 times'
}

hang() {
	note
	mkdir -p /run/systemd/system/berthd.service.d
	printf '[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n' >/run/systemd/system/berthd.service.d/w.conf
	systemctl daemon-reload
	systemctl restart berthd.service
	before=$(main_pid)
	kill -STOP "$before"
	eventually is_another "$before"
	journalctl -u berthd.service | grep -q 'Watchdog timeout' || fail 'the watchdog has not killed it'
	rm -r /run/systemd/system/berthd.service.d
	systemctl daemon-reload
	systemctl restart berthd.service
	check_undisturbed
}

# A client in a nested pid namespace, where its pid is about 1.
nest() {
	berthctl set nested 5
	note
	systemd-run --quiet --unit=nested -p StandardOutput="file:$work/nested.out" \
		unshare --pid --fork --mount-proc --kill-child \
		setpriv --reuid server --regid server --init-groups $work/workload nested 3 nested
	eventually grep -q HOLDING $work/nested.out
	pids=$(berthctl holders nested --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | sort -u)
	for pid in $pids; do
		same 'the holder' workload "$(cat "/proc/$pid/comm")"
		same 'its depth of namespaces' 3 "$(grep '^NSpid' "/proc/$pid/status" | wc -w)"
	done
	systemctl kill --signal=KILL nested.service
	eventually holds nested 0
	! grep FAILED $work/nested.out || fail 'it saw a failure'
	systemctl reset-failed nested.service
	check_undisturbed
}

# -- permissions ----------------------------------------------------------------------------------

# refused STATUS TEXT USER COMMAND...: the user's command must exit with STATUS and print TEXT.
refused() {
	expected=$1 text=$2 user=$3
	shift 3
	status=0
	output=$(setpriv --reuid "$user" --regid "$user" --init-groups "$@" 2>&1) || status=$?
	same "the status of $* by $user" "$expected" "$status"
	case $output in *"$text"*) ;; *) fail "$* by $user prints: $output" ;; esac
}

refuse_outsiders() {
	useradd --system outsider
	useradd --system boss
	usermod --append --groups berth-admin boss
	refused 77 'Only members of the group of /run/berth/berth.sock' outsider berthctl run first -- true
	refused 77 'berth-admin' outsider berthctl list
	refused 77 'berth-admin' server berthctl set alice 100
	refused 77 'Only members of the group' boss berthctl run first -- true
	refused 0 '' boss berthctl set first 1
	refused 0 '' server berthctl run first -- true
	refused 1 "Access is denied" outsider $work/workload first 1 no
}

# -- an instance ---------------------------------------------------------------------------------

run_instance() {
	note
	systemctl enable --now berthd@mail.socket berthd-admin@mail.socket 2>/dev/null
	berthctl --runtime-dir $mail set alice 1
	check_running 'berthd@mail.service berthd@mail.socket berthd-admin@mail.socket'
	found=$(stat -c '%n %a %U:%G' $mail $mail/* /var/lib/berth@mail)
	same 'its files' "$mail 755 berth-mail:berth-mail
$mail/admin.sock 660 root:berth-admin
$mail/berth.sock 660 root:berth-mail
$mail/directory 600 berth-mail:berth-mail
$mail/lock 600 berth-mail:berth-mail
$mail/segment 600 berth-mail:berth-mail
/var/lib/berth@mail 700 berth-mail:berth-mail" "$found"
	same 'the limit of the other alice' 7 "$(number alice limit)"
	useradd --system mailer
	usermod --append --groups berth-mail mailer
	refused 0 '' mailer berthctl --runtime-dir $mail run alice -- true
	refused 77 "$mail/berth.sock" server berthctl --runtime-dir $mail run alice -- true
	refused 77 /run/berth/berth.sock mailer berthctl run alice -- true
	pid=$(main_pid berthd@mail.service)
	for file in /run/berth/segment /var/lib/berth/limits /run/berth/x; do
		! nsenter -t "$pid" -m setpriv --reuid berth-mail --regid berth-mail --clear-groups \
			sh -c "ls $file/ || cat $file || touch $file" >/dev/null 2>&1 ||
			fail "berthd@mail can access $file"
	done
	systemctl restart berthd@mail.service
	systemctl stop berthd@mail.service
	refused 0 '' mailer berthctl --runtime-dir $mail run alice -- true
	same 'its files' "$found" "$(stat -c '%n %a %U:%G' $mail $mail/* /var/lib/berth@mail)"
	grep -qx "$(main_pid)" $work/pid || fail 'berthd was restarted with its instance'
	berthctl --runtime-dir $mail set dave 4
	as_mailer
	check_undisturbed
}

# The servers of an instance named admin would have the group berth-admin, that of the administrators.
refuse_instance() {
	! systemctl start berthd@admin.service 2>/dev/null || fail 'an instance named admin was started'
	journalctl -q -b -u berthd@admin.socket | grep -q 'no instance can be called admin' ||
		fail 'the journal has no reason'
	! getent passwd berth-admin || fail 'there is a user berth-admin'
	systemctl reset-failed 'berthd@admin.*' 'berthd-admin@admin.*'
	check_running
}

as_mailer() {
	systemd-run --quiet --unit=mailer -p User=mailer -p StandardOutput="file:$work/mailer.out" \
		-p Environment=BERTH_RUNTIME_DIR=$mail $work/workload dave 2 held
	eventually grep -q HOLDING $work/mailer.out
}

# -- other versions ------------------------------------------------------------------------------

version() { berthctl "$@" status --json | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p'; }

# exchange VERSION DPKG'S OPTIONS AND PACKAGES...
exchange() {
	expected=$1
	shift
	note
	dpkg -i "$@" >$work/dpkg 2>&1 || { cat $work/dpkg; fail 'dpkg fails'; }
	! grep -i -E 'error|fail' $work/dpkg || fail 'dpkg prints errors'
	check_undisturbed
	! grep -qx "$(main_pid)" $work/pid || fail 'the process is the same'
	same 'the running version' "$expected" "$(version)"
}

installed_version() { dpkg-query -W -f '${Version}' berthd; }

reinstall() { exchange "$(installed_version)" /packages/*.deb; }

upgrade() {
	before=$(main_pid berthd@mail.service)
	inodes=$(stat -c %i $mail/*.sock $mail/segment)
	installed_version >$work/version
	next=$(dpkg-deb -f /next/berthd_*.deb Version)
	exchange "$next" /next/*.deb
	same "the instance's version" "$next" "$(version --runtime-dir $mail)"
	[ "$before" != "$(main_pid berthd@mail.service)" ] || fail 'the instance was not restarted'
	same "the instance's sockets and segment" "$inodes" "$(stat -c %i $mail/*.sock $mail/segment)"
}

downgrade() { exchange "$(cat $work/version)" --force-downgrade /packages/*.deb; }

# The version of the layout is the byte after the magic number. Servers that are connected don't read it
# again.
layout() { dd if=/run/berth/directory bs=1 skip=8 count=1 status=none | od -An -to1 | tr -d ' '; }
layout_set() {
	# shellcheck disable=SC2059 # \ooo
	printf "\\$1" | dd of=/run/berth/directory bs=1 seek=8 conv=notrunc status=none
}

complaints() { journalctl -q -b -o cat -t berthd MESSAGE_ID=2433097302e648d68011b9d06aac4f8b | wc -l; }
has_complained() { [ "$(complaints)" -gt "$1" ]; }
has_given_up() { is_failed berthd.service && same 'its exit status' 78 "$(property berthd.service ExecMainStatus)"; }
is_failed() { [ "$(property "$1" ActiveState)" = failed ]; }

# The servers are stopped meanwhile; they would open sessions and be refused.
servers() { systemctl kill --signal="$1" alice.service bob.service; }

lists_servers() {
	for name in alice bob; do
		pid=$(main_pid $name.service)
		grep -q "^ *$pid workload" "$1" || { cat "$1"; fail "the server $pid isn't listed"; }
	done
}

# The running berthd doesn't read the version again.
other_layout_package() {
	note
	servers STOP
	ours=$(layout)
	layout_set 177
	dpkg -i /packages/berthd_*.deb >$work/dpkg 2>&1 || { cat $work/dpkg; fail 'dpkg fails'; }
	layout_set "$ours"
	servers CONT
	same 'the state of the package' 'install ok installed' \
		"$(dpkg-query -W -f '${Status}' berthd)"
	lists_servers $work/dpkg
	for text in 'berthd.service is not restarted' 'systemctl restart berthd.service' \
		'--check-segment --runtime-dir /run/berth$' '1306'; do
		grep -q -e "$text" $work/dpkg || { cat $work/dpkg; fail "dpkg's output lacks: $text"; }
	done
	! grep -q 'berthd@mail.service is not' $work/dpkg || fail 'the instance was not restarted'
	grep -qx "$(main_pid)" $work/pid || fail 'berthd was restarted'
	check_undisturbed
}

other_layout() {
	note
	servers STOP
	ours=$(layout)
	layout_set 177
	before=$(complaints)
	kill -KILL "$(main_pid)"
	eventually has_complained "$before"
	eventually has_given_up
	output=$(journalctl -q -b -x -t berthd MESSAGE_ID=2433097302e648d68011b9d06aac4f8b)
	case $output in
	*'Stop these servers'*'install the former version again'*) ;;
	*) fail "$output" ;;
	esac
	status=0
	berthd --check-segment >$work/check || status=$?
	same 'the status of the check' 78 "$status"
	lists_servers $work/check

	# A connection starts berthd once and is refused. It doesn't start berthd again and again.
	before=$(complaints)
	refused 1 'its log says what to do: journalctl -t berthd (1306)' root berthctl status
	eventually has_given_up
	sleep 2
	same 'the number of complaints' $((before + 1)) "$(complaints)"
	is_active berthd.socket || fail 'the socket is gone'

	layout_set "$ours"
	systemctl restart berthd.service
	servers CONT
	check_undisturbed
}

# -- the journal, completion and removal ---------------------------------------------------------

check_journal() {
	journalctl -q -b -x -u berthd.service >$work/journal
	for text in 'serves /run/berth' 'Limits are in force' 'Got SIGTERM' 'The berth daemon stops' \
		'Documentation: man:berthd(8)'; do
		grep -qF "$text" $work/journal || fail "the journal lacks: $text"
	done
	journalctl -q -b -u berthd.service MESSAGE_ID=8db1a39105cf40eb806104e2ff06c31c -o json |
		grep -q '"SYSLOG_IDENTIFIER":"berthd"' || fail 'no message has the id of serving'
	complaints=$(journalctl -q -b -p warning -t berthd -o cat |
		grep -v 'made by another version\|Can.t start' || true)
	same 'the list of warnings' '' "$complaints"
}

# completes LINE WORDS EXPECTED: WORDS is LINE as bash splits it.
completes() {
	# shellcheck disable=SC2016 # for bash
	found=$(bash -c '. /usr/share/bash-completion/completions/berthctl
		COMP_LINE="berthctl $1" COMP_WORDS=(berthctl $2) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		COMP_WORDBREAKS=" @:="
		_berthctl; echo "${COMPREPLY[*]}"' bash "$1" "$2")
	same "the completion of 'berthctl $1'" "$3" "$found"
}

complete() {
	berthctl set bob@example.com 1
	berthctl --runtime-dir $mail set mail:joe 1
	completes s s 'set status'
	completes 'set al' 'set al' alice
	completes 'run acme/' 'run acme/' 'acme/\*'
	completes 'get bob@ex' 'get bob @ ex' example.com
	completes "--runtime-dir $mail get mail:" '--runtime-dir /run/berth @ mail get mail :' joe
	completes 'get alice --j' 'get alice --j' --json
	berthctl delete bob@example.com
}

end_workload() {
	for name in alice bob mailer; do
		systemctl stop $name.service
		same "the result of $name" success "$(property $name.service Result)"
		sed -n "s/^CYCLES/# $name: &/p" $work/$name.out
		grep -q 'CYCLES [1-9][0-9]* SESSIONS [1-9][0-9]* FAILURES 0$' $work/$name.out ||
			fail "$(cat $work/$name.out)"
	done
	eventually holds alice 0
	holds acme/bob 0 || fail 'slots of acme/bob are still held'
}

remove() {
	dpkg --remove berthd berthd-dbgsym berthctl berthctl-dbgsym >$work/dpkg 2>&1
	! grep -i -E 'error|fail|warning' $work/dpkg || fail 'dpkg prints errors or warnings'
	same 'the list of active units' '' "$(systemctl list-units --plain --no-legend 'berth*')"
	stat -c %n /var/lib/berth/limits /var/lib/berth@mail/limits >/dev/null
	dpkg -i /packages/berthd_*.deb /packages/berthctl_*.deb
	same 'the limit' 7 "$(number alice limit)"
}

# Users and groups stay, but locked (see berthd.postrm).
purge() {
	# shellcheck disable=SC2046 # a list
	dpkg --purge $(dpkg-query -W -f '${Package} ' '*berth*')
	list_files | sort | diff $work/files.before - >$work/files.diff || true
	left=$(grep '^[<>]' $work/files.diff | grep -v -x -F \
		-e '> /etc/group-' -e '> /etc/passwd-' -e '> /etc/shadow-' -e '> /etc/gshadow-' \
		-e '> /etc/subgid-' -e '> /etc/subuid-' -e '> /etc/.pwd.lock' || true)
	same 'the list of files that differ from before' '' "$left"
	same 'the list of units' '' "$(systemctl list-units --all --plain --no-legend 'berthd*')"
	for user in berth berth-mail; do
		case $(getent shadow $user) in $user:!*) ;; *) fail "$user is not locked" ;; esac
	done
}

# Copies the files of `make install install-systemd`, then runs the commands in README.md.
install_plain() {
	cp -a /tree/usr/local/. /usr/local
	ldconfig
	systemd-sysusers
	systemd-tmpfiles --create berth.conf
	journalctl --update-catalog
	systemctl daemon-reload
	systemctl enable --now berthd.service 2>/dev/null
	check_running
	check_files
	same 'the running program' /usr/local/sbin/berthd "$(readlink "/proc/$(main_pid)/exe")"
	berthctl set alice 1
	berthctl run alice -- true
	journalctl -q -b -x -t berthd | grep -q 'Limits are in force' ||
		fail 'the journal has no explanation'
}

"$@"
