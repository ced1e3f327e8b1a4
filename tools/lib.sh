# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# lib.sh: what the scripts of tools/ share.  Sourced; the caller has set `root` (the clone) and `me`
# (its own name, for messages).
: "${root:?}" "${me:?}"

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}

# need_debian ends the program with one sentence on any other system than Debian 12.
need_debian() {
    # shellcheck source=/dev/null
    what=$(. /etc/os-release 2>/dev/null && printf '%s %s' "${ID-unknown}" "${VERSION_ID-}") || true
    what=${what% } # of rolling distributions: no version
    [ "$what" = 'debian 12' ] ||
        die "this works on Debian 12 (bookworm) only, and this is ${what:-no known system};" \
            "doc/ARCHITECTURE.md says what to install and how to build elsewhere"
}

# packages SECTION... prints "package reason" for each package of these sections.
packages() {
    for section in "$@"; do
        sed -n "s/^$section  *//p" "$root/tools/packages"
    done
}

package_is_there() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need_packages SECTION... installs what is missing and says why; needs root only then.
need_packages() {
    missing=$(packages "$@" | while read -r package reason; do
        package_is_there "$package" || printf '  %-26s %s\n' "$package" "$reason"
    done)
    [ -n "$missing" ] || return 0

    names=$(printf '%s\n' "$missing" | awk '{print $1}' | tr '\n' ' ')
    [ "$(id -u)" = 0 ] ||
        die "Debian packages are missing (${names% }); run 'sudo $0' once to install them"
    say "These Debian packages are missing and will be installed:"
    say "$missing"

    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 || true # the next step tells
    # shellcheck disable=SC2086 # a list of names
    if ! apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $names \
        >>"$log" 2>&1 </dev/null; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        die "apt-get could not install them; its last lines are above"
    fi
    rm -f "$log"
    say "Installed."
}

# leave_root goes on as the user who called sudo, when the clone is his: what is built then is his
# too.  Called with the script's own arguments, after everything that needs root.
leave_root() {
    [ "$(id -u)" = 0 ] || return 0
    owner=$(stat -c %U "$root")
    { [ -n "${SUDO_USER-}" ] && [ "$SUDO_USER" != root ] && [ "$owner" = "$SUDO_USER" ]; } || return 0
    for folder in "$root"/build* "$root/.cache"; do # left by an earlier run as root
        [ ! -d "$folder" ] || chown -R "$SUDO_USER": "$folder"
    done
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    exec runuser -u "$SUDO_USER" -- env HOME="$home" USER="$SUDO_USER" LOGNAME="$SUDO_USER" \
        "$root/tools/$me" "$@"
}

# full_disk DIR ends the program with one sentence if a build there failed for want of space.
full_disk() {
    for place in "$1" "${TMPDIR:-/tmp}"; do
        free_mb=$(df -Pm "$place" 2>/dev/null | awk 'NR == 2 { print $4 }')
        [ "${free_mb:-99}" -ge 10 ] ||
            die "the disk is full: $free_mb MB are free where $place is; make room and run this again"
    done
}

# setup_build DIR [OPTION...] configures a build folder once, and again when the options change.
setup_build() {
    dir=$1
    shift
    if ! mkdir -p "$dir" 2>/dev/null || [ ! -w "$dir" ]; then
        [ -w "$root" ] || die "this clone belongs to someone else: make one of your own, or use sudo"
        [ -e "$dir" ] || die "$dir cannot be made"
        die "$dir belongs to someone else; remove it (sudo rm -r '$dir')"
    fi
    if [ -f "$dir/build.ninja" ]; then
        [ -f "$dir/.options" ] || return 0 # configured by hand: left as it is
        [ "$(cat "$dir/.options")" != "${CC-} $*" ] || return 0
        rm -rf "$dir"
    fi
    if ! (cd "$root" && meson setup "$@" "$dir") >"$dir.log" 2>&1; then
        full_disk "$dir"
        tail -n 20 "$dir.log" >&2
        return 1
    fi
    mv "$dir.log" "$dir/setup.log"
    printf '%s' "${CC-} $*" >"$dir/.options"
}
