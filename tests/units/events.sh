#!/bin/sh
# SPDX-License-Identifier: MIT
# events.sh SOURCE: every event of base/events.h is in expertd(8), with its identifier and fields.
set -eu
page=$1/doc/man/expertd.8
bad=0
found=0

# need WORDS: they stand in the page.
need() {
    grep -qF -- "$1" "$page" || {
        echo "$page: $1 is not documented"
        bad=1
    }
}

rows=$(sed -nE 's/^ *X\([A-Z]+, *"([a-z]+)", *"([0-9a-f]+)", *[0-9]+, *"([A-Z ]*)"\).*/\1 \2 \3/p' \
    "$1/base/events.h")
while read -r word id fields; do
    found=$((found + 1))
    need ".It Li $word"
    need "$id"
    for field in $fields; do
        need "EXPERTD_$field"
    done
done <<END
$rows
END
echo "$found events"
[ "$found" -ge 10 ] || bad=1
exit $bad
