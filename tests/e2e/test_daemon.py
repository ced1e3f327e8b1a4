# SPDX-License-Identifier: MIT
"""The daemon as a process: command line, start-up failures, signals, reload, limits, systemd's
protocols, slow readers."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from expertd_test import (EXPERTD, MODEL, PATIENCE_S, Daemon, main, post_bytes,
                          read_all, statuses)

CHAT = "/v1/chat/completions"


def body(**fields):
    return {"model": "model", "messages": [{"role": "user", "content": "1 + 1?"}], "max_tokens": 3,
            "temperature": 0, **fields}


def long_body(**fields):
    """An answer that takes all of its max_tokens."""
    return body(**{"max_tokens": 400, "logit_bias": {"1": -100}, **fields})


def run(*args, **kw):
    r = subprocess.run([EXPERTD, *args], capture_output=True, text=True, timeout=PATIENCE_S, **kw)
    return r.returncode, r.stdout, r.stderr


class CommandLine(unittest.TestCase):
    def test_help(self):
        code, out, err = run("--help")
        self.assertEqual((code, err), (0, ""))
        for word in ("--config", "--check-config", "--model", "--socket", "--set", "[limits]",
                     "context_max", "numerics", "--trace-routing", "[experts]", "[drives]"):
            self.assertIn(word, out)

    def test_version(self):
        code, out, _ = run("--version")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"^expertd \d+\.\d+\.\d+\n$")

    def test_usage(self):
        for args in (["--nope"], ["--config"], ["extra"], ["--set", "x"],
                     ["--set", "limits.requests_max=0"], ["--set", "no.such=1"]):
            with self.subTest(args=args):
                code, out, err = run("--config", "/dev/null", "--model", MODEL, *args)
                self.assertEqual((code, out), (2, ""))
                self.assertTrue(err)

    def test_config_files(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "c")

            def check(text, *args):
                with open(path, "w") as f:
                    f.write(text)
                return run("--config", path, "--check-config", *args)
            self.assertEqual(check(f"[model]\npath = {MODEL}\n"), (0, "", ""))
            code, _, err = check("[model]\npaht = x\n")
            self.assertEqual(code, 2)
            self.assertIn(f"{path}:2:", err)
            code, _, err = check("[limits]\n\nrequests_max = many\n")
            self.assertEqual(code, 2)
            self.assertIn(f"{path}:3:", err)
            code, _, err = check(f"[model]\npath = {MODEL}\n[drives]\nshards = /a\nshards = /b\n"
                                 "pack = /c\n")
            self.assertEqual(code, 2)
            self.assertIn("pack and shards", err)
            self.assertEqual(check("")[0], 2)  # no model
            self.assertEqual(check("", "--model", MODEL)[0], 0)
            self.assertEqual(run("--config", path + "x", "--check-config")[0], 2)

    def test_printed_config_is_good(self):
        _, text, _ = run("--print-config")
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(text)
            f.flush()
            self.assertEqual(run("--config", f.name, "--check-config", "--model", MODEL)[0], 0)


class StartFails(unittest.TestCase):
    def fails(self, *words, **kw):
        plain_root = kw.pop("plain_root", False) and os.geteuid() == 0
        d = Daemon(*kw.pop("sets", ()), **kw)
        if plain_root:  # root without its privilege over permissions
            command = d.command()
            d.command = lambda: ["setpriv", "--bounding-set", "-dac_override,-dac_read_search",
                                 *command]
        try:
            d.spawn()
            self.assertEqual(d.wait(), 1, d.log())
            errors = [line for line in d.log().splitlines() if "error" in line]
            self.assertEqual(len(errors), 1, d.log())  # one line says what and how to mend it
            for word in words:
                self.assertIn(word, errors[0])
            self.assertFalse(os.path.exists(d.socket))
        finally:
            d.process.kill()
            d.stop()

    def test_no_model_dir(self):
        self.fails("/nowhere", model="/nowhere")

    def test_empty_dir(self):
        with tempfile.TemporaryDirectory() as d:
            self.fails("config.json", model=d)

    def test_broken_model(self):
        with tempfile.TemporaryDirectory() as d:
            for name in os.listdir(MODEL):
                if os.path.isfile(os.path.join(MODEL, name)):
                    os.symlink(os.path.join(MODEL, name), os.path.join(d, name))
            os.unlink(os.path.join(d, "tokenizer.json"))
            self.fails("tokenizer.json", model=d)
            os.symlink(os.path.join(MODEL, "tokenizer.json"), os.path.join(d, "tokenizer.json"))
            shard = "model-00002-of-00002.safetensors"
            os.unlink(os.path.join(d, shard))
            self.fails(shard, model=d)
            with open(os.path.join(MODEL, shard), "rb") as f, open(os.path.join(d, shard), "wb") as g:
                g.write(f.read()[:100000])
            self.fails(shard, model=d)

    def test_no_permission(self):
        for what in ("model", "socket"):
            with tempfile.TemporaryDirectory() as d:
                path = os.path.join(d, "x")
                os.mkdir(path)
                os.chmod(path, 0o500 if what == "socket" else 0)
                if what == "socket":
                    path += "/s"
                    self.fails(path, "ermission", plain_root=True, sets=["listen.socket=" + path])
                else:
                    self.fails(path, "ermission", plain_root=True, model=path)

    def test_socket_directory(self):
        self.fails("/nowhere/s", sets=["listen.socket=/nowhere/s"])

    def test_no_device(self):
        self.fails("no-such-device", sets=["device.select=no-such-device"])

    def test_kv_memory(self):
        self.fails("kv_tokens_max", sets=["limits.kv_tokens_max=4095"])

    def test_memory(self):
        self.fails(sets=["device.memory=1M"])

    def test_socket_is_a_file(self):
        d = Daemon()
        with open(d.socket, "w"):
            pass
        d.spawn()
        self.assertEqual(d.wait(), 1)
        self.assertIn(d.socket, d.log())
        self.assertTrue(os.path.isfile(d.socket))  # left alone
        d.process.kill()
        d.stop()

    def test_second_daemon(self):
        with Daemon() as first:
            second = Daemon()
            second.socket, own = first.socket, second.socket
            second.spawn()
            self.assertEqual(second.wait(), 1)
            self.assertIn("answers there", second.log())
            second.socket = own
            second.stop()
            self.assertEqual(first.get("/health").status, 200)  # not disturbed

    def test_stale_socket(self):
        d = Daemon().start()
        d.process.kill()  # no time to clean up
        d.process.wait()
        self.assertTrue(os.path.exists(d.socket))
        d.start()
        self.assertEqual(d.stop(), 0)

    def test_wrong_address(self):
        for address in ("0.0.0.0:0", "8080", "192.168.0.1:80"):
            code, _, err = run("--config", "/dev/null", "--model", MODEL, "--check-config",
                               "--set", "listen.loopback=" + address)
            self.assertEqual(code, 2)
            self.assertIn(address, err)


class Signals(unittest.TestCase):
    def test_stops_clean(self):
        d = Daemon().start()
        self.assertEqual(os.stat(d.socket).st_mode & 0o777, 0o660)
        d.signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)
        self.assertFalse(os.path.exists(d.socket))
        d.stop()

    def test_drain(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number=number), Daemon("model.context_max=2048") as d:
                stream, whole, other = d.raw(), d.raw(), d.connection()
                self.assertEqual(d.get("/health", connection=other).status, 200)
                stream.sendall(post_bytes(CHAT, long_body(stream=True, max_tokens=300)))
                whole.sendall(post_bytes(CHAT, long_body(max_tokens=300)))
                d.wait_metric("expertd_sequence_running", 2)
                d.signal(number)
                # While it drains: alive, but taking nothing new.
                while True:
                    a = d.get("/health", connection=other)
                    if a.status != 200:
                        break
                self.assertEqual((a.status, a.json["status"]), (503, "draining"))
                a = d.post(CHAT, body(), connection=other)
                self.assertEqual((a.status, a.error["code"]), (503, "draining"))
                self.assertGreater(int(a.headers["retry-after"]), 0)
                # What runs is finished, to its last byte.
                self.assertIn(b"data: [DONE]", read_all(stream))
                got = read_all(whole)
                self.assertEqual(statuses(got), [200])
                self.assertEqual(json.loads(got.partition(b"\r\n\r\n")[2])["usage"]
                                 ["completion_tokens"], 300)
                self.assertEqual(d.wait(), 0)
                self.assertFalse(os.path.exists(d.socket))
                for s in (stream, whole, other):
                    s.close()

    def test_drain_waits_for_no_reader(self):
        """a client that asks and does not read cannot hold the end up: idle_timeout is long"""
        with Daemon("limits.idle_timeout=3600s") as d:
            silent = d.raw()
            silent.settimeout(1)
            try:
                while True:  # until the daemon takes no more: an answer waits to be read
                    silent.sendall(100 * b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            except TimeoutError:
                pass
            d.signal(signal.SIGTERM)
            self.assertEqual(d.wait(), 0)
            silent.close()

    def test_second_stops_at_once(self):
        with Daemon("model.context_max=4096") as d:
            s = d.raw()
            s.sendall(post_bytes(CHAT, long_body(max_tokens=4000)))
            d.wait_metric("expertd_sequence_running", 1)
            d.signal(signal.SIGTERM)
            while "finishing" not in d.log():
                time.sleep(0.01)
            d.signal(signal.SIGTERM)
            self.assertEqual(d.wait(), 0)
            self.assertFalse(os.path.exists(d.socket))
            self.assertIn("at once", d.log())
            s.close()

    def test_reload(self):
        with Daemon(config="[log]\nlevel = info\n") as d:
            with open(d.config, "w") as f:
                f.write("[limits]\nbody_bytes_max = 2K\nrequests_max = 7\n[log]\nrequests = off\n")
            d.signal(signal.SIGHUP)
            while "reloaded" not in d.log():
                time.sleep(0.01)
            self.assertIn("2 options changed", d.log())
            self.assertIn("requests_max has changed; that takes effect after a restart", d.log())
            self.assertEqual(d.post(CHAT, b"x" * 3000).status, 413)
            self.assertEqual(d.post(CHAT, body()).status, 200)
            self.assertNotIn("first token", d.log())
            with open(d.config, "w") as f:
                f.write("[limits]\nbody_bytes_max = 1M\nnonsense = 1\n")
            d.signal(signal.SIGHUP)
            while "stays" not in d.log():
                time.sleep(0.01)
            self.assertIn(f"{d.config}:3:", d.log())
            self.assertEqual(d.post(CHAT, b"x" * 3000).status, 413)  # everything stays
            self.assertEqual(d.get("/health").status, 200)

    def test_during_start(self):
        """From the moment the socket is there a signal waits until the daemon can take it."""
        d = Daemon().spawn()
        while not os.path.exists(d.socket) and d.process.poll() is None:
            pass
        d.signal(signal.SIGHUP)
        d.signal(signal.SIGUSR1)
        self.assertEqual(d.stop(), 0)

    def test_summary(self):
        with Daemon() as d:
            d.post(CHAT, body())
            d.signal(signal.SIGUSR1)
            while "rings" not in d.log():
                time.sleep(0.01)
            self.assertIn("3 generated tokens", d.log())

    def test_no_text(self):
        """what is asked and answered never gets into the log, whatever becomes of it"""
        secret = "Zanzibar"
        with Daemon("log.level=debug") as d:
            answers = [d.chat(f"{secret} 66 - 57 - 8.", max_tokens=40, stream=stream)
                       for stream in (False, True)]
            answers.append(d.complete(secret, max_tokens=8, echo=True))
            for status, wrong in ((400, {"messages": [{"role": secret, "content": "x"}]}),
                                  (400, {"messages": [{"role": "user", "content": secret * 9000}]}),
                                  (400, {"stop": [secret, 1]}), (404, {"model": secret})):
                answers.append(d.post(CHAT, body(**wrong)))
                self.assertEqual(answers[-1].status, status)
            s = d.raw()
            s.sendall(post_bytes(CHAT, long_body(messages=[{"role": "user", "content": secret}],
                                                 max_tokens=4000, n=8, stream=True)))
            d.wait_metric("expertd_sequence_running", 8)
            s.close()
            d.wait_metric('expertd_request_finished{reason="cancelled"}', 1)
            said = answers[0].json["choices"][0]["message"]["reasoning_content"]
            self.assertGreater(len(said), 16)
            d.signal(signal.SIGUSR1)
            while "rings" not in d.log():
                time.sleep(0.01)
            self.assertIn("the client went away", d.log())
            for text in (secret, said[:16]):
                self.assertNotIn(text, d.log())


class Limits(unittest.TestCase):
    def test_request_pool(self):
        with Daemon("limits.requests_max=2", "limits.sequences_max=1") as d:
            busy = [d.raw(), d.raw()]
            for s in busy:
                s.sendall(post_bytes(CHAT, long_body()))
            d.wait_metric("expertd_request_active", 2)
            a = d.post(CHAT, body())
            self.assertEqual((a.status, a.error["code"]), (503, "overloaded"))
            self.assertGreater(int(a.headers["retry-after"]), 0)
            self.assertEqual(d.get("/health").status, 200)
            for s in busy:
                s.shutdown(socket.SHUT_WR)
                self.assertEqual(statuses(read_all(s)), [200])
                s.close()
            self.assertEqual(d.post(CHAT, body()).status, 200)

    def test_kv_memory(self):
        # Room for one and a half: the second waits its turn, both are right.
        with Daemon("model.context_max=256", "limits.kv_tokens_max=400") as d:
            alone = d.post(CHAT, long_body(max_tokens=200)).json["choices"]
            got = []
            threads = [threading.Thread(target=lambda: got.append(
                d.post(CHAT, long_body(max_tokens=200)).json["choices"])) for _ in range(3)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(got, [alone] * 3)
            free = d.metric("expertd_kv_token_free")
            self.assertGreaterEqual(free, 256)

    def test_connections(self):
        with Daemon("limits.connections_max=4") as d:
            idle = [d.raw() for _ in range(10)]  # half-open: they say nothing
            self.assertEqual(d.post(CHAT, body()).status, 200)
            refused = [d.raw() for _ in range(4)]  # whose body nobody wants, and does not come
            for s in refused:
                s.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            self.assertEqual(d.post(CHAT, body()).status, 200)
            busy = [d.raw() for _ in range(4)]
            for s in busy:
                s.sendall(post_bytes(CHAT, long_body(stream=True)))
                s.recv(1)
            with d.raw() as s:
                got = read_all(s)
            self.assertEqual(statuses(got), [503])
            self.assertIn(b"Retry-After", got)
            json.loads(got.partition(b"\r\n\r\n")[2])
            for s in idle + refused + busy:
                s.close()

    def test_slow_reader(self):
        # A client that does not read its stream loses only its own request.
        with Daemon("limits.unsent_bytes_max=64K", "model.context_max=4096") as d:
            slow = d.raw()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(post_bytes(CHAT, long_body(stream=True, max_tokens=4000, logprobs=True,
                                                    top_logprobs=20)))
            d.wait_metric("expertd_sequence_running", 1)
            other = d.post(CHAT, long_body(max_tokens=50))
            self.assertEqual(other.status, 200)
            self.assertEqual(other.json["usage"]["completion_tokens"], 50)
            d.wait_metric('expertd_request_finished{reason="cancelled"}', 1)
            d.wait_metric("expertd_request_active", 0)
            self.assertIn("does not read", d.log())
            self.assertEqual(d.post(CHAT, body()).status, 200)
            slow.close()

    def test_stalled_answer(self):
        # One that never takes its whole answer is closed after the idle time-out.
        with Daemon("limits.idle_timeout=1s", "limits.keep_alive=200ms") as d:
            s = d.raw()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(post_bytes(CHAT, long_body(n=24, max_tokens=100, logprobs=True,
                                                 top_logprobs=20)))
            d.wait_metric('expertd_request_finished{reason="length"}', 1)
            d.wait_metric("expertd_connection", 1)  # only the one that asks
            s.close()

    def test_idle_costs_nothing(self):
        with Daemon() as d:
            d.post(CHAT, body())
            hold = [d.raw() for _ in range(20)]

            def cpu():
                with open(f"/proc/{d.process.pid}/stat") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            before = cpu()
            time.sleep(3)
            self.assertLess((cpu() - before) / 3, 0.02)
            for s in hold:
                s.close()


class Systemd(unittest.TestCase):
    def notify_socket(self, d):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(os.path.join(d.dir, "notify"))
        s.settimeout(PATIENCE_S)
        d.env["NOTIFY_SOCKET"] = os.path.join(d.dir, "notify")
        return s

    def test_ready_and_stop(self):
        d = Daemon()
        s = self.notify_socket(d)
        d.spawn()
        told = b""
        while b"READY=1" not in told:
            told = s.recv(4096)
        self.assertIn(b"STATUS=", told)
        self.assertEqual(d.get("/health").status, 200)  # ready means ready
        d.signal(signal.SIGHUP)
        self.assertEqual(s.recv(4096), b"RELOADING=1")
        self.assertEqual(s.recv(4096), b"READY=1")
        d.signal(signal.SIGTERM)
        self.assertIn(b"STOPPING=1", s.recv(4096))
        self.assertEqual(d.wait(), 0)
        s.close()
        d.stop()

    def test_watchdog(self):
        d = Daemon("model.context_max=4096")
        s = self.notify_socket(d)
        d.env["WATCHDOG_USEC"] = "400000"
        d.spawn()
        while b"READY=1" not in s.recv(4096):  # ctl waits for systemd, if that does not read
            pass
        self.assertNotIn("no step", d.log())  # loading is no standing still
        busy = d.raw()
        for work in (False, True):  # idle, and while steps are made
            if work:
                busy.sendall(post_bytes(CHAT, long_body(stream=True, max_tokens=2000)))
            seen = 0
            while seen < 3:
                seen += s.recv(4096) == b"WATCHDOG=1"
        busy.close()
        s.close()
        self.assertEqual(d.stop(), 0)

    def test_socket_activation(self):
        d = Daemon()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(d.socket)
        listener.listen()
        # LISTEN_PID must be the daemon's: a shell that becomes it knows.
        command = d.command()
        d.command = lambda: ["/bin/sh", "-c",
                             'export LISTEN_PID=$$; exec "$@" 3<&%d' % listener.fileno(), "sh",
                             *command]
        d.pass_fds, d.env = (listener.fileno(),), {"LISTEN_FDS": "1"}
        d.start()
        self.assertIn("from systemd", d.log())
        d.signal(signal.SIGTERM)
        self.assertEqual(d.wait(), 0)
        self.assertTrue(os.path.exists(d.socket))  # not ours to remove
        listener.close()
        d.stop()

    def test_activation_leaves_loopback(self):
        """What systemd passes takes the place of the configured socket, not of [listen] loopback."""
        d = Daemon("listen.loopback=127.0.0.1:0")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(d.socket)
        listener.listen()
        command = d.command()
        d.command = lambda: ["/bin/sh", "-c",
                             'export LISTEN_PID=$$; exec "$@" 3<&%d' % listener.fileno(), "sh",
                             *command]
        d.pass_fds, d.env = (listener.fileno(),), {"LISTEN_FDS": "1"}
        with d:
            self.assertIn("from systemd", d.log())
            self.assertIn("listening on 127.0.0.1:", d.log())
        listener.close()

    def test_answers_while_loading(self):
        # The socket answers from the start: until the model is there with 503 and Retry-After.
        d = Daemon().spawn()
        seen = set()
        until = time.monotonic() + PATIENCE_S
        while "ready after" not in d.log() and time.monotonic() < until:
            try:
                a = d.post(CHAT, body())
            except (FileNotFoundError, ConnectionError):
                continue
            seen.add((a.status, a.error["code"] if a.status != 200 else None))
            if a.status == 503:
                self.assertGreater(int(a.headers["retry-after"]), 0)
        self.assertTrue(seen <= {(503, "loading"), (200, None)}, seen)
        self.assertEqual(d.post(CHAT, body()).status, 200)
        self.assertEqual(d.stop(), 0)


class Sandbox(unittest.TestCase):
    """what the process gives up before it serves, and how it ends when something is wrong"""

    def tasks(self, d):
        folder = f"/proc/{d.process.pid}/task"
        for task in os.listdir(folder):
            with open(f"{folder}/{task}/status") as f:
                yield dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)

    def test_every_thread(self):
        with Daemon() as d:
            self.assertIn("sandbox: system calls: deny; capabilities: none", d.log())
            tasks = list(self.tasks(d))
            self.assertGreater(len(tasks), 3)
            for status in tasks:
                self.assertEqual((status["Seccomp"], status["NoNewPrivs"]), ("2", "1"), status)
                for row in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
                    self.assertEqual(int(status[row], 16), 0, status)

    def test_off(self):
        with Daemon("sandbox.filter=off") as d:
            self.assertEqual({s["Seccomp"] for s in self.tasks(d)}, {"0"})
            self.assertEqual({int(s["CapPrm"], 16) for s in self.tasks(d)}, {0})

    def test_log(self):
        with Daemon("sandbox.filter=log") as d:
            self.assertEqual(d.post(CHAT, body()).status, 200)

    def undumped(self, d):
        """Bytes that are left out of a core: weights, KV memory; 91 MB in the demo model's plan."""
        total = size = 0
        with open(f"/proc/{d.process.pid}/smaps") as f:
            for line in f:
                if line.startswith("Size:"):
                    size = int(line.split()[1]) * 1024
                elif line.startswith("VmFlags:") and " dd" in line:
                    total += size
        return total

    def test_last_words(self):
        d = Daemon()
        command = d.command()
        d.command = lambda: ["/bin/sh", "-c", 'cd "$0" && ulimit -c unlimited && exec "$@"', d.dir,
                             *command]
        d.start()
        self.assertEqual(d.post(CHAT, body()).status, 200)
        self.assertGreater(self.undumped(d), 60e6)
        d.signal(signal.SIGSEGV)
        self.assertEqual(d.wait(), -signal.SIGSEGV)
        words = [x for x in d.log().splitlines() if "last words" in x]
        self.assertEqual(len(words), 1, d.log())
        self.assertRegex(words[0], r"expertd \d+\.\d+\.\d+: SIGSEGV from process \d+, thread expertd")
        with open("/proc/sys/kernel/core_pattern") as f:
            pattern = f.read().strip()
        cores = [x for x in os.listdir(d.dir) if x.startswith("core")]
        if pattern.startswith("core"):
            self.assertEqual(len(cores), 1)
        d.stop()


class Credentials(unittest.TestCase):
    SETS = ("--set", "net.port=tap:x", "--set", "net.https_port=0", "--set", "net.http_port=80",
            "--set", "net.allow_anonymous=yes", "--set", "net.keys=credential:keys")

    def check(self, directory, *sets):
        env = {k: v for k, v in os.environ.items() if k != "CREDENTIALS_DIRECTORY"}
        if directory:
            env["CREDENTIALS_DIRECTORY"] = directory
        return run("--config", "/dev/null", "--check-config", "--model", MODEL, *self.SETS, *sets,
                   env=env)

    def test_credentials(self):
        if "built without the port" in self.check("/", "--set", "net.keys=x")[2]:
            self.skipTest("built without the port")
        with tempfile.TemporaryDirectory() as d:
            code, _, err = self.check(None)
            self.assertEqual(code, 2)
            self.assertIn("[net] keys = credential:keys: systemd passed no credentials", err)
            code, _, err = self.check(d)
            self.assertEqual(code, 2)
            self.assertIn("[net] keys = credential:keys: " + d, err)
            self.assertIn("LoadCredential=keys:FILE", err)
            with open(os.path.join(d, "keys"), "w") as f:
                f.write("# none\n")
            os.chmod(os.path.join(d, "keys"), 0o400)
            self.assertEqual(self.check(d), (0, "", ""))
            for bad in ("../keys", "a/b", "", ".keys"):
                code, _, err = self.check(d, "--set", "net.tls_key=credential:" + bad)
                self.assertEqual(code, 2)
                self.assertIn("[net] tls_key = credential:" + bad, err)


class Loopback(unittest.TestCase):
    def test_tcp(self):
        import http.client
        with Daemon("listen.loopback=127.0.0.1:0") as d:
            line = [x for x in d.log().splitlines() if "127.0.0.1:" in x][0]
            port = int(line.rsplit(":", 1)[1])
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            a = d.post(CHAT, body(), connection=c)
            self.assertEqual(a.status, 200)
            a = d.post(CHAT, body(stream=True), connection=c)
            self.assertTrue(a.events)
            # A web page whose name resolves to 127.0.0.1 is not a program of this machine.
            for host, status in (("evil.example.org", 403), ("localhost:%d" % port, 200)):
                c.request("GET", "/health", headers={"Host": host})
                a = c.getresponse()
                told = json.loads(a.read())
                self.assertEqual(a.status, status, told)
                if status == 403:
                    self.assertEqual(told["error"]["code"], "host_not_allowed")
            c.close()
            # A client that leaves is noticed, one that has only stopped sending is answered.
            for i, stream in enumerate((True, False)):
                s = socket.create_connection(("127.0.0.1", port))
                s.sendall(post_bytes(CHAT, long_body(stream=stream, max_tokens=4000, n=20)))
                d.wait_metric("expertd_sequence_running", 8)
                s.close()
                d.wait_metric('expertd_request_finished{reason="cancelled"}', i + 1)
                d.wait_metric("expertd_request_active", 0)
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(post_bytes(CHAT, long_body(max_tokens=1500)))
            s.shutdown(socket.SHUT_WR)
            self.assertEqual(statuses(read_all(s)), [200])
            s.close()


if __name__ == "__main__":
    main()
