#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The daemon behind a bad line (wire.c): with loss, reordering, duplication, damage and delay a
large question arrives and long streams are answered byte for byte as over the Unix socket.

Called as: test_daemon_wire.py EXPERTD MODEL EXPERTCTL WIRE"""
import hashlib
import json
import random
import threading
import time
import unittest

import lab
from expertd_test import text_of
from lab import QUESTION, Lab

BAD = ("loss=2", "reorder=2", "held=3000", "duplicate=2", "corrupt=1", "delay=300", "jitter=700")
BODY_BYTES = 8_000_000  # a little less than limits.body_bytes_max
# About 700 KB of answer: log-probabilities make events large.
STREAM = {"model": "model", "messages": QUESTION, "stream": True, "max_tokens": 480,
          "temperature": 0, "seed": 1, "logit_bias": {"1": -100}, "logprobs": True,
          "top_logprobs": 20, "stream_options": {"include_usage": True}}


def question(seed, size):
    """a body for /detokenize of that many bytes, of tokens that are one character each"""
    ids = random.Random(seed).choices(range(15, 25), k=size // 8 - 4)
    return json.dumps({"tokens": ids}, separators=("," + " " * 5, ":"))


def stream_parts(answer):
    """what a stream says, without what differs from request to request"""
    assert answer.status == 200, answer.body[:300]
    events = answer.events
    for event in events:
        event.pop("id")
        event.pop("created")
    return events


class BadLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = Lab("tap")
        try:
            cls.lab.start()
            cls.body = question(3, BODY_BYTES)
            cls.answer = cls.lab.post("/detokenize", cls.body)
            assert cls.answer.status == 200, cls.answer.body
            cls.stream = stream_parts(cls.lab.post("/v1/chat/completions", STREAM))
            assert len(text_of(cls.stream)) + len(text_of(cls.stream, "reasoning_content")) > 400
        except BaseException:
            cls.lab.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        assert cls.lab.stop() == 0

    def bad(self, *words):
        """the line is bad until the test ends; then what it did is printed and checked"""
        self.lab.rewire(*words)
        started = time.monotonic()

        def good():
            did = self.lab.rewire()
            print(f"  {time.monotonic() - started:.1f} s; {did}")
            rates = dict(word.split("=") for word in words)
            for word, count in (("loss", "lost"), ("reorder", "reordered"),
                                ("duplicate", "duplicated"), ("corrupt", "corrupted")):
                for way in ("left", "right"):
                    self.assertEqual(did[way][count] > 0, word in rates, (way, count))
        self.addCleanup(good)

    def quiet(self):
        """no connection, no frame stays; what was open when the line was bad takes its time"""
        self.lab.until_quiet()

    def upload(self, tls):
        got = self.lab.ask("POST", "/detokenize", self.body, tls=tls)
        self.assertEqual(got.status, 200)
        self.assertEqual(hashlib.sha256(got.body).hexdigest(),
                         hashlib.sha256(self.answer.body).hexdigest())

    def streams(self, count, **options):
        """so many streams at once"""
        got = [None] * count

        def ask(i):
            got[i] = stream_parts(self.lab.ask("POST", "/v1/chat/completions", STREAM, **options))
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for parts in got:
            self.assertEqual(parts, self.stream)

    def test_upload(self):
        self.bad("seed=11", *BAD)
        self.upload(tls=True)
        self.quiet()

    def test_upload_plain(self):
        self.bad("seed=12", *BAD)
        self.upload(tls=False)
        self.quiet()

    def test_streams(self):
        self.bad("seed=13", *BAD)
        self.streams(3, tls=True)
        self.streams(2, tls=False, v6=True)
        self.quiet()

    def test_damage(self):
        """checksums: without TLS only they tell"""
        self.bad("seed=14", "corrupt=3")
        self.streams(1, tls=False)
        self.streams(1, tls=False, v6=True)
        self.upload(tls=False)
        self.quiet()

    def test_connections(self):
        """many short connections, so that handshakes and ends are hit too"""
        self.bad("seed=15", *BAD)
        failures = []

        def run():
            try:
                for i in range(25):
                    a = self.lab.ask("GET", "/health", tls=bool(i % 2))
                    assert a.status == 200 and a.json["status"] == "ok", a.body
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)
        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.quiet()


if __name__ == "__main__":
    lab.main()
