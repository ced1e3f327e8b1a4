# SPDX-License-Identifier: MIT
"""Experts on drives: the demo model with as few slots as there can be answers exactly what it
answers with everything resident, whatever the way of reading; metrics, status and the routing
trace; and what start-up says when something is missing.

Called as: test_stream.py EXPERTD MODEL EXPERTCTL; REPLAY in the environment is tools/replay.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from expertd_test import EXPERTD, MODEL, PATIENCE_S, Daemon, main

EXPERTCTL = sys.argv[3]
REPLAY = os.environ.get("REPLAY")
CASES_N = 6
K, EXPERTS, LAYERS = 4, 16, 5  # of the demo model, MTP layer included

cache = resident = slot_bytes = None


def daemon(*sets, **kw):
    """A daemon that shares compiled shaders with the others."""
    return Daemon("model.context_max=512", "device.pipeline_cache=" + cache + "/pipelines", *sets,
                  **kw)


def cases():
    with open(os.path.join(MODEL, "golden.jsonl")) as f:
        return [json.loads(line) for line in f][:CASES_N]


def answer(d, case):
    """Bytes and log-probabilities of every token, to the last bit."""
    a = d.chat(messages=case["messages"], temperature=0, logprobs=True, top_logprobs=3,
               max_tokens=len(case["output_ids"]) + 8)
    assert a.status == 200, a.body
    logprobs = a.json["choices"][0]["logprobs"]
    entries = (logprobs.get("reasoning_content") or []) + (logprobs["content"] or [])
    return [(e["bytes"], e["logprob"], [(t["bytes"], t["logprob"]) for t in e["top_logprobs"]])
            for e in entries]


def answers(d, parallel=False):
    got = [None] * CASES_N

    def ask(i, case):
        got[i] = answer(d, case)
    threads = [threading.Thread(target=ask, args=x) for x in enumerate(cases())]
    for t in threads:
        t.start()
        if not parallel:
            t.join()
    for t in threads:
        t.join()
    return got


def setUpModule():
    global cache, resident, slot_bytes
    cache = tempfile.mkdtemp(prefix="expertd-e2e-stream-")
    with daemon("experts.place=resident") as d:
        resident = answers(d)
        for got, case in zip(resident, cases()):
            ids = [i for i in case["output_ids"] if i != 1]  # without the end token
            want = d.post("/detokenize", {"tokens": ids}).json["content"]
            assert b"".join(bytes(e[0]) for e in got).decode() == want
            assert len(got) == len(ids)
        assert d.metric("expertd_expert_slot") == 0
        assert "expertd_drive_" not in d.get("/metrics").body.decode()
    with daemon("experts.place=slots", "experts.ram=64M") as d:  # a slot for every expert
        assert d.metric("expertd_expert_slot") == EXPERTS * (LAYERS - 1), d.log()
        slot_bytes = slot_bytes_of(d.log())


def tearDownModule():
    shutil.rmtree(cache, ignore_errors=True)


def slot_bytes_of(log):
    """About what a slot takes, from the memory plan."""
    line = [x for x in log.splitlines() if re.search(r"plan: .*slots", x)][0]
    return float(re.search(r"x +([0-9.]+) MB", line).group(1)) * 1e6


def ram(slots):
    """[experts] ram for exactly so many slots."""
    return "experts.ram=%d" % ((slots + 0.5) * slot_bytes)


class Same(unittest.TestCase):
    def check(self, *sets, slots=K, vram_slots=0, parallel=False):
        with daemon("experts.place=slots", ram(slots), *sets) as d:
            slots += vram_slots
            self.assertEqual(d.metric("expertd_expert_slot"), slots, d.log())
            got = answers(d)
            for i in range(CASES_N):
                self.assertEqual(got[i], resident[i], f"case {i}")
            if parallel:  # prompts and sequences together: layers go in waves
                self.assertEqual(answers(d, parallel=True), resident)
            self.figures(d, slots)
            log = d.log()
            status = subprocess.run([EXPERTCTL, "--socket", d.socket, "status"], text=True,
                                    stdout=subprocess.PIPE, timeout=PATIENCE_S, check=True).stdout
            for label in ("experts", "drives", "stalls"):
                self.assertRegex(status, rf"(?m)^{label} ")
            self.assertNotRegex(status, r"(?m)^failing ")
        return log

    def figures(self, d, slots):
        m = d.metric
        hits, misses = m("expertd_expert_hit"), m("expertd_expert_miss")
        self.assertGreater(misses, 0)
        self.assertGreater(m("expertd_expert_read"), 0)
        if slots == K:
            self.assertGreater(misses, hits)
        useful, drives = m("expertd_expert_read_bytes"), m("expertd_expert_drive_bytes")
        self.assertGreater(useful, 0)
        self.assertGreaterEqual(drives, useful)
        self.assertEqual(m("expertd_expert_failed"), 0)
        self.assertEqual(m("expertd_expert_slot"), slots)
        self.assertLessEqual(m("expertd_expert_slot_used"), slots)
        text = d.get("/metrics").body.decode()
        rows = re.findall(r'(?m)^expertd_drive_bytes\{drive="[^"]+"\} (\S+)$', text)
        self.assertTrue(rows)
        self.assertTrue(all(float(x) > 0 for x in rows), rows)
        self.assertGreater(sum(map(float, re.findall(
            r'(?m)^expertd_expert_stall_us\{cause="\w+"\} (\S+)$', text))), 0)
        self.assertEqual(d.get("/health").json["status"], "ok")
        return len(rows)

    def test_smallest(self):
        log = self.check(parallel=True)
        self.assertRegex(log, r"plan: .*slots")
        self.assertRegex(log, r"info: drives: ")

    def test_half(self):
        self.check("model.mtp=on", slots=EXPERTS * (LAYERS - 1) // 2, parallel=True)

    def test_no_drafts(self):
        self.check("model.mtp=off", "experts.prefetch=on", slots=K + 1)

    def test_pread(self):
        self.check("drives.engine=pread", "experts.verify=always", "experts.prefetch=off",
                   "drives.queue_depth=3", "drives.read_size=64K")

    def test_staging(self):
        # Slots of the host and, above them, as few of the device as there can be.
        self.check("experts.path=staging", "experts.vram=%d" % ((K + 0.5) * slot_bytes),
                   "experts.verify=off", vram_slots=K, parallel=True)

    def test_copies(self):
        with tempfile.TemporaryDirectory() as other:
            for name in os.listdir(MODEL):
                if name.endswith(".safetensors"):
                    shutil.copy(os.path.join(MODEL, name), other)
            with daemon("experts.place=slots", ram(K), "drives.shards=" + other) as d:
                self.assertEqual(answers(d), resident)
                self.assertEqual(self.figures(d, K), 2)

    def test_pack(self):
        with tempfile.TemporaryDirectory() as d:
            pack = os.path.join(d, "pack")
            subprocess.run([EXPERTCTL, "--quiet", "pack", MODEL, pack], check=True,
                           timeout=PATIENCE_S)
            self.check("drives.pack=" + pack, "experts.verify=always")


def trace_read(path):
    """Records of a routing trace: (step, layer, rows of ids).  The format: sched/routing_trace.h."""
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"expertRT", data[:8]
    version, layers, experts, k = (int.from_bytes(data[8 + 4 * i:12 + 4 * i], "little")
                                   for i in range(4))
    assert (version, layers, experts, k) == (1, LAYERS, EXPERTS, K)
    at, step, records = 24, 0, []
    while at < len(data):
        first, numbers = at, []
        for _ in range(3):
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 0x7f) << shift
                shift += 7
                if byte < 0x80:
                    break
            numbers.append(value)
        step += numbers[0]
        rows = numbers[2]
        n = (rows * K * 4 + 7) // 8
        ids = [b >> s & 15 for b in data[at:at + n] for s in (0, 4)]
        at += n
        check = 0x811c9dc5
        for byte in data[first:at]:
            check = (check ^ byte) * 0x01000193 & 0xffffffff
        assert (check >> 16 ^ check) & 0xffff == int.from_bytes(data[at:at + 2], "little")
        at += 2
        records.append((step, numbers[1], [ids[i * K:i * K + K] for i in range(rows)]))
    return records


class Trace(unittest.TestCase):
    def traced(self, path, *sets):
        d = daemon("model.mtp=off", *sets)
        command = d.command()
        d.command = lambda: [*command, "--trace-routing", path]
        return d

    def trace(self, *sets):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace")
            with open(path, "wb") as f:
                f.write(b"x" * 100)  # is replaced
            case = cases()[0]
            with self.traced(path, *sets) as d:
                answer(d, case)
            records = trace_read(path)
            if REPLAY:
                self.replays(path)
        # Every token of prompt and answer, in each of the three MoE layers, and no warm-up.
        tokens = len(case["prompt_ids"]) + len(case["output_ids"]) - 1
        for layer in range(1, LAYERS - 1):
            rows = [row for _, at, rows in records if at == layer for row in rows]
            self.assertEqual(len(rows), tokens)
            for row in rows:
                self.assertEqual(len(set(row)), K)
        self.assertEqual({at for _, at, _ in records}, set(range(1, LAYERS - 1)))
        return records

    def replays(self, path):
        r = subprocess.run([REPLAY, "--json", "--slots", f"{K},{EXPERTS}", path], check=True,
                           timeout=PATIENCE_S, text=True, stdout=subprocess.PIPE)
        rows = [json.loads(line) for line in r.stdout.splitlines()]
        self.assertEqual([row["slots"] for row in rows], [K, EXPERTS])
        for row in rows:
            for policy in ("lru", "lfu", "ours"):
                self.assertTrue(0 <= row[policy] <= row["belady"] <= 1, row)
        self.assertGreater(rows[1]["belady"], 0)

    def test_same_with_and_without_slots(self):
        self.assertEqual(self.trace("experts.place=resident"),
                         self.trace("experts.place=slots", ram(K)))

    def test_disk_full(self):
        with self.traced("/dev/full") as d:
            self.assertEqual(answers(d), resident)  # it is only a trace
            until = time.monotonic() + PATIENCE_S
            while "/dev/full" not in d.log() and time.monotonic() < until:
                time.sleep(0.05)
            answer(d, cases()[0])
        with self.traced("/dev/full") as d:
            answer(d, cases()[0])
            d.signal(signal.SIGTERM)
            self.assertEqual(d.wait(), 0)
            lines = [x for x in d.log().splitlines() if "/dev/full" in x]
            self.assertEqual(len(lines), 1, lines)
            self.assertIn("No space left", lines[0])


class Summary(unittest.TestCase):
    def test_usr1(self):
        with daemon("experts.place=slots", ram(K)) as d:
            answer(d, cases()[0])
            d.signal(signal.SIGUSR1)
            until = time.monotonic() + PATIENCE_S
            while "state: experts:" not in d.log() and time.monotonic() < until:
                time.sleep(0.02)
            self.assertRegex(d.log(), r"state: experts: [0-9.]+ % of \d+ found in slots; drives gave")


class StartFails(unittest.TestCase):
    def fails(self, *words, sets=(), args=()):
        d = daemon(*sets)
        command = d.command()
        d.command = lambda: [*command, *args]
        try:
            d.spawn()
            self.assertEqual(d.wait(), 1, d.log())
            errors = [line for line in d.log().splitlines() if "error" in line]
            self.assertEqual(len(errors), 1, d.log())
            for word in words:
                self.assertIn(word, errors[0])
        finally:
            d.process.kill()
            d.stop()

    def test_directories(self):
        for key in ("shards", "pack"):
            self.fails(key, "/nowhere/at/all", "No such file",
                       sets=["experts.place=slots", f"drives.{key}=/nowhere/at/all"])
            self.fails(key, MODEL + "/config.json", "Not a directory",
                       sets=[f"drives.{key}=/,{MODEL}/config.json"])

    def test_no_pack(self):
        with tempfile.TemporaryDirectory() as d:
            self.fails(d, "manifest", sets=["experts.place=slots", "drives.pack=" + d])

    def test_one_directory_twice(self):
        """Under whatever name; the model's own is the first of the shards."""
        with tempfile.TemporaryDirectory() as d:
            link = os.path.join(d, "link")
            os.symlink(MODEL, link)
            self.fails("[drives] shards", MODEL, link, "are one directory",
                       sets=["drives.shards=" + link])
            for key in ("shards", "pack"):
                self.fails(f"[drives] {key}", d, "are one directory",
                           sets=[f"drives.{key}={d},{d}/../{os.path.basename(d)}"])

    def test_unused_drives(self):
        """With everything in memory copies are not read: the log says so once."""
        with tempfile.TemporaryDirectory() as other:
            for sets, lines in ((("drives.shards=" + other,), 1), (("drives.pack=" + other,), 1),
                                ((), 0)):
                with daemon("experts.place=resident", *sets) as d:
                    told = [x for x in d.log().splitlines() if "[drives]" in x]
                    self.assertEqual(len(told), lines, d.log())
                    self.assertTrue(all("ignoring" in x for x in told), told)

    def test_too_few_slots(self):
        """What is told as the least works, and a byte less does not."""
        self.fails("slots of", f"{K} experts need {K} slots", "room for 3 slots",
                   sets=["experts.place=slots", ram(K - 1)])
        d = daemon("experts.place=slots", "experts.ram=1")
        try:
            d.spawn()
            self.assertEqual(d.wait(), 1, d.log())
            self.assertIn("room for 0 slots", d.log())
            least = int(re.search(r"set it to (\d+) \(", d.log()).group(1))
        finally:
            d.process.kill()
            d.stop()
        self.fails("room for 3 slots", sets=["experts.place=slots", f"experts.ram={least - 1}"])
        with daemon("experts.place=slots", f"experts.ram={least}") as d:
            self.assertEqual(d.metric("expertd_expert_slot"), K)
        self.fails("experts.vram", f"{K} experts need", sets=[
            "experts.place=slots", "experts.path=staging", "experts.vram=1"])

    def test_trace(self):
        self.fails("--trace-routing", "/nowhere/t", args=["--trace-routing", "/nowhere/t"])

    def test_values(self):
        for key, value in (("experts.place", "disk"), ("experts.ram", "101%"),
                           ("experts.vram", "all"), ("experts.path", "copy"),
                           ("experts.verify", "on"), ("experts.prefetch", "maybe"),
                           ("drives.engine", "mmap"), ("drives.queue_depth", "513"),
                           ("drives.read_size", "5000"), ("drives.timeout", "30"),
                           ("drives.pack", ",".join("abcdefghi"))):
            with self.subTest(key=key):
                r = subprocess.run([EXPERTD, "--config", "/dev/null", "--model", MODEL,
                                    "--check-config", "--set", f"{key}={value}"], text=True,
                                   capture_output=True, timeout=PATIENCE_S)
                self.assertEqual((r.returncode, r.stdout), (2, ""))
                self.assertIn(key.split(".")[1], r.stderr)


if __name__ == "__main__":
    main()
