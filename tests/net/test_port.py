#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_port SERVER: connections on a port (io/net/port.h), plain and TLS, with the kernel's TCP on
the other side: over a tap device and over a veth pair, in namespaces of their own."""

import json
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

import netns

HTTP, HTTPS = 8000, 8443
SERVER, CLIENT = "10.9.0.1", "10.9.0.2"
PLACES, TURNED = 1200, 32


class Server:
    """the process of test_port.c, its port beside the kernel of the namespace"""

    def __init__(self, program, space, port, folder, places=PLACES, per_address=PLACES + TURNED):
        self.crt, self.key = f"{folder}/server.crt", f"{folder}/server.key"
        certificate(self.crt, self.key, "first")
        self.program = program
        self.process = space.start(program, "serve", port, SERVER + "/24", HTTP, HTTPS, self.crt,
                                   self.key, places, per_address, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        self.answer("ready")

    def answer(self, key):
        for line in self.process.stdout:
            if line.startswith("{"):
                said = json.loads(line)
                assert key in said, said
                return said
        raise AssertionError(f"the server ended with {self.process.wait()}")

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def stats(self):
        self.tell("stats")
        return self.answer("opened")

    def until(self, what):
        """until waits for stats of which something holds"""
        while not what(stats := self.stats()):
            time.sleep(0.05)
        return stats

    def resident(self):
        with open(f"/proc/{self.pid()}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) << 10

    def pid(self):
        return self.process.pid  # `ip netns exec` becomes the program

    def quit(self):
        self.tell("quit")
        self.answer("gone")
        assert self.process.wait() == 0, self.process.returncode


def certificate(crt, key, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", crt, "-days", "30",
                    "-subj", f"/CN={name}"], check=True, capture_output=True)


def tls_context(version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class Clients:
    """connections from a namespace"""

    def __init__(self, space):
        self.space = space
        self.context = tls_context()

    def raw(self, port=HTTP, size=None):
        sock = self.space.socket(socket.AF_INET, socket.SOCK_STREAM)
        if size:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((SERVER, port))
        return sock

    def open(self, tls, size=None, context=None, session=None):
        sock = self.raw(HTTPS if tls else HTTP, size)
        if not tls:
            return sock
        return (context or self.context).wrap_socket(sock, session=session,
                                                     suppress_ragged_eofs=False)


def read_all(sock, n=None):
    got = b""
    while n is None or len(got) < n:
        part = sock.recv(65536 if n is None else n - len(got))
        if not part:
            break
        got += part
    return got


def echo(sock, word):
    sock.sendall(b"echo " + word + b"\n")
    assert read_all(sock, len(word) + 1) == word + b"\n"


def pattern(n):
    """what `flood n` sends"""
    out = bytearray()
    while n > 0:
        part = min(n, 16384)
        out += bytes(97 + (n - i) % 26 for i in range(part))
        n -= part
    return bytes(out)


def total(data):
    value = 0
    for byte in data:
        value = (value * 31 + byte) & 0xFFFFFFFF
    return value


# Each test takes the server, clients, and whether to speak TLS.


def test_echo(server, clients, tls):
    before = server.stats()
    with clients.open(tls) as sock:
        if tls:
            assert sock.selected_alpn_protocol() == "http/1.1"
            assert sock.version() == "TLSv1.3"
        for i in range(200):
            echo(sock, b"word %d" % i)
        sock.sendall(b"".join(b"echo %d\n" % i for i in range(2000)))  # pipelined
        want = b"".join(b"%d\n" % i for i in range(2000))
        assert read_all(sock, len(want)) == want
        # Pipelined to one that takes one thing at a time, and goes on before it returns.
        sock.sendall(b"next\n" * 20000)
        assert read_all(sock, 5 * 20000) == b"next\n" * 20000
        for byte in b"echo byte by byte\n":
            sock.sendall(bytes([byte]))
        assert read_all(sock, 13) == b"byte by byte\n"
        sock.sendall(b"bye\n")
        assert read_all(sock) == b"bye\n"
    after = server.until(lambda s: s["closed"] == before["closed"] + 1)
    assert after["tls_handshakes"] - before["tls_handshakes"] == int(tls)


def test_versions(server, clients, tls):
    if not tls:
        return
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = tls_context(version)
        session = None
        resumed = server.stats()["tls_resumed"]
        for _ in range(3):
            with clients.open(True, context=context, session=session) as sock:
                echo(sock, b"version")
                session = sock.session
                sock.sendall(b"bye\n")
                assert read_all(sock) == b"bye\n"
        assert server.stats()["tls_resumed"] == resumed + 2
    failed = server.stats()["tls_failed"]
    context = tls_context()
    context.set_alpn_protocols(["h2"])
    with clients.raw(HTTPS) as sock:
        try:
            context.wrap_socket(sock)
            raise AssertionError("h2 was accepted")
        except (ssl.SSLError, OSError):
            pass
    server.until(lambda s: s["tls_failed"] == failed + 1)


def test_flood(server, clients, tls):
    """large answers arrive whole, also where the reader is slow and small"""
    want = pattern(3_000_000)
    for size in (None, 4096):
        with clients.open(tls, size) as sock:
            sock.sendall(b"flood 3000000\n")
            got = bytearray()
            while len(got) < len(want):
                got += sock.recv(65536)
                if size and len(got) < 300_000:
                    time.sleep(0.001)
            assert got == want
            echo(sock, b"still here")


def test_sink(server, clients, tls):
    """large questions, and an end that can be answered"""
    data = os.urandom(2_000_000)
    with clients.open(tls) as sock:
        sock.sendall(b"sink\n")
        sock.sendall(data)
        socket.socket.shutdown(sock, socket.SHUT_WR)  # ssl's own would read no more
        got = read_all(sock)
        assert got == b"%d %d\n" % (len(data), total(data)), got


def test_hold(server, clients, tls):
    """what is not taken closes the sender's window"""
    with clients.open(tls) as sock:
        sock.settimeout(0.3)
        sock.sendall(b"hold\n")
        sent, block = 0, b"echo " + b"x" * 94 + b"\n"
        blocks = block * 20
        try:
            while sent < 100 << 20:
                sent += sock.send(blocks)
            raise AssertionError("100 MiB were taken")
        except (TimeoutError, ssl.SSLWantWriteError):
            pass
        sock.settimeout(None)
        got = bytearray()
        reader = threading.Thread(target=lambda: got.extend(read_all(sock, sent // 100 * 95)))
        reader.start()
        reader.join()
        assert got == (b"x" * 94 + b"\n") * (sent // 100), (len(got), sent)


def test_end(server, clients, tls):
    """deadlines, resets, and peers that go without a word"""
    before = server.until(lambda s: s["connections"] == 0)
    with clients.open(tls) as sock:
        sock.sendall(b"deadline 100\n")
        assert read_all(sock) == b"expired\n"
    assert server.stats()["expired"] == before["expired"] + 1
    with clients.open(tls) as sock:
        sock.sendall(b"abort\n")
        ended(sock)
    with clients.open(tls) as sock:
        sock.sendall(b"spill\n")
        ended(sock)
    sock = clients.open(tls)  # a reset of theirs, in the middle of an answer
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.sendall(b"flood 10000000\n")
    sock.recv(1000)
    sock.close()
    sock = clients.open(tls)  # bye, but the client does not close: two seconds
    sock.sendall(b"bye\n")
    assert read_all(sock) == b"bye\n"
    started = time.monotonic()
    server.until(lambda s: s["closed"] == s["opened"])
    assert time.monotonic() - started > 1.5
    sock.close()
    stats = server.until(lambda s: s["connections"] == 0)
    assert stats["closed"] - before["closed"] == 5


def test_handshake(server, clients, tls):
    """who does not finish the handshake, or speaks something else"""
    if not tls:
        return
    before = server.stats()
    silent = clients.raw(HTTPS)
    with clients.raw(HTTPS) as sock:
        sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: appliance\r\n\r\n")
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 "), head
        assert b"Content-Length: %d" % len(body) in head, (head, len(body))
        assert json.loads(body)["error"]["code"] == "https_required"
    with clients.raw(HTTPS) as sock:
        sock.sendall(b"\xff" + b"\x16" * 400)
        ended(sock)
    with clients.raw(HTTPS) as sock:
        sock.sendall(b"\x16\x03\x01\x00\x05")
    ended(silent)
    silent.close()
    after = server.until(lambda s: s["connections"] == 0)
    assert after["tls_plain"] == before["tls_plain"] + 1
    assert after["tls_failed"] >= before["tls_failed"] + 2
    assert after["opened"] == before["opened"]


def ended(sock):
    """ended waits for the server to end or reset a connection"""
    try:
        while sock.recv(4096):
            pass
    except (ConnectionResetError, ssl.SSLError):
        pass


def test_curl(server, clients, tls):
    if not shutil.which("curl"):
        return
    url = f"https://{SERVER}:{HTTPS}/" if tls else f"http://{SERVER}:{HTTP}/"
    done = clients.space.run("curl", "-sk", "--http1.1", "-w", "%{http_code} %{num_connects}", url,
                             url, capture_output=True, text=True)
    assert done.stdout == "hello\n200 1hello\n200 0", done


def test_thousand(server, clients, tls):
    """1000 connections at once, half of them slow; the others do not wait for them"""
    slow, quick = [], []
    for i in range(1000):
        (slow if i % 2 else quick).append(clients.open(tls, 4096 if i % 2 else None))
    for sock in slow:
        sock.sendall(b"flood 300000\n")
    started = time.monotonic()
    for turn in range(3):
        for sock in quick:
            echo(sock, b"turn %d" % turn)
    took = (time.monotonic() - started) / 1500
    stats = server.stats()
    assert stats["connections"] == 1000, stats
    print(f"  1000 connections, half of them slow: an echo takes {took * 1e6:.0f} us")
    want = pattern(300_000)
    left = {sock: bytearray() for sock in slow}
    for sock in slow[:20]:
        left[sock] += read_all(sock, 300_000)
        assert left[sock] == want
    for sock in slow + quick:
        sock.close()
    server.until(lambda s: s["connections"] == 0)


def test_full(server, clients, tls):
    """no place: told so, or reset; but idle ones make place"""
    socks = [clients.open(tls) for _ in range(PLACES)]
    server.until(lambda s: s["connections"] == PLACES)
    with clients.open(tls) as sock:
        assert read_all(sock) == b"full\n"
    for sock in socks[:3]:
        sock.sendall(b"evictable\n")
        assert read_all(sock, 3) == b"ok\n"
        time.sleep(0.01)
    with clients.open(tls) as sock:
        echo(sock, b"found a place")
        ended(socks[0])  # the oldest of them
        echo(socks[1], b"still here")
    for sock in socks:
        sock.close()
    server.until(lambda s: s["connections"] == 0)


def test_reload(server, clients, tls):
    if not tls:
        return
    old = clients.open(True)
    first = old.getpeercert(binary_form=True)
    good = open(server.key, encoding="ascii").read()
    with open(server.key, "w", encoding="ascii") as file:
        file.write("nothing")
    server.tell("reload")
    said = server.answer("reload")
    assert said["reload"] < 0 and server.key in said["text"], said
    with clients.open(True) as sock:
        assert sock.getpeercert(binary_form=True) == first
        echo(sock, b"the old one")
    with open(server.key, "w", encoding="ascii") as file:
        file.write(good)
    certificate(server.crt, server.key, "second")
    server.tell("reload")
    assert server.answer("reload")["reload"] == 0
    with clients.open(True) as sock:
        assert sock.getpeercert(binary_form=True) != first
        echo(sock, b"the new one")
    echo(old, b"on the old one")
    old.close()
    server.until(lambda s: s["connections"] == 0)


def test_memory(server, clients, tls):
    """what a connection costs whose reader stopped: as much as lwIP takes of an answer waits there"""
    count, unread = 256, 66_000
    server.tell("memory")
    server.answer("memory")
    before, resident = server.stats()["heap"], server.resident()
    socks = [clients.open(tls, 2048) for _ in range(count)]
    for sock in socks:
        echo(sock, b"idle")
    idle = (server.stats()["heap"] - before) / count
    for sock in socks:
        sock.sendall(b"flood %d\n" % unread)
    time.sleep(1)
    busy = (server.stats()["heap"] - before) / count
    grown = (server.resident() - resident) / count
    print(f"  memory a connection: {idle / 1024:.1f} KiB idle, {busy / 1024:.1f} KiB with"
          f" {unread} bytes unread ({grown / 1024:.1f} KiB resident)")
    assert busy < (160 if tls else 96) << 10
    for sock in socks:
        sock.close()
    server.until(lambda s: s["connections"] == 0)


def test_latency(server, clients, tls):
    ticks = 1000
    server.tell("tick 200")
    done = clients.space.run(server.program, "latency", SERVER, HTTPS if tls else HTTP,
                             "tls" if tls else "plain", ticks, capture_output=True, text=True)
    server.tell("tick 0")
    assert done.returncode == 0, done
    print(f"  from the signal to the peer: {json.loads(done.stdout)}")


def test_idle(server, clients, tls):
    if tls:
        return
    server.until(lambda s: s["connections"] == 0)
    before = server.stats()["cpu_us"]
    time.sleep(3)
    share = (server.stats()["cpu_us"] - before) / 3e6
    waits = []
    for _ in range(20):
        sock = clients.raw()
        time.sleep(0.1)
        started = time.monotonic()
        echo(sock, b"first")
        waits.append(time.monotonic() - started)
        sock.close()
    print(f"  idle: {share * 100:.2f} % of a core; the first echo takes"
          f" {sorted(waits)[10] * 1e6:.0f} us")
    assert share < 0.02


def test_long(server, clients, tls, count=20_000):
    """many connections, one after another and some at once; nothing stays"""
    before = server.stats()
    context = tls_context()
    failures = []

    def run(n):
        session = None
        try:
            for i in range(n):
                with clients.open(tls, context=context, session=session) as sock:
                    if i % 16:
                        echo(sock, b"round")
                    if i % 3 == 0:
                        sock.sendall(b"bye\n")
                        assert read_all(sock) == b"bye\n"
                    session = sock.session if tls and i % 2 else None
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)

    n = count // 10 if tls else count
    threads = [threading.Thread(target=run, args=(n // 8,)) for _ in range(8)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    after = server.until(lambda s: s["connections"] == 0 and s["frames_held"] == 0)
    assert after["closed"] - before["closed"] == n
    assert after["mbufs_free"] >= before["mbufs_free"], (before, after)
    print(f"  {n} connections in {time.monotonic() - started:.1f} s; heap"
          f" {before['heap']} before, {after['heap']} after, {after['time_wait']} in TIME-WAIT")
    # What may stay: lwIP's TIME-WAIT, and what OpenSSL keeps for itself.
    assert after["heap"] < before["heap"] + after["time_wait"] * 512 + 100_000


TESTS = [test_echo, test_versions, test_flood, test_sink, test_hold, test_end, test_handshake,
         test_curl, test_reload, test_memory, test_latency, test_idle, test_thousand, test_full,
         test_long]


def run(program, kind, folder, only):
    with netns.Namespace("client") as client, netns.Namespace("server") as server_space:
        if kind == "tap":
            space, port, interface = client, "tap:tap0", "tap0"
        else:
            netns.veth(server_space, "nic0", client, "eth0")
            space, port, interface = server_space, "af_packet:nic0", "eth0"
        server = Server(program, space, port, folder)
        client.up(interface)
        client.address(interface, CLIENT + "/24")
        for test in TESTS:
            for tls in (False, True):
                if not only or test.__name__ in only:
                    print(f"{kind} {test.__name__} {'TLS' if tls else 'plain'}", flush=True)
                    test(server, Clients(client), tls)
        stats = server.stats()
        assert stats["frames_held"] == 0 and stats["opened"] == stats["closed"], stats
        server.quit()


def run_limits(program, folder):
    """a small server: how many connections an address may have"""
    with netns.Namespace("client") as client:
        server = Server(program, client, "tap:tap0", folder, places=6, per_address=4)
        client.up("tap0")
        client.address("tap0", CLIENT + "/24")
        clients = Clients(client)
        socks = [clients.open(False) for _ in range(4)]
        for sock in socks:
            echo(sock, b"one of four")
        try:
            with clients.raw() as sock:
                ended(sock)
        except ConnectionResetError:
            pass  # so soon
        assert server.stats()["refused_address"] == 1
        client.ip("address", "add", "10.9.0.3/24", "dev", "tap0")
        with client.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.bind(("10.9.0.3", 0))
            sock.connect((SERVER, HTTP))
            echo(sock, b"somebody else")
        server.quit()  # with connections open


def main(words):
    try:
        netns.need()
    except netns.Unsupported as reason:
        print(reason)
        return netns.SKIPPED
    kinds = [word for word in words[1:] if not word.startswith("test_")] or ["tap", "veth"]
    with tempfile.TemporaryDirectory(prefix="expertd-port-") as folder:
        certificate(f"{folder}/a.crt", f"{folder}/a.key", "check")
        subprocess.run([words[0], "check", f"{folder}/a.crt", f"{folder}/a.key"], check=True)
        if len(words) == 1:
            run_limits(words[0], folder)
        for kind in kinds:
            try:
                run(words[0], kind, folder, [w for w in words[1:] if w.startswith("test_")])
            except netns.Unsupported as reason:
                print(reason)
                return netns.SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
