#!/bin/sh
# SPDX-License-Identifier: MIT
# pages.sh ROOT: every man page is free of errors, has examples, and is named by another; and
# expertd-api(7) names every path and every error code that there is.
set -eu
cd "$1"
bad=0
missing() {
    echo "$*"
    bad=1
}

for page in doc/man/*.[1-8]; do
    grep -q '^\.Sh EXAMPLES$' "$page" || missing "$page has no EXAMPLES"
    name=$(basename "$page")
    grep -lE "^\.Xr ${name%.*} ${name##*.}( |$)" doc/man/* | grep -qvF "$page" ||
        missing "no other page refers to $name"
    if command -v mandoc >/dev/null; then
        # the text of options stands as the table has it, a line each
        ! mandoc -T lint -W warning "$page" |
            grep -v '^mandoc: doc/man/expertd.conf.5:.*: new sentence, new line$' || bad=1
    fi
done

# contains WHAT WORDS: the page has each of them as a word of its own.
contains() {
    [ "$(echo "$2" | wc -w)" -ge 10 ] || missing "only $(echo "$2" | wc -w) $1s found"
    for word in $2; do
        grep -qE "(^|[ .])$word( |\$)" doc/man/expertd-api.7 ||
            missing "doc/man/expertd-api.7: the $1 $word is not documented"
    done
}
contains path "$(sed -n 's/^ *{"\(\/[^"]*\)".*/\1/p' api/route.c | sed 's,\(.\)/$,\1,' | sort -u)"
contains code "$(sed -n 's/.*\[API_ERROR_.*, "\([a-z_]*\)"}.*/\1/p' api/error.c)"
exit $bad
