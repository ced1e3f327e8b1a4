#!/bin/sh
# SPDX-License-Identifier: MIT
# docs.sh ROOT: every link and every file that README.md, SECURITY.md and the pages in doc/ name is
# there.
set -eu
# shellcheck source=tests/style/sources.sh
. "$(dirname "$0")/sources.sh"
bad=0
found=0
for page in README.md SECURITY.md doc/*.md; do
    folder=$(dirname "$page")
    case $page in
    doc/STYLE.md) names= ;; # its examples are examples
    *)
        # shellcheck disable=SC2016 # backquotes are Markdown's
        names=$(grep -oE '`(api|base|client|daemon|demo|doc|etc|io|model|sched|tests|tools|vk|vk-shaders)/[A-Za-z0-9_./-]*`' "$page" | tr -d '`') || true
        ;;
    esac
    links=$(grep -oE '\]\([A-Za-z0-9_./-]+\)' "$page" | sed -e 's/^](//' -e 's/)$//' -e "s,^,$folder/,") || true
    for name in $names $links; do
        found=$((found + 1))
        case $name in *FILE* | *FOLDER* | *NAME*) continue ;; esac # a form, not a file
        [ -e "$name" ] || {
            echo "$page: $name does not exist"
            bad=1
        }
    done
done
echo "$found names"
[ "$found" -gt 0 ] || bad=1
exit $bad
