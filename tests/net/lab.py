# SPDX-License-Identifier: MIT
"""What the tests of the daemon's port share: expertd beside a kernel in one namespace, its clients
in another, and what lies between.  Python's standard library only.

    server namespace                                        client namespace
    expertd -- nic0 ------------- veth pair ------------------- eth0      af_packet:, af_xdp:
    expertd -- nic0 (its kernel side) -- wire -- tap device --- eth0      tap:

The server's kernel has no address, the client's has CLIENT and CLIENT6.  A test file is called as
test_NAME.py EXPERTD MODEL EXPERTCTL WIRE [OPTION...], by root.
"""
import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

import netns

EXPERTCTL = os.path.abspath(sys.argv[3]) if len(sys.argv) > 3 else "build/client/expertctl"
WIRE = os.path.abspath(sys.argv[4]) if len(sys.argv) > 4 else "build/tests/net/wire"
LONG = "--long" in sys.argv

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import expertd_test  # noqa: E402  (its folder is known only now)
from expertd_test import PATIENCE_S, SKIPPED, Daemon  # noqa: E402

SERVER, CLIENT, CLIENT_OTHER = "10.9.0.1", "10.9.0.2", "10.9.0.3"
SERVER6, CLIENT6, NAME = "fd09::1", "fd09::2", "appliance.example.org"
HTTP, HTTPS = 80, 443
ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
QUESTION = [{"role": "user", "content": "Compute 66 - 57 - 8."}]


def until(what, why):
    """until waits for something to hold and returns it; only a hang meets its limit"""
    end = time.monotonic() + PATIENCE_S
    while not (got := what()):
        assert time.monotonic() < end, why() if callable(why) else why
        time.sleep(0.02)
    return got


_pipelines = []


def pipelines():
    """a folder for compiled shaders that the daemons of a test file share"""
    if not _pipelines:
        _pipelines.append(tempfile.mkdtemp(prefix="expertd-net-"))
        atexit.register(shutil.rmtree, _pipelines[0], ignore_errors=True)
    return _pipelines[0]


class Certificates:
    """an authority, the server's certificate, and a client's"""

    def __init__(self, folder):
        self.folder = folder
        self.ca, self.server, self.key = (f"{folder}/{x}" for x in
                                          ("ca.crt", "server.crt", "server.key"))
        self.client, self.client_key = f"{folder}/client.crt", f"{folder}/client.key"
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                  "-keyout", f"{folder}/ca.key", "-out", self.ca, "-days", "30", "-subj",
                  "/CN=test authority")
        self.serve("first")
        self._make("client", "a client", "subjectAltName=DNS:client.example.org")

    def serve(self, name):
        """serve makes a new certificate of the server"""
        self._make("server", name, f"subjectAltName=DNS:{NAME},IP:{SERVER},IP:{SERVER6}")

    def _make(self, stem, name, extension):
        path = f"{self.folder}/{stem}"
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                  "-keyout", f"{path}.key.new", "-out", f"{path}.csr", "-subj", f"/CN={name}")
        with open(f"{path}.ext", "w", encoding="ascii") as file:
            file.write(extension + "\n")
        self._run("x509", "-req", "-in", f"{path}.csr", "-CA", self.ca, "-CAkey",
                  f"{self.folder}/ca.key", "-CAcreateserial", "-days", "30", "-extfile",
                  f"{path}.ext", "-out", f"{path}.crt.new")
        os.replace(f"{path}.key.new", f"{path}.key")
        os.replace(f"{path}.crt.new", f"{path}.crt")

    @staticmethod
    def _run(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True)


class PortConnection(http.client.HTTPConnection):
    """HTTP to the port from the client's namespace, inside TLS or not"""

    def __init__(self, lab, tls=True, v6=False, context=None, source=None, address=None):
        super().__init__(NAME, timeout=PATIENCE_S)
        self.lab, self.tls, self.context = lab, tls, context
        self.v6, self.source, self.address = v6, source, address

    def connect(self):
        self.sock = self.lab.dial(HTTPS if self.tls else HTTP, self.v6, self.source, self.address)
        if self.tls:
            context = self.context or self.lab.context()
            try:
                self.sock = context.wrap_socket(self.sock, server_hostname=NAME)
            except OSError:
                self.sock.close()
                raise


class Wire:
    """tests/net/wire.c between two frames' descriptors"""

    def __init__(self, left, right, words):
        command = [WIRE, str(left), str(right), *words]
        self.process = subprocess.Popen(command, pass_fds=(left, right), stdout=subprocess.PIPE,
                                        text=True)
        assert self.process.stdout.readline() == "ready\n"

    def stop(self):
        """stop returns what the wire did"""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, f"the wire ended with {self.process.returncode}"
        return json.loads(out)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Lab(Daemon):
    """A daemon with a port, and its clients; use as a context.

    kind: tap, af_packet or af_xdp.  sets: further section.key=value; they come last, so that they
    overrule these.  keys: names of keys to be made; self.keys has them."""

    def __init__(self, kind, *sets, keys=("alice",), net="static", **more):
        self.kind, self.wire, self.descriptors, self.sockets = kind, None, [], []
        self.server = self.client = None
        self.keys = {}
        super().__init__(**more)
        atexit.register(shutil.rmtree, self.dir, ignore_errors=True)
        self.certificates = Certificates(self.dir)
        self.keys_path = os.path.join(self.dir, "keys")
        for name in keys:
            self.key_add(name)
        port = [f"device.pipeline_cache={pipelines()}/pipelines", f"net.port={kind}:nic0", f"net.http_port={HTTP}", f"net.https_port={HTTPS}",
                f"net.tls_certificate={self.certificates.server}",
                f"net.tls_key={self.certificates.key}", f"net.keys={self.keys_path}"]
        if net == "static":
            port += [f"net.address={SERVER}/24", f"net.address6={SERVER6}/64"]
        self.sets += ["model.context_max=512", *port, *sets]

    # what is between daemon and clients

    def build(self):
        """build makes the namespaces; start does it when nobody did"""
        self.server = netns.Namespace("server")
        self.client = netns.Namespace("client")
        if self.kind == "tap":
            self.right = self.client.tap("eth0")
            self.descriptors.append(self.right)
        else:
            netns.veth(self.server, "nic0", self.client, "eth0")
        for address in (f"{CLIENT}/24", f"{CLIENT_OTHER}/24", f"{CLIENT6}/64"):
            self.client.address("eth0", address)
        return self

    def rewire(self, *words):
        """rewire puts a wire with these properties between daemon and clients of a tap."""
        did = self.wire.stop() if self.wire else None
        if not self.descriptors[1:]:
            left = self.server.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            left.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            left.bind(("nic0", ETH_P_ALL))
            self.sockets.append(left)
            self.descriptors.append(left.fileno())
        self.wire = Wire(self.descriptors[1], self.right, words)
        self.client.processes.append(self.wire.process)
        return did

    def command(self):
        return self.server.command(*super().command())

    def spawn(self):
        super().spawn()
        self.server.processes.append(self.process)  # ends with its namespace whatever happens
        return self

    def start(self):
        if not self.server:
            self.build()
        super().start()
        if self.kind == "tap" and not self.wire:
            self.rewire()
        return self

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        try:
            return super().stop()
        finally:
            if self.wire:
                self.wire.kill()
            for sock in self.sockets:
                sock.close()
            if self.descriptors:
                os.close(self.descriptors[0])  # the other is a socket's
            self.descriptors, self.sockets, self.wire = [], [], None
            for space in (self.server, self.client):
                if space:
                    space.close()
            self.server = self.client = None

    def __exit__(self, *_):
        self.stop()

    # keys

    def key_add(self, name, *words):
        done = subprocess.run([EXPERTCTL, "key", "--file", self.keys_path, "add", name, *words],
                              check=True, capture_output=True, text=True)
        self.keys[name] = done.stdout.strip()

    def key_revoke(self, name):
        subprocess.run([EXPERTCTL, "key", "--file", self.keys_path, "revoke", name], check=True,
                       capture_output=True)

    def reload(self):
        """reload sends SIGHUP and waits until the daemon says that it is done"""
        before = len(re.findall("reload", self.log()))
        self.signal(signal.SIGHUP)
        until(lambda: len(re.findall("reload", self.log())) > before, self.log)

    # clients

    def dial(self, port, v6=False, source=None, address=None):
        """a connected socket of the client's kernel"""
        family = socket.AF_INET6 if v6 else socket.AF_INET
        sock = self.client.socket(family, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            sock.bind((source, 0))
        sock.connect((address or (SERVER6 if v6 else SERVER), port))
        return sock

    def context(self):
        context = ssl.create_default_context(cafile=self.certificates.ca)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def port(self, **options):
        """an HTTP connection to the port"""
        return PortConnection(self, **options)

    def ask(self, method, path, body=None, key="alice", headers=None, tls=True, v6=False, **options):
        """one request to the port on a connection of its own; key: a name, or None"""
        connection = self.port(tls=tls, v6=v6, **options)
        headers = dict(headers or {})
        if key:
            headers["Authorization"] = "Bearer " + self.keys.get(key, key)
        try:
            return self.request(method, path, body, headers=headers, connection=connection)
        finally:
            connection.close()

    def ask_chat(self, messages=None, **fields):
        options = {k: fields.pop(k) for k in ("tls", "v6", "key", "source") if k in fields}
        return self.ask("POST", "/v1/chat/completions",
                        {"model": "model", "messages": messages or QUESTION, **fields}, **options)

    def curl(self, *words, check=True):
        """curl's output, status behind it; the authority is trusted, NAME is the port"""
        names = [f"{NAME}:{port}:{SERVER}" for port in (HTTP, HTTPS)]
        done = self.client.run("curl", "-sS", "--max-time", PATIENCE_S, "--cacert",
                               self.certificates.ca, "--resolve", names[0], "--resolve", names[1],
                               "-w", "\n%{http_code}", *words, capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stderr
        return done if not check else done.stdout.rsplit("\n", 1)

    # what the server's side shows

    def metrics(self):
        """every row of /metrics of the port, by its name with labels"""
        rows = {}
        for line in self.get("/metrics").body.decode().split("\n"):
            if line.startswith("expertd_net_"):
                name, value = line.rsplit(" ", 1)
                rows[name] = float(value)
        return rows

    def dropped(self):
        rows = self.metrics()
        return {m[1]: int(v) for k, v in rows.items()
                if (m := re.match(r'expertd_net_dropped\{kind="(\w+)"\}', k))}

    def until_metrics(self, what):
        """waits until something holds of the port's metrics; they are told four times a second"""
        return until(lambda: (m := self.metrics()) and what(m) and m, lambda: str(self.metrics()))

    def until_quiet(self):
        """waits until no connection is open or half-open and no frame is held"""
        return self.until_metrics(lambda m: not any(m[name] for name in (
            'expertd_net_connection{state="open"}', 'expertd_net_connection{state="half-open"}',
            "expertd_net_frame_held")))

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) << 10

    def kernel_said(self):
        """what the server's kernel sent or took part in: nothing, if all is well"""
        wanted = {"Ip": ["OutRequests"], "Icmp": ["OutMsgs"],
                  "Tcp": ["ActiveOpens", "PassiveOpens", "InSegs", "OutSegs", "OutRsts"],
                  "Udp": ["InDatagrams", "OutDatagrams"]}
        said = {}
        text = self.server.run("cat", "/proc/net/snmp", capture_output=True, text=True,
                               check=True).stdout.splitlines()
        for names, values in zip(text[::2], text[1::2]):
            table, names = names.split(": ")
            row = dict(zip(names.split(), map(int, values.split(": ")[1].split())))
            said.update({f"{table}{n}": row[n] for n in wanted.get(table, []) if row[n]})
        text = self.server.run("cat", "/proc/net/snmp6", capture_output=True, text=True).stdout
        for line in text.splitlines():
            name, value = line.split()
            if name in ("Ip6OutRequests", "Icmp6OutMsgs") and int(value):
                said[name] = int(value)
        return said


class Watch:
    """a packet socket on the client's side: frames of the port that a kernel would have sent"""

    def __init__(self, lab):
        self.sock = lab.client.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        self.sock.bind(("eth0", ETH_P_ALL))
        self.sock.setblocking(False)

    def stop(self):
        """stop returns counts: tcp, rst, icmp (errors), of frames that came from the port"""
        counts = {"tcp": 0, "rst": 0, "icmp": 0}
        with self.sock:
            while True:
                try:
                    frame = self.sock.recv(65536)
                except BlockingIOError:
                    return counts
                kind = self.judge(frame)
                if kind:
                    counts["tcp"] += kind != "icmp"
                    if kind != "tcp":
                        counts[kind] += 1

    @staticmethod
    def judge(frame):
        ether, ip = frame[12:14], frame[14:]
        if ether == b"\x08\x00":
            protocol, rest = ip[9], ip[(ip[0] & 15) * 4:]
            if protocol == 1 and rest[0] in (3, 4, 5, 11, 12):
                return "icmp"
        elif ether == b"\x86\xdd":
            protocol, rest = ip[6], ip[40:]
            if protocol == 58 and rest[0] < 128:
                return "icmp"
        else:
            return None
        if protocol != 6:
            return None
        return "rst" if rest[13] & 4 else "tcp"


def main():
    """main runs the tests of the file; exit status 77 where there can be no namespaces"""
    try:
        netns.need()
        netns.Namespace("probe").close()
    except netns.Unsupported as reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    for command in ("curl", "openssl"):
        if not any(os.access(f"{p}/{command}", os.X_OK) for p in os.environ["PATH"].split(":")):
            print(f"skipped: {command} is not installed")
            sys.exit(SKIPPED)
    words = [w for w in sys.argv[5:] if w != "--long"]
    unittest.main(argv=[sys.argv[0], *words], verbosity=2)
