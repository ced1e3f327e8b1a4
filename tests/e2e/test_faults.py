# SPDX-License-Identifier: MIT
"""The daemon with its experts on drives that fail (tests/faultfs): answers stay those of the model
in memory or are errors that name tensor, file and offset; others go on; the daemon recovers.

test_faults.py EXPERTD MODEL FAULTFS"""
import http.client
import json
import os
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import unittest

from expertd_test import MODEL, PATIENCE_S, SKIPPED, Daemon, main

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faultfs"))
from faultfs import FaultFs, missing  # noqa: E402

FAULTFS = os.path.abspath(sys.argv[3])

# Slots for a few experts only: nearly every step reads.
SLOTS = ("experts.place=slots", "experts.ram=1M", "experts.prefetch=off")
PROMPTS = [[0, token] for token in range(5, 1000, 41)]
TOKENS = 3

golden = cache = None


def choices(answer):
    """What must be equal to the last bit."""
    return [(c["text"], c["logprobs"], c["finish_reason"]) for c in answer.json["choices"]]


def ask(d, prompt, **fields):
    return d.complete(prompt, **{"max_tokens": TOKENS, "temperature": 0, "logprobs": 5, **fields})


def setUpModule():
    global golden, cache
    cache = tempfile.mkdtemp(prefix="expertd-e2e-faults-")
    with daemon("experts.place=resident") as d:
        golden = [choices(ask(d, p)) for p in PROMPTS]


def tearDownModule():
    shutil.rmtree(cache, ignore_errors=True)


def daemon(*sets, **kw):
    """A daemon that shares compiled shaders with the others."""
    return Daemon("model.context_max=256", "device.pipeline_cache=" + cache + "/pipelines", *sets,
                  **kw)


def tensors():
    """Name -> (file, first byte, end)."""
    found = {}
    for name in sorted(os.listdir(MODEL)):
        if name.endswith(".safetensors"):
            with open(os.path.join(MODEL, name), "rb") as f:
                header_bytes, = struct.unpack("<Q", f.read(8))
                header = json.loads(f.read(header_bytes))
            for tensor, value in header.items():
                if tensor != "__metadata__":
                    found[tensor] = (name, *(8 + header_bytes + x for x in value["data_offsets"]))
    return found


def middle(tensor):
    """A tensor's file and a range within it that no read of its neighbours touches."""
    name, first, end = tensors()[tensor]
    return name, {"start": (first + end) // 2, "to": (first + end) // 2 + 1}


class Faults(unittest.TestCase):
    def daemon(self, *sets, fs_options=(), copies=1, wrap=None):
        """A daemon on faultfs, which has read every expert that the prompts need once."""
        self.mounts = [FaultFs(FAULTFS, MODEL, *fs_options) for _ in range(copies)]
        for fs in self.mounts:
            self.addCleanup(fs.stop)
            fs.start()
        self.fs = self.mounts[0]
        if copies > 1:
            sets += ("drives.shards=" + ",".join(fs.path for fs in self.mounts[1:]),)
        d = daemon(*SLOTS, *sets, model=self.fs.path)
        d.env["STATE_DIRECTORY"] = d.dir
        if wrap:
            command = wrap(d.command())
            d.command = lambda: command
        self.addCleanup(d.stop)
        self.addCleanup(self.clear)  # so that nothing holds the stop
        d.start()
        self.all_right(d)
        return d

    def clear(self):
        for fs in self.mounts:
            if fs.process and fs.process.poll() is None:
                fs.clear()

    def all_right(self, d):
        for prompt, want in zip(PROMPTS, golden):
            a = ask(d, prompt)
            self.assertEqual(a.status, 200, a.body)
            self.assertEqual(choices(a), want)

    def all_at_once(self, d):
        """Asks every prompt, together; returns the errors.  What is answered is right."""
        answers = [None] * len(PROMPTS)

        def one(i):
            answers[i] = ask(d, PROMPTS[i])
        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(PROMPTS))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for a, want in zip(answers, golden):
            self.assertIn(a.status, (200, 503))
            if a.status == 200:
                self.assertEqual(choices(a), want)
        return [a.error for a in answers if a.status == 503]

    def health(self, d):
        a = d.get("/health")
        self.assertEqual(a.status, 200)
        return a.json["status"]

    def wait_health(self, d, status):
        until = time.monotonic() + PATIENCE_S
        while self.health(d) != status:
            self.assertLess(time.monotonic(), until, d.log())
            time.sleep(0.02)

    def drives(self, d, name):
        """Sum of a metric over drives."""
        rows = [line for line in d.get("/metrics").body.decode().split("\n")
                if line.startswith("expertd_drive_" + name + "{")]
        self.assertTrue(rows, name)
        return sum(float(row.split()[-1]) for row in rows)

    def names(self, error, *words):
        for word in words:
            self.assertIn(word, error["message"])

    # Passing faults: nobody notices.

    def test_once(self):
        d = self.daemon("experts.verify=always")
        before = self.drives(d, "retry")
        for kind in ("eio", "short", "flip"):
            with self.subTest(kind=kind):
                for prompt, want in zip(PROMPTS[:8], golden):
                    self.fs.command(kind, "*.safetensors", times=1)
                    a = ask(d, prompt)
                    self.assertEqual(a.status, 200, a.body)
                    self.assertEqual(choices(a), want)
                self.assertGreater(sum(self.fs.hits()), 0)
                self.fs.clear()
                self.assertEqual(self.health(d), "ok")
        self.assertGreater(self.drives(d, "retry"), before)
        self.assertGreater(self.drives(d, "mismatch"), 0)

    def test_slow(self):
        d = self.daemon()
        self.fs.command("delay", "*.safetensors", ms=5)
        self.assertEqual(self.all_at_once(d), [])
        self.assertGreater(self.fs.hits()[0], 0)
        self.assertEqual(self.health(d), "ok")

    def test_no_direct(self):
        d = self.daemon(fs_options=["--refuse-direct"])
        warnings = [x for x in d.log().splitlines() if "O_DIRECT" in x]
        self.assertEqual(len(warnings), 1, d.log())
        self.assertEqual(self.all_at_once(d), [])

    def test_memlock(self):
        """Without memory to lock, buffers are not registered: a warning, and the same answers."""
        def limited(command):
            return ["prlimit", "--memlock=65536", "setpriv", "--bounding-set", "-ipc_lock", *command]
        d = self.daemon(wrap=limited)
        warnings = [x for x in d.log().splitlines() if "emlock" in x.lower()]
        self.assertEqual(len(warnings), 1, d.log())
        self.assertEqual(self.all_at_once(d), [])

    # Lasting faults: an error for those whom it meets, and only for them.

    def one_expert(self, kind, d, *words):
        tensor = "model.layers.2.mlp.experts.5.gate_proj.weight"
        name, where = middle(tensor)
        self.fs.command(kind, name, **where)
        errors = []
        for _ in range(3):
            errors += self.all_at_once(d)
        self.assertTrue(0 < len(errors) < 3 * len(PROMPTS), len(errors))
        for e in errors:
            self.assertEqual(e["type"], "unavailable_error")
            self.names(e, "layers.2", name, *words)
        self.fs.clear()
        self.wait_health(d, "ok")
        self.all_right(d)

    def test_one_expert_unreadable(self):
        self.one_expert("eio", self.daemon())

    def test_one_expert_corrupt(self):
        self.one_expert("flip", self.daemon("experts.verify=always"))

    def test_whole_drive(self):
        d = self.daemon()
        self.fs.command("eio", "*.safetensors")
        errors = []
        while self.health(d) == "ok":
            errors += self.all_at_once(d)
        self.assertTrue(errors)
        for e in errors:
            self.names(e, ".safetensors")
        self.assertTrue(d.get("/health").json["detail"])
        self.fs.clear()
        self.wait_health(d, "ok")  # by itself: nobody asks for anything
        self.all_right(d)
        self.assertIn(self.fs.path, d.log())

    def test_stream(self):
        d = self.daemon()
        self.fs.command("eio", "*.safetensors")
        a = ask(d, PROMPTS[0], stream=True)
        self.assertEqual(a.status, 503, a.body)  # nothing was sent yet
        self.fs.clear()
        self.wait_health(d, "ok")

        # In the middle of an answer: an error event ends it.
        c = d.connection()
        c.request("POST", "/v1/completions",
                  json.dumps({"model": "model", "prompt": PROMPTS[0], "max_tokens": 200,
                              "temperature": 1, "logit_bias": {"1": -100}, "stream": True}),
                  {"Content-Type": "application/json"})
        r = c.getresponse()
        self.assertEqual(r.status, 200)
        first = r.readline()
        self.fs.command("eio", "*.safetensors")
        try:
            rest = r.read()
        except http.client.IncompleteRead as e:
            rest = e.partial
        self.assertIn(b"data: ", first)
        self.assertIn(b'"error"', rest)
        self.assertNotIn(b"[DONE]", rest)
        c.close()
        self.fs.clear()
        self.wait_health(d, "ok")
        self.all_right(d)

    def test_truncated(self):
        d = self.daemon()
        name, first, end = tensors()["model.layers.3.mlp.experts.2.up_proj.weight"]
        self.fs.command("truncate", name, size=(first + end) // 2)
        errors = self.all_at_once(d)
        self.assertTrue(errors)
        for e in errors:
            self.names(e, name)
        self.fs.clear()
        self.wait_health(d, "ok")
        self.all_right(d)

    # Drives that do not answer.

    def test_hang(self):
        self.hang("io_uring")

    def test_hang_pread(self):
        self.hang("pread")

    def hang(self, engine):
        d = self.daemon("drives.timeout=1s", "drives.engine=" + engine)
        self.fs.command("hang", "*.safetensors")
        answers = []
        t = threading.Thread(target=lambda: answers.append(ask(d, PROMPTS[0])))
        t.start()
        while not self.fs.hits()[0]:
            time.sleep(0.01)
        while t.is_alive():  # it answers meanwhile
            self.health(d)
            self.drives(d, "in_flight")
        t.join()
        self.assertEqual(answers[0].status, 503)
        self.names(answers[0].error, ".safetensors")
        self.wait_health(d, "degraded")
        self.assertGreater(self.drives(d, "timeout"), 0)
        self.assertRegex(d.log(), r"error: drive \S+ fails")
        self.fs.clear()
        self.wait_health(d, "ok")
        self.assertRegex(d.log(), r"info: drive \S+ works again")
        self.all_right(d)

    def test_hang_streamed(self):
        """A stream that was kept alive before has begun: its error is an event, not a status."""
        for keep_alive, status in (("100ms", 200), ("60s", 503)):
            with self.subTest(keep_alive=keep_alive):
                d = self.daemon("drives.timeout=1s", "limits.keep_alive=" + keep_alive)
                self.fs.command("hang", "*.safetensors")
                c = d.connection()
                c.request("POST", "/v1/completions",
                          json.dumps({"model": "model", "prompt": PROMPTS[0], "stream": True}),
                          {"Content-Type": "application/json"})
                r = c.getresponse()
                try:
                    body = r.read()
                except http.client.IncompleteRead as e:
                    body = e.partial
                self.assertEqual(r.status, status, body)
                self.assertIn(b'"drive_failed"', body)
                self.assertEqual(b": keep-alive" in body, status == 200)
                self.assertNotIn(b"[DONE]", body)
                c.close()
                self.fs.clear()
                self.wait_health(d, "ok")
                self.all_right(d)

    def test_hang_one_expert(self):
        self.one_expert("hang", self.daemon("drives.timeout=1s"))

    def test_stop_while_hung(self):
        for number, timeout in ((1, "1s"), (2, "60min")):
            with self.subTest(number=number):
                d = self.daemon("drives.timeout=" + timeout)
                self.fs.command("hang", "*.safetensors")
                t = threading.Thread(target=lambda: self.asks_in_vain(d))
                t.start()
                while not self.fs.hits()[0]:
                    time.sleep(0.01)
                for i in range(number):  # the second ends it at once
                    d.signal(signal.SIGTERM)
                    while "finishing" not in d.log():
                        time.sleep(0.01)
                self.assertEqual(d.wait(), 0)
                t.join()
                self.clear()

    @staticmethod
    def asks_in_vain(d):
        try:
            ask(d, PROMPTS[0])
        except OSError:  # it has ended
            pass

    # Copies: one that works is enough.

    def copies(self, kind, **keys):
        d = self.daemon("drives.timeout=1s", "experts.verify=always", copies=2)
        bad = self.mounts[1]
        bad.command(kind, "*.safetensors", **keys)
        for _ in range(3):
            self.assertEqual(self.all_at_once(d), [])
        if kind != "truncate":
            self.assertGreater(bad.hits()[0], 0)
        bad.clear()
        self.wait_health(d, "ok")
        self.assertEqual(self.all_at_once(d), [])

    def test_copies_unreadable(self):
        self.copies("eio")

    def test_copies_hang(self):
        self.copies("hang")

    def test_copies_corrupt(self):
        self.copies("flip")

    def test_copies_truncated(self):
        self.copies("truncate", size=4096)


if __name__ == "__main__":
    reason = missing()
    if reason:
        print(reason)
        sys.exit(SKIPPED)
    main()
