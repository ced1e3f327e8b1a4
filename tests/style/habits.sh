#!/bin/sh
# SPDX-License-Identifier: MIT
# habits.sh ROOT: what no formatter sees: tabs, carriage returns, blanks at line ends, a missing
# last newline, invisible characters, the licence line, and functions that we do not use.
set -eu
# shellcheck source=tests/style/sources.sh
. "$(dirname "$0")/sources.sh"
bad=0
export LC_ALL=C.UTF-8 # grep -P reads the characters
list=$(mktemp)
trap 'rm -f "$list"' EXIT
ours >"$list"

# none WHAT PATTERN FILES...: no file has a line that matches (Perl syntax).
none() {
    what=$1
    pattern=$2
    shift 2
    if [ $# -gt 0 ] && grep -nHP "$pattern" "$@" /dev/null; then
        echo "^ $what"
        bad=1
    fi
}

# shellcheck disable=SC2046 # our file names have no blanks
set -- $(cat "$list")
none 'carriage return' '\r' "$@"
none 'blank at the end of a line' '[ \t]$' "$@"
none 'invisible character' '[\x{200b}\x{200c}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2060}-\x{2069}\x{feff}]' "$@"
for file in "$@"; do
    [ ! -s "$file" ] || [ -z "$(tail -c 1 "$file")" ] || {
        echo "$file: no newline at the end"
        bad=1
    }
done

# shellcheck disable=SC2046
set -- $(grep -E '\.([ch]|comp|glsl)$' "$list")
none 'tab' '\t' "$@"
none 'a function we do not use (STYLE.md, small things)' \
    '(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|strtok|atoi|gets|rand|srand|time|localtime)\(' "$@"
for file in "$@"; do
    head -n 2 "$file" | grep -q '^// SPDX-License-Identifier: MIT$' || {
        echo "$file: the licence line is missing"
        bad=1
    }
done
# shellcheck disable=SC2046
set -- $(grep -E '\.h$' "$list")
for file in "$@"; do
    grep -q '^#pragma once$' "$file" || {
        echo "$file: #pragma once is missing"
        bad=1
    }
done
exit $bad
