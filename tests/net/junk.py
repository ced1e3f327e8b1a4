# SPDX-License-Identifier: MIT
"""Frames that nobody should send, by scapy from a seed: each is bytes for a packet socket."""
import random

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA,
                                ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, IPv6,
                                IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop,
                                IPv6ExtHdrRouting)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

FRAME_MAX = 1514


class Junk:
    """Junk(seed, ...).frames(n) yields n frames.

    mac, client_mac: of the port and of the peer that sends; addresses likewise.  Sources are
    strangers, so that the peer's own connections are not what is hit, unless own is set: then a
    tenth of the segments name them, with sequence numbers that are wrong."""

    def __init__(self, seed, mac, client_mac, server, client, server6, client6, ports):
        self.r = random.Random(seed)
        self.mac, self.client_mac, self.ports = mac, client_mac, ports
        self.server, self.client, self.server6, self.client6 = server, client, server6, client6
        self.kinds = [self.tcp_flags, self.tcp_options, self.tcp_lengths, self.tcp_own, self.ip_header,
                      self.ip_options, self.fragments, self.ip6_extensions, self.ip6_lengths,
                      self.ip6_neighbours, self.arp, self.icmp, self.udp, self.ether, self.noise]

    def frames(self, n):
        for i in range(n):
            frame = bytes(self.kinds[i % len(self.kinds)]())
            if self.r.random() < 0.2:
                frame = self.spoil(frame)
            yield frame[:FRAME_MAX].ljust(14, b"\0")

    def spoil(self, frame):
        """cuts or changes what was well-formed enough"""
        cut = bytearray(frame)
        if self.r.random() < 0.5:
            return bytes(cut[:self.r.randrange(14, len(cut) + 1)])
        for _ in range(self.r.randrange(1, 6)):
            cut[self.r.randrange(12, len(cut))] = self.r.randrange(256)
        return bytes(cut)

    # parts

    def octets(self, most):
        return self.r.randbytes(self.r.randrange(most + 1))

    def link(self):
        return Ether(src=self.client_mac, dst=self.r.choice(
            [self.mac] * 8 + ["ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"]))

    def stranger(self):
        return self.r.choice([
            f"10.9.0.{self.r.randrange(20, 255)}", f"198.51.100.{self.r.randrange(256)}",
            "0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.1", "10.9.0.255", self.server])

    def stranger6(self):
        return self.r.choice([
            f"fd09::{self.r.randrange(256, 65536):x}", f"2001:db8::{self.r.randrange(65536):x}",
            "::", "::1", "ff02::1", "fe80::1234", self.server6, "::ffff:10.9.0.7"])

    def ip(self, **fields):
        return self.link() / IP(src=self.stranger(), dst=self.r.choice(
            [self.server] * 6 + [self.stranger()]), **fields)

    def ip6(self, **fields):
        return self.link() / IPv6(src=self.stranger6(), dst=self.r.choice(
            [self.server6] * 6 + ["ff02::1", self.stranger6()]), **fields)

    def either(self):
        return self.ip() if self.r.random() < 0.6 else self.ip6()

    def port(self):
        return self.r.choice(self.ports + [self.r.randrange(65536)])

    def segment(self, **fields):
        fields.setdefault("flags", self.r.randrange(512))
        return TCP(sport=self.r.randrange(65536), dport=self.port(),
                   seq=self.r.getrandbits(32), ack=self.r.getrandbits(32),
                   window=self.r.choice([0, 1, 65535]), **fields)

    # kinds

    def tcp_flags(self):
        return self.either() / self.segment() / Raw(self.octets(40))

    def tcp_options(self):
        options = self.r.choice([
            [("MSS", self.r.choice([0, 1, 65535]))], [("WScale", 255)], [("SAck", (1, 2))],
            [("Timestamp", (0, 0))] * 3, [("NOP", None)] * 39, [(254, self.r.randbytes(30))],
            [("MSS", 1460), ("EOL", None), ("WScale", 3)]])
        return self.either() / self.segment(options=options, flags=self.r.choice(["S", "SA", "A"]))

    def tcp_lengths(self):
        return self.either() / self.segment(dataofs=self.r.randrange(16),
                                            urgptr=self.r.randrange(65536)) / Raw(self.octets(60))

    def tcp_own(self):
        """of the peer itself, to its own connections' port: resets and data out of any window"""
        link = Ether(src=self.client_mac, dst=self.mac)
        if self.r.random() < 0.5:
            head = link / IP(src=self.client, dst=self.server)
        else:
            head = link / IPv6(src=self.client6, dst=self.server6)
        return head / self.segment(flags=self.r.choice(["R", "RA", "A", "PA", "F", "FA", "U"])) / \
            Raw(self.octets(100))

    def ip_header(self):
        return self.ip(version=self.r.randrange(16), ihl=self.r.randrange(16),
                       len=self.r.randrange(65536), chksum=self.r.choice([None, 0, 0xFFFF]),
                       ttl=self.r.choice([0, 1, 64]), proto=self.r.randrange(256)) / \
            Raw(self.octets(80))

    def ip_options(self):
        option = IPOption(self.r.choice([b"\x83\x0b\x04" + bytes(8), b"\x07\x27\x04" + bytes(36),
                                         b"\x44\x00", b"\x01" * 8, b"\x94\xff\0\0"]))
        return self.ip(options=[option]) / self.segment(flags="S")

    def fragments(self):
        if self.r.random() < 0.5:
            return self.ip(flags=self.r.choice([0, 1, 4]), frag=self.r.randrange(8192),
                           id=self.r.randrange(8), proto=6) / Raw(self.octets(600))
        return self.ip6() / IPv6ExtHdrFragment(offset=self.r.randrange(8192),
                                               m=self.r.randrange(2), id=self.r.randrange(8)) / \
            Raw(self.octets(600))

    def ip6_extensions(self):
        frame = self.ip6()
        for _ in range(self.r.randrange(1, 12)):
            frame /= self.r.choice([IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(),
                                    IPv6ExtHdrRouting(addresses=["fd09::9"]),
                                    IPv6ExtHdrDestOpt(len=255)])
        return frame / self.segment(flags="S")

    def ip6_lengths(self):
        return self.ip6(plen=self.r.randrange(65536), nh=self.r.randrange(256),
                        hlim=self.r.randrange(256)) / Raw(self.octets(100))

    def ip6_neighbours(self):
        what = self.r.choice([
            ICMPv6ND_NS(tgt=self.r.choice([self.server6, self.stranger6()])) /
            ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:99", len=self.r.choice([0, 1, 200])),
            ICMPv6ND_NA(tgt=self.stranger6(), R=1, S=1, O=1), ICMPv6EchoRequest(data=self.octets(99)),
            ICMPv6ND_RA(routerlifetime=0, reachabletime=1) /
            ICMPv6NDOptPrefixInfo(prefix="fd66::", prefixlen=self.r.randrange(256),
                                  len=self.r.choice([0, 4]))])
        return self.ip6(hlim=self.r.choice([1, 64, 255])) / what

    def arp(self):
        return self.link() / ARP(
            op=self.r.choice([0, 1, 2, 3, 65535]), hwlen=self.r.choice([6, 0, 255]),
            plen=self.r.choice([4, 0, 255]), ptype=self.r.choice([0x800, 0x86DD]),
            hwsrc=self.r.choice(["02:00:00:00:00:98", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"]),
            psrc=self.stranger(), pdst=self.r.choice([self.server, self.stranger()]))

    def icmp(self):
        return self.ip() / ICMP(type=self.r.choice([0, 3, 5, 8, 11, 12, 13, 17, 200]),
                                code=self.r.randrange(16)) / Raw(self.octets(200))

    def udp(self):
        return self.either() / UDP(sport=self.r.choice([67, 53, 1]), dport=self.r.choice(
            [68, 67, 53, self.port()]), len=self.r.choice([None, 0, 7, 65535])) / \
            Raw(self.octets(300))

    def ether(self):
        kind = self.r.randrange(4)
        if kind == 0:
            return self.link() / Dot1Q(vlan=self.r.randrange(4096)) / IP(dst=self.server) / \
                self.segment(flags="S")
        if kind == 1:
            return Ether(src=self.r.choice(["ff:ff:ff:ff:ff:ff", self.mac]), dst=self.mac,
                         type=0x800) / Raw(self.octets(60))
        if kind == 2:
            return Ether(src=self.client_mac, dst=self.mac, type=self.r.randrange(65536)) / \
                Raw(self.octets(1500))
        return Ether(src=self.client_mac, dst="02:12:34:56:78:9a") / IP(dst=self.server) / \
            self.segment(flags="S")

    def noise(self):
        return self.link() / Raw(self.octets(1400))
