#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""netns: network namespaces of a test: made with names of their own, removed whatever happens.

As a module:

    with netns.Namespace("server") as server, netns.Namespace("client") as client:
        netns.veth(server, "nic0", client, "eth0")
        client.address("eth0", "10.9.0.2/24")
        client.run("curl", "http://10.9.0.1/health")

As a program, `netns.py [--veth A,B] -- PROGRAM ARGS...` runs one program in a new
namespace that has the veth pair A-B, and ends with its exit status (77 where namespaces cannot be
made: skipped).

Nothing leaves the namespaces: they have no interface of the machine.
"""

import array
import atexit
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys

SKIPPED = 77
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
_serial = 0
_alive = []


class Unsupported(Exception):
    """namespaces cannot be made here; the text says why"""


def need():
    """need raises Unsupported where this machine or user has no network namespaces."""
    if os.geteuid() != 0:
        raise Unsupported("network namespaces need root")
    if not shutil.which("ip"):
        raise Unsupported("the command ip is not installed (iproute2)")


def ip(*words, namespace=None):
    command = ["ip", *(["-n", namespace] if namespace else []), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def sweep():
    """sweep removes what tests left behind that were killed without a chance to."""
    for line in ip("netns", "list").splitlines():
        name = line.split()[0]
        words = name.split("-")
        if words[0] == "expertd" and len(words) > 2 and not os.path.exists(f"/proc/{words[1]}"):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Namespace:
    """A namespace whose loopback is up and whose interfaces say nothing by themselves: no IPv6
    addresses unless asked for, so that a test sees its own frames alone."""

    def __init__(self, label="test", ipv6=False):
        global _serial
        need()
        if _serial == 0:
            sweep()
        _serial += 1
        self.name = f"expertd-{os.getpid()}-{_serial}-{label}"
        self.processes = []
        try:
            ip("netns", "add", self.name)
        except RuntimeError as error:
            raise Unsupported(f"network namespaces cannot be made: {error}") from error
        _alive.append(self)
        ip("link", "set", "lo", "up", namespace=self.name)
        if not ipv6:
            for which in ("all", "default"):
                self.sysctl(f"net.ipv6.conf.{which}.disable_ipv6", "1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """close ends what start() started and removes the namespace."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.processes = []
        if self in _alive:
            _alive.remove(self)
            ip("netns", "del", self.name)

    def command(self, *words):
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def run(self, *words, **options):
        """run waits for a program in here; options of subprocess.run."""
        return subprocess.run(self.command(*words), **options)

    def start(self, *words, **options):
        """start starts a program in here; close() ends it if nobody did."""
        process = subprocess.Popen(self.command(*words), **options)
        self.processes.append(process)
        return process

    def sysctl(self, key, value):
        path = "/proc/sys/" + key.replace(".", "/")
        self.run("sh", "-c", f"[ ! -e {path} ] || echo {value} >{path}", check=True)

    def ip(self, *words):
        return ip(*words, namespace=self.name)

    def up(self, interface):
        self.ip("link", "set", interface, "up")

    def address(self, interface, address):
        if ":" in address:
            self.sysctl(f"net.ipv6.conf.{interface}.disable_ipv6", "0")
            self.ip("address", "add", address, "dev", interface, "nodad")
        else:
            self.ip("address", "add", address, "dev", interface)

    def tap(self, interface):
        """tap makes a tap device that a program in here can attach to by its name, brings it up,
        and returns an open file: a frame a read, a frame a write."""
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            self._enter()
            fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", interface.encode(), 0x1002))
        finally:
            _setns(before)
            os.close(before)
        self.up(interface)
        return fd

    def socket(self, *args):
        """socket makes a socket in here."""
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            self._enter()
            return socket.socket(*args)
        finally:
            _setns(before)
            os.close(before)

    def _enter(self):
        fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(fd)
        finally:
            os.close(fd)

    def checksums_on(self, interface):
        """checksums_on has the kernel compute what it sends: across a veth pair it would leave
        that to a card that is not there, and a user-space peer would see wrong checksums."""
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            value = array.array("B", struct.pack("II", ETHTOOL_STXCSUM, 0))
            address, _ = value.buffer_info()
            fcntl.ioctl(asker, SIOCETHTOOL, struct.pack("16sQ16x", interface.encode(), address))


def _setns(fd):
    """os.setns is of Python 3.12."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def veth(left, left_interface, right, right_interface):
    """veth joins two namespaces (or one with itself); both ends are up and compute checksums."""
    left.ip("link", "add", left_interface, "type", "veth", "peer", "name", right_interface,
            "netns", right.name)
    for namespace, interface in ((left, left_interface), (right, right_interface)):
        namespace.checksums_on(interface)
        namespace.up(interface)


def _cleanup():
    for namespace in list(_alive):
        namespace.close()


def _killed(number, _):
    sys.exit(128 + number)  # through atexit


atexit.register(_cleanup)
for _signal in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_signal, _killed)


def main(words):
    pair = None
    while words and words[0] != "--":
        if words[0] != "--veth" or len(words) < 2:
            sys.exit(__doc__)
        pair = words[1].split(",")
        words = words[2:]
    try:
        with Namespace() as namespace:
            if pair:
                veth(namespace, pair[0], namespace, pair[1])
            return namespace.run(*words[1:]).returncode
    except Unsupported as reason:
        print(reason)
        return SKIPPED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
