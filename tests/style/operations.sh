#!/bin/sh
# SPDX-License-Identifier: MIT
# operations.sh ROOT: doc/operations.md has every metric, every event with its MESSAGE_ID and its
# fields, and every error code that there is.
set -eu
cd "$1"
page=doc/operations.md
bad=0
missing() {
    echo "$*"
    bad=1
}

# documented WHAT LEAST WORDS: each is a word of the page's tables; there are at least LEAST.
documented() {
    [ "$(echo "$3" | wc -w)" -ge "$2" ] || missing "only $(echo "$3" | wc -w) $1s found"
    for word in $3; do
        grep -qE "^\|.*(^|[^a-z_])$word([^a-z_]|\$)" $page || missing "$page: the $1 $word is missing"
    done
}
documented metric 60 "$(cat daemon/metrics.h daemon/net_page.h |
    sed -n 's/^ *X([A-Z0-9_]*, \([a-z_0-9]*\),.*/\1/p' | sort -u)
$(sed -n 's/.*"expertd_\([a-z_]*\)".*/\1/p' daemon/metrics.c daemon/net_page.c)"
events=$(sed -n 's/^ *X(\([A-Z]*, *"[a-z]*", *"[0-9a-f]*",.*\)).*/\1/p' base/events.h | tr -d '",')
documented event 10 "$(echo "$events" | awk '{ print $2 }')"
documented MESSAGE_ID 10 "$(echo "$events" | awk '{ print $3 }')"
documented field 10 "$(echo "$events" | awk '{ for (i = 5; i <= NF; i++) print $i }')"
documented code 20 "$(sed -n 's/.*\[API_ERROR_.*, "\([a-z_]*\)"}.*/\1/p' api/error.c)"
exit $bad
