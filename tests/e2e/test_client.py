#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""expertctl and tools/eval against the daemon: what a user types, and the demo model's accuracy.

test_client.py EXPERTD MODEL EXPERTCTL ROOT"""
import json
import os
import signal
import subprocess
import sys
import unittest

from expertd_test import PATIENCE_S, Daemon

EXPERTCTL, ROOT = (os.path.abspath(arg) for arg in sys.argv[3:5])

# demo/model/README.md: 440 of 444.  Another device may round a near tie the other way.
RIGHT_MIN = 438

daemon = None


def setUpModule():
    global daemon
    daemon = Daemon("model.context_max=512", name="demo").start()


def tearDownModule():
    assert daemon.stop() == 0


def expertctl(*args, text="", **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("EXPERTD_")}
    return subprocess.run([EXPERTCTL, "--socket", daemon.socket, *args], input=text, text=True,
                          capture_output=True, timeout=PATIENCE_S, env={**clean, **env})


class Ask(unittest.TestCase):
    def test_answer(self):
        done = expertctl("ask", "--temperature", "0", "Compute 66 - 57 - 8.")
        self.assertEqual((done.returncode, done.stdout), (0, "The answer is 1.\n"), done.stderr)
        self.assertRegex(done.stderr, r"^\[\d+ tokens, [\d.]+ tokens/s, first after [\d.]+ s\]\n$")

    def test_json(self):
        answer = json.loads(expertctl("--json", "ask", "--temperature", "0", "Hello!").stdout)
        self.assertEqual(answer["model"], "demo")
        self.assertEqual(answer["finish_reason"], "stop")
        self.assertGreater(answer["completion_tokens"], 1)
        self.assertGreater(answer["tokens_per_s"], 0)

    def test_seed(self):
        def ask(seed):
            return expertctl("ask", "--reasoning", "show", "--temperature", "2", "--max-tokens",
                             "40", "--seed", seed, "Spell apple.").stdout
        self.assertEqual(ask("5"), ask("5"))
        self.assertNotEqual(ask("5"), ask("6"))

    def test_limit(self):
        done = expertctl("ask", "--max-tokens", "3", "Compute 12 + 13.")
        self.assertEqual(done.returncode, 0)
        self.assertIn("cut at the limit", done.stderr)

    def test_refused(self):
        done = expertctl("ask", "--model", "nosuch", "x")
        self.assertEqual(done.returncode, 1)
        self.assertIn("demo", done.stderr)
        done = expertctl("ask", "-", text="1 + 1 " * 1000)
        self.assertEqual(done.returncode, 1)
        self.assertIn("512", done.stderr)

    def test_stopped(self):
        """Ctrl-C closes the stream, and the daemon forgets the answer."""
        before = self.cancelled()
        client = subprocess.Popen(
            [EXPERTCTL, "--socket", daemon.socket, "ask", "--reasoning", "show", "--temperature",
             "2", "Spell apple."], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while b"\n" not in client.stdout.read(1) and client.poll() is None:
            pass
        client.send_signal(signal.SIGINT)
        client.stdout.read()
        client.stdout.close()
        status = client.wait(PATIENCE_S)
        self.assertIn(status, (0, 1))  # 0: it was complete before the signal came
        if status == 1:
            for _ in range(100):
                if self.cancelled() > before:
                    return
                expertctl("status")
            self.fail("the daemon did not notice")

    @staticmethod
    def cancelled():
        status = json.loads(expertctl("status", "--json").stdout)
        return status["metrics"]['expertd_request_finished{reason="cancelled"}']


class Chat(unittest.TestCase):
    def test_two_turns(self):
        """The second question is about the first answer; the reasoning between is not sent."""
        with open(os.path.join(ROOT, "demo/model/eval.jsonl"), encoding="utf-8") as f:
            problem = next(p for p in map(json.loads, f) if p["task"] == "two_turn")
        first, _, second = (m["content"] for m in problem["messages"])
        done = expertctl("chat", "--temperature", "0", text=f"{first}\n{second}\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(problem["answer"], done.stdout.splitlines()[-1])


class Others(unittest.TestCase):
    def test_models(self):
        self.assertEqual(expertctl("models").stdout, "demo  (context 512 tokens)\n")

    def test_status(self):
        done = expertctl("status")
        self.assertEqual(done.returncode, 0)
        self.assertIn("demo", done.stdout)
        self.assertIn("generated", done.stdout)

    def test_bench(self):
        done = expertctl("bench", "--requests", "3", "--parallel", "2", "--prompt-tokens", "64",
                         "--max-tokens", "8", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
        self.assertGreater(rows["client-prefill"]["value"], 0)
        self.assertEqual(rows["client-decode-all"]["conditions"]["prompt_tokens"], 64)

    def test_inspect(self):
        done = subprocess.run([EXPERTCTL, "inspect", "--json", os.path.join(ROOT, "demo/model")],
                              capture_output=True, check=True)
        card = json.loads(done.stdout)
        self.assertGreater(card["device"]["memory_bytes"], 0)

    def test_nobody(self):
        done = expertctl("--socket", daemon.socket + "x", "status")
        self.assertEqual(done.returncode, 3)
        self.assertIn("not reachable", done.stderr)


class Eval(unittest.TestCase):
    def test_accuracy(self):
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "tools/eval"), "--socket", daemon.socket,
             "--wrong", os.path.join(ROOT, "demo/model/eval.jsonl")],
            capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        everything = json.loads(done.stdout[done.stdout.index("{\n"):])["all"]
        self.assertEqual(everything["n"], 444)
        self.assertGreaterEqual(everything["right"], RIGHT_MIN, done.stdout)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[5:]], verbosity=2)
