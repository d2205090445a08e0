#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Checks that the journal catalog explains every message id that berthd logs, and no other.
set -eu

root=$(mktemp -d /dev/shm/berth-test.XXXXXX)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM

catalog=packaging/systemd/berth.catalog
find daemon -name '*.[ch]' -exec grep -ohE '"[0-9a-f]{32}"' {} + | tr -d '"' | sort -u >"$root/logged"
sed -n 's/^-- //p' "$catalog" | sort >"$root/explained"
[ "$(wc -l <"$root/logged")" -ge 5 ] || { echo 'FAILED: fewer than 5 message ids were found'; exit 1; }
diff "$root/logged" "$root/explained" ||
	{ echo "FAILED: message ids that only berthd logs (<) or only $catalog explains (>)"; exit 1; }
