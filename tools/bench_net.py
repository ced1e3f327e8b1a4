# SPDX-License-Identifier: MIT
"""tools/bench net: the port, in network namespaces that this run makes and removes; root only.

Load and server share this machine's CPUs and the noise on them, so what has a peer (nginx on the
kernel's stack, decoding without junk) is measured in turns with it (A B A B ...): medians of rounds,
and the median of each round's ratio."""
import argparse
import contextlib
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from bench_stream import Failure

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.join(ROOT, "tests/net"))
import netns  # noqa: E402

PARTS = ("health", "token", "streams", "junk", "idle")
DRIVERS = ("af_packet", "af_xdp", "tap")
SERVER, CLIENT, NGINX = "10.9.0.1", "10.9.0.2", "10.9.0.3"
PATIENCE_S = 60
CPU_LOAD, CPU_NET = "0", "1"  # where clients, and what serves them, are pinned
TOKEN_RATE = 50
SAMPLING_US = 400  # top-p 0.95 over 129,280 tokens (bench-sampler)
STREAMS = 512
JUNK_RATE = 100000
JUNK_MTU = 2000  # so that frames beyond 1500 bytes of IP get through
DECODE_TOKENS = 500
JUNK_TURNS = 3  # of a round: short ones, for the machine's noise is longer than they are
WRK_CONNECTIONS = 32


def options_parse(args):
    parser = argparse.ArgumentParser(prog="tools/bench net", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of one round's load")
    parser.add_argument("--drivers", default=",".join(DRIVERS), help="some of %(default)s")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    options = parser.parse_args(args)
    options.parts = options.parts.split(",")
    options.drivers = options.drivers.split(",")
    if set(options.parts) - set(PARTS) or set(options.drivers) - set(DRIVERS) or options.rounds < 1:
        parser.error(f"--parts are {','.join(PARTS)}; --drivers {','.join(DRIVERS)}; "
                     "--rounds at least 1")
    return options


# --- programs ------------------------------------------------------------------------------------


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.path)


class Wire:
    """A link between what serves and its clients: a veth pair between two namespaces, or a tap
    whose kernel end is the client's."""

    def __init__(self, driver, stack, pairs=1):
        self.driver = driver
        self.port = f"{driver}:nic0"
        self.server = self.client = stack.enter_context(netns.Namespace("server"))
        if driver == "tap":
            return
        self.client = stack.enter_context(netns.Namespace("client"))
        for i in range(pairs):
            netns.veth(self.server, f"nic{i}", self.client, f"peer{i}")
        self.client.address("peer0", CLIENT + "/24")

    def opened(self):
        """The port is open: now a tap is there."""
        if self.driver == "tap":
            self.client.address("nic0", CLIENT + "/24")
            self.client.up("nic0")
        self.wait(SERVER, 80)

    def wait(self, address, port):
        """Until somebody accepts there."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with self.client.socket(socket.AF_INET, socket.SOCK_STREAM) as asker:
                asker.settimeout(1)
                with contextlib.suppress(OSError):
                    asker.connect((address, port))
                    return
            time.sleep(0.01)
        raise Failure(f"nobody accepts at {address}:{port}")


@contextlib.contextmanager
def running(wire, words, cpu=None, log=None, **settings):
    """A program on the server's side, until the end of the block."""
    pin = ["taskset", "-c", cpu] if cpu else []
    with tempfile.TemporaryFile(mode="w+") if log is None else log as stderr:
        process = wire.server.start(*pin, *words, stderr=stderr, stdin=subprocess.DEVNULL, **settings)
        try:
            yield process
            if process.poll() is not None:
                stderr.seek(0)
                raise Failure(f"{words[0]} ended early: {stderr.read()[-1500:].strip()}")
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Daemon:
    """expertd on the demo model with a port."""

    def __init__(self, bench, wire, cpu=None, port=True):
        self.bench, self.wire, self.cpu = bench, wire, cpu
        self.folder = tempfile.mkdtemp(prefix="expertd-bench-", dir=bench.folder)
        self.path = os.path.join(self.folder, "api.sock")
        sets = [f"device.pipeline_cache={bench.folder}/pipelines", "model.name=model"]
        if port:
            sets += [f"net.port={wire.port}", f"net.address={SERVER}/24", "net.address6=",
                     "net.http_port=80", "net.https_port=0", "net.allow_anonymous=yes",
                     f"net.keys={self.folder}/keys"]
            with open(f"{self.folder}/keys", "w", encoding="ascii"):
                os.chmod(f"{self.folder}/keys", 0o600)
        self.words = [os.path.join(bench.build, "daemon/expertd"), "--config", "/dev/null", "--model",
                      os.path.join(ROOT, "demo/model"), "--socket", self.path]
        for text in sets:
            self.words += ["--set", text]
        self.port = port

    @contextlib.contextmanager
    def running(self):
        env = {key: value for key, value in os.environ.items()
               if key not in ("NOTIFY_SOCKET", "MESA_SHADER_CACHE_DIR")}
        with running(self.wire, self.words, self.cpu, env=env) as self.process:
            until = time.monotonic() + 2 * PATIENCE_S
            while self.health() != 200 and self.process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            if self.process.poll() is None and self.port:
                self.wire.opened()
            if self.process.poll() is None:
                yield self

    def health(self):
        try:
            return self.ask("GET", "/health")[0]
        except OSError:
            return 0

    def ask(self, method, path, body=None):
        connection = UnixConnection(self.path)
        try:
            connection.request(method, path, body and json.dumps(body),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def decode(self):
        """Tokens a second of one long greedy completion."""
        begin = time.monotonic()
        status, body = self.ask("POST", "/v1/completions", {
            "model": "model", "prompt": "Compute 66 - 57 - 8.", "max_tokens": DECODE_TOKENS,
            "temperature": 0, "logit_bias": {"1": -100}})
        if status != 200:
            raise Failure(f"/v1/completions: {status}: {body[:300]!r}")
        return json.loads(body)["usage"]["completion_tokens"] / (time.monotonic() - begin)

    def cpu_s(self):
        return cpu_s(self.process.pid)

    def dropped(self):
        """What the port dropped, by kind."""
        text = self.ask("GET", "/metrics")[1].decode()
        return {kind: int(float(n)) for kind, n in
                re.findall(r'^expertd_net_dropped\{kind="(\w+)"\} ([0-9.e+]+)', text, re.M)}


def cpu_s(pid):
    """CPU time of all threads that are alive, to the nanosecond."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def output_of(process, what):
    out, err = process.communicate()
    if process.returncode:
        raise Failure(f"{what}: {(err or out)[-500:].strip()}")
    return out


def answer_of(process, what):
    """The JSON of its last line."""
    return json.loads(output_of(process, what).splitlines()[-1])


# --- figures -------------------------------------------------------------------------------------


def row(name, values, unit, references=None, words=""):
    """Medians; with references, one a value, the median of their ratios."""
    result = {"name": "net." + name, "value": statistics.median(values), "unit": unit}
    if references:
        ratios = [value / reference for value, reference in zip(values, references)]
        result["reference"] = statistics.median(references)
        result["ratio"] = statistics.median(ratios)
        words = f"ratios {min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} rounds, " + words
    elif len(values) > 1:
        words = f"{min(values):.4g} to {max(values):.4g} in {len(values)} rounds, " + words
    result["conditions"] = words.rstrip(", ")
    return result


class Bench:
    """One run: the parts in their order, as rows."""

    def __init__(self, options, build, folder):
        self.options, self.build, self.folder = options, build, folder
        self.certificate, self.key = (os.path.join(folder, name) for name in ("cert.pem", "key.pem"))
        self.stack = None  # of the part at work: its namespaces end with it

    def run(self):
        for part in PARTS:
            if part in self.options.parts:
                for driver in self.options.drivers:
                    with contextlib.ExitStack() as self.stack:
                        yield from getattr(self, "part_" + part)(driver)

    def rounds(self):
        return range(self.options.rounds)

    def program(self, name):
        return os.path.join(self.build, "tools", name)

    def on_client(self, wire, *words, cpu=CPU_LOAD):
        return wire.client.start("taskset", "-c", cpu, *words, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)

    # health

    def wrk(self, wire, address):
        out = output_of(self.on_client(
            wire, "wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{self.options.seconds:g}s", "--latency",
            f"http://{address}/health"), "wrk")
        if "Non-2xx" in out or "Socket errors" in out:
            raise Failure("wrk: " + out[-300:].strip())
        return float(re.search(r"Requests/sec:\s+([0-9.]+)", out).group(1))

    def nginx_words(self):
        text = (f"worker_processes 1; daemon off; pid {self.folder}/nginx.pid; error_log stderr crit;\n"
                "events { worker_connections 4096; }\n"
                "http { access_log off; keepalive_requests 1000000000; tcp_nodelay on;\n"
                "server { listen 80 backlog=4096; location / { default_type application/json;\n"
                f"return 200 '{'x' * 200}'; }} }} }}\n")
        path = os.path.join(self.folder, "nginx.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return ["nginx", "-e", "stderr", "-p", self.folder, "-c", path]

    def part_health(self, driver):
        """wrk on /health, keep-alive, in turns with nginx on the same link."""
        for program in ("wrk", "nginx"):
            if not shutil.which(program):
                raise Failure(f"{program} is missing: apt-get install wrk nginx-light")
        if driver == "tap":
            return  # nginx has no such link
        wire = Wire(driver, self.stack)
        daemon = Daemon(self, wire, CPU_NET)
        ours, nginx, cpu = [], [], []
        for _ in self.rounds():
            with daemon.running():
                before, begin = daemon.cpu_s(), time.monotonic()
                ours.append(self.wrk(wire, SERVER))
                cpu.append(100 * (daemon.cpu_s() - before) / (time.monotonic() - begin))
            wire.server.address("nic0", NGINX + "/24")
            with running(wire, self.nginx_words(), CPU_NET):
                wire.wait(NGINX, 80)
                nginx.append(self.wrk(wire, NGINX))
            wire.server.ip("address", "flush", "dev", "nic0")
        yield row("health-" + driver, ours, "requests/s", nginx,
                  f"bar 40000 and nginx; reference: nginx, kernel's stack, 1 worker; wrk -t1 "
                  f"-c{WRK_CONNECTIONS} on CPU {CPU_LOAD}, server on {CPU_NET}, expertd used "
                  f"{statistics.median(cpu):.0f} % of it")

    # bench-net-server

    @contextlib.contextmanager
    def server(self, wire, *words):
        words = [self.program("bench-net-server"), "--port", wire.port, "--address", SERVER + "/24",
                 "--http", "80", "--https", "443", "--certificate", self.certificate, "--key", self.key,
                 "--net-cpu", CPU_NET, "--step-cpu", CPU_LOAD, *words]
        with running(wire, words, stdout=subprocess.PIPE, text=True) as process:
            if process.stdout.readline() != "ready\n":
                process.wait()
            else:
                wire.opened()
                yield process

    def client(self, wire, kind, streams, seconds):
        port = {"plain": 80, "tls": 443}[kind]
        return self.on_client(wire, self.program("bench-net-client"), "stream", SERVER, str(port), kind,
                              str(streams), str(seconds))

    def part_token(self, driver):
        """From sampled to the last byte in the peer's socket, one stream."""
        answers = {"tls": [], "plain": []}
        wire = Wire(driver, self.stack)
        with self.server(wire, "--rate", str(TOKEN_RATE), "--jitter", "--sampling-us",
                         str(SAMPLING_US)):
            for _ in self.rounds():
                for kind, list_ in answers.items():
                    list_.append(answer_of(self.client(wire, kind, 1, self.options.seconds),
                                           "bench-net-client"))
        for kind, list_ in answers.items():
            tokens = sum(answer["tokens"] for answer in list_)
            for key, bar in (("p50", 60), ("p99", 300)):
                woken = statistics.median(answer["woken_" + key] for answer in list_)
                yield row(f"token-{key}-{driver}-{kind}", [answer[key] for answer in list_], "us",
                          words=f"bar {bar} with TLS; {tokens} tokens, {TOKEN_RATE} a second at "
                                f"random distances, sampled in {SAMPLING_US} us; net thread alone on CPU {CPU_NET}, step and "
                                f"client on {CPU_LOAD}; until the client's recv returned {woken:.1f}")

    def part_streams(self, driver):
        """All streams at once: how late, and how much memory."""
        rate = 20
        for kind in ("plain", "tls"):
            worst, median, memory, cpu, load = [], [], [], [], []
            for _ in self.rounds():
                with contextlib.ExitStack() as stack:
                    wire = Wire(driver, stack)
                    server = stack.enter_context(self.server(
                        wire, "--rate", str(rate), "--connections", "1024"))
                    before_kib, begin_s, begin = resident_kib(server.pid), None, None
                    seconds = 2 * self.options.seconds
                    client = self.client(wire, kind, STREAMS, seconds)
                    line = client.stdout.readline()  # every stream has begun
                    time.sleep(1)
                    begin_s, begin = cpu_s(server.pid), time.monotonic()
                    time.sleep(seconds / 2)
                    memory.append((resident_kib(server.pid) - before_kib) / STREAMS)
                    cpu.append(100 * (cpu_s(server.pid) - begin_s) / (time.monotonic() - begin))
                    answer = answer_of(client, "bench-net-client")
                    if line != "begun\n" or answer["ended"]:
                        raise Failure(f"streams: {answer['ended']} of {STREAMS} ended early")
                    missing = answer["tokens_most"] - answer["tokens_least"]
                    worst.append(answer["worst"] / 1e3)
                    median.append(answer["worst_median"] / 1e3)
                    load.append(answer["cpu_percent"])
            words = (f"{STREAMS} streams of {rate} tokens/s, one step samples for all; net thread on "
                     f"CPU {CPU_NET} ({statistics.median(cpu):.0f} % with step), client on {CPU_LOAD} "
                     f"({statistics.median(load):.0f} %)")
            yield row(f"streams-worst-{driver}-{kind}", worst, "ms",
                      words=f"bar 50; the worst of {STREAMS} streams, {words}; median of the streams' "
                            f"worst {statistics.median(median):.2f}, last round's tokens per stream "
                            f"differ by {missing}")
            yield row(f"streams-memory-{driver}-{kind}", memory, "KiB",
                      words=f"bar {dict(plain=96, tls=160)[kind]}; a connection: resident memory with "
                            f"{STREAMS} less that with none")

    # daemon

    def junk(self, wire, pair, address):
        mac = re.search(r"link/ether (\S+)", wire.server.ip("link", "show", f"nic{pair}")).group(1)
        return self.on_client(wire, self.program("bench-net-junk"), f"peer{pair}", mac, address, 80,
                              JUNK_RATE, 600)

    def part_junk(self, driver):
        """Tokens/s while junk arrives, in turns with the same without, and with junk that arrives
        at an interface that nobody serves."""
        if driver == "tap":
            return  # the sender would be on the far side of the same device
        wire = Wire(driver, self.stack, pairs=2)
        for i in range(2):
            wire.client.ip("link", "set", f"peer{i}", "mtu", str(JUNK_MTU))
            wire.server.ip("link", "set", f"nic{i}", "mtu", str(JUNK_MTU))
        quiet, served, unserved = [], [], []
        sent = {0: [], 1: []}
        with Daemon(self, wire).running() as daemon:
            daemon.decode()
            for _ in range(JUNK_TURNS * self.options.rounds):
                quiet.append(daemon.decode())
                for pair, speeds in ((0, served), (1, unserved)):
                    process = self.junk(wire, pair, SERVER)
                    time.sleep(0.2)
                    speeds.append(daemon.decode())
                    process.send_signal(signal.SIGTERM)
                    sent[pair].append(answer_of(process, "bench-net-junk"))
            dropped = daemon.dropped()
        for name, speeds, pair in (("junk", served, 0), ("junk-unserved", unserved, 1)):
            rate = statistics.median(answer["rate"] for answer in sent[pair])
            own = statistics.median(answer["cpu_percent"] for answer in sent[pair])
            words = (f"bar 0.9 of the reference, which is decoding without junk; {rate:.0f} frames/s, "
                     f"the sender on CPU {CPU_LOAD} takes {own:.0f} % of it")
            if pair == 0:
                words += ", dropped: " + " ".join(f"{key} {n}" for key, n in dropped.items() if n)
            yield row(f"{name}-{driver}", speeds, "tokens/s", quiet, words)

    def part_idle(self, driver):
        """CPU of a daemon that nobody asks, and the first request after a pause."""
        wire = Wire(driver, self.stack)
        used, pings = [], []
        with Daemon(self, wire).running() as daemon:
            time.sleep(3)
            for _ in self.rounds():
                before, begin = daemon.cpu_s(), time.monotonic()
                time.sleep(self.options.seconds)
                used.append(100 * (daemon.cpu_s() - before) / (time.monotonic() - begin))
                pings.append(answer_of(self.on_client(
                    wire, self.program("bench-net-client"), "ping", SERVER, 80, "plain", 20, 200),
                    "bench-net-client"))
        yield row("idle-" + driver, used, "%", words="bar 2 of one core; all threads")
        yield row("first-packet-" + driver, [answer["p50"] for answer in pings], "us",
                  words="bar 1000; GET /health to its whole answer on an open connection after 200 ms; "
                        f"worst of {20 * self.options.rounds} "
                        f"{max(answer['worst'] for answer in pings):.0f}")


def run(args, build, builder):
    """Rows of the parts.  builder(targets) builds programs."""
    options = options_parse(args)
    try:
        netns.need()
    except netns.Unsupported as e:
        raise Failure(str(e)) from e
    builder(["daemon/expertd", "tools/bench-net-server", "tools/bench-net-client",
             "tools/bench-net-junk"])
    with tempfile.TemporaryDirectory(prefix="expertd-bench-") as folder:
        bench = Bench(options, build, folder)
        done = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "2", "-subj", "/CN=bench", "-keyout", bench.key, "-out",
             bench.certificate], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure("openssl: " + done.stderr[-300:])
        yield from bench.run()
