#!/bin/bash
# SPDX-License-Identifier: MIT
# completion.sh EXPERTCTL SCRIPT: bash offers each command, behind each command its options and no
# others, and the words that an option takes, all as --help has them.
set -eu
program=$(realpath "$1") # it is also run from another directory
# shellcheck source=client/expertctl.bash
. "$2"
bad=0
checks=0

# offered WORD... prints what Tab gives behind `expertctl WORD...`, sorted, one a line.
offered() {
    COMP_WORDS=("$program" "$@")
    COMP_CWORD=$#
    COMPREPLY=()
    _expertctl || true
    [ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}" | sort
}

# expect WHAT WANTED WORD...
expect() {
    what=$1
    wanted=$2
    shift 2
    got=$(offered "$@")
    checks=$((checks + 1))
    [ "$got" = "$wanted" ] || {
        echo "$what: '$*' offers:" "$got"
        echo "and not:" "$wanted"
        bad=1
    }
}

commands=$("$program" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' | sort)
[ "$(echo "$commands" | wc -l)" -ge 10 ] || {
    echo "only these commands in --help:" "$commands"
    exit 1
}
expect 'commands' "$commands" ''
expect 'commands that begin with pa' pack pa
for command in $commands; do
    options=$("$program" "$command" --help | grep -oE '^  --[a-z-]+' | tr -d ' ' | sort)
    expect "options of $command" "$options" "$command" --
done
expect 'words of an option' "$(printf 'fold\nhide\nshow')" ask --reasoning ''
expect 'words behind =' hide ask --reasoning = h
expect 'words of an argument' "$(printf 'add\nlist\nrevoke')" key ''
expect 'behind an option with a value' "$commands" --socket /nowhere ''
expect 'nothing behind --' '' ask -- --
expect 'no files for a number' '' ask --seed ''
cd "$(mktemp -d)"
mkdir model-a
: >model-file
expect 'directories' model-a inspect m
expect 'files' "$(printf 'model-a\nmodel-file')" hash --output m
rm -r "$PWD"
echo "$checks completions"
exit $bad
