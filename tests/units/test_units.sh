#!/bin/sh
# SPDX-License-Identifier: MIT
# test_units.sh BUILD SOURCE: what systemd thinks of the units: systemd-analyze verify has nothing to
# say, and their exposure (systemd-analyze security) is at most the threshold, with each drop-in.
# BUILD and SOURCE: the etc/ folders.
set -eu
build=$1 source=$2
threshold=25 # tenths: of 10

command -v systemd-analyze >/dev/null || {
    echo 'skipped: no systemd-analyze here'
    exit 77
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

# verify looks whether programs are there: they are those of the build only once it is installed.
for unit in expertd.service expertd-vfio@.service; do
    sed -E 's,=/[^ ]*/(expertd|expertctl)\>,=/bin/true,' "$build/$unit" >"$dir/$unit"
done
cp "$source/systemd/expertd.socket" "$dir/"

# silent WHAT COMMAND...: it succeeds and says nothing.
silent() {
    what=$1
    shift
    if ! "$@" >"$dir/said" 2>&1 || [ -s "$dir/said" ]; then
        echo "$what:"
        cat "$dir/said"
        bad=1
    fi
}

# exposure WHAT: at most the threshold.
exposure() {
    if systemd-analyze security --offline=true --threshold=$threshold "$dir/expertd.service" \
        >"$dir/said" 2>&1; then
        echo "$1: $(tail -n 1 "$dir/said")"
    else
        echo "$1: more than $threshold tenths"
        grep -v '✓' "$dir/said"
        bad=1
    fi
    if grep -E 'Unknown|Failed|ignoring' "$dir/said"; then
        bad=1
    fi
}

verify() {
    silent "$1" systemd-analyze verify --man=no "$dir/expertd.service" "$dir/expertd.socket"
}

verify expertd.service
silent expertd-vfio@.service systemd-analyze verify --man=no "$dir/expertd-vfio@.service"
exposure expertd.service
mkdir "$dir/expertd.service.d"
for dropin in "$source"/systemd/*.conf; do
    name=${dropin##*/}
    [ "$name" != hugepages.conf ] || continue # of sysctl.d
    cp "$dropin" "$dir/expertd.service.d/test.conf"
    verify "$name"
    exposure "$name"
done
# What reloads has no credentials: with them in the configuration, it must not judge it.
if ! sed '1,/^ExecReload=$/d' "$source/systemd/credentials.conf" | grep -q '^ExecReload=.*kill -HUP'; then
    echo "credentials.conf: reload has to do without expertd --check-config"
    bad=1
fi
exit $bad
