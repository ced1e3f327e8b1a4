#!/bin/sh
# SPDX-License-Identifier: MIT
# format.sh ROOT: every .c and .h is as clang-format leaves it.
set -eu
# shellcheck source=tests/style/sources.sh
. "$(dirname "$0")/sources.sh"
need clang-format
ours | grep -E '\.[ch]$' | xargs clang-format --dry-run -Werror
