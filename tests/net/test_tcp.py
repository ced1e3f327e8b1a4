#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_tcp.py TCP_ECHO [CASE...]: the kernel's sockets against io/net/tcp.h, over a tap device in a
namespace of the test.

The server (tcp_echo.c) echoes on port 7 and sends 100,000 bytes and FIN on port 19. After each case
no connection and no frame may be left.
"""

import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time

import netns

SKIPPED = 77
HOST4, HOST6, PEER4, PEER6 = "10.9.0.1", "fd09::1", "10.9.0.2", "fd09::2"
MAC = bytes([2, 0, 0, 0, 0, 7])
ECHO, BURST = 7, 19
WAIT = 60  # seconds for what has to happen: a limit of hanging, not of speed


def check(condition, text):
    if not condition:
        raise AssertionError(text)


class Server:
    """tcp_echo on a tap device of a namespace of its own."""

    def __init__(self, program, address=f"{HOST4}/24", address6=f"{HOST6}/64", **keys):
        self.namespace = netns.Namespace("tcp", ipv6=True)
        ns = self.namespace
        ns.ip("tuntap", "add", "tap0", "mode", "tap")
        ns.up("tap0")
        ns.address("tap0", f"{PEER4}/24")
        ns.address("tap0", f"{PEER6}/64")
        words = [f"{key}={value}" for key, value in keys.items()]
        self.process = ns.start(program, "tap0", address, "", address6, *words,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("{"):
            raise netns.Unsupported(line.strip() or "tcp_echo did not start")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if not kind:
                self.process.stdin.write("quit\n")
                self.process.stdin.flush()
                check(self.process.wait(WAIT) == 0, "the server did not end well")
        finally:
            self.namespace.close()

    def command(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        check(line, "the server is gone")
        return json.loads(line)

    def stats(self):
        return self.command("stats")

    def until(self, text, condition):
        """until waits for statistics for which condition holds, and returns them."""
        end = time.monotonic() + WAIT
        while True:
            stats = self.stats()
            if condition(stats):
                return stats
            check(time.monotonic() < end, f"{text}: {stats}")
            time.sleep(0.02)

    def empty(self):
        """empty: nothing is left of all connections."""
        return self.until("something is left", lambda s: s["connections"] == 0 and s["held"] == 0
                          and s["nic_held"] == 0 and s["half_open"] == 0 and s["orphans"] == 0)

    def connect(self, host=HOST4, port=ECHO, **options):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = self.namespace.socket(family, socket.SOCK_STREAM)
        sock.settimeout(WAIT)
        if "receive" in options:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options["receive"])
        if "source" in options:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((options["source"], options.get("source_port", 0)))
        sock.connect((host, port))
        return sock


def received(sock):
    got = bytearray()
    while part := sock.recv(65536):
        got += part
    return bytes(got)


def exact(sock, n):
    got = bytearray()
    while len(got) < n:
        part = sock.recv(n - len(got))
        check(part, "the stream ended early")
        got += part
    return bytes(got)


def echoed(sock, data, problems=None):
    """echoed sends data and FIN while it reads them back."""
    def send():
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    got = received(sock)
    thread.join()
    sock.close()
    if problems is not None and got != data:
        problems.append(len(got))
    return got


# ---------------------------------------------------------------- cases


def case_echo(server):
    """64 connections x 1 MB each way at once, IPv4 and IPv6."""
    problems, threads = [], []
    randoms = random.Random(1)
    for i in range(64):
        sock = server.connect(HOST6 if i % 4 == 3 else HOST4)
        data = randoms.randbytes(1000000)
        threads.append(threading.Thread(target=echoed, args=(sock, data, problems)))
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"  128 MB in {time.monotonic() - began:.1f} s")
    check(not problems, f"not the bytes that were sent: {problems}")


def case_small(server):
    """single bytes come back at once, each way; then none at all."""
    sock = server.connect()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(2000):
        byte = bytes([i & 255 | 128])
        sock.sendall(byte)
        check(exact(sock, 1) == byte, "another byte")
    sock.close()
    server.connect().close()


def case_half_close(server):
    """who sends FIN first still gets all of the answer."""
    for host in (HOST4, HOST6):
        sock = server.connect(host)
        sock.sendall(b"x" * 100000)
        sock.shutdown(socket.SHUT_WR)
        check(received(sock) == b"x" * 100000, "the answer is not whole")
        sock.close()


def case_we_close_first(server):
    """FIN from the server behind its bytes; the peer's comes before, with or after it."""
    expected = bytes(((i * 7) >> 3) & 255 for i in range(100000))
    for early in (True, False):
        sock = server.connect(port=BURST)
        if early:
            sock.shutdown(socket.SHUT_WR)
        got = received(sock)
        check(got == expected, f"{len(got)} bytes, or others than were sent")
        if not early:
            sock.sendall(b"still open this way")
        sock.close()
    server.until("closed", lambda s: s["ends"]["closed"] >= 2)


def case_reset(server):
    """RST from the peer is told; RST from us comes, also out of a callback."""
    before = server.stats()["ends"]["reset"]
    sock = server.connect()
    exact_echo = b"hello"
    sock.sendall(exact_echo)
    check(exact(sock, 5) == exact_echo, "no echo")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    server.until("reset", lambda s: s["ends"]["reset"] == before + 1)

    sock = server.connect()
    sock.sendall(b"!")
    try:
        check(sock.recv(1) is None, "an answer")
    except ConnectionResetError:
        pass
    sock.close()

    socks = [server.connect() for _ in range(5)]
    server.until("five", lambda s: s["connections"] == 5)
    check(server.command("abort")["connections"] == 0, "places are not free")
    for sock in socks:
        try:
            check(sock.recv(1) is None, "an answer")
        except ConnectionResetError:
            pass
        sock.close()


def case_slow_reader(server):
    """who does not read has its window closed and waits alone; when it reads, all bytes are there."""
    data = random.Random(2).randbytes(2000000)
    slow = server.connect(receive=4096)
    slow.setblocking(False)
    sent = 0
    quiet = 0
    while quiet < 10:  # until nothing more goes in: both windows are closed
        try:
            sent += slow.send(data[sent:sent + 65536])
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.1)
    check(sent < len(data), "the window never closed")
    began = time.monotonic()
    for _ in range(5):
        check(echoed(server.connect(), data) == data, "another connection suffers")
    print(f"  beside a slow reader: 20 MB in {time.monotonic() - began:.2f} s")
    time.sleep(1.5)  # zero-window probes
    slow.setblocking(True)
    slow.settimeout(WAIT)
    rest = threading.Thread(target=lambda: (slow.sendall(data[sent:]),
                                            slow.shutdown(socket.SHUT_WR)))
    rest.start()
    check(received(slow) == data, "bytes are missing")
    rest.join()
    slow.close()


def case_limits(server):
    """connections_max and per_address_max: RST, and places come back."""
    ns = server.namespace
    ns.address("tap0", "10.9.0.3/24")
    ns.address("tap0", "10.9.0.4/24")
    socks = []

    def refused(source):
        try:
            with server.connect(source=source) as sock:
                sock.sendall(b"x")
                return sock.recv(1) == b""
        except ConnectionError:
            return True

    for i in range(8):
        socks.append(server.connect(source=PEER4))
        socks[-1].sendall(b"x")
        exact(socks[-1], 1)
    check(refused(PEER4), "a ninth of one address")
    for i in range(4):
        socks.append(server.connect(source="10.9.0.3"))
        socks[-1].sendall(b"x")
        exact(socks[-1], 1)
    check(refused("10.9.0.4"), "a thirteenth of all")
    stats = server.stats()
    check(stats["connections"] == 12 and stats["refused_address"] == 1
          and stats["refused_places"] == 1, f"{stats}")
    for sock in socks:
        sock.close()
    server.empty()
    check(echoed(server.connect(), b"again") == b"again", "no place came back")


def reopened(server):
    """reopened connects from a port that was used just now, once the kernel lets go of it."""
    end = time.monotonic() + WAIT
    while True:
        try:
            return server.connect(port=BURST, source=PEER4, source_port=33333)
        except OSError:
            check(time.monotonic() < end, "the same ports cannot connect again")
            time.sleep(0.01)


def case_cycles(server):
    """200 connections one after the other, the same ports again: nothing stays."""
    for i in range(200):
        sock = server.connect(HOST6 if i % 2 else HOST4)
        data = bytes([i & 127 | 128]) * (1 + i * 37)
        check(echoed(sock, data) == data, "not the same")
    for i in range(50):  # we close first, so that lwIP has them in TIME_WAIT: they open again
        sock = reopened(server)
        check(len(received(sock)) == 100000, "a connection of the same ports")
        sock.close()
    server.until("no TIME_WAIT at all", lambda s: s["time_wait"] >= 1)


class Wire:
    """frames as they are, beside the kernel's own"""

    def __init__(self, server):
        self.sock = server.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.sock.bind(("tap0", 0))
        self.mac = self.sock.getsockname()[4]
        self.sock.settimeout(WAIT)

    def send(self, frame):
        self.sock.send(bytes(frame))

    def until(self, condition):
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            frame = self.sock.recv(2048)
            if frame[6:12] == MAC and condition(frame):
                return frame
        raise AssertionError("no answer came")


def segments():
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    return Ether, IP, TCP


def case_ping(server):
    """echo requests of both families, of all sizes"""
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    wire = Wire(server)
    ether = Ether(dst=MAC, src=wire.mac)
    for size in (0, 1, 56, 1400):
        data = bytes([size & 255]) * size
        wire.send(ether / IP(src=PEER4, dst=HOST4) / ICMP(id=size, seq=1) / Raw(data))
        wire.until(lambda f: f[12:14] == b"\x08\x00" and f[23] == 1 and f[34] == 0
                   and f[42:42 + size] == data)
        wire.send(ether / IPv6(src=PEER6, dst=HOST6) / ICMPv6EchoRequest(id=size, data=data))
        wire.until(lambda f: f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] == 129
                   and f[62:62 + size] == data)


def case_numbers(server):
    """initial sequence numbers look random; those of lwIP differ by little."""
    Ether, IP, TCP = segments()
    wire = Wire(server)
    numbers = []
    for port in range(20000, 20040):
        wire.send(Ether(dst=MAC, src=wire.mac) / IP(src="10.9.0.77", dst=HOST4)
                  / TCP(sport=port, dport=ECHO, flags="S", seq=1))
        # 10.9.0.77 is nobody's: the answer goes where the SYN came from.
        frame = wire.until(lambda f: f[12:14] == b"\x08\x00" and f[23] == 6
                           and f[36:38] == struct.pack(">H", port))
        numbers.append(struct.unpack(">I", frame[38:42])[0])
    steps = [(b - a) % 2**32 for a, b in zip(numbers, numbers[1:])]
    check(sum(2**20 < step < 2**32 - 2**20 for step in steps) > 35, f"{steps}")
    server.until("half open", lambda s: s["half_open"] > 0)
    for port in range(20000, 20040):
        wire.send(Ether(dst=MAC, src=wire.mac) / IP(src="10.9.0.77", dst=HOST4)
                  / TCP(sport=port, dport=ECHO, flags="R", seq=2))


def case_neighbours(server):
    """more machines than lwIP's tables have places for: nobody is asked for again and again."""
    ns = server.namespace
    for i in range(40):
        ns.address("tap0", f"10.9.0.{100 + i}/24")
        ns.address("tap0", f"fd09::{100 + i:x}/64")
    wire = Wire(server)
    socks = [server.connect(HOST6 if i % 2 else HOST4,
                            source=f"fd09::{100 + i:x}" if i % 2 else f"10.9.0.{100 + i}")
             for i in range(40)]
    asked = 0
    for turn in range(5):
        for i, sock in enumerate(socks):
            sock.sendall(bytes([turn, i]))
        for i, sock in enumerate(socks):
            check(exact(sock, 2) == bytes([turn, i]), "another echo")
    for sock in socks:
        sock.close()
    wire.sock.setblocking(False)
    try:
        while True:
            frame = wire.sock.recv(2048)
            ours = frame[6:12] == MAC
            asked += ours and frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\x01"
            asked += ours and frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 135
    except BlockingIOError:
        pass
    check(asked <= 4, f"{asked} ARP and ND requests for 40 peers")


def case_far_numbers(server):
    """numbers half a circle away from their connection's: lwIP would assert."""
    Ether, IP, TCP = segments()
    wire = Wire(server)
    ether, ip = Ether(dst=MAC, src=wire.mac), IP(src="10.9.0.98", dst=HOST4)
    wire.send(ether / ip / TCP(sport=21900, dport=ECHO, flags="S", seq=1000))
    answer = wire.until(lambda f: f[12:14] == b"\x08\x00" and f[23] == 6
                        and f[36:38] == struct.pack(">H", 21900) and f[47] == 0x12)
    ack = (struct.unpack(">I", answer[38:42])[0] + 1) % 2**32
    wire.send(ether / ip / TCP(sport=21900, dport=ECHO, flags="A", seq=1001, ack=ack))
    for off in (2**31, 2**31 - 1, 2**31 + 1, 2**30 + 2, -2**30 - 2):
        for data, flags in ((b"z", "PA"), (b"", "FA"), (b"zz", "PA"), (b"z", "R"), (b"z", "RA")):
            for seq, far in ((1001 + off, ack), (1001, ack + off), (1001 + off, ack + off)):
                segment = TCP(sport=21900, dport=ECHO, flags=flags, seq=seq % 2**32,
                              ack=far % 2**32)
                if seq != 1001 or "R" not in flags:
                    wire.send(ether / ip / segment / data)
    check(echoed(server.connect(), b"here") == b"here", "another peer")
    check(server.stats()["dropped"]["tcp_numbers"] >= 60, f"{server.stats()['dropped']}")
    wire.send(ether / ip / TCP(sport=21900, dport=ECHO, flags="PA", seq=1001, ack=ack) / b"near")
    wire.until(lambda f: f[12:14] == b"\x08\x00" and f[36:38] == struct.pack(">H", 21900)
               and f[54:58] == b"near")
    wire.send(ether / ip / TCP(sport=21900, dport=ECHO, flags="R", seq=1005))


def case_half_open(server):
    """a flood of SYNs from nobody: bounded, and a real peer still connects."""
    Ether, IP, TCP = segments()
    wire = Wire(server)
    for i in range(3000):
        source = f"10.9.{1 + i % 200}.{1 + i // 200}"
        wire.send(Ether(dst=MAC, src=wire.mac) / IP(src=source, dst=HOST4)
                  / TCP(sport=1024 + i, dport=ECHO, flags="S", seq=i))
        if i % 500 == 250:
            check(echoed(server.connect(), b"here") == b"here", "a real peer")
    stats = server.stats()
    check(stats["half_open"] <= 16, f"{stats['half_open']} half open")
    check(stats["dropped"]["syn_proof"] > 1000, f"{stats['dropped']}")
    check(echoed(server.connect(HOST6), b"here") == b"here", "a real peer")
    server.until("half open", lambda s: s["half_open"] == 0)


def case_out_of_order(server):
    """tiny segments behind a hole: what lwIP keeps of them is bounded, and the pool stays usable."""
    Ether, IP, TCP = segments()
    wire = Wire(server)
    server.namespace.run("ip", "neigh", "replace", "10.9.0.99", "dev", "tap0", "lladdr",
                         "02:00:00:00:00:63", check=True)
    from scapy.layers.l2 import ARP

    ether = Ether(dst=MAC, src=wire.mac)
    wire.send(ether / ARP(op=1, hwsrc=wire.mac, psrc="10.9.0.99", hwdst=bytes(6), pdst=HOST4))
    ip = IP(src="10.9.0.99", dst=HOST4)
    for port in range(21000, 21008):
        wire.send(ether / ip / TCP(sport=port, dport=ECHO, flags="S", seq=1000))
        frame = wire.until(lambda f: f[12:14] == b"\x08\x00" and f[23] == 6
                           and f[36:38] == struct.pack(">H", port) and f[47] == 0x12)
        ack = (struct.unpack(">I", frame[38:42])[0] + 1) % 2**32
        wire.send(ether / ip / TCP(sport=port, dport=ECHO, flags="A", seq=1001, ack=ack))
        for k in range(600):  # every other byte of the window
            segment = TCP(sport=port, dport=ECHO, flags="PA", seq=1003 + 2 * k, ack=ack) / b"z"
            wire.send(ether / ip / segment)
    stats = server.stats()
    check(stats["nic_held"] <= 64, f"{stats['nic_held']} frames of the pool are held")
    check(echoed(server.connect(), b"y" * 300000) == b"y" * 300000, "others suffer")
    server.until("trimmed", lambda s: s["held"] <= 8 * 64)
    for port in range(21000, 21008):
        wire.send(ether / ip / TCP(sport=port, dport=ECHO, flags="R", seq=1001))
    server.command("abort")


def junk(randoms, wire):
    """junk makes frames that are wrong in the ways that headers can be."""
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import (ICMPv6EchoRequest, ICMPv6MLQuery, ICMPv6ND_NA, ICMPv6ND_NS,
                                    ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr,
                                    ICMPv6PacketTooBig, IPv6, IPv6ExtHdrHopByHop, RouterAlert)
    from scapy.layers.l2 import ARP, Ether
    from scapy.packet import Raw

    ether = Ether(dst=MAC, src=wire.mac)
    ip, ip6 = IP(src=PEER4, dst=HOST4), IPv6(src=PEER6, dst=HOST6, hlim=255)
    link = IPv6(src="fe80::1", dst="ff02::1", hlim=255)
    solicited = IPv6(src=PEER6, dst="ff02::1:ff00:1", hlim=255)
    seeds = [bytes(ether / layer) for layer in (
        ip / TCP(sport=5, dport=ECHO, flags="S", options=[("MSS", 1460), ("WScale", 7)]),
        ip / TCP(sport=5, dport=ECHO, flags="A"), ip / TCP(sport=5, dport=ECHO, flags="PA") / b"x",
        ip / TCP(sport=5, dport=ECHO, flags="F"), ip / TCP(sport=5, dport=ECHO, flags="R"),
        ip6 / TCP(sport=5, dport=ECHO, flags="S", options=[("MSS", 1440)]),
        ip6 / TCP(sport=5, dport=ECHO, flags="PA") / b"xy", ip / ICMP() / b"ping",
        ip / UDP(sport=67, dport=68) / b"bootp", ip / UDP(sport=1, dport=2),
        ARP(op=1, psrc=PEER4, pdst=HOST4), ARP(op=2, psrc=PEER4, pdst=HOST4, hwdst=MAC),
        ip6 / ICMPv6EchoRequest(data=b"ping"), solicited / ICMPv6ND_NS(tgt=HOST6)
        / ICMPv6NDOptSrcLLAddr(lladdr=wire.mac), ip6 / ICMPv6ND_NA(tgt=PEER6),
        link / ICMPv6ND_RA(routerlifetime=0) / ICMPv6NDOptPrefixInfo(prefix="fd77::", prefixlen=64),
        IPv6(src="fe80::1", dst="ff02::1", hlim=1) / IPv6ExtHdrHopByHop(options=RouterAlert())
        / ICMPv6MLQuery(), ip6 / ICMPv6PacketTooBig(mtu=1280) / IPv6(src=HOST6, dst=PEER6)
        / TCP(sport=ECHO, dport=5), Raw(b"?" * 50))]
    frames = []
    while len(frames) < 10000:
        kind, frame = randoms.randrange(4), bytearray(randoms.choice(seeds))
        for _ in range(randoms.randrange(1, 5)):
            frame[randoms.randrange(12, len(frame))] = randoms.randrange(256)
        if kind == 1:
            frame = frame[:randoms.randrange(14, len(frame) + 1)]
        elif kind == 2:
            frame += randoms.randbytes(randoms.randrange(1400 - len(frame)))
        frame = mended(bytes(frame)) if kind == 3 else bytes(frame)
        frames.append(frame)
    return frames


def mended(frame):
    """mended gives a frame right checksums where its headers allow, so that it gets farther."""
    from scapy.layers.l2 import Ether

    try:
        packet = Ether(frame)
        layer = packet
        while layer:
            for name in ("chksum", "cksum"):
                if name in layer.fields:
                    del layer.fields[name]
            layer = layer.payload
        return bytes(packet)
    except Exception:  # scapy is no parser of junk; the frame goes as it is
        return frame


def case_junk(server):
    """10,000 malformed frames, half of them beside a stream: no crash, no leak, nothing lost."""
    wire = Wire(server)
    frames = junk(random.Random(3), wire)
    data = random.Random(4).randbytes(3000000)
    problems = []
    for n, frame in enumerate(frames):
        if n == len(frames) // 2:
            stream = threading.Thread(target=echoed, args=(server.connect(), data, problems))
            stream.start()
        wire.send(frame)
    stream.join()
    check(not problems, "the stream is not byte-exact")
    stats = server.until("half open", lambda s: s["half_open"] == 0)
    dropped = stats["dropped"]
    print("  " + ", ".join(f"{key} {value}" for key, value in dropped.items() if value))
    for kind in ("malformed", "protocol", "foreign", "tcp_flags", "tcp_port", "fragment"):
        check(dropped[kind] > 0, f"no {kind}")
    for host in (HOST4, HOST6):
        check(echoed(server.connect(host), b"alive") == b"alive", host)


def case_silent(server):
    """a peer that stops acknowledging in the middle is lost in the end; others go on."""
    Ether, IP, TCP = segments()
    wire = Wire(server)
    from scapy.layers.l2 import ARP

    ether = Ether(dst=MAC, src=wire.mac)
    wire.send(ether / ARP(op=1, hwsrc=wire.mac, psrc="10.9.0.98", hwdst=bytes(6), pdst=HOST4))
    ip = IP(src="10.9.0.98", dst=HOST4)
    wire.send(ether / ip / TCP(sport=5, dport=BURST, flags="S", seq=1, window=60000))
    frame = wire.until(lambda f: f[12:14] == b"\x08\x00" and f[23] == 6 and f[47] == 0x12)
    ack = (struct.unpack(">I", frame[38:42])[0] + 1) % 2**32
    wire.send(ether / ip / TCP(sport=5, dport=BURST, flags="A", seq=2, ack=ack, window=60000))
    first = wire.until(lambda f: f[23] == 6 and len(f) > 500)
    again = wire.until(lambda f: f[23] == 6 and len(f) > 500 and f[38:42] == first[38:42])
    check(again[54:] == first[54:], "sent again, but not the same")
    check(server.stats()["connections"] == 1, "given up at once")
    wire.send(ether / ip / TCP(sport=5, dport=BURST, flags="R", seq=2))


def case_slaac(server):
    """a router says what network this is; lwIP takes an address of it, and answers there."""
    from scapy.layers.inet6 import (ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr,
                                    IPv6)
    from scapy.layers.l2 import Ether

    wire = Wire(server)
    router = server.namespace
    wire.send(Ether(dst="33:33:00:00:00:01", src=wire.mac)
              / IPv6(src="fe80::99", dst="ff02::1", hlim=255)
              / ICMPv6ND_RA(routerlifetime=1800)
              / ICMPv6NDOptPrefixInfo(prefix="fd55::", prefixlen=64, L=1, A=1)
              / ICMPv6NDOptSrcLLAddr(lladdr=wire.mac))
    stats = server.until("no address of fd55::/64", lambda s: any(
        address.startswith("fd55:") for address in s["address6"]))
    router.address("tap0", "fd55::2/64")
    address = [a for a in stats["address6"] if a.startswith("fd55:")][0]
    check(echoed(server.connect(address), b"hello") == b"hello", "no echo")


# ---------------------------------------------------------------- DHCP


class DhcpServer(threading.Thread):
    """A DHCP server that says what its script has it say: a kind of answer to each message."""

    def __init__(self, namespace, script):
        super().__init__(daemon=True)
        self.sock = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800))
        self.sock.bind(("tap0", 0))
        self.sock.settimeout(WAIT)
        self.script, self.seen, self.lease = script, [], {"lease": 20}

    def run(self):
        from scapy.layers.dhcp import BOOTP, DHCP
        from scapy.layers.inet import IP, UDP
        from scapy.layers.l2 import Ether

        mac = self.sock.getsockname()[4]
        while True:
            try:
                frame = self.sock.recv(2048)
            except OSError:
                return
            packet = Ether(frame)
            if packet.src != MAC.hex(":") or DHCP not in packet:
                continue
            options = {o[0]: o[1] for o in packet[DHCP].options if isinstance(o, tuple)}
            kind = {1: "discover", 3: "request"}[options["message-type"]]
            if kind == "request" and packet[BOOTP].ciaddr != "0.0.0.0":
                kind = "rebind" if packet[IP].dst == "255.255.255.255" else "renew"
            self.seen.append(kind)
            answer = self.script(kind, len(self.seen))
            if not answer:
                continue
            kind, address = answer
            self.sock.send(bytes(
                Ether(dst=MAC, src=mac)
                / IP(src=PEER4, dst=address) / UDP(sport=67, dport=68)
                / BOOTP(op=2, yiaddr=address, xid=packet[BOOTP].xid, chaddr=packet[BOOTP].chaddr)
                / DHCP(options=[("message-type", kind), ("server_id", PEER4),
                                ("subnet_mask", "255.255.255.0"), ("router", PEER4),
                                ("lease_time", 20), "end"])))


def case_dhcp(program):
    """a lease: taken after a lost offer, renewed, then refused: another address, and the old one's
    connections are reset."""
    def script(kind, n):
        if n == 1:
            return None  # the first DISCOVER is lost
        if kind == "discover":
            return "offer", "10.9.0.50" if "renew" not in dhcp.seen else "10.9.0.51"
        if kind == "renew":
            return ("ack", "10.9.0.50") if dhcp.seen.count("renew") == 1 else ("nak", "10.9.0.50")
        return "ack", "10.9.0.50" if "renew" not in dhcp.seen else "10.9.0.51"

    with Server(program, address="dhcp", address6="") as server:
        dhcp = DhcpServer(server.namespace, script)
        dhcp.start()
        server.until("no lease", lambda s: s["address4"] == "10.9.0.50")
        held = server.connect("10.9.0.50")
        held.sendall(b"a")
        check(exact(held, 1) == b"a", "no echo")
        server.until("not renewed", lambda s: "renew" in dhcp.seen)
        held.sendall(b"b")  # renewing changes nothing
        check(exact(held, 1) == b"b", "no echo")
        server.until("no new address", lambda s: s["address4"] == "10.9.0.51")
        check(dhcp.seen[:4] == ["discover", "discover", "request", "renew"], f"{dhcp.seen}")
        try:
            check(held.recv(1) == b"", "bytes from an address that is gone")
        except ConnectionResetError:
            pass
        held.close()
        check(echoed(server.connect("10.9.0.51"), b"c" * 5000) == b"c" * 5000, "no echo")
        server.empty()


# ---------------------------------------------------------------- all


CASES = {  # case: keys of the server
    case_echo: {}, case_small: {}, case_half_close: {}, case_we_close_first: {}, case_reset: {},
    case_slow_reader: {}, case_cycles: {}, case_ping: {}, case_numbers: {}, case_silent: {},
    case_neighbours: {},
    case_limits: {"connections": 12, "per_address": 8},
    case_far_numbers: {}, case_half_open: {"half_open": 16, "syn_second": 1600},
    case_out_of_order: {"mbufs": 64}, case_junk: {}, case_slaac: {"address6": "auto"},
}


def main(program, names):
    try:
        for case, keys in CASES.items():
            if names and case.__name__[5:] not in names:
                continue
            print(f"{case.__name__[5:]}: {case.__doc__.split(chr(10))[0]}", flush=True)
            with Server(program, **keys) as server:
                # The address must have been looked for on the link before it is used.
                server.until("no IPv6", lambda s: not keys.get("address6", HOST6) == HOST6
                             or HOST6 in s["address6"])
                case(server)
                server.empty()
        if not names or "dhcp" in names:
            print("dhcp", flush=True)
            case_dhcp(program)
    except netns.Unsupported as reason:
        print(reason)
        return SKIPPED
    except ImportError as reason:
        print(f"{reason}: install python3-scapy")
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
