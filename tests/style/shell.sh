#!/bin/sh
# SPDX-License-Identifier: MIT
# shell.sh ROOT: shellcheck is silent on every shell script.
set -eu
# shellcheck source=tests/style/sources.sh
. "$(dirname "$0")/sources.sh"
need shellcheck
ours | while read -r file; do
    case $file in
    *.sh) echo "$file" ;;
    *) ! head -n 1 "$file" | grep -qaE '^#!.*\b(sh|bash)$' || echo "$file" ;;
    esac
done | xargs shellcheck -x -S warning
