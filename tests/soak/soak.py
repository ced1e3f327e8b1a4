# SPDX-License-Identifier: MIT
"""soak.py EXPERTD MODEL FAULTFS [SECONDS]: the daemon at its smallest cache of experts, on drives
that fail at random (tests/faultfs), under several clients.

Every completed answer is that of the model in memory, to the last bit; an answer that fails says
which expert and why; memory and file descriptors do not grow; the log has no line that nobody expected.
SECONDS: 600 if not said.  SEED in the environment repeats a run's faults and questions."""
import http.client
import os
import random
import re
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "faultfs"), os.path.join(HERE, "..", "e2e")]
from expertd_test import MODEL, Answer, Daemon  # noqa: E402
from faultfs import SKIPPED, FaultFs, missing  # noqa: E402

FAULTFS = os.path.abspath(sys.argv[3])
SECONDS = float(sys.argv[4]) if len(sys.argv) > 4 else 600
SEED = int(os.environ.get("SEED", time.time_ns() % 1000000))

CLIENTS = 4
COMMON = ("model.context_max=512",)
TIMEOUT_S = 1
RSS_GROWTH_MAX_BYTES = 16 << 20  # of the last quarter over the second
FDS_GROWTH_MAX = 4               # clients' connections come and go

# What the daemon may say at warning or error: a fault that was put there, and its end.
EXPECTED = re.compile(r"\.safetensors|drive|failed|faultfs-|no slot is free")


def requests():
    """Questions of every kind: greedy and seeded, short and long, batches, streams."""
    r = random.Random(7)
    made = []
    for i in range(24):
        prompt = [0] + [r.randrange(5, 1000) for _ in range(r.choice((1, 3, 20, 120)))]
        made.append({"prompt": prompt if i % 6 else [prompt, prompt[:2]], "seed": i,
                     "temperature": (0, 0.8, 1.5)[i % 3], "max_tokens": r.choice((1, 8, 40)),
                     "logprobs": 3, "stream": i % 4 == 3})
    return made


def choices_of(answer, stream):
    """{index: (text, log-probabilities)} or None, and the message if it failed."""
    if answer.status != 200:
        return None, (answer.status, answer.error["message"])
    if not stream:
        return {c["index"]: (c["text"], c["logprobs"]) for c in answer.json["choices"]}, None
    if b'"error"' in answer.body:
        return None, (503, answer.body.decode())
    got = {}
    for event in answer.events:
        for c in event["choices"]:
            text, probs = got.get(c["index"], ("", []))
            got[c["index"]] = (text + c["text"],
                               probs + ((c["logprobs"] or {}).get("token_logprobs") or []))
    return got, None


class Soak:
    def __init__(self):
        self.random = random.Random(SEED)
        self.requests = requests()
        self.golden = []
        self.end = threading.Event()
        self.lock = threading.Lock()
        self.completed = self.failed = self.faults = 0
        self.wrong = []
        self.sizes = []  # (RSS in bytes, file descriptors), one a second

    def client(self, d, seed):
        r = random.Random(seed)
        while not self.end.is_set() and not self.wrong:
            i = r.randrange(len(self.requests))
            try:
                self.one(d, i)
            except Exception as e:  # a thread must not end unseen
                self.wrong.append("request %d: %r" % (i, e))

    def one(self, d, i):
        try:
            answer = d.complete(**self.requests[i])
        except http.client.IncompleteRead as e:  # a stream that fails has no last chunk
            answer = Answer(200, {}, e.partial)
        got, error = choices_of(answer, self.requests[i]["stream"])
        with self.lock:
            if error is None and got == self.golden[i]:
                self.completed += 1
            elif error is None:
                self.wrong.append("request %d: %r is not %r" % (i, got, self.golden[i]))
            elif error[0] == 503 and "model.layers." in error[1]:  # the expert, and why
                self.failed += 1
            else:
                self.wrong.append("request %d: %r" % (i, error))

    def break_something(self, fs):
        """Puts one fault there for a while."""
        r = self.random
        kind = r.choice(("eio", "eio", "short", "flip", "flip", "delay", "hang", "truncate"))
        pattern = r.choice(("*.safetensors", "*1-of*.safetensors", "*2-of*.safetensors"))
        first = r.randrange(6 << 20)
        keys = {"start": first, "to": first + r.choice((1, 1 << 16, 8 << 20))}
        if kind == "delay":
            keys["ms"] = r.randrange(1, 100)
        if kind == "truncate":
            keys = {"size": first}
        elif r.random() < 0.7:
            keys["times"] = r.randrange(1, 4)
        fs.command(kind, pattern, **keys)
        self.faults += 1
        self.end.wait(r.choice((0.05, 0.2, 1)) * (3 * TIMEOUT_S if kind == "hang" else 1))
        fs.clear()

    def sample(self, d):
        with open("/proc/%d/status" % d.process.pid) as f:
            rss = int(re.search(r"VmRSS:\s+(\d+) kB", f.read())[1]) << 10
        self.sizes.append((rss, len(os.listdir("/proc/%d/fd" % d.process.pid))))

    def samples(self, d):
        while not self.end.wait(min(1, SECONDS / 20)):
            self.sample(d)

    def run(self, d, fs):
        threads = [threading.Thread(target=self.client, args=(d, SEED + i))
                   for i in range(CLIENTS)]
        threads.append(threading.Thread(target=self.samples, args=(d,)))
        for t in threads:
            t.start()
        until = time.monotonic() + SECONDS
        try:
            while time.monotonic() < until and not self.wrong and d.process.poll() is None:
                self.break_something(fs)
                self.end.wait(self.random.choice((0.1, 0.5, 1.5)))
        finally:
            fs.clear()
            self.end.set()
            for t in threads:
                t.join()

    def grown(self):
        """Complaints about what grew from the second quarter of the run to the last."""
        n = len(self.sizes) // 4
        (rss_old, rss_new), (fds_old, fds_new) = (
            (statistics.median(column[n:2 * n]), statistics.median(column[-n:]))
            for column in zip(*self.sizes))
        print("memory %.1f -> %.1f MB, file descriptors %d -> %d"
              % (rss_old / 1e6, rss_new / 1e6, fds_old, fds_new))
        if rss_new > rss_old + RSS_GROWTH_MAX_BYTES:
            yield "memory grew"
        if fds_new > fds_old + FDS_GROWTH_MAX:
            yield "file descriptors grew"

    def main(self):
        with Daemon(*COMMON, "experts.place=resident") as d:
            for request in self.requests:
                got, error = choices_of(d.complete(**request), request["stream"])
                assert not error, error
                self.golden.append(got)

        with FaultFs(FAULTFS, MODEL) as fs:
            d = Daemon(*COMMON, "experts.place=slots", "experts.ram=1M", "experts.verify=always",
                       "drives.timeout=%dms" % (TIMEOUT_S * 1000), model=fs.path)
            d.env["STATE_DIRECTORY"] = d.dir
            try:
                d.start()
                for i in range(len(self.requests)):  # before faults: nothing may fail
                    self.one(d, i)
                assert self.completed == len(self.requests), self.wrong or d.log()
                self.run(d, fs)
                after = self.recover(d)
                log = d.log()
            finally:
                fs.clear()
                status = d.stop()
        return self.verdict(status, log) + after

    def recover(self, d):
        """With the faults gone everything is right again."""
        until = time.monotonic() + 120
        while d.get("/health").json["status"] != "ok":
            if time.monotonic() > until:
                return ["it stays degraded"]
            time.sleep(0.1)
        failed = self.failed
        for i in range(len(self.requests)):
            self.one(d, i)
        return ["requests fail on a good drive"] if self.failed > failed else []

    def verdict(self, status, log):
        print("%d answers right, %d failed with their reason, %d faults" %
              (self.completed, self.failed, self.faults))
        bad = self.wrong[:10] + list(self.grown())
        bad += ["log: " + line for line in log.splitlines()
                if re.search(r"\b(warning|error)\b", line) and not EXPECTED.search(line)][:10]
        if status != 0:
            bad.append("the daemon ended with %s" % status)
        if self.completed < len(self.requests) * 2:
            bad.append("hardly anything was answered")
        return bad


if __name__ == "__main__":
    reason = missing()
    if reason:
        print(reason)
        sys.exit(SKIPPED)
    print("%g s, SEED=%d" % (SECONDS, SEED), flush=True)
    complaints = Soak().main()
    print("\n".join(complaints) or "good")
    sys.exit(1 if complaints else 0)
