#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""10,000 malformed frames (junk.py) while streams run: the streams are complete, the daemon goes on
serving, what was dropped is counted by kind, and nothing of it stays.

Called as: test_daemon_junk.py EXPERTD MODEL EXPERTCTL WIRE; scapy makes the frames."""
import re
import socket
import sys
import threading
import time
import unittest

import lab
from expertd_test import text_of
from lab import CLIENT, CLIENT6, HTTP, HTTPS, QUESTION, SERVER, SERVER6, Lab

FRAMES, SEED = 10_000, 5
STREAM = {"model": "model", "messages": QUESTION, "stream": True, "max_tokens": 480,
          "temperature": 0, "seed": 1, "logit_bias": {"1": -100}}


def stream_text(answer):
    assert answer.status == 200, answer.body
    return text_of(answer.events, "reasoning_content"), text_of(answer.events)


class MalformedFrames(unittest.TestCase):
    kind = None

    def setUp(self):
        self.lab = Lab(self.kind)
        self.addCleanup(lambda: self.assertEqual(self.lab.stop(), 0))
        self.lab.start()

    def junk(self):
        text = self.lab.get("/metrics").body.decode()
        mac = re.search(r'mac="([0-9a-f:]+)"', text)[1]
        client_mac = re.search(r"link/ether ([0-9a-f:]+)",
                               self.lab.client.ip("link", "show", "eth0"))[1]
        made = junk.Junk(SEED, mac, client_mac, SERVER, CLIENT, SERVER6, CLIENT6, [HTTP, HTTPS])
        return list(made.frames(FRAMES))

    def send(self, frames, ended):
        """sends them all, then again until ended; not faster than 10,000 a second"""
        sock = self.lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.bind(("eth0", 0))
        sent = 0
        with sock:
            while sent < len(frames) or not ended():
                sock.send(frames[sent % len(frames)])
                sent += 1
                if sent % 50 == 0:
                    time.sleep(0.005)
        return sent

    def frames_while_streams(self):
        frames = self.junk()
        want = stream_text(self.lab.chat(**STREAM))
        ways = [{"tls": True}, {"tls": False}, {"tls": True, "v6": True}]
        got, ended = [None] * len(ways), threading.Event()

        def ask(i):
            while not ended.is_set():
                got[i] = stream_text(self.lab.ask_chat(**STREAM, **ways[i]))
                if got[i] != want:
                    return
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(ways))]
        before = self.lab.metrics()
        for thread in threads:
            thread.start()
        sent = self.send(frames, lambda: True)
        ended.set()
        for thread in threads:
            thread.join()
        self.assertEqual(got, [want] * len(ways), self.lab.log())
        self.assertIsNone(self.lab.process.poll(), self.lab.log())
        self.assertEqual(self.lab.ask("GET", "/health").status, 200)
        return sent, before

    def check(self):
        sent, before = self.frames_while_streams()
        after = self.lab.until_quiet()
        drops = self.lab.dropped()
        print(f"  {sent} frames: {drops}")
        for kind in ("malformed", "foreign", "protocol", "fragment", "tcp_port", "tcp_flags", "udp",
                     "icmp"):
            self.assertGreater(drops[kind], 0, kind)
        self.assertGreater(sum(drops.values()), sent / 2)
        frames = 'expertd_net_frame{direction="rx"}'
        self.assertGreaterEqual(after[frames] - before[frames], sent * 0.9)
        self.assertGreaterEqual(after["expertd_net_mbuf_free"] + 64, before["expertd_net_mbuf_free"])
        # Beside af_packet the kernel sees frames to everybody, too; it says nothing.
        self.assertEqual([row for row in self.lab.kernel_said() if "Out" in row], [])
        self.assertIsNone(self.lab.process.poll())


class AfPacket(MalformedFrames):
    kind = "af_packet"

    def test_frames(self):
        self.check()


class Tap(MalformedFrames):
    kind = "tap"

    def test_frames(self):
        self.check()


if __name__ == "__main__":
    try:
        import junk
    except ImportError as e:
        print(f"skipped: {e}; apt-get install python3-scapy")
        sys.exit(lab.SKIPPED)
    lab.main()
