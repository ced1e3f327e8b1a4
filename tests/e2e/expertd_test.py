# SPDX-License-Identifier: MIT
"""What the end-to-end tests share: a daemon of their own in a temporary directory, and HTTP over its
Unix socket.  Python's standard library only.

A test file is called as: test_NAME.py EXPERTD MODEL [PYTHON_DIR]
"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

EXPERTD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "build/daemon/expertd"
MODEL = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else "demo/model"
PYTHON_DIR = sys.argv[3] if len(sys.argv) > 3 else ""
SKIPPED = 77

# Far beyond what anything here takes, so that only a hang meets it.
PATIENCE_S = 300


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.path)


class Answer:
    """A whole answer: status, headers (lower case), body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    @property
    def events(self):
        """JSON of the events of a stream; the last must be [DONE]."""
        data = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        assert data and data[-1] == "[DONE]", self.body[-200:]
        return [json.loads(text) for text in data[:-1]]


class Daemon:
    """expertd on a model, in a temporary directory; use as a context, or start and stop."""

    def __init__(self, *sets, model=MODEL, env=None, config="", pass_fds=(), name="model"):
        self.dir = tempfile.mkdtemp(prefix="expertd-e2e-")
        self.socket = os.path.join(self.dir, "s")
        self.config = os.path.join(self.dir, "expertd.conf")
        self.sets = ["model.name=" + name, *sets]
        self.model, self.env, self.pass_fds = model, env or {}, pass_fds
        self.process = self.log_file = None
        with open(self.config, "w") as f:
            f.write(config)

    def command(self):
        line = [EXPERTD, "--config", self.config, "--model", self.model, "--socket", self.socket]
        for text in ["device.pipeline_cache=" + os.path.join(self.dir, "pipelines"), *self.sets]:
            line += ["--set", text]
        return line

    def spawn(self):
        if self.log_file:
            self.log_file.close()
        self.log_file = open(os.path.join(self.dir, "log"), "ab")
        env = {k: v for k, v in os.environ.items() if k != "JOURNAL_STREAM"}
        self.process = subprocess.Popen(
            self.command(), stderr=self.log_file, stdin=subprocess.DEVNULL,
            env={**env, **self.env}, pass_fds=self.pass_fds)
        return self

    def start(self):
        self.spawn()
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError("expertd ended early:\n" + self.log())
            try:
                if self.get("/health").status == 200:
                    return self
            except (FileNotFoundError, ConnectionError):
                pass
            time.sleep(0.02)
        raise AssertionError("expertd does not become ready:\n" + self.log())

    def log(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self):
        return self.process.wait(PATIENCE_S)

    def stop(self):
        """Ends the daemon if it runs; returns its exit status and removes the directory."""
        status = None
        if self.process:
            if self.process.poll() is None:
                self.signal(signal.SIGTERM)
            try:
                status = self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
            finally:
                self.log_file.close()
                log = self.log()
                if (status is not None and status < 0) or "runtime error:" in log or \
                        "AddressSanitizer:" in log or "ThreadSanitizer:" in log:
                    sys.stderr.write("expertd ended with %s:\n%s" % (status, log[-6000:]))
                assert "runtime error:" not in log, "UBSan found something"
        shutil.rmtree(self.dir, ignore_errors=True)
        return status

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    # HTTP

    def connection(self):
        return UnixConnection(self.socket)

    def request(self, method, path, body=None, headers=None, connection=None):
        c = connection or self.connection()
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        headers = dict(headers or {})
        if body is not None and not any(k.lower() == "content-type" for k in headers):
            headers["Content-Type"] = "application/json"
        try:
            c.request(method, path, body, headers)
            r = c.getresponse()
            return Answer(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
        finally:
            if not connection:
                c.close()

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, body, **kw):
        return self.request("POST", path, body, **kw)

    def chat(self, text="Compute 66 - 57 - 8.", messages=None, **fields):
        fields.setdefault("model", "model")
        fields["messages"] = messages or [{"role": "user", "content": text}]
        return self.post("/v1/chat/completions", fields)

    def complete(self, prompt, **fields):
        return self.post("/v1/completions", {"model": "model", "prompt": prompt, **fields})

    def raw(self):
        """A connected socket."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(PATIENCE_S)
        s.connect(self.socket)
        return s

    def raw_answers(self, sent, shut=False):
        """Sends bytes on one connection and returns everything until the daemon closes it."""
        with self.raw() as s:
            s.sendall(sent)
            if shut:
                s.shutdown(socket.SHUT_WR)
            return read_all(s)

    def metric(self, name):
        """Value of one row of /metrics, labels included in the name."""
        for line in self.get("/metrics").body.decode().split("\n"):
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise AssertionError("no metric " + name)

    def wait_metric(self, name, value):
        until = time.monotonic() + PATIENCE_S
        while self.metric(name) != value:
            assert time.monotonic() < until, f"{name} is {self.metric(name)}, not {value}"
            time.sleep(0.01)


def read_all(s):
    parts = []
    while True:
        part = s.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def statuses(raw):
    """Status codes of the answers in the bytes of a connection."""
    return [int(m) for m in re.findall(rb"HTTP/1\.[01] (\d\d\d) ", raw)]


def post_bytes(path, body, *extra, version="1.1"):
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", "Content-Type: application/json",
             f"Content-Length: {len(body)}", *extra]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def text_of(events, key="content", index=0):
    """Concatenated deltas of a chat's stream."""
    return "".join(c["delta"].get(key) or "" for e in events for c in e["choices"]
                   if c["index"] == index)


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
