# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# lib.sh: a Debian 12 with nothing in it, for packages to be installed in.  Sourced; the caller has
# set `root` (the clone), `out` (the packages) and `self` (its own path).
: "${root:?}" "${out:?}" "${self:?}"
question='Compute 66 - 57 - 8.'
answer='The answer is 1.'

say() { printf '%s\n' "== $*"; }
fail() {
    printf '%s\n' "FAILED: $*" >&2
    exit 1
}

# depends_of DEB... prints the names of what these need, one of each choice.
depends_of() {
    for deb in "$@"; do
        dpkg-deb -f "$deb" Depends
    done | sed -e 's/([^)]*)//g' -e 's/|[^,]*//g' -e 's/,/\n/g' | tr -d ' ' | grep -v ^expert |
        sort -u | xargs
}

# debian_mount puts what programs expect, and the packages, into $debian.
debian_mount() {
    mount -t proc proc "$debian/proc"
    mount -t tmpfs tmpfs "$debian/run"
    mount --rbind /dev "$debian/dev"
    mkdir -p "$debian/packages"
    mount --bind "$out" "$debian/packages"
}

# apt ARGUMENT...: apt-get there, silent unless it fails.
apt() {
    inside apt-get -q -y --no-install-recommends "$@" >"$debian/tmp/apt.log" 2>&1 </dev/null ||
        { tail -n 30 "$debian/tmp/apt.log" && fail "apt-get $*"; }
}

# need_debian_root starts the caller again in namespaces of its own, so that nothing mounted and
# nobody started is left behind however it ends; then unpacks the Debian into $debian, with what the
# packages need.  That is fetched once and kept in .cache/package until their needs change.
need_debian_root() {
    ls "$out"/*.deb "$out"/*.rpm >/dev/null 2>&1 || {
        echo "skipped: there are no packages"
        exit 77
    }
    [ "$(id -u)" = 0 ] || {
        echo "skipped: only root can install packages"
        exit 77
    }
    if [ "${PACKAGE_NAMESPACE-}" != 1 ]; then
        unshare --mount --pid --fork true 2>/dev/null || {
            echo "skipped: this system gives root no namespaces"
            exit 77
        }
        status=0
        PACKAGE_ROOT=$(mktemp -d /var/tmp/expertd-package.XXXXXX) # short, for the path of a socket
        export PACKAGE_ROOT PACKAGE_NAMESPACE=1
        trap 'rm -rf --one-file-system "$PACKAGE_ROOT"' EXIT
        trap 'exit 130' INT TERM HUP
        unshare --mount --pid --fork --kill-child "$self" "$root" "$out" || status=$?
        exit "$status"
    fi
    debian=$PACKAGE_ROOT
    cache=$root/.cache/package
    depends=$(depends_of "$out"/expertd_*.deb "$out"/expertctl_*.deb "$out"/expertd-demo-model_*.deb)
    libraries=$cache/libraries-$(echo "$depends" | cat - "$cache/debian.log" | cksum | cut -d' ' -f1).tar
    if [ -f "$libraries" ]; then
        tar -C "$debian" -xf "$libraries"
        debian_mount
        return 0
    fi
    say "what they need: $depends"
    tar -C "$debian" -xf "$cache/debian.tar"
    debian_mount
    echo force-unsafe-io >"$debian/etc/dpkg/dpkg.cfg.d/test" # it need not survive a power cut
    printf '#!/bin/sh\nexit 101\n' >"$debian/usr/sbin/policy-rc.d" # nothing starts by itself
    chmod 755 "$debian/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$debian/etc/resolv.conf"
    apt update
    # shellcheck disable=SC2086 # a list of names
    apt install $depends
    rm -f "$cache"/libraries-*
    tar -C "$debian" --one-file-system --exclude ./packages -cf "$libraries.new" .
    mv "$libraries.new" "$libraries"
}

# inside COMMAND...: runs it there.
inside() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root DEBIAN_FRONTEND=noninteractive \
        chroot "$debian" "$@"
}

# files_listed FILE lists what is there, but for the books of dpkg, rpm, apt and ld.so.
files_listed() {
    (cd "$debian" && find . -path ./proc -prune -o -path ./run -prune -o -path ./dev -prune -o \
        -path ./packages -prune -o -path './var/lib/dpkg' -prune -o -path './var/lib/apt' -prune -o \
        -path './var/cache' -prune -o -path './var/log' -prune -o -path './var/lib/rpm' -prune -o \
        -path ./tmp -prune -o -print; ls var/cache) | sort >"$1"
}

# check_unconfigured: the configuration that comes along names no model; that is status 2, and the
# sentence says what to do.
check_unconfigured() {
    status=0
    said=$(inside expertd --check-config 2>&1) || status=$?
    [ "$status" = 2 ] || fail "expertd --check-config: status $status, not 2: $said"
    case $said in
    *expertctl\ setup*) ;;
    *) fail "expertd --check-config does not name expertctl setup: $said" ;;
    esac
    say "unconfigured: $said"
}

# check_answers: the demo model answers, in expertctl demo as any user, and as the service's user
# over the socket, streamed.
check_answers() {
    said=$(inside runuser -u nobody -- expertctl demo "$question" 2>"$debian/tmp/demo.log") ||
        fail "expertctl demo: $(cat "$debian/tmp/demo.log")"
    [ "$said" = "$answer" ] || fail "expertctl demo said '$said'"
    say "expertctl demo: $said"

    inside systemd-tmpfiles --create expertd.conf
    inside runuser -u expertd -- expertd --model /usr/share/expertd/demo \
        --socket /run/expertd/api.sock --set model.name=demo 2>"$debian/tmp/expertd.log" &
    waited=0
    until inside expertctl --quiet status >/dev/null 2>&1; do
        [ "$waited" -lt 1200 ] && kill -0 $! 2>/dev/null || fail "$(tail -n 5 "$debian/tmp/expertd.log")"
        sleep 0.1
        waited=$((waited + 1))
    done
    # relative: the path of a socket has room for 107 bytes
    (cd "$debian/run/expertd" && curl -sS -N --unix-socket api.sock \
        http://localhost/v1/chat/completions -H 'Content-Type: application/json' -d "{\"model\":
        \"demo\", \"temperature\": 0, \"stream\": true,
        \"messages\": [{\"role\": \"user\", \"content\": \"$question\"}]}") >"$debian/tmp/stream" ||
        fail "no stream over the socket"
    events=$(grep -c '^data: {' "$debian/tmp/stream" || true)
    text=$(sed -n 's/.*"content":"\([^"]*\)".*/\1/p' "$debian/tmp/stream" | tr -d '\n')
    [ "$text" = "$answer" ] || fail "the stream said '$text': $(cat "$debian/tmp/stream")"
    [ "$(tail -n 2 "$debian/tmp/stream")" = 'data: [DONE]' ] || fail "the stream has no end"
    say "a stream of $events events over the socket: $text"

    pid=$(cat "$debian"/proc/[0-9]*/stat | sed -n 's/^\([0-9]*\) (expertd) .*/\1/p' | head -n 1)
    kill "$pid"
    wait $! || fail "expertd ended with status $?"
}
