#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The daemon's port as its users meet it: HTTP and HTTPS with curl and the openai client, static
addresses, DHCP and router advertisements, keys and limits, web pages, client certificates, what
SIGHUP and SIGTERM do, and what start-up says when something is wrong.

Called as: test_daemon_net.py EXPERTD MODEL EXPERTCTL WIRE [PYTHON_DIR]; PYTHON_DIR has the openai
client (see test_openai.py)."""
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import lab
from expertd_test import text_of
from lab import (CLIENT, CLIENT6, EXPERTCTL, HTTP, HTTPS, NAME, PATIENCE_S, QUESTION, SERVER,
                 SERVER6, Lab, until)

PYTHON_DIR = sys.argv.pop(5) if len(sys.argv) > 5 and "/" in sys.argv[5] else ""
HERE = os.path.dirname(os.path.abspath(__file__))
LONG_CHAT = {"max_tokens": 400, "logit_bias": {"1": -100}, "temperature": 0, "seed": 1}


def stream_text(answer):
    events = answer.events
    return text_of(events, "reasoning_content"), text_of(events)


class Ways:
    """each way to a NIC; a class below for each"""
    kind = None

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(cls.kind)
        try:
            cls.lab.start()
        except AssertionError as error:
            cls.lab.stop()
            said = re.search(r"expertd: error: (port af_xdp:.*)", str(error))
            if not said:
                raise
            raise unittest.SkipTest(said[1]) from error
        except BaseException:
            cls.lab.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        assert cls.lab.stop() == 0

    def test_curl(self):
        for url in (f"http://{SERVER}/health", f"https://{SERVER}/health",
                    f"http://[{SERVER6}]/health", f"https://[{SERVER6}]/health",
                    f"https://{NAME}/health"):
            for version in ("--http1.1", "--http2"):  # the latter is asked for and not given
                body, status = self.lab.curl(version, url)
                self.assertEqual(status, "200", url)
                self.assertEqual(json.loads(body)["status"], "ok", url)
        body, status = self.lab.curl(
            "-H", "Authorization: Bearer " + self.lab.keys["alice"], "--json",
            json.dumps({"model": "model", "messages": QUESTION, "temperature": 0}),
            f"https://{NAME}/v1/chat/completions")
        self.assertEqual(status, "200")
        self.assertEqual(json.loads(body)["choices"][0]["message"]["content"], "The answer is 1.")

    def test_same_as_socket(self):
        fields = {"messages": QUESTION, "temperature": 0, "stream": True}
        want = stream_text(self.lab.chat(**fields))
        self.assertEqual(want[1], "The answer is 1.")
        for v6 in (False, True):
            for tls in (False, True):
                self.assertEqual(stream_text(self.lab.ask_chat(**fields, tls=tls, v6=v6)), want)

    def test_keep_alive(self):
        connection = self.lab.port()
        for _ in range(20):
            self.assertEqual(self.lab.request("GET", "/health", connection=connection).status, 200)
        connection.close()

    def test_large(self):
        """a body of many segments, refused or taken whole"""
        prompt = "x" * 300_000
        want = self.lab.post("/tokenize", {"content": prompt})
        got = self.lab.ask("POST", "/tokenize", {"content": prompt})
        self.assertEqual((got.status, got.json), (want.status, want.json))

    def test_wrong_certificate(self):
        done = self.lab.client.run("curl", "-sS", f"https://{SERVER}/health", capture_output=True,
                                   text=True)
        self.assertEqual(done.returncode, 60, done.stderr)

    def test_kernel_stays_out(self):
        """the kernel on the port's side has no socket, sends nothing and refuses nothing"""
        self.lab.until_quiet()
        watch = lab.Watch(self.lab)
        for tls in (False, True):
            for v6 in (False, True):
                connection = self.lab.port(tls=tls, v6=v6)
                self.lab.request("GET", "/health", connection=connection)
                sockets = self.lab.server.run("ss", "-tuanH", capture_output=True, text=True)
                self.assertEqual(sockets.stdout, "")
                connection.close()
        self.lab.until_quiet()
        seen = watch.stop()
        self.assertGreater(seen["tcp"], 12)
        self.assertEqual((seen["rst"], seen["icmp"]), (0, 0))
        self.assertEqual(self.lab.kernel_said(), {})


class AfPacket(Ways, unittest.TestCase):
    kind = "af_packet"

    def test_status(self):
        def run(*words):
            done = subprocess.run([EXPERTCTL, "--socket", self.lab.socket, *words, "net"],
                                  capture_output=True, text=True, timeout=PATIENCE_S, check=True)
            return done.stdout
        self.lab.ask("GET", "/health")
        text = run()
        for want in ("af_packet:nic0 (net_af_packet), link up", SERVER, SERVER6, "fe80::"):
            self.assertIn(want, text)
        for label in ("frames", "dropped", "connections", "TLS"):
            self.assertRegex(text, rf"(?m)^{label} ")
        self.assertIsInstance(json.loads(run("--json")), dict)

    def expertctl(self, *words, key="alice"):
        return self.lab.client.run(EXPERTCTL, *words, capture_output=True, text=True,
                                   env={**os.environ, "EXPERTD_KEY": self.lab.keys[key]})

    def test_expertctl(self):
        """from another machine, over HTTPS"""
        ask = ("ask", "--temperature", "0", "--quiet", QUESTION[0]["content"])
        for host in (SERVER, f"[{SERVER6}]"):
            done = self.expertctl("--url", f"https://{host}", "--ca", self.lab.certificates.ca, *ask)
            self.assertEqual((done.returncode, done.stdout), (0, "The answer is 1.\n"), done.stderr)
        for status, said, words in (
                (3, "not trusted", ("--url", f"https://{SERVER}")),
                (1, "https_port", ("--url", f"https://{SERVER}:80", "--ca", self.lab.certificates.ca)),
                (1, "unencrypted", ("--url", f"http://{SERVER}")),
                (1, "no certificates", ("--url", f"https://{SERVER}", "--ca", "/dev/null"))):
            done = self.expertctl(*words, *ask)
            self.assertEqual((done.returncode, done.stdout), (status, ""), done.stderr)
            self.assertIn(said, done.stderr)

    def test_plain_on_tls(self):
        with self.lab.dial(HTTPS) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = sock.recv(4096)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)

    def test_versions(self):
        for version, works in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True),
                               (ssl.TLSVersion.TLSv1_3, True)):
            context = self.lab.context()
            if not works:
                context.set_ciphers("ALL:@SECLEVEL=0")
                context.minimum_version = version
            context.maximum_version = version
            with self.lab.dial(HTTPS) as sock:
                try:
                    with context.wrap_socket(sock, server_hostname=NAME) as inside:
                        self.assertTrue(works, version)
                        self.assertEqual(inside.selected_alpn_protocol(), "http/1.1")
                except (ssl.SSLError, ConnectionResetError):
                    self.assertFalse(works, version)

    def test_left_early(self):
        """who leaves in the middle of a stream frees its place"""
        connection = self.lab.port()
        connection.request("POST", "/v1/chat/completions", json.dumps(
            {"model": "model", "messages": QUESTION, "stream": True, **LONG_CHAT}),
            {"Content-Type": "application/json",
             "Authorization": "Bearer " + self.lab.keys["alice"]})
        connection.getresponse().read(100)
        connection.close()
        self.lab.wait_metric("expertd_request_active", 0)

    def test_openai(self):
        env = {**os.environ, "PYTHONPATH": PYTHON_DIR, "OPENAI_API_KEY": self.lab.keys["alice"]}
        done = self.lab.client.run(sys.executable, f"{HERE}/openai_chat.py",
                                   f"https://{SERVER}/v1", self.lab.certificates.ca,
                                   capture_output=True, text=True, env=env, timeout=PATIENCE_S)
        if done.returncode == lab.SKIPPED:
            self.skipTest(done.stdout)
        self.assertEqual(done.returncode, 0, done.stderr)
        said = json.loads(done.stdout)
        self.assertEqual(said["whole"], "The answer is 1.")
        self.assertEqual(said["streamed"], "The answer is 1.")
        self.assertEqual(said["models"], ["model"])
        self.assertEqual(said["wrong_key"], 401)


class Tap(Ways, unittest.TestCase):
    kind = "tap"


class AfXdp(Ways, unittest.TestCase):
    kind = "af_xdp"


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = Lab("af_packet", "net.cors_origins=https://chat.example.org",
                      keys=("alice", "bob"))
        cls.lab.key_add("slow", "--rate", "8")
        cls.lab.key_add("single", "--concurrency", "1")
        try:
            cls.lab.start()
        except BaseException:
            cls.lab.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        assert cls.lab.stop() == 0

    def test_open(self):
        ask = self.lab.ask
        self.assertEqual(ask("GET", "/health", key=None).status, 200)
        self.assertEqual(self.lab.get("/metrics").status, 200)
        for tls in (False, True):
            for path in ("/metrics", "/v1/models", "/slots", "/props", "/", "/nothing"):
                a = ask("GET", path, key=None, tls=tls)
                self.assertEqual(a.status, 401, path)
                self.assertIn("www-authenticate", a.headers)
                self.assertEqual(a.error["type"], "authentication_error")
        self.assertEqual(ask("GET", "/metrics").status, 200)
        self.assertEqual(ask("GET", "/nothing").status, 404)

    def test_wrong_keys(self):
        for key in ("sk-wrong", "x" * 400, self.lab.keys["alice"][:-1],
                    self.lab.keys["alice"] + "x"):
            self.assertEqual(self.lab.ask("GET", "/v1/models", key=key).status, 401)
        a = self.lab.ask("GET", "/v1/models", key=None,
                         headers={"Authorization": "Basic " + self.lab.keys["alice"]})
        self.assertEqual(a.status, 401)
        a = self.lab.ask("GET", "/v1/models", key=None,
                         headers={"x-api-key": self.lab.keys["alice"]})
        self.assertEqual(a.status, 200)
        for key in self.lab.keys.values():
            self.assertNotIn(key, self.lab.log())

    def test_rate(self):
        answers = [self.lab.ask("GET", "/v1/models", key="slow") for _ in range(3)]
        self.assertEqual([a.status for a in answers], [200, 200, 429])
        wait_s = int(answers[2].headers["retry-after"])
        self.assertTrue(1 <= wait_s <= 8, wait_s)
        self.assertEqual(self.lab.ask("GET", "/v1/models", key="alice").status, 200)
        time.sleep(wait_s)
        self.assertEqual(self.lab.ask("GET", "/v1/models", key="slow").status, 200)

    def test_concurrency(self):
        connection = self.lab.port()
        connection.request("POST", "/v1/chat/completions", json.dumps(
            {"model": "model", "messages": QUESTION, "stream": True, **LONG_CHAT}),
            {"Content-Type": "application/json",
             "Authorization": "Bearer " + self.lab.keys["single"]})
        response = connection.getresponse()
        response.read(10)
        a = self.lab.ask("GET", "/v1/models", key="single")
        self.assertEqual(a.status, 429)
        self.assertGreaterEqual(int(a.headers["retry-after"]), 1)
        self.assertEqual(self.lab.ask("GET", "/v1/models", key="bob").status, 200)
        response.read()
        connection.close()
        self.assertEqual(self.lab.ask("GET", "/v1/models", key="single").status, 200)

    def test_web_pages(self):
        def ask(method, origin, key=None, **headers):
            return self.lab.ask(method, "/v1/chat/completions", key=key, headers={
                "Origin": origin, **{k.replace("_", "-"): v for k, v in headers.items()}},
                body={"model": "model", "messages": QUESTION, "temperature": 0}
                if method == "POST" else None)
        a = ask("OPTIONS", "https://chat.example.org", Access_Control_Request_Method="POST",
                Access_Control_Request_Headers="authorization, content-type")
        self.assertIn(a.status, (200, 204))
        self.assertEqual(a.headers["access-control-allow-origin"], "https://chat.example.org")
        self.assertIn("POST", a.headers["access-control-allow-methods"])
        self.assertIn("authorization", a.headers["access-control-allow-headers"].lower())
        a = ask("POST", "https://chat.example.org", key="alice")
        self.assertEqual(a.status, 200)
        self.assertEqual(a.headers["access-control-allow-origin"], "https://chat.example.org")
        a = ask("POST", "https://chat.example.org")
        self.assertEqual(a.status, 401)
        self.assertEqual(a.headers["access-control-allow-origin"], "https://chat.example.org")
        for method in ("OPTIONS", "POST"):
            a = ask(method, "https://evil.example.org", key="alice",
                    Access_Control_Request_Method="POST")
            self.assertNotIn("access-control-allow-origin", a.headers)


class Changes(unittest.TestCase):
    """what signals do; each with a daemon of its own"""

    def serial(self, d):
        with d.context().wrap_socket(d.dial(HTTPS), server_hostname=NAME) as sock:
            return sock.getpeercert()["serialNumber"]

    def test_reload(self):
        with Lab("af_packet") as d:
            first = self.serial(d)
            kept = d.port()
            alice = {"Authorization": "Bearer " + d.keys["alice"]}
            self.assertEqual(d.request("GET", "/v1/models", headers=alice,
                                       connection=kept).status, 200)
            d.certificates.serve("second")
            d.key_add("bob")
            d.key_revoke("alice")
            self.assertEqual(d.ask("GET", "/v1/models", key="bob").status, 401)
            self.assertEqual(self.serial(d), first)
            d.reload()
            until(lambda: d.ask("GET", "/v1/models", key="bob").status == 200, d.log)
            second = until(lambda: (s := self.serial(d)) != first and s, d.log)
            self.assertEqual(d.ask("GET", "/v1/models").status, 401)
            self.assertEqual(d.request("GET", "/v1/models", headers=alice,
                                       connection=kept).status, 401)
            kept.close()
            # What cannot be used changes nothing: a key that was to go stays, too.
            for n, path in enumerate((d.keys_path, d.certificates.key)):
                with open(path, "a+", encoding="ascii") as file:
                    file.seek(0)
                    good = file.read()
                    file.truncate(0)
                    file.write("nonsense of ours\n")
                if path != d.keys_path:
                    d.key_revoke("bob")
                d.reload()
                until(lambda n=n: d.log().count("everything stays as it was") == n + 1, d.log)
                self.assertEqual(d.ask("GET", "/v1/models", key="bob").status, 200)
                self.assertEqual(self.serial(d), second)
                with open(path, "w", encoding="ascii") as file:
                    file.write(good)
            d.reload()
            until(lambda: d.ask("GET", "/v1/models", key="bob").status == 401, d.log)
            self.assertRegex(d.log(), r"refused a request from [0-9.]+: 401, .* key")
            self.assertNotIn("nonsense of ours", d.log())

    def test_reload_credentials(self):
        """Secrets that systemd passes are the same ones after a reload."""
        names = ("tls_certificate", "tls_key", "keys")
        with tempfile.TemporaryDirectory() as folder:
            d = Lab("tap", *(f"net.{name}=credential:{name}" for name in names),
                    env={"CREDENTIALS_DIRECTORY": folder})
            paths = (d.certificates.server, d.certificates.key, d.keys_path)
            for name, path in zip(names, paths):
                shutil.copy(path, os.path.join(folder, name))
            with d:
                d.reload()
                until(lambda: "reloaded: 0 options" in d.log(), d.log)
                self.assertNotIn("takes effect after a restart", d.log())
                self.assertEqual(d.ask("GET", "/v1/models").status, 200)

    def test_drain(self):
        with Lab("af_packet") as d:
            want = stream_text(d.chat(stream=True, **LONG_CHAT))
            connection = d.port()
            connection.request("POST", "/v1/chat/completions", json.dumps(
                {"model": "model", "messages": QUESTION, "stream": True, **LONG_CHAT}),
                {"Content-Type": "application/json",
                 "Authorization": "Bearer " + d.keys["alice"]})
            response = connection.getresponse()
            begun = response.read(10)
            d.signal(signal.SIGTERM)
            until(lambda: "finishing" in d.log(), d.log)
            body = begun + response.read()
            self.assertEqual(stream_text(lab.expertd_test.Answer(200, {}, body)), want)
            connection.close()
            self.assertEqual(d.wait(), 0)

    def test_twice(self):
        """SIGTERM twice ends at once; the client learns of it"""
        with Lab("af_packet") as d:
            connection = d.port(tls=False)
            connection.request("POST", "/v1/chat/completions", json.dumps(
                {"model": "model", "messages": QUESTION, "stream": True, **LONG_CHAT}),
                {"Content-Type": "application/json",
                 "Authorization": "Bearer " + d.keys["alice"]})
            with connection.getresponse() as response:
                response.read(10)
                d.signal(signal.SIGTERM)
                until(lambda: "finishing" in d.log(), d.log)
                d.signal(signal.SIGTERM)
                with self.assertRaises(ConnectionResetError):
                    response.read()
            connection.close()
            self.assertEqual(d.wait(), 0)

    def test_again(self):
        """a port is handed back: the same interface serves the next daemon"""
        d = Lab("af_packet")
        try:
            d.start()
            d.ask("GET", "/health")
            d.signal(signal.SIGKILL)
            d.wait()
            lab.Daemon.start(d)
            self.assertEqual(d.ask("GET", "/health").status, 200)
            d.signal(signal.SIGTERM)
            self.assertEqual(d.wait(), 0)
            lab.Daemon.start(d)
            self.assertEqual(d.ask("GET", "/health").status, 200)
        finally:
            d.stop()

    def test_link_and_sandbox(self):
        """the port's link is looked at from behind the sandbox, and no interface stays taken"""
        for kind in ("af_packet", "af_xdp"):
            d = Lab(kind)
            try:
                try:
                    d.start()
                except AssertionError as error:
                    if kind == "af_xdp" and "port af_xdp:" in str(error):
                        continue  # this kernel has none
                    raise
                self.assertIn("sandbox: system calls: deny", d.log())
                for state in ("down", "up"):
                    d.server.run("ip", "link", "set", "nic0", state, check=True)
                    until(lambda: f"port {kind}:nic0: link {state}" in
                          d.log().partition("ready after")[2], d.log)
                until(lambda: d.ask("GET", "/health").status == 200, d.log)
                d.signal(signal.SIGTERM)
                self.assertEqual(d.wait(), 0)
                link = d.server.run("ip", "-d", "link", "show", "nic0", check=True,
                                    capture_output=True, text=True).stdout
                self.assertNotIn("xdp", link)
            finally:
                d.stop()

    def test_no_dhcp(self):
        with Lab("af_packet", net="dhcp") as d:
            until(lambda: "no DHCP server answers" in d.log(), d.log)
            self.assertEqual(d.get("/health").status, 200)

    def test_client_certificates(self):
        d = Lab("af_packet")
        d.sets.append("net.tls_client_ca=" + d.certificates.ca)
        with d:
            context = d.context()
            with self.assertRaises((ssl.SSLError, ConnectionError, lab.http.client.HTTPException)):
                d.ask("GET", "/health", context=context)
            context.load_cert_chain(d.certificates.client, d.certificates.client_key)
            self.assertEqual(d.ask("GET", "/health", context=context).status, 200)
            self.assertEqual(d.ask("GET", "/v1/models", key=None, context=context).status, 401)
            self.assertEqual(d.ask("GET", "/v1/models", context=context).status, 200)
            with self.assertRaises((ssl.SSLError, ConnectionError, lab.http.client.HTTPException)):
                d.ask("GET", "/health", context=d.context())

    def test_anonymous(self):
        with Lab("af_packet", "net.allow_anonymous=yes", "limits.requests_per_minute=12",
                 keys=()) as d:
            self.assertEqual([d.ask("GET", "/v1/models", key=None).status for _ in range(4)],
                             [200, 200, 200, 429])
            self.assertEqual(d.ask("GET", "/health", key=None).status, 200)


class DhcpServer:
    """gives SERVER to whoever asks, for a while"""

    def __init__(self, space, lease_s=3600):
        self.lease_s, self.seen = lease_s, []
        self.sock = space.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        self.sock.bind(("0.0.0.0", 67))
        self.sock.settimeout(0.2)
        self.ending = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ending:
            try:
                asked, _ = self.sock.recvfrom(2048)
            except TimeoutError:
                continue
            kind = self.option(asked, 53)[0]
            self.seen.append(kind)
            if kind in (1, 3):  # DISCOVER, REQUEST
                self.sock.sendto(self.answer(asked, 2 if kind == 1 else 5),
                                 ("255.255.255.255", 68))

    @staticmethod
    def option(packet, wanted):
        at = 240
        while packet[at] != 255:
            if packet[at] == wanted:
                return packet[at + 2:at + 2 + packet[at + 1]]
            at += 1 if packet[at] == 0 else 2 + packet[at + 1]
        return b"\0"

    def answer(self, asked, kind):
        zero = bytes(4)
        head = struct.pack("!BBBB4sHH4s4s4s4s16s192x4s", 2, 1, 6, 0, asked[4:8], 0, 0x8000, zero,
                           socket.inet_aton(SERVER), socket.inet_aton(CLIENT), zero, asked[28:44],
                           b"\x63\x82\x53\x63")
        options = bytes([53, 1, kind, 54, 4]) + socket.inet_aton(CLIENT) + bytes([51, 4]) + \
            struct.pack("!I", self.lease_s) + bytes([1, 4, 255, 255, 255, 0, 3, 4]) + \
            socket.inet_aton(CLIENT) + b"\xff"
        return (head + options).ljust(300, b"\0")

    def stop(self):
        self.ending = True
        self.thread.join()
        self.sock.close()


def advertise(space):
    """one router advertisement with the prefix fd0a::/64"""
    sock = space.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
    prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 86400, 14400, 0,
                         socket.inet_pton(socket.AF_INET6, "fd0a::"))
    index = int(space.run("cat", "/sys/class/net/eth0/ifindex", capture_output=True).stdout)
    with sock:
        sock.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix,
                    ("ff02::1", 0, 0, index))


class Addresses(unittest.TestCase):
    def test_dhcp_and_slaac(self):
        d = Lab("af_packet", net="automatic").build()
        dhcp = DhcpServer(d.client)
        try:
            d.client.address("eth0", "fd0a::2/64")
            d.start()
            until(lambda: f'address="{SERVER}"' in d.get("/metrics").body.decode(), d.log)
            self.assertEqual(dhcp.seen[:2], [1, 3])
            self.assertEqual(d.ask("GET", "/health").status, 200)

            def address6():
                advertise(d.client)
                return re.search(r'address6="(fd0a::[0-9a-f:]+)"',
                                 d.get("/metrics").body.decode())
            got = until(address6, d.log)[1]
            self.assertEqual(d.ask("GET", "/health", v6=True, address=got).status, 200)
            for address in (SERVER, got):
                self.assertIn("address " + address, d.log())
            self.assertEqual(d.kernel_said(), {})
        finally:
            dhcp.stop()
            d.stop()

    def test_renewed(self):
        """a short lease is renewed, and connections live on"""
        d = Lab("af_packet", net="automatic").build()
        dhcp = DhcpServer(d.client, lease_s=20)
        try:
            d.start()
            until(lambda: f'address="{SERVER}"' in d.get("/metrics").body.decode(), d.log)
            connection = d.port()
            self.assertEqual(d.request("GET", "/health", connection=connection).status, 200)
            before = len(dhcp.seen)
            until(lambda: len(dhcp.seen) > before, "the lease is not renewed")
            self.assertEqual(d.request("GET", "/health", connection=connection).status, 200)
            connection.close()
            self.assertNotIn("lost", d.log())
        finally:
            dhcp.stop()
            d.stop()


class Refused(unittest.TestCase):
    """what start-up says; a daemon that does not start needs no namespace"""

    def refuse(self, *sets, keys=("alice",), status=1, config="", certificates=True):
        d = Lab("af_packet", *sets, keys=keys, config=config)
        if not certificates:
            d.sets = [s for s in d.sets if not s.startswith("net.tls")]
        try:
            d.build()
            d.spawn()
            self.assertEqual(d.wait(), status, d.log())
            return d.log()
        finally:
            d.stop()

    def test_keys(self):
        said = self.refuse(keys=())
        self.assertIn("expertctl key add", said)
        self.assertIn("allow_anonymous", said)

    def test_port(self):
        for port, status in (("af_packet:none0", 1), ("nonsense", 2), ("0000:ff:1f.7", 1)):
            said = self.refuse("net.port=" + port, status=status)
            self.assertIn(port.split(":", 1)[-1] if status == 1 else "tap:NAME", said, port)
            self.assertEqual(said.count("error:"), 1, said)

    def test_certificate(self):
        self.assertIn("tls_certificate", self.refuse(certificates=False, status=2))
        said = self.refuse("net.tls_certificate=/nonexistent/crt", status=2)
        self.assertIn("/nonexistent/crt", said)

    def check(self, line):
        d = Lab("af_packet", config="# first\n[net]\n" + line + "\n")
        key = line.split()[0]
        d.sets = [s for s in d.sets if not s.startswith(f"net.{key}=")]
        try:
            done = subprocess.run([*lab.Daemon.command(d), "--check-config"], text=True,
                                  capture_output=True, timeout=PATIENCE_S)
            self.assertEqual(done.returncode, 2, done.stderr)
            return done.stderr.replace(d.config, "FILE")
        finally:
            d.stop()

    def test_lines(self):
        """file and line of what a line cannot be"""
        for line in ("https_port = 70000", "queues = many", "allow_anonymous = maybe",
                     "nonsense = 1"):
            with self.subTest(line):
                self.assertIn("FILE:3: ", self.check(line))

    def test_keys_of_net(self):
        """the key of what does not fit together, or names nothing"""
        for line in ("address = 10.9.0.300/24", "address = 10.9.0.1", "address6 = fd09::1",
                     "gateway = x", "cors_origins = chat.example.org"):
            with self.subTest(line):
                self.assertIn("[net] " + line.split()[0], self.check(line))


if __name__ == "__main__":
    lab.main()
