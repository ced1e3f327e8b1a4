#!/bin/sh
# SPDX-License-Identifier: MIT
# man.sh PROGRAM PAGE [COMMAND...]: every option that PROGRAM --help and PROGRAM COMMAND --help
# list, and every command, has its place in the man page; and the page is free of errors.
set -eu
program=$1
page=$2
shift 2
bad=0

{
    "$program" --help
    for command in "$@"; do
        "$program" "$command" --help
    done
} | grep -oE -- '--[a-z][a-z-]*' | sort -u >"${TMPDIR:-/tmp}/man.$$"
trap 'rm -f "${TMPDIR:-/tmp}/man.$$"' EXIT
[ -s "${TMPDIR:-/tmp}/man.$$" ] || {
    echo "$program --help lists no options"
    exit 1
}
while read -r option; do
    grep -qE "^\.It (Fl [^ ]+ , )?Fl -${option#--}( |\$)" "$page" || {
        echo "$page: $option is not documented"
        bad=1
    }
done <"${TMPDIR:-/tmp}/man.$$"
for command in "$@"; do
    grep -qE "^\.It (Cm|Ic) $command( |\$)" "$page" || {
        echo "$page: the command '$command' is not documented"
        bad=1
    }
done
if command -v mandoc >/dev/null; then
    mandoc -T lint -W warning "$page" || bad=1
fi
exit $bad
