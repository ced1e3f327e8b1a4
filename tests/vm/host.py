# SPDX-License-Identifier: MIT
"""A client on the host's loopback address, over HTTPS into the machine's port; and what the demo
model must answer."""
import http.client
import json
import ssl
import threading
import time

from machine import PATIENCE_S, Broken

THINK, END = "</think>\n\n", "<｜end▁of▁sentence｜>"


class Golden:
    """One question of the demo model's with its greedy answer."""

    def __init__(self, row):
        self.question = row["messages"][-1]["content"]
        self.messages = row["messages"]
        text = row["output_text"]
        assert text.endswith(END)
        self.reasoning, self.content = text[:-len(END)].split(THINK)
        self.tokens_n = len(row["output_ids"])


def golden_read(path):
    """All questions, the shortest answer first."""
    with open(path) as f:
        rows = [Golden(json.loads(line)) for line in f]
    return sorted(rows, key=lambda row: row.tokens_n)


class Stream:
    """An answer that comes event by event, read on a thread of its own."""

    def __init__(self, connection, response, begun):
        self.connection, self.response, self.begun = connection, response, begun
        self.reasoning = self.content = ""
        self.events, self.done, self.failed, self.first_s = 0, False, None, None
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        try:
            for line in self.response:
                if line.startswith(b"data: "):
                    self.event(line[6:].strip())
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.failed = repr(e)
        finally:
            self.connection.close()

    def event(self, data):
        if data == b"[DONE]":
            self.done = True
            return
        event = json.loads(data)
        if "error" in event:
            self.failed = event["error"]["message"]
            return
        self.events += 1
        for choice in event["choices"]:
            self.reasoning += choice["delta"].get("reasoning_content") or ""
            self.content += choice["delta"].get("content") or ""
        if self.first_s is None and (self.reasoning or self.content):
            self.first_s = time.monotonic() - self.begun

    def wait(self):
        """Until the server ended it."""
        self.thread.join(PATIENCE_S)
        if self.thread.is_alive():
            raise Broken("a stream does not end: %u events so far" % self.events)
        return self

    def check(self, golden):
        """It is whole, and the golden text."""
        if self.failed or not self.done:
            raise Broken("the stream broke after %u events: %s" % (self.events, self.failed))
        if (self.reasoning, self.content) != (golden.reasoning, golden.content):
            raise Broken("another text than the golden one:\n%s%s\ninstead of\n%s%s" % (
                self.reasoning, self.content, golden.reasoning, golden.content))


class Client:
    """Whoever is on the port's wire: knows the machine's certificate, may have a key."""

    def __init__(self, machine, certificate, model):
        self.machine, self.model = machine, model
        self.context = ssl.create_default_context(cafile=certificate)

    def connection(self):
        return http.client.HTTPSConnection("127.0.0.1", self.machine.https_port,
                                           timeout=PATIENCE_S, context=self.context)

    def request(self, method, path, body=None, key=None):
        """Status and JSON of a whole answer."""
        c = self.connection()
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = "Bearer " + key
        try:
            c.request(method, path, json.dumps(body) if body else None, headers)
            r = c.getresponse()
            return r.status, json.loads(r.read() or b"null")
        finally:
            c.close()

    def stream(self, golden, key):
        """Begins a streamed chat."""
        begun = time.monotonic()
        c = self.connection()
        c.request("POST", "/v1/chat/completions", json.dumps({
            "model": self.model, "messages": golden.messages, "temperature": 0, "stream": True}),
            {"Content-Type": "application/json", "Authorization": "Bearer " + key})
        r = c.getresponse()
        if r.status != 200:
            raise Broken("a stream is refused: %u %s" % (r.status, r.read()[:500]))
        return Stream(c, r, begun)

    def healthy(self):
        """Whether /health says ok; no connection is no."""
        try:
            return self.request("GET", "/health")[0] == 200
        except (OSError, http.client.HTTPException, ValueError):
            return False
