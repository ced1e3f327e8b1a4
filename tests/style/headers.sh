#!/bin/sh
# SPDX-License-Identifier: MIT
# headers.sh ROOT BUILD COMPILER...: each header of ours compiles alone, without warnings.  A
# *_table.h is data that its one .c includes behind the types, and no header in this sense.
set -eu
build=$2
root=$1
# shellcheck source=tests/style/sources.sh
. "$(dirname "$0")/sources.sh"
shift 2
bad=0
for header in $(ours | grep -E '\.h$' | grep -v '_table\.h$'); do
    printf '#include "%s"\n' "${header#./}" |
        "$@" -x c -std=gnu17 -D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Wstrict-prototypes -Werror \
            -I "$root" -I "$build" - || {
        echo "$header does not compile alone"
        bad=1
    }
done
exit $bad
