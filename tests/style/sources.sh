# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# sources.sh: which files are ours.  Sourced by the checks of this folder, which are given the
# clone's root as $1.
cd "${1:?}" || exit 1

# ours prints every text file of ours: no build folders, no data, no test vectors.
ours() {
    find . -type d \( -name 'build*' -o -name .git -o -name .cache -o -name __pycache__ \
        -o -path ./tests/golden/models -o -path ./tests/golden/tokenizers \
        -o -path ./tests/golden/templates -o -path ./tests/golden/tables \
        -o -path ./tests/fuzz/corpus -o -path ./tests/traces \) -prune \
        -o -type f ! -path './demo/model/*' ! -path './doc/measurements/*' -print | sort
}

need() {
    command -v "$1" >/dev/null || {
        echo "$1 is not installed"
        exit 77
    }
}
