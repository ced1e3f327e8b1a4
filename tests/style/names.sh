#!/bin/sh
# SPDX-License-Identifier: MIT
# names.sh EXPERTD PAGE: every section and key of the configuration stands in doc/interface.md, in
# its section's row.
set -eu
"$1" --print-config | awk -v page="$2" '
    BEGIN {
        while ((getline line < page) > 0)
            if (match(line, /^\| \[[a-z]+\]/))
                rows[substr(line, 3, RLENGTH - 2)] = rows[substr(line, 3, RLENGTH - 2)] line
    }
    /^\[/ { section = $1 }
    /^[#;]? ?[a-z_0-9]+ *=/ {
        key = $0
        sub(/^[#;]? ?/, "", key)
        sub(/ *=.*/, "", key)
        keys++
        if (rows[section] !~ "(^|[^a-z_])" key "([^a-z_]|$)") {
            print page ": " section " " key " is missing"
            bad = 1
        }
    }
    END { print keys " keys"; exit bad || !keys }'
