#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""test_expertctl.py EXPERTCTL: the program as a user sees it, against a scripted server on a Unix
socket: exit statuses, what goes to which stream, and on a pseudo-terminal what the keys do."""
import http.server
import json
import os
import pty
import select
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

REASONING = ["First, ", "66 - 57", " is 9.\n", "\x1b[31mThen 1.\n"]
CONTENT = ["The", " answer", " is", " 1", "."]
STREAMED = b"""expertd_step_seconds_sum 20
expertd_expert_hit 830
expertd_expert_miss 170
expertd_expert_slot 256
expertd_expert_slot_used 200
expertd_expert_read_bytes 1000000000
expertd_expert_drive_bytes 1020000000
expertd_expert_stall_us{cause="first"} 1000000
expertd_expert_stall_us{cause="last"} 3000000
expertd_expert_predicted 100
expertd_expert_predicted_right 60
expertd_expert_predicted_read 50
expertd_expert_predicted_used 20
expertd_drive_bytes_second{drive="/a"} 3000000000
expertd_drive_bytes_second{drive="/b"} 1500000000
expertd_drive_best_bytes_second{drive="/a"} 3000000000
expertd_drive_best_bytes_second{drive="/b"} 2000000000
expertd_drive_failing{drive="/a"} 0
expertd_drive_failing{drive="/b c"} 1
"""
PATIENCE_S = 30  # for something to appear; a sanitized build on a busy machine is slow


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass

    def send(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, status, value):
        self.send(status, "application/json", json.dumps(value).encode())

    def do_GET(self):
        if self.path == "/v1/models":
            self.send_json(200, {"data": [{"id": "demo", "meta": {"n_ctx": 4096}}]})
        elif self.path == "/health":
            status = self.server.health
            self.send_json(503 if status == "loading" else 200,
                           {"status": status, "model": "demo",
                            **({"detail": "failing: /b"} if status == "degraded" else {})})
        else:
            self.send(200, "text/plain", b"expertd_step 10\nexpertd_step_host_us 100\n"
                                         b"expertd_step_wait_us 9900\nexpertd_generated_token 5\n"
                      + (STREAMED if self.server.health == "degraded" else b""))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        text = body["messages"][-1]["content"]
        if "refuse" in text:
            self.send_json(400, {"error": {"message": "refused \x1b[1m"}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.stream("endless" in text)
        except OSError:
            self.server.gone.set()
        self.close_connection = True

    def event(self, value):
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def delta(self, **delta):
        self.event({"model": "demo", "choices": [{"index": 0, "delta": delta}]})

    def stream(self, endless):
        for piece in REASONING:
            self.delta(reasoning_content=piece)
        while endless:
            self.delta(content="on and ")
            time.sleep(0.01)
        for piece in CONTENT:
            self.delta(content=piece)
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}})
        self.wfile.write(b"data: [DONE]\n\n")


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path):
        super().__init__(path, Handler)
        self.requests, self.health, self.gone = [], "ok", threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Test:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.path = os.path.join(folder, "s")
        self.server = Server(self.path)
        self.env = {**os.environ, "HOME": folder, "EXPERTD_SOCKET": self.path, "TERM": "xterm",
                    "XDG_STATE_HOME": os.path.join(folder, "state")}
        for name in ("NO_COLOR", "EXPERTD_URL", "EXPERTD_KEY"):
            self.env.pop(name, None)

    def run(self, *args, text="", **env):
        return subprocess.run([self.program, *args], input=text, text=True, capture_output=True,
                              env={**self.env, **env}, timeout=PATIENCE_S)

    def check(self, done, status, out, err=""):
        ok = done.returncode == status and done.stdout == out and err in done.stderr
        assert ok, f"{done.args}: {done.returncode} {done.stdout!r} {done.stderr!r}"

    def streams(self):
        """Pipes: the answer alone on stdout, figures and complaints on stderr."""
        self.check(self.run("ask", "hello", "there"), 0, "The answer is 1.\n", "[9 tokens")
        assert self.server.requests[-1]["messages"] == [{"role": "user", "content": "hello there"}]
        self.check(self.run("ask", text="from a pipe\n\n"), 0, "The answer is 1.\n")
        assert self.server.requests[-1]["messages"][-1]["content"] == "from a pipe"
        self.check(self.run("ask", "say:", "-", text="x"), 0, "The answer is 1.\n")
        assert self.server.requests[-1]["messages"][-1]["content"] == "say: x"
        done = self.run("ask", "--quiet", "x")
        self.check(done, 0, "The answer is 1.\n")
        assert done.stderr == ""
        self.check(self.run("ask", "--reasoning", "show", "x"), 0,
                   "| First, 66 - 57 is 9.\n| \x1b[31mThen 1.\n\nThe answer is 1.\n")
        done = self.run("--json", "ask", "--seed", "3", "--system", "be brief", "x")
        answer = json.loads(done.stdout)
        assert answer["content"] == "The answer is 1." and answer["completion_tokens"] == 9
        assert answer["reasoning_content"] == "".join(REASONING) and done.stdout.count("\n") == 1
        assert self.server.requests[-1]["seed"] == 3
        assert self.server.requests[-1]["messages"][0] == {"role": "system", "content": "be brief"}

    def chat_pipe(self):
        done = self.run("chat", text='one\nrefuse\ntwo\n/new\n"""a\n\nb"""\n/exit\nthree\n')
        self.check(done, 1, "The answer is 1.\n" * 3, "refused ?[1m (HTTP 400)")
        talks = [[m["content"] for m in r["messages"]] for r in self.server.requests[-4:]]
        answer = "The answer is 1."
        assert talks == [["one"], ["one", answer, "refuse"], ["one", answer, "two"], ["a\n\nb"]], talks

    def others(self):
        self.check(self.run("models"), 0, "demo  (context 4096 tokens)\n")
        self.check(self.run("--quiet", "models"), 0, "demo\n")
        done = self.run("status")
        assert done.returncode == 0 and "10 of 1.00 ms each, 1.0 %" in done.stdout, done.stdout
        status = json.loads(self.run("status", "--json").stdout)
        assert status["health"]["status"] == "ok" and status["metrics"]["expertd_step"] == 10
        assert "slots" not in done.stdout, done.stdout
        self.server.health = "degraded"
        done = self.run("status")
        assert done.returncode == 0, done
        for line in ("status       degraded", "because      failing: /b",
                     "experts      1000 wanted, 83.0 % found in slots; 200 of 256 slots used",
                     "drives       4.50 GB/s, 90 % of their best; 1.02 GB read, 2.0 % more than used",
                     "stalls       4.00 s of waiting for drives, 20.0 % of the steps' time",
                     "read ahead   60.0 % foretold rightly; 50 read, 40.0 % of them used",
                     "failing      /b c"):
            assert line in done.stdout.split("\n"), (line, done.stdout)
        self.server.health = "loading"
        done = self.run("status")
        assert done.returncode == 1 and "loading" in done.stdout
        self.server.health = "ok"

    def failures(self):
        self.check(self.run("ask", "refuse"), 1, "", "refused ?[1m (HTTP 400)")
        self.check(self.run(), 2, "", "no command")
        self.check(self.run("ask", "--nonsense"), 2, "", "--nonsense")
        self.check(self.run("ask", text=""), 2, "", "empty")
        self.check(self.run("inspect", self.folder), 1, "", "config.json")
        self.check(self.run("status", EXPERTD_SOCKET="/nonexistent/s"), 3, "", "systemctl start")
        self.check(self.run("status", "--url", "http://127.0.0.1:1"), 3, "", "127.0.0.1:1")
        self.check(self.run("status", "--url", "ftp://127.0.0.1"), 2, "", "https://HOST")
        full = subprocess.run(f"'{self.program}' --help >/dev/full", shell=True, env=self.env,
                              stderr=subprocess.PIPE, check=False)
        assert full.returncode == 1 and b"cannot be written" in full.stderr

    def terminal(self):
        """Ctrl-C stops the answer and not the chat; what is shown has no escapes of the model's."""
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(self.program, [self.program, "chat", "first"], self.env)
        seen = b""

        def until(what, start=0):
            nonlocal seen
            end = time.monotonic() + PATIENCE_S
            while what not in seen[start:]:
                assert time.monotonic() < end, f"no {what!r} in {seen[start:]!r}"
                if select.select([fd], [], [], 0.1)[0]:
                    seen += os.read(fd, 4096)
            return seen.index(what, start) + len(what)

        mark = until(b"tokens/s")
        assert b"\x1b[2mFirst, \x1b[0m" in seen and b"\x1b[31mThen" not in seen
        assert b"[31mThen" in seen and b"The answer is 1." in seen
        os.write(fd, "endless, grüß\r".encode())
        mark = until(b"on and on and", mark)
        os.write(fd, b"\x03")
        mark = until(b"stopped", mark)
        assert self.server.gone.wait(PATIENCE_S), "the server was not told"
        assert self.server.requests[-1]["messages"][-1]["content"] == "endless, grüß"
        os.write(fd, b"\x14")
        mark = until(b"folded", mark)
        os.write(fd, b"again\r")
        mark = until(b"thought for 4 tokens", mark)
        mark = until(b"tokens/s", mark)
        os.write(fd, b"half a line\x03")
        time.sleep(0.2)
        os.write(fd, b"\x04")
        end = time.monotonic() + PATIENCE_S
        status = (0, 0)
        while status[0] == 0 and time.monotonic() < end:
            if select.select([fd], [], [], 0.1)[0]:
                try:
                    seen += os.read(fd, 4096)
                except OSError:
                    pass  # the other end is closed
            status = os.waitpid(pid, os.WNOHANG)
        assert status == (pid, 0), f"{status} {seen[mark:]!r}"
        os.close(fd)
        history = os.path.join(self.folder, "state/expertd/history")
        with open(history, encoding="utf-8") as f:
            text = f.read()
        assert "again" in text and "half" not in text and os.stat(history).st_mode & 0o777 == 0o600


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        test = Test(os.path.abspath(program), folder)
        for step in (test.streams, test.chat_pipe, test.others, test.failures, test.terminal):
            step()
            print("ok", step.__name__, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
